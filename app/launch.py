"""Starts the server of the browser app, on this machine only unless told otherwise; then it asks who comes."""

import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
import webbrowser

import typer
from pydantic import SecretStr

from longleaf.errors import LongleafError, MissingExtraError

from .access import is_loopback
from .heap import few_heaps
from .settings import Settings

__all__ = ["guarded", "run_app_server"]

WHY = "Other machines can reach this address, so the app asks everybody for a password."


def run_app_server(settings: Settings, address: str, port: int, *, open_browser: bool = False) -> None:
    """Serves until it is stopped (Ctrl-C, SIGTERM); what is under way is stopped and kept.

    Raises:
        LongleafError: The port is taken, the address is not this machine's, or nothing would guard it.
    """
    settings = guarded(settings, address)
    _check_port(address, port)
    _check_sign_in(settings)
    # The pages read their settings from the environment, as their scripts run by themselves.
    os.environ |= {"LONGLEAF_HOME": str(settings.home), "LONGLEAF_MODELS_DIR": str(settings.models_dir)}
    logging.getLogger("longleaf").setLevel(logging.INFO)
    few_heaps()
    from .web import make_app, server_config

    app = make_app(settings, address)
    url = _url(address, port)
    typer.echo(f"Longleaf is at {url} (Ctrl-C ends it)")
    if open_browser:
        webbrowser.open(url)
    sys.argv = sys.argv[:1]
    # The server ends in good order at a signal, and raises it again when it has: that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        app.run(config=server_config(settings, address, port))


def guarded(settings: Settings, address: str) -> Settings:
    """The settings with a password, or an identity provider, where others can reach the server.

    Raises:
        LongleafError: There is none, and no terminal to ask for one.
    """
    if is_loopback(address) or settings.password or settings.oidc_metadata_url:
        return settings
    if not sys.stdin.isatty():
        raise LongleafError(
            f"--host {address}: {WHY} Set LONGLEAF_PASSWORD, or LONGLEAF_OIDC_METADATA_URL and its companions "
            "(docs/app.md), or leave the host at 127.0.0.1"
        )
    typer.echo(WHY, err=True)
    chosen = typer.prompt("Password for the app", hide_input=True, confirmation_prompt=True, err=True)
    return settings.model_copy(update={"password": SecretStr(chosen)})


def _url(address: str, port: int) -> str:
    """Where a browser on this machine finds the server: one that listens on all addresses has none of that name."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


def _check_port(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as exc:
            raise LongleafError(
                f"{address}:{port}: {exc.strerror or exc}. Is Longleaf running there already? Else choose another: "
                f"--port {port + 1}"
            ) from exc


def _check_sign_in(settings: Settings) -> None:
    if not settings.oidc_metadata_url:
        return
    missing = [
        f"LONGLEAF_{name.upper()}"
        for name in ("oidc_client_id", "oidc_client_secret", "oidc_redirect_uri")
        if not getattr(settings, name)
    ]
    if missing:
        raise LongleafError(f"to log in by {settings.oidc_metadata_url} also set {', '.join(missing)}")
    if importlib.util.find_spec("authlib") is None:
        raise MissingExtraError("logging in by an identity provider needs authlib: pip install 'longleaf[oidc]'")
