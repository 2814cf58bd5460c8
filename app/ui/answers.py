"""Draws an answer: its statements, where they stand as chips to click, how it came about, and the receipt."""

from collections.abc import Sequence

import streamlit as st

from longleaf.app import answer_view
from longleaf.app import page_view as view
from longleaf.app.receipt import receipt_rows
from longleaf.app.ui import viewer
from longleaf.retrieval import Answer, Citation

__all__ = ["COPY_SCRIPT", "draw_answer", "draw_places"]

SHOWN_AT_ONCE = 4
"""Citations shown with their quotes; more are a click away."""

# Once for a page: a click on any button that carries words puts them on the clipboard. Outside https and localhost
# browsers have no clipboard object, so the old way stands behind it.
COPY_SCRIPT = """<script>
if (!window.longleafCopies) {
  window.longleafCopies = true;
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-ll-copy]");
    if (!button) return;
    const text = button.getAttribute("data-ll-copy");
    try { await navigator.clipboard.writeText(text); }
    catch {
      const area = document.createElement("textarea");
      area.value = text; document.body.append(area); area.select();
      document.execCommand("copy"); area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
</script>"""


def draw_answer(answer: Answer, *, key: str, n_documents: int = 1) -> None:
    """Draws a whole answer.

    Args:
        answer: Which one.
        key: Tells its buttons from those of other answers.
        n_documents: Documents that were asked: with several, each citation names its own.
    """
    if answer.reasoning:
        with st.expander("Reasoning", icon=":material/psychology:"):
            st.html(view.text_html(answer.reasoning, small=True))
    if answer.stopped and answer.reply:
        st.html(answer_view.draft_html(answer.reply))
    st.html(view.answer_html(answer))
    several = n_documents > 1
    if answer.found:
        draw_places(answer.citations, key=key, several=several)
    else:
        st.html(view.text_html(answer_view.read_line(answer), small=True))
        if answer.nearest:
            st.html(view.text_html("Nearest to the question, without answering it:", small=True))
            draw_places(answer.nearest, key=key, several=several, numbered=False)
    st.html(view.text_html(answer_view.route_line(answer, n_documents), small=True))
    st.html(view.text_html(answer_view.figures_line(answer), small=True))
    with st.expander("Receipt", icon=":material/receipt_long:"):
        st.html(view.receipt_html(receipt_rows(answer)))


def draw_places(places: Sequence[Citation], *, key: str, several: bool = False, numbered: bool = True) -> None:
    """Draws citations, each as a chip that opens its page and the quote that stands there.

    Args:
        places: The citations, in the order of their numbers.
        key: Tells their buttons from others.
        several: Names the document of each.
        numbered: Whether the text refers to them by number; else they are only near to the question.
    """
    for index, citation in enumerate(places[:SHOWN_AT_ONCE]):
        _draw_place(citation, index, places, key=key, several=several, numbered=numbered)
    if len(places) > SHOWN_AT_ONCE:
        with st.expander(f"{len(places) - SHOWN_AT_ONCE} more"):
            for index, citation in enumerate(places[SHOWN_AT_ONCE:], SHOWN_AT_ONCE):
                _draw_place(citation, index, places, key=key, several=several, numbered=numbered)


def _draw_place(
    citation: Citation, index: int, places: Sequence[Citation], *, key: str, several: bool, numbered: bool
) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key=f"cite-{key}-{index}"):
        st.button(
            view.chip_label(citation, index + 1 if numbered else None, several=several),
            key=f"place-{key}-{index}",
            help=f"Open page {citation.page} of {view.plain(citation.document)} with these words marked",
            on_click=_open,
            args=(citation, tuple(places)),
        )
        st.html(view.quote_html(citation.quote, citation.heading, verified=citation.verified if numbered else None))


def _open(citation: Citation, places: tuple[Citation, ...]) -> None:
    viewer.show(citation.sha256, citation.page, _span(citation), [_place(place) for place in places])


def _place(citation: Citation) -> viewer.Place:
    return viewer.Place(citation.sha256, citation.page, citation.start, citation.end)


def _span(citation: Citation) -> tuple[int, int]:
    return citation.start, citation.end
