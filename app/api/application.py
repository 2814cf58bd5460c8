"""The application: all endpoints behind one gate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from longleaf import __version__
from longleaf.app.service import Service

from . import ask, chat, documents, embeddings, models
from .errors import add_handlers
from .gate import Gate
from .options import ApiOptions
from .state import ApiState

__all__ = ["make_app"]


def make_app(service: Service, options: ApiOptions) -> FastAPI:
    """The HTTP API of a service, as an ASGI application.

        app = make_app(Service(load_settings()), ApiOptions())

    There is no page at /docs: FastAPI's loads its scripts from another site. /openapi.json describes all endpoints.

    Args:
        service: The library with its models; whoever opened it closes it, after the application has ended.
        options: Limits.

    Raises:
        LongleafError: A key is too short.
    """
    state = ApiState(service, options)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(state.load())
        try:
            yield
        finally:
            await loading
            await asyncio.to_thread(state.close)

    app = FastAPI(
        title="Longleaf",
        version=__version__,
        summary="OpenAI's chat and embeddings on our own models, and questions about documents with checked citations.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.api = state
    for part in (chat, embeddings, models, documents, ask):
        app.include_router(part.router)
    add_handlers(app)
    app.add_middleware(
        Gate, options=options, keys=state.keys, metrics=state.metrics, is_stopping=lambda: state.stopping
    )
    return app
