"""The head of a chat: what it is called, what it is about, and what can be done with it."""

import streamlit as st

from longleaf.app import chat_export
from longleaf.app.chats import Chat
from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.app.ui.chat_list import new_chat
from longleaf.app.ui.session import notice
from longleaf.errors import LongleafError

__all__ = ["draw_chat_head"]


def draw_chat_head(service: Service, chat: Chat) -> None:
    """Draws the title, the documents as buttons that open them, and the menu."""
    with st.container(horizontal=True, vertical_alignment="center", key="chat-head"):
        st.subheader(plain(chat.title), anchor=False)
        with st.popover("Chat", icon=":material/more_horiz:", key="chat-menu"):
            _draw_menu(service, chat)
    here = {document.sha256 for document in service.library.documents()}
    with st.container(horizontal=True, gap="small", key="chat-documents"):
        for document in chat.documents:
            st.button(
                plain(document.name),
                key=f"about-{document.sha256[:12]}",
                icon=":material/description:",
                type="tertiary",
                help="Open it beside the chat" if document.sha256 in here else "No longer in the library",
                disabled=document.sha256 not in here,
                on_click=viewer.show,
                args=(document.sha256, 1),
            )
    if chat.collection:
        st.caption(f"Collection: {plain(chat.collection)}")


def _draw_menu(service: Service, chat: Chat) -> None:
    st.download_button(
        "Save as Markdown",
        lambda: chat_export.to_markdown(chat, service.chats.turns(chat)),
        chat_export.file_name(chat, ".md"),
        "text/markdown",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
    st.download_button(
        "Save as JSON",
        lambda: chat_export.to_json(chat, service.chats.turns(chat)),
        chat_export.file_name(chat, ".json"),
        "application/json",
        icon=":material/data_object:",
        on_click="ignore",
        width="stretch",
    )
    if st.button("Rename", icon=":material/edit:", width="stretch", key="rename-chat"):
        _rename(service, chat)
    if st.button("Delete", icon=":material/delete:", width="stretch", key="delete-chat"):
        _delete(service, chat)


@st.dialog("Rename this chat")
def _rename(service: Service, chat: Chat) -> None:
    with st.form("rename-chat-form", border=False):  # the Enter key renames too
        st.text_input("Title", chat.title, max_chars=120, key="new-chat-title")
        if st.form_submit_button(
            "Rename", type="primary", key="rename-chat-now", on_click=_rename_now, args=(service, chat)
        ):
            st.rerun()


def _rename_now(service: Service, chat: Chat) -> None:
    try:
        service.chats.rename(chat, st.session_state["new-chat-title"])
    except LongleafError as exc:
        notice(str(exc))


@st.dialog("Delete this chat?")
def _delete(service: Service, chat: Chat) -> None:
    n = chat.n_turns
    st.markdown(
        f"{plain(chat.title)}: {n} question{'' if n == 1 else 's'} with what came of {'it' if n == 1 else 'them'} will "
        "be gone. "
        "The documents stay, and so do branches of this chat."
    )
    if st.button("Delete", type="primary", key="delete-chat-now", on_click=_delete_now, args=(service, chat)):
        st.rerun()


def _delete_now(service: Service, chat: Chat) -> None:
    service.remove_chat(chat)
    new_chat()
    viewer.close()
    notice("The chat is deleted.")
