"""The chats in the sidebar, and which of them is open: kept in the address, so that a refresh and a link show it."""

import streamlit as st

from longleaf.app.chats import Chat
from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.errors import LibraryError

__all__ = ["draw_chats", "new_chat", "open_chat", "opened"]

SHOWN = 30
"""Chats listed at once; the search box finds older ones."""


def opened(service: Service) -> Chat | None:
    """The chat that the address names, else the one that this session left; None begins a new one."""
    given = st.query_params.get("chat", st.session_state.get("chat"))
    if given is None:
        return None
    try:
        chat = service.chats.find(int(given))
    except (ValueError, OverflowError):  # no number, or none that the database has
        st.warning(f"“{plain(str(given))}” names no chat: the link may be cut off. Choose one from the list.")
    except LibraryError as exc:
        st.warning(plain(str(exc)))
    else:
        open_chat(chat.id)
        return chat
    new_chat()
    return None


def open_chat(chat_id: int) -> None:
    """Opens a chat from the next drawing on."""
    st.session_state["chat"] = chat_id
    if st.query_params.get("chat") != str(chat_id):
        st.query_params["chat"] = str(chat_id)


def new_chat() -> None:
    """Leaves the open chat; the page then asks which documents the next one is about."""
    st.session_state.pop("chat", None)
    st.query_params.pop("chat", None)


def draw_chats(service: Service, current: Chat | None) -> None:
    """Draws the list, the chat that changed last first."""
    st.button("New chat", icon=":material/add_comment:", width="stretch", on_click=_leave, key="new-chat")
    chats = service.chats.all()
    if not chats:
        return
    words = ""
    if len(chats) > SHOWN:
        words = st.text_input(
            "Find a chat", key="find-chat", placeholder="Words of its title", label_visibility="collapsed"
        )
    found = [chat for chat in chats if words.casefold() in chat.title.casefold()]
    with st.container(key="chat-list", gap=None):
        for chat in found[:SHOWN]:
            is_open = current is not None and chat.id == current.id
            st.button(
                plain(chat.title),
                key=f"chat-{chat.id}",
                type="secondary" if is_open else "tertiary",
                icon=":material/account_tree:" if chat.parent_chat else None,
                help=plain(", ".join(document.name for document in chat.documents)) or None,
                width="stretch",
                on_click=_go_to,
                args=(chat.id,),
            )
    if not found:
        st.caption("No chat has these words in its title.")
    elif len(found) > SHOWN:
        st.caption(f"{len(found) - SHOWN} older ones: look for words of their titles.")


def _leave() -> None:
    new_chat()
    viewer.close()


def _go_to(chat_id: int) -> None:
    if st.session_state.get("chat") != chat_id:
        viewer.close()
    open_chat(chat_id)
