"""The page "Summaries": a whole document in a few sentences, each with the pages that it rests on."""

from typing import Any

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.render import page_count
from longleaf.app.service import Service
from longleaf.app.ui import viewer
from longleaf.app.ui.answers import COPY_SCRIPT
from longleaf.app.ui.jobs import REFRESH_S, draw_progress
from longleaf.app.ui.session import errors_shown, owner, service
from longleaf.app.ui.summary_view import draw_summary, options_line
from longleaf.ingestion import Document
from longleaf.retrieval.summary_prompts import SummaryOptions
from longleaf.retrieval.summary_record import Summary


def main() -> None:
    """Draws the page."""
    desk = service()
    if "page" in st.query_params:  # without, a link is to the document's summary
        viewer.open_from_link(desk)
    talk, side = st.columns([5, 7], gap="medium") if viewer.shown() else (st.container(), None)
    with talk:
        st.title("Summaries", anchor=False)
        with errors_shown():
            draw(desk)
    if side is not None:
        with side:
            viewer.draw(desk)
    st.html(COPY_SCRIPT, unsafe_allow_javascript=True)  # last, as it would push the title down


def draw(desk: Service) -> None:
    """Draws the choice, and the summary that it leads to: the one that is kept, or the way to it."""
    ready = {d.sha256: d for d in reversed(desk.library.documents()) if d.state == "ready"}
    if not ready:
        st.info("No document to summarise yet.")
        st.page_link("screens/ask.py", label="Add one on the page Ask", icon=":material/forum:")
        return
    document = choose(ready)
    options = choose_options()
    kept = desk.summarizer.kept(document, options)
    job = desk.summary_job(document)
    label = "Make it again" if kept else "Summarise"
    at_work = job is not None and not job.view().finished
    if st.button(label, type="primary", icon=":material/summarize:", disabled=at_work, key="summarise"):
        desk.summarize(document, options, owner=owner(), anew=kept is not None)
        st.rerun()
    if job is not None and at_work:
        draw_running(desk, document)
        return
    view = job.view() if job else None
    if view and view.state == "failed":
        st.error(plain(view.error), icon=":material/error:")
    if view and view.state == "stopped":
        draw_stopped(view.result)
    if kept:
        draw_summary(kept, key="kept")
    elif desk.answerer.reader is None:
        st.caption("No reader is installed: a summary is sentences of the document, as they stand.")
    draw_others(desk, document, kept)


def choose(ready: dict[str, Document]) -> Document:
    """The document: that of the link, else the newest; kept in the address."""
    state = st.session_state
    given = st.query_params.get("document", "")
    named = next((sha256 for sha256 in ready if given and sha256.startswith(given)), None)
    if given and named is None:
        st.warning("The document of this link is not in the library, or not read to its end. Choose another.")
    if named and state.get("summary_linked") != given:
        state["summary_document"], state["summary_linked"] = named, given
    if state.get("summary_document") not in ready:
        state["summary_document"] = (
            state.get("summary_chosen") if state.get("summary_chosen") in ready else next(iter(ready))
        )
    chosen: str = st.selectbox(
        "Document",
        list(ready),
        format_func=lambda sha256: f"{ready[sha256].name} · {page_count(ready[sha256].n_pages)}",
        key="summary_document",
    )
    state["summary_chosen"] = chosen
    if not viewer.shown() and st.query_params.get("document") != chosen[:12]:
        st.query_params["document"] = state["summary_linked"] = chosen[:12]
    return ready[chosen]


def choose_options() -> SummaryOptions:
    """Length and form, and behind a click what few need."""
    with st.container(horizontal=True, vertical_alignment="bottom", key="summary-options"):
        length: Any = st.segmented_control(
            "Length", ["short", "medium", "long"], default="medium", required=True, key="summary-length"
        )
        form: Any = st.segmented_control(
            "Form",
            ["prose", "bullets"],
            default="prose",
            required=True,
            format_func={"prose": "running text", "bullets": "lines"}.__getitem__,
            key="summary-form",
        )
        with st.popover("More", key="summary-more"):
            focus = st.text_input("What it is to be about", max_chars=200, placeholder="All of it", key="summary-focus")
            language = st.text_input("Language", max_chars=40, placeholder="The document's own", key="summary-language")
    return SummaryOptions(length or "medium", language.strip() or None, focus.strip() or None, form or "prose")


@st.fragment(run_every=REFRESH_S)
def draw_running(desk: Service, document: Document) -> None:
    """The work on it; draws itself again until it is over."""
    job = desk.summary_job(document)
    if job is None or draw_progress(job, key=f"summary-{document.sha256[:8]}").finished:
        st.rerun(scope="app")


def draw_stopped(result: Summary | None) -> None:
    """What a stop left: the parts that were done are kept, and the next attempt goes on after them."""
    if result and result.receipt.parts_done:
        done, parts = result.receipt.parts_done, result.receipt.parts
        st.info(f"Stopped: {done} of {parts} parts are done and kept. Summarise goes on with the next.")
    else:
        st.info("Stopped before anything was kept.")


def draw_others(desk: Service, document: Document, kept: Summary | None) -> None:
    """Summaries of the same document with other options, or by other models."""
    others = [made for made in desk.summarizer.all_kept(document) if made != kept]
    if others:
        st.subheader("Other summaries of it", anchor=False)
    for number, made in enumerate(others):
        with st.expander(plain(options_line(made)), key=f"other-summary-{number}"):
            draw_summary(made, key=f"other-{number}")


if __name__ == "__main__":
    main()
