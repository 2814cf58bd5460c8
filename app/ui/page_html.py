"""A page of a document as HTML, with marks on it: pure functions, without Streamlit and without a library.

A page is a picture with boxes over it, or, where a document has no pictures, its text. A document's words only ever
leave through `html.escape`.
"""

import base64
import math
import struct
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from longleaf.ingestion import Page
from longleaf.retrieval import Box

__all__ = ["PAGE_STYLE", "Span", "image_dpi", "page_html", "page_line", "page_text_html", "scroll_script"]

Span = tuple[int, int]
"""First character and the one after the last, in a page's text."""

PANE_WIDTH = 700
"""CSS pixels that the page is wide in its pane, where nothing is enlarged."""
DEVICE_PIXELS = 2
"""For each CSS pixel, as on a laptop or phone of today: a picture with fewer looks soft there."""
MAX_SIDE = 4_000
"""Pixels of the longer side of a picture.

A4 and Letter reach it at 200 %, and have 1.5 device pixels for each CSS pixel at 300 %, where a letter of 10 points is
40 pixels high. With two they would have 25 million pixels, of which a browser keeps 100 MB, more than a phone's may.
"""
MARK_MARGIN = 0.8
"""Points that a mark stands out from its words on each side."""

# The pane has its own scrolling beside the chat, and lies over everything where there is no room beside it. A page is
# white paper in a dark room too.
PAGE_STYLE = """<style>
.ll-pane { overflow: auto; overscroll-behavior: contain; border: 1px solid rgba(128, 128, 128, .45); }
.ll-page { position: relative; width: 100%; background: #fff; }
.ll-page img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.ll-mark, .ll-hit { position: absolute; mix-blend-mode: multiply; }
.ll-mark { background: #ffe25c; outline: 1px solid #e8890c; }
.ll-hit { background: #c4e4ff; }
.ll-hit.ll-now { background: #7cc4ff; outline: 2px solid #1668c7; }
.ll-text { white-space: pre-wrap; overflow-wrap: anywhere; padding: .8rem 1rem; }
.ll-text mark { color: #1b1b1b; background: #ffd43b; }
.ll-text mark.ll-hit { position: static; mix-blend-mode: normal; background: #c4e4ff; }
.ll-text mark.ll-now { background: #7cc4ff; }
.ll-title { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.st-key-page-pane { gap: .4rem; }
.st-key-page-head { flex-wrap: nowrap; }
.st-key-page-head > div:first-child { flex: 1 1 0; min-width: 0; }
:has(> .st-key-page-search) { flex: 1 1 8rem; min-width: 8rem; }
.st-key-page-turning .ll-small { white-space: nowrap; }
.st-key-page-hits .ll-small { white-space: nowrap; }
.st-key-page-pane button { min-height: 2.1rem; padding: .1rem .4rem; white-space: nowrap; }
.st-key-page-pane [data-testid="stNumberInputStepUp"],
.st-key-page-pane [data-testid="stNumberInputStepDown"] { display: none; }
.st-key-page-turning [data-testid="InputInstructions"], .st-key-page-search [data-testid="InputInstructions"] {
  display: none;
}
.st-key-page-turning [data-testid="stForm"] { position: relative; }
.st-key-page-turning [data-testid="stForm"] * { gap: 0; min-width: 0; max-width: 100%; }
.st-key-page-go:not(:focus-within) {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
.st-key-page-go:focus-within { position: absolute; top: 110%; z-index: 3; width: max-content; }
/* Buttons that are an icon to the eye keep their words for those who listen. */
[class*="st-key-page-icon-"] button { position: relative; }
[class*="st-key-page-icon-"] button [data-testid="stMarkdownContainer"] {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
@media (min-width: 641px) {
  [data-testid="stColumn"]:has(.st-key-page-pane) { position: sticky; top: 4rem; align-self: flex-start; }
  .ll-pane { max-height: calc(100vh - 18rem); min-height: 12rem; }
}
@media (min-width: 641px) and (max-width: 1250px) {
  .ll-pane { max-height: calc(100vh - 21.5rem); }  /* the search has a line of its own */
}
@media (min-width: 641px) {  /* the page must not scroll a message above the pane out of sight */
  [data-testid="stMainBlockContainer"]:has([data-testid="stAlert"]) .ll-pane { max-height: calc(100vh - 26rem); }
}
@media (max-width: 640px) {
  .st-key-page-pane {
    position: fixed; inset: 0; z-index: 1000000; padding: .6rem .6rem 0; overflow-y: auto;
    background: var(--st-background-color, Canvas);
  }
  .ll-pane { height: calc(100dvh - 9.5rem); min-height: 12rem; }
}
</style>"""

_SCROLL = """(() => {
  const bring = (tries) => {
    const pane = document.querySelector('.ll-pane[data-shown="TOKEN"]');
    if (!pane || !pane.clientHeight) { if (tries) setTimeout(bring, 50, tries - 1); return; }
    const goal = pane.querySelector(".ll-now") ?? pane.querySelector(".ll-mark, mark:not(.ll-hit)");
    const a = goal?.getBoundingClientRect(), b = pane.getBoundingClientRect();
    pane.scrollTop = a ? pane.scrollTop + a.top + a.height / 2 - b.top - pane.clientHeight / 2 : 0;
    pane.scrollLeft = a ? pane.scrollLeft + a.left + a.width / 2 - b.left - pane.clientWidth / 2 : 0;
  };
  bring(40);
})();"""


def image_dpi(width: float, height: float, zoom: int = 100) -> int:
    """The resolution to draw a page at.

    Args:
        width: Of the page, in points.
        height: Likewise.
        zoom: Per cent of the pane's width that the page takes.
    """
    wanted = math.ceil(PANE_WIDTH * DEVICE_PIXELS * zoom / 100 * 72 / max(width, 1.0))
    return max(20, min(600, wanted, int(MAX_SIDE * 72 / max(width, height, 1.0))))


def page_html(
    png: bytes,
    page: Page,
    *,
    marks: Sequence[Box] = (),
    hits: Sequence[Box] = (),
    now: Sequence[Box] = (),
    zoom: int = 100,
    token: str = "",
) -> str:
    """A page's picture with marks over it that keep their place at any size.

    Args:
        png: The page as displayed.
        page: Its size, and its number for those who can't see the picture.
        marks: Boxes of the quote: x0, y0, x1, y1 in points from the top left of the displayed page.
        hits: Boxes of words that were searched for.
        now: Those of the place where the search is.
        zoom: Per cent of the pane's width.
        token: What `scroll_script` knows the pane by; letters, digits and hyphens.
    """
    width, height = page.width, page.height
    if width <= 0 or height <= 0:  # a page that could not be read has no size: the picture tells its shape
        width, height = struct.unpack(">II", png[16:24])
    boxes = [(box, "ll-hit") for box in hits] + [(box, "ll-mark") for box in marks]
    boxes += [(box, "ll-hit ll-now") for box in now]
    drawn = "".join(_mark(box, width, height, name) for box, name in boxes)
    picture = base64.b64encode(png).decode("ascii")
    return (
        f'<div class="ll-pane" data-shown="{escape(token)}" tabindex="0">'
        f'<div class="ll-page" style="width:{zoom:d}%;aspect-ratio:{width:.2f} / {height:.2f}">'
        f'<img src="data:image/png;base64,{picture}" alt="Page {page.number}">{drawn}</div></div>'
    )


def _mark(box: Box, width: float, height: float, name: str) -> str:
    """In per cent of the page, as Streamlit lets no SVG through."""
    left, top = (box[0] - MARK_MARGIN) / width, (box[1] - MARK_MARGIN) / height
    wide, high = (box[2] - box[0] + 2 * MARK_MARGIN) / width, (box[3] - box[1] + 2 * MARK_MARGIN) / height
    return f'<div class="{name}" style="left:{left:.3%};top:{top:.3%};width:{wide:.3%};height:{high:.3%}"></div>'


def page_text_html(
    text: str,
    *,
    quote: Span | None = None,
    hits: Sequence[Span] = (),
    now: Span | None = None,
    zoom: int = 100,
    token: str = "",
) -> str:
    """The text of a page that has no picture, with marks in it; the arguments are those of `page_html`, as spans."""
    spans = [(*span, ' class="ll-hit"') for span in hits]
    spans += [(*quote, "")] if quote else []
    spans += [(*now, ' class="ll-hit ll-now"')] if now else []
    # Spans may overlap, so the text is cut wherever one begins or ends; in a piece the last one named counts.
    cuts = sorted({0, len(text)} | {min(max(at, 0), len(text)) for start, end, _ in spans for at in (start, end)})
    pieces = []
    for a, b in pairwise(cuts):
        names = [name for start, end, name in spans if start <= a and b <= end]
        words = escape(text[a:b])
        pieces.append(f"<mark{names[-1]}>{words}</mark>" if names else words)
    return (
        f'<div class="ll-pane" data-shown="{escape(token)}" tabindex="0">'
        f'<div class="ll-text" style="font-size:{0.9 * zoom / 100:.3g}rem">{"".join(pieces)}</div></div>'
    )


def scroll_script(token: str) -> str:
    """Brings the mark in the pane of this token into view; another token makes Streamlit run it anew.

    Raises:
        ValueError: The token has other characters than letters, digits and hyphens.
    """
    if not token.replace("-", "").isalnum():
        raise ValueError(f"token must be letters, digits and hyphens, not {token!r}")
    return f"<script>{_SCROLL.replace('TOKEN', token)}</script>"


def page_line(page: Page, n_pages: int) -> str:
    """What stands beside a page's number: how many there are, and what the page itself prints as its number."""
    printed = "" if page.label in ("", str(page.number)) else f" (printed {page.label})"
    return f"of {n_pages:,}{printed}"
