"""What every page of the browser front door begins with: the service, who is asking, and errors as messages."""

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.settings import load_settings
from longleaf.errors import LongleafError

__all__ = ["errors_shown", "notice", "notices", "owner", "service"]


@st.cache_resource(show_spinner="Opening the library", on_release=Service.close)
def service() -> Service:
    """The one service of this server.

    Raises:
        LongleafError: The library can't be opened.
    """
    return Service(load_settings())


def owner() -> str:
    """Whose turn work takes in the queues: who logged in, else this browser, else this session."""
    if st.user.get("is_logged_in"):
        return str(st.user.get("email") or st.user.get("sub"))
    browser = st.context.cookies.get("_streamlit_xsrf")  # random, and given to each browser once
    if isinstance(browser, str):
        return browser.rpartition("|")[0][-32:]
    context = get_script_run_ctx()
    return context.session_id if context else ""


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turns our errors inside the block into a message where the block draws."""
    try:
        yield
    except LongleafError as exc:
        st.error(plain(str(exc)), icon=":material/error:")


def notice(text: str) -> None:
    """Has a line shown, briefly, on the next drawing of the page: what an action came to."""
    st.session_state.setdefault("notices", []).append(text)


def notices() -> None:
    """Shows what is to be told; to be called once by each page."""
    for text in st.session_state.pop("notices", []):
        st.toast(plain(text))
