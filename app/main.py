"""The browser front door: choose documents, ask, and see the quoted words marked on their page.

Streamlit runs this file from top to bottom at every click, so it only lays things out: what they look like is in
`page_view`, what becomes of an upload or a question in `ui_uploads` and `ui_turns`. Questions and answers live as long
as the browser's session.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from longleaf.app import page_view as view
from longleaf.app.settings import load_settings
from longleaf.app.ui_turns import Turn, ask_turn
from longleaf.app.ui_uploads import take_in
from longleaf.app.workbench import open_answerer, open_library
from longleaf.errors import LongleafError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer, Citation

# Seconds between two drawings of the same stage. (A bare string below a constant would be drawn on the page.)
DRAW_EVERY_S = 0.1
FILE_TYPES = ["pdf", "txt", "md"]


@dataclass(slots=True)
class Shown:
    """The page beside the chat, and the quote that led to it."""

    page: int
    citation: Citation


@st.cache_resource(show_spinner="Opening the library", on_release=lambda parts: parts[2].close())
def open_parts() -> tuple[Library, Answerer, ExitStack]:
    """One library and one answerer for all sessions of this server."""
    settings = load_settings()
    with ExitStack() as stack:
        library = stack.enter_context(open_library(settings))
        answerer = open_answerer(settings, library)
        kept = stack.pop_all()
    return library, answerer, kept


@st.cache_data(max_entries=64, show_spinner=False)
def page_png(_library: Library, _document: Document, sha256: str, number: int, dpi: int) -> bytes:  # noqa: ARG001
    """A page's picture; kept by the document's bytes, page and resolution."""
    return _library.page_image(_document, number, dpi)


def main() -> None:
    """Lays out the page."""
    st.set_option("client.showErrorDetails", "none")  # an unforeseen error goes to the log, not onto the page
    st.set_option("client.toolbarMode", "minimal")
    st.set_page_config(page_title="Longleaf", layout="wide")
    st.html(view.STYLE)
    state = st.session_state
    defaults: dict[str, Any] = {"turns": [], "shown": None, "outcomes": [], "n_uploads": 0}
    for name, value in defaults.items():
        state.setdefault(name, value)
    try:
        library, answerer, _ = open_parts()
        chosen = draw_sidebar(library, answerer)
        hint = "Ask about the chosen documents" if chosen else "Add or choose a document first"
        question = st.chat_input(hint, disabled=not chosen, max_chars=2_000)
        if question:
            state.turns.append(Turn(question, tuple(document.sha256 for document in chosen)))
        chat, side = st.columns([5, 7] if state.shown else [8, 2], gap="medium")
        with side:
            draw_page(library)
        with chat:
            if not state.turns:
                st.html(
                    view.text_html("Ask a question. The answer comes with the pages it rests on; click one to see it.")
                )
            for index, turn in enumerate(state.turns):
                draw_turn(library, answerer, index, turn)
    except LongleafError as exc:
        st.error(view.plain(str(exc)))


def draw_sidebar(library: Library, answerer: Answerer) -> list[Document]:
    """The documents and the way to add more; returns those chosen to be asked, newest first."""
    state = st.session_state
    with st.sidebar:
        st.header(":material/forest: Longleaf", anchor=False)
        files = st.file_uploader(
            "Add PDF, text or Markdown files", FILE_TYPES, accept_multiple_files=True, key=f"upload-{state.n_uploads}"
        )
        if files:
            ocr: Literal["auto", "never"] = "auto" if load_settings().ocr else "never"
            report = progress_in(st.empty())
            state.outcomes = [take_in(library, answerer, f.name, f, ocr=ocr, progress=report) for f in files]
            if new := {outcome.document.sha256 for outcome in state.outcomes if outcome.document}:
                for document in library.documents():
                    state[f"ask-{document.sha256}"] = document.sha256 in new
            state.n_uploads += 1  # a new uploader: Streamlit lets go of the bytes that it keeps in memory
            st.rerun()
        for outcome in state.outcomes:
            if outcome.document:
                st.caption(f"✓ {view.plain(outcome.text)}")
            else:
                st.error(view.plain(outcome.text))
        st.subheader("Documents to ask", anchor=False)
        documents = sorted(library.documents(), key=lambda document: (document.state != "ready", -document.id))
        if not documents:
            st.info("The library is empty. Drop a file into the box above; it stays on this machine.")
        for index, document in enumerate(documents):
            key, ready = f"ask-{document.sha256}", document.state == "ready"
            state.setdefault(key, index == 0 and ready)
            st.checkbox(view.document_label(document), key=key, disabled=not ready)
            for warning in document.warnings:
                st.caption(view.plain(warning))
        st.caption(models_line(answerer))
    return [document for document in documents if document.state == "ready" and state[f"ask-{document.sha256}"]]


def models_line(answerer: Answerer) -> str:
    """Who answers, as Markdown, and what to fetch where nobody does."""
    fetch = "" if answerer.reader and answerer.embedder else " Fetch what is missing: `longleaf model pull embedded`."
    search = "" if answerer.embedder else " No embedder: search is by words alone."
    if answerer.reader is None:
        return f"No reader: answers are the sentences found.{search}{fetch}"
    return f"Answers by {view.plain(answerer.reader.model_name)}.{search}{fetch}"


def progress_in(place: DeltaGenerator) -> Callable[[str, int, int], None]:
    """A function that shows how far a stage of work is."""
    last_stage, last_time = "", 0.0

    def show(stage: str, done: int, total: int) -> None:
        nonlocal last_stage, last_time
        now = time.monotonic()
        if stage == last_stage and now - last_time < DRAW_EVERY_S:
            return
        last_stage, last_time = stage, now
        text = view.plain(view.stage_text(stage, done, total))
        if total > 1:
            place.progress(min(done / total, 1.0), text)
        else:
            place.status(text)

    return show


def draw_turn(library: Library, answerer: Answerer, index: int, turn: Turn) -> None:
    """A question and its answer; asks it first where that is still to be done (a click meanwhile loses nothing)."""
    with st.chat_message("user", avatar=":material/person:"):
        st.html(view.text_html(turn.question))
    with st.chat_message("assistant", avatar=":material/forest:"):
        if turn.answer is None and not turn.error:
            place = st.empty()
            report = progress_in(place)
            report("searching", 0, 1)
            ask_turn(library, answerer, turn, top_k=load_settings().top_k, progress=report)
            place.empty()
        answer = turn.answer
        if answer is None:
            st.error(view.plain(turn.error))
            return
        st.html(view.answer_html(answer))
        if not answer.found and turn.places:
            st.html(view.text_html("Nearest to the question, without answering it:", small=True))
        for i, citation in enumerate(turn.places):
            label = view.chip_label(citation, i + 1 if answer.found else None, several=len(turn.documents) > 1)
            st.button(label, key=f"place-{index}-{i}", on_click=show_citation, args=(citation,))
            st.html(
                view.quote_html(citation.quote, citation.heading, verified=citation.verified if answer.found else None)
            )
        st.html(view.route_html(answer))
        with st.expander("Receipt"):
            st.html(view.receipt_html(answer))


def show_citation(citation: Citation) -> None:
    """Opens a citation's page beside the chat."""
    st.session_state.shown = Shown(citation.page, citation)


def turn_page(step: int) -> None:
    """Goes on or back from the page that is shown; 0 closes it."""
    if step:
        st.session_state.shown.page += step
    else:
        st.session_state.shown = None


def draw_page(library: Library) -> None:
    """The page beside the chat, with the quote marked where it stands on it."""
    shown: Shown | None = st.session_state.shown
    if shown is None:
        return
    citation = shown.citation
    with st.container(key="page-pane"):
        try:
            document = library.find(citation.sha256)
            page = library.page(document, shown.page)
            has_picture = document.media_type == "application/pdf"
            line = view.page_line(page, document.n_pages, citation, has_picture=has_picture)
            with st.container(horizontal=True, vertical_alignment="center", key="page-bar"):
                step_button("‹", "Previous page", -1, disabled=page.number <= 1)
                step_button("›", "Next page", 1, disabled=page.number >= document.n_pages)
                st.html(view.text_html(line, small=True))
                step_button("✕", "Close the page", 0)
            here = citation.page == page.number
            if has_picture:
                png = page_png(library, document, document.sha256, page.number, view.image_dpi(page.width, page.height))
                picture = view.page_html(png, page.width, page.height, citation.boxes if here else (), page.number)
            else:
                span = (citation.start, citation.end) if here else (0, 0)
                picture = view.marked_text_html(page.text, *span)
            st.html(picture)
            st.html(view.scroll_script(page.number, citation.start), unsafe_allow_javascript=True)
        except LongleafError as exc:
            st.error(view.plain(str(exc)))


def step_button(label: str, meaning: str, step: int, *, disabled: bool = False) -> None:
    """A button that turns the shown page."""
    st.button(label, key=f"page{step:+}", help=meaning, on_click=turn_page, args=(step,), disabled=disabled)


if __name__ == "__main__":
    main()
