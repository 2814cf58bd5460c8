"""What the browser front door draws, as HTML and short texts: pure functions, without Streamlit and without a library.

A document's words are data. Here they only ever leave through `html.escape`, or through `plain` where Streamlit would
read them as Markdown (a "$" in a file name must not open a formula).
"""

import base64
import re
from collections.abc import Sequence
from html import escape

from longleaf.ingestion import Document, Page
from longleaf.retrieval import Answer, Box, Citation

from .receipt import receipt_rows
from .render import page_count

__all__ = [
    "STYLE",
    "answer_html",
    "chip_label",
    "document_label",
    "image_dpi",
    "marked_text_html",
    "page_html",
    "page_line",
    "plain",
    "quote_html",
    "receipt_html",
    "route_html",
    "scroll_script",
    "stage_text",
    "text_html",
]

MAX_DPI = 160
MAX_IMAGE_PIXELS = 1_800
"""Longer side of a page image: sharp at twice the width of its place, and a poster stays a picture one can send."""
MARK_MARGIN = 0.8
"""Points that a mark stands out from its words on each side."""

_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")
_SHORTCODE = re.compile(r":(?=[\w+-]+:)")

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 1.6rem 2rem 1rem; }
[data-testid="stBottomBlockContainer"] { padding: .5rem 2rem 1.2rem; }
[data-testid="stSidebarHeader"] { height: 2.2rem; margin-bottom: 0; }
@media (min-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-page-pane) { position: sticky; top: 1.2rem; align-self: flex-start; }
}
.ll-pane { max-height: calc(100vh - 12.2rem); overflow-y: auto; border: 1px solid rgba(128, 128, 128, .45); }
[data-testid="stSidebar"] [data-testid="stAlertContainer"] { padding: .5rem .7rem; }
[data-testid="stSidebar"] [data-testid="stAlertContainer"] p { font-size: .84rem; }
[class*="st-key-place-"] button { min-height: 0; padding: .05rem .7rem; border-radius: 999px; }
.ll-page { position: relative; width: 100%; background: #fff; }
.ll-page img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.ll-mark { position: absolute; background: #ffe25c; mix-blend-mode: multiply; outline: 1px solid #e8890c; }
.ll-plain, .ll-text { white-space: pre-wrap; overflow-wrap: anywhere; }
.ll-text { font-size: .9rem; padding: .8rem 1rem; }
.ll-text mark { background: #ffd43b; color: #1b1b1b; }
.ll-answer { font-size: 1.05rem; line-height: 1.5; overflow-wrap: anywhere; }
.ll-answer sup { opacity: .7; }
.ll-unsupported { border-bottom: 2px dotted #d9730d; }
.ll-why, .ll-bad { color: #d9730d; font-size: .85em; }
.ll-notfound { font-weight: 600; }
.ll-small { font-size: .84rem; opacity: .8; overflow-wrap: anywhere; }
.ll-quote { border-left: 3px solid rgba(128, 128, 128, .45); padding-left: .6rem; }
.ll-above { opacity: .75; }
.ll-ok { color: #2fa866; white-space: nowrap; }
.ll-receipt td { padding: .1rem .8rem .1rem 0; border: none; vertical-align: top; font-size: .84rem; }
.ll-receipt td:first-child { opacity: .65; white-space: nowrap; }
</style>"""

_SCROLL = """setTimeout(() => {
  const pane = document.querySelector(".ll-pane"), mark = pane?.querySelector(".ll-mark, mark");
  if (pane) pane.scrollTop = !mark ? 0 : pane.scrollTop
    + mark.getBoundingClientRect().top - pane.getBoundingClientRect().top - pane.clientHeight / 2;
}, 60);"""


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it stands, on one line: no emphasis, link, formula or emoji."""
    return _MARKDOWN.sub(r"\\\1", _SHORTCODE.sub(":\u2060", " ".join(text.split())))


def stage_text(stage: str, done: int, total: int) -> str:
    """A stage of work in words: "embedding passages: 32 of 210"."""
    return f"{stage}: {done:,} of {total:,}" if total > 1 else stage


def document_label(document: Document) -> str:
    """A document in the list, as Markdown."""
    unfinished = "" if document.state == "ready" else ", incomplete: add it again to go on"
    return f"{plain(document.name)} · {page_count(document.n_pages)}{unfinished}"


def chip_label(citation: Citation, number: int | None = None, *, several: bool = False) -> str:
    """The text of a citation's button, as Markdown: "[1] p. 27", with "(printed 25)" where the page says otherwise.

    Args:
        citation: Where the quote stands.
        number: What the answer calls it, 1-based; None where it calls it nothing.
        several: Names the document too, because more than one was asked.
    """
    name = f"{plain(citation.document)}, " if several else ""
    printed = "" if citation.page_label in ("", str(citation.page)) else f" (printed {plain(citation.page_label)})"
    called = f"\\[{number}\\] " if number else ""
    return f"{called}{name}p. {citation.page}{printed}"


def answer_html(answer: Answer) -> str:
    """The statements, each with the numbers of its citations; what has no support looks different and says so."""
    if not answer.found:
        return f'<div class="ll-answer ll-notfound">{escape(answer.answer)}</div>'
    parts = []
    for statement in answer.statements:
        text = escape(statement.text)
        if statement.supported:
            marks = "".join(f"<sup>[{i + 1}]</sup>" for i in statement.citations)
            parts.append(f"<span>{text}{marks}</span>")
        else:
            why = '<span class="ll-why">(no support found on the pages)</span>'
            parts.append(f'<span class="ll-unsupported">{text}</span> {why}')
    return f'<div class="ll-answer">{" ".join(parts)}</div>'


def quote_html(quote: str, heading: str = "", *, verified: bool | None = None) -> str:
    """A quote in small type, with the column names of a table row.

    `verified` says whether it was looked up on its page (None: nothing was claimed).
    """
    said = {
        None: "",
        True: ' <span class="ll-ok">✓ found on the page</span>',
        False: ' <span class="ll-bad">not found on the page</span>',
    }[verified]
    above = f' <span class="ll-above">under “{escape(" ".join(heading.split()))}”</span>' if heading else ""
    return f'<div class="ll-small ll-quote">“{escape(" ".join(quote.split()))}”{above}{said}</div>'


def text_html(text: str, *, small: bool = False) -> str:
    """Somebody's words as they stand, line ends kept."""
    return f'<div class="ll-plain{" ll-small" if small else ""}">{escape(text)}</div>'


def route_html(answer: Answer) -> str:
    """How the question was answered, why so, and by whom."""
    return text_html(f"{answer.route.name}: {answer.route.reason}. Model: {answer.model}", small=True)


def receipt_html(answer: Answer) -> str:
    """What was read for this answer, as a table."""
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in receipt_rows(answer))
    return f'<table class="ll-receipt">{cells}</table>'


def image_dpi(width: float, height: float) -> int:
    """The resolution to draw a page at, from its size in points."""
    return max(20, min(MAX_DPI, int(MAX_IMAGE_PIXELS * 72 / max(width, height, 1.0))))


def page_html(png: bytes, width: float, height: float, boxes: Sequence[Box], number: int) -> str:
    """A page's picture with marks over it that keep their place at any size.

    Args:
        png: The page as displayed.
        width: Of the page, in points.
        height: Likewise.
        boxes: To be marked: x0, y0, x1, y1 in points from the top left of the displayed page.
        number: Page number, 1-based, for those who can't see the picture.
    """
    marks = "".join(_mark(box, width, height) for box in boxes)
    picture = base64.b64encode(png).decode("ascii")
    return (
        f'<div class="ll-pane"><div class="ll-page" style="aspect-ratio: {width:.2f} / {height:.2f}">'
        f'<img src="data:image/png;base64,{picture}" alt="Page {number}">{marks}</div></div>'
    )


def _mark(box: Box, width: float, height: float) -> str:
    """In per cent of the page, as Streamlit lets no SVG through."""
    left, top = (box[0] - MARK_MARGIN) / width, (box[1] - MARK_MARGIN) / height
    wide, high = (box[2] - box[0] + 2 * MARK_MARGIN) / width, (box[3] - box[1] + 2 * MARK_MARGIN) / height
    return f'<div class="ll-mark" style="left:{left:.3%};top:{top:.3%};width:{wide:.3%};height:{high:.3%}"></div>'


def marked_text_html(text: str, start: int, end: int) -> str:
    """The text of a page that has no picture, with the characters from `start` to `end` marked."""
    before, quote, after = escape(text[:start]), escape(text[start:end]), escape(text[end:])
    marked = f"<mark>{quote}</mark>" if quote else ""
    return f'<div class="ll-pane"><div class="ll-text">{before}{marked}{after}</div></div>'


def scroll_script(page_number: int, start: int) -> str:
    """Brings the mark on a shown page into view; the numbers make Streamlit run it anew for another page or quote."""
    return f"<script>/* {page_number:d} {start:d} */ {_SCROLL}</script>"


def page_line(page: Page, n_pages: int, citation: Citation | None, *, has_picture: bool) -> str:
    """What stands above a shown page: which one it is, and whether the quote is marked on it."""
    printed = "" if page.label in ("", str(page.number)) else f" (printed {page.label})"
    where = f"Page {page.number:,} of {n_pages:,}{printed}"
    if citation is None:
        return where
    if citation.page != page.number:
        return f"{where}. The quote is on page {citation.page:,}"
    if has_picture and not citation.boxes:
        return f"{where}. This quote has no boxes on the page, so nothing is marked"
    return f"{where}, quote marked"
