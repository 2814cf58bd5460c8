"""The page "Ask": a chat about one or several documents, and beside it the pages that the answers rest on."""

import streamlit as st

from longleaf.app import page_view as view
from longleaf.app.chats import Chat
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.app.ui.answers import COPY_SCRIPT
from longleaf.app.ui.chat_list import draw_chats, open_chat, opened
from longleaf.app.ui.chat_menu import draw_chat_head
from longleaf.app.ui.chosen import choose_documents
from longleaf.app.ui.session import errors_shown, owner, service
from longleaf.app.ui.turns import draw_turns
from longleaf.app.ui.uploads import draw_transfers, draw_uploader
from longleaf.app.workbench import is_endpoint
from longleaf.ingestion import Document

MAX_QUESTION_CHARS = 2_000


def main() -> None:
    """Draws the page."""
    desk = service()
    st.html(COPY_SCRIPT, unsafe_allow_javascript=True)
    viewer.open_from_link(desk)
    chat = opened(desk)
    documents = desk.library.documents()
    with st.sidebar:
        draw_chats(desk, chat)
        if documents:
            with st.expander("Add documents", icon=":material/upload_file:", expanded=False):
                draw_uploader(desk, "ask")
            draw_transfers(desk)
        st.caption(models_line(desk))
    if documents:  # others may have come in while the sidebar was drawn; of the first one the welcome hears
        documents = desk.library.documents()
    talk, side = st.columns([5, 7], gap="medium") if viewer.shown() else (st.container(), None)
    with talk:
        if not documents and chat is None:
            draw_welcome(desk)
            return
        if chat is not None:
            draw_chat_head(desk, chat)
            draw_turns(desk, chat)
            chosen = []
        else:
            chosen = choose_documents(desk, documents)
    if side is not None:
        with side:
            viewer.draw(desk)
    ready = bool(chosen) or (chat is not None and bool(chat.documents))
    hint = "Ask about it" if ready else "Choose a document first"
    question = st.chat_input(hint, disabled=not ready, max_chars=MAX_QUESTION_CHARS, key="question")
    if question and question.strip():
        with errors_shown():
            ask(desk, chat, chosen, question)
            st.rerun()


def ask(desk: Service, chat: Chat | None, chosen: list[Document], question: str) -> None:
    """Puts a question into the open chat, or into a new one about the documents chosen."""
    if chat is None:
        chat = desk.chats.make(chosen, collection=st.session_state.get("ask_collection"))
    desk.ask(chat, question, owner=owner())
    open_chat(chat.id)


def draw_welcome(desk: Service) -> None:
    """What somebody sees who has no document yet."""
    where = "on the server of your settings" if is_endpoint(desk.settings.reader) else "on this machine"
    with st.container(key="welcome"):
        st.title("Ask a long document", anchor=False)
        st.html(
            view.text_html(
                f"Drop in a report, a contract, a manual. Longleaf reads it {where}, answers your questions, "
                "and shows the words on the page that each answer rests on."
            )
        )
        draw_uploader(desk, "welcome")
        if draw_transfers(desk):
            st.rerun()  # only here, where no question can be under way: a run that is begun anew forgets what was typed


def models_line(desk: Service) -> str:
    """Who answers, as Markdown, and what to fetch where nobody does."""
    answerer = desk.answerer
    no_reader_wanted = desk.settings.reader == "none"
    complete = (answerer.reader or no_reader_wanted) and answerer.embedder
    fetch = "" if complete else " Fetch what is missing on the page Models."
    search = "" if answerer.embedder else " Search is by words alone."
    if answerer.reader is None:
        why = "No reader is used" if no_reader_wanted else "No reader is installed"
        return f"{why}: answers are sentences of the document.{search}{fetch}"
    return f"Answers by {view.plain(answerer.reader.model_name)}.{search}{fetch}"


if __name__ == "__main__":
    main()
