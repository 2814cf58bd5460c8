"""The command `longleaf serve`."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from longleaf.app.options import Home
from longleaf.app.settings import load_settings
from longleaf.errors import MissingExtraError

from .keys import read_key_file, split_keys
from .options import ApiOptions, check_address

__all__ = ["KEYS_VARIABLE", "serve"]

KEYS_VARIABLE = "LONGLEAF_API_KEYS"

err = Console(stderr=True, soft_wrap=True)


def serve(
    home: Home = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anything but 127.0.0.1 lets others in, and needs an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    reader: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Reader: a name from `longleaf model list`, a model folder, a .gguf file, or 'none'."
        ),
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(help="Context that the reader is run with.", show_default=False)
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File of API keys, one a line; they join those of LONGLEAF_API_KEYS, which commas part.",
            show_default=False,
        ),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=64, help="Answers written at the same time; the reader's passes are for all.")
    ] = 8,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait for the reader; more are answered with 429.")
    ] = 64,
    timeout_s: Annotated[float, typer.Option(min=1, help="Seconds that a request may take, waiting included.")] = 600,
    grace_s: Annotated[
        float, typer.Option(min=0, help="Seconds that what runs may go on when the server is told to end.")
    ] = 30,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest body of a request that brings no document.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of one answer.")] = 4096,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Let /metrics be read without a key.")] = False,
    access_log: Annotated[
        bool, typer.Option("--access-log/--no-access-log", help="A line of JSON on standard error for each request.")
    ] = True,
) -> None:
    """Serve the models and the library over HTTP, as OpenAI's API and with endpoints of our own.

    longleaf serve
    curl http://127.0.0.1:8000/v1/models
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("the server needs FastAPI and uvicorn: pip install 'longleaf[serve]'") from exc
    settings = load_settings(home=home, reader=reader, context_tokens=context_tokens)
    keys = split_keys(os.environ.get(KEYS_VARIABLE, "")) + (read_key_file(api_key_file) if api_key_file else [])
    options = ApiOptions(
        keys=tuple(keys),
        max_waiting=max_waiting,
        timeout_s=timeout_s,
        grace_s=grace_s,
        max_body_bytes=max_body_mb * 1_000_000,
        max_upload_bytes=settings.max_upload_mb * 1_000_000 + 100_000,  # the form around a file
        max_tokens=max_tokens,
        open_metrics=open_metrics,
    )
    check_address(host, options)
    from longleaf.app.service import Service

    from .application import make_app
    from .server import ApiServer, listen

    if access_log:
        _log_requests()
    listening = listen(host, port)
    service = Service(settings, answers_at_once=parallel)
    try:
        server = ApiServer(make_app(service, options))
        shown = f"[{host}]" if ":" in host else host
        asked = "an API key is asked for" if keys else "without a key, for this machine alone"
        err.print(
            f"longleaf: http://{shown}:{listening.getsockname()[1]}/v1 ({asked}); Ctrl-C ends it",
            markup=False,
            highlight=False,
        )
        server.run(sockets=[listening])
    finally:
        service.close()


def _log_requests() -> None:
    logger = logging.getLogger("longleaf.access")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
