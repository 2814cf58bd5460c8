"""The server of the browser app: Streamlit's, behind our gate, with our words for what nobody foresaw."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit.starlette import App

from .access import AccessGate, is_loopback, secret_of
from .settings import Settings

__all__ = ["make_app", "server_config"]

logger = logging.getLogger(__name__)

FOREST = "#2f6b4a"
UPLOAD_HEADROOM = 2
"""Streamlit's limit is so many times ours, so that a file that is too large is told so in our words, with the way out;
beyond it the browser refuses in Streamlit's."""


def make_app(settings: Settings, address: str) -> App:
    """The app as ASGI; it opens the library when it starts, and closes it when it ends.

    Args:
        settings: Whose password, if any, is asked for.
        address: That the server listens on.

    Raises:
        StorageError: The folder of the library can't be written.
    """
    password = settings.password.get_secret_value() if settings.password else None
    return App(
        Path(__file__).with_name("main.py"),
        secrets=_sign_in_secrets(settings),
        lifespan=_lifespan,
        middleware=[
            Middleware(
                AccessGate, password=password, secret=secret_of(settings.home), only_loopback=is_loopback(address)
            )
        ],
        on_script_error=_say_it_calmly,
    )


def server_config(settings: Settings, address: str, port: int) -> dict[str, Any]:
    """Streamlit's options: nothing is reported home, nothing shown that is for developers."""
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": UPLOAD_HEADROOM * settings.max_upload_mb,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "minimal",
        "logger.hideWelcomeMessage": True,
        "theme.primaryColor": FOREST,
        "theme.light.primaryColor": FOREST,
        "theme.dark.primaryColor": "#3b8460",
    }


@asynccontextmanager
async def _lifespan(_app: App) -> AsyncIterator[None]:
    from .ui.session import service

    # It warns of every use outside a page, and opening the library ahead of the pages is one.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").setLevel(logging.ERROR)
    opening = asyncio.create_task(asyncio.to_thread(_open))  # models load while the first visitor is on the way
    yield
    await opening
    await asyncio.to_thread(service.clear)  # stops what is under way, which stays in its chat, and closes the library


def _open() -> None:
    from longleaf.errors import LongleafError

    from .ui.session import service

    try:
        service()
    except LongleafError as exc:  # each page says it too
        logger.warning("the library can't be opened: %s", exc)


def _say_it_calmly(error: Exception) -> bool:
    """What is shown in place of a traceback, which goes to the log."""
    logger.error("a page could not be drawn", exc_info=error)
    st.error(
        "Something went wrong that Longleaf did not foresee. Your documents and chats are kept. Reload the page; the "
        "server's log has the details.",
        icon=":material/error:",
    )
    return True


def _sign_in_secrets(settings: Settings) -> dict[str, Any] | None:
    """What `st.login` needs, from the settings of the identity provider."""
    if not settings.oidc_metadata_url:
        return None
    secret = settings.oidc_client_secret
    return {
        "auth": {
            "redirect_uri": settings.oidc_redirect_uri or "",
            "cookie_secret": secret_of(settings.home).hex(),
            "client_id": settings.oidc_client_id or "",
            "client_secret": secret.get_secret_value() if secret else "",
            "server_metadata_url": settings.oidc_metadata_url,
        }
    }
