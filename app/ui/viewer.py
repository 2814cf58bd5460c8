"""The page of a document beside the chat: the quote marked on it, the way to other pages and citations, and a search.

What is shown, and each move, is `viewer_state`'s; the HTML of a page is `page_html`'s. No chat is needed: the marks are
found on the stored page.
"""

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from longleaf.app.page_view import text_html
from longleaf.app.service import Service
from longleaf.app.ui.page_html import (
    PAGE_STYLE,
    image_dpi,
    page_html,
    page_line,
    page_text_html,
    scroll_script,
)
from longleaf.app.ui.session import errors_shown
from longleaf.app.ui.viewer_state import (
    SHA256_CHARS,
    Place,
    Shown,
    cite,
    close,
    enlarge,
    find_hit,
    is_at_its_place,
    open_from_link,
    search_for,
    show,
    shown,
    turn,
)
from longleaf.errors import DocumentNotFoundError
from longleaf.ingestion import Document, Library, Page
from longleaf.retrieval import boxes_of
from longleaf.retrieval.find_text import TextHit, find_text

__all__ = ["Place", "Shown", "close", "draw", "open_from_link", "show", "shown"]

ZOOMS = {"Fit": 100, "150 %": 150, "200 %": 200, "300 %": 300}
MAX_HITS = 500
MAX_WORDS_CHARS = 200


@st.fragment
def draw(service: Service) -> None:
    """Draws the pane; moving within it draws it alone, and not the chat."""
    state = shown()
    if state is None:
        return
    st.html(PAGE_STYLE)
    with st.container(key="page-pane", gap="small"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="page-head"):
            title, citations, download = st.empty(), st.empty(), st.empty()
            if _icon_button("Close", ":material/close:", "Close the page"):
                close()
                st.rerun()
        with errors_shown():
            document = service.library.find(state.sha256)
            title.html(f'<div class="ll-title">{escape(document.name)}</div>')
            with citations:
                _draw_citations(state)
            with download:
                _draw_download(service.library, document)
            page = _page(service.library, document, state.page)
            hits = _hits(service.library, document, document.sha256, document.revision, state.words)
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key="page-bar"):
                _draw_turning(document, page)
                _draw_zoom(state)
                _draw_search(service, document, state, hits)
            _draw_page(service.library, document, page, state, hits)


def _draw_download(library: Library, document: Document) -> None:
    with st.container(width="content", key="page-icon-download"):
        st.download_button(
            "Download the document",
            lambda: library.file(document).read_bytes(),
            document.name,
            document.media_type,
            key="viewer-download",
            icon=":material/download:",
            type="tertiary",
            help="Download the document",
            on_click="ignore",
        )


def _draw_turning(document: Document, page: Page) -> None:
    number = page.number
    with st.container(horizontal=True, vertical_alignment="center", gap=None, width="content", key="page-turning"):
        _icon_button("Previous page", ":material/chevron_left:", move=(turn, number - 1), disabled=number <= 1)
        # A form, since only its button is listened to: parts of the page that draw themselves again and again send
        # what the browser has in its widgets, and that is the number of the page before until it hears of this one.
        with st.form("page-form", border=False, width=72):
            key = f"viewer-page-{document.sha256[:SHA256_CHARS]}"
            st.session_state[key] = number
            st.number_input("Page", 1, document.n_pages, key=key, label_visibility="collapsed")
            with st.container(key="page-go"):
                st.form_submit_button("Go to the page", key="viewer-go", on_click=_turn_to_typed, args=(key,))
        _icon_button(
            "Next page", ":material/chevron_right:", move=(turn, number + 1), disabled=number >= document.n_pages
        )
        st.html(text_html(page_line(page, document.n_pages), small=True), width="content")


def _draw_zoom(state: Shown) -> None:
    st.session_state.setdefault(
        "viewer-zoom", next((name for name, zoom in ZOOMS.items() if zoom == state.zoom), "Fit")
    )
    st.selectbox(
        "Zoom", list(ZOOMS), key="viewer-zoom", label_visibility="collapsed", width=92, on_change=_zoom_to_chosen
    )


def _draw_citations(state: Shown) -> None:
    n = len(state.places)
    here = not n or is_at_its_place(state)
    if n <= 1 and here:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap=None, width="content", key="page-citations"):
        if n > 1:
            _icon_button(
                "Previous citation", ":material/arrow_upward:", move=(cite, state.at - 1), disabled=state.at <= 0
            )
        st.button(
            f"Citation {state.at + 1} of {n}" if n > 1 else "Back to the quote",
            key="viewer-citation",
            type="tertiary",
            help="Back to this citation",
            disabled=here,
            on_click=cite,
            args=(state.at,),
        )
        if n > 1:
            _icon_button(
                "Next citation", ":material/arrow_downward:", move=(cite, state.at + 1), disabled=state.at >= n - 1
            )


def _draw_search(service: Service, document: Document, state: Shown, hits: list[TextHit]) -> None:
    key = f"viewer-words-{document.sha256[:SHA256_CHARS]}"
    st.session_state.setdefault(key, state.words)
    with st.container(key="page-search"):
        st.text_input(
            "Find in the document",
            key=key,
            label_visibility="collapsed",
            placeholder="Find in the document",
            on_change=_find_typed,
            args=(service, document, key),
        )
    if not state.words.strip():
        return
    n, more = len(hits), " or more" if len(hits) >= MAX_HITS else ""
    if not hits:
        line = "Not found" if document.n_chars else "No readable text"
    elif state.hit >= 0:
        line = f"{state.hit + 1} of {n}{more}"
    else:
        line = f"{n} place{'' if n == 1 else 's'}{more}"
    with st.container(horizontal=True, vertical_alignment="center", gap=None, width="content", key="page-hits"):
        st.html(f'<div role="status">{text_html(line, small=True)}</div>', width="content")
        if hits:
            # From a page that was turned to, on from there.
            n_before = sum(hit.page < state.page for hit in hits)
            back, on = (state.hit - 1, state.hit + 1) if state.hit >= 0 else (n_before - 1, n_before)
            _icon_button(
                "Previous place found", ":material/keyboard_arrow_up:", move=(find_hit, hits, back), disabled=back < 0
            )
            _icon_button(
                "Next place found", ":material/keyboard_arrow_down:", move=(find_hit, hits, on), disabled=on >= n
            )


def _draw_page(library: Library, document: Document, page: Page, state: Shown, hits: list[TextHit]) -> None:
    """The page itself, and a line above it where something on it can't be shown."""
    has_picture = document.media_type == "application/pdf"
    found = [(hit.start, hit.end) for hit in hits if hit.page == page.number]
    current = hits[state.hit] if 0 <= state.hit < len(hits) else None
    now = (current.start, current.end) if current and current.page == page.number else None
    token = f"{document.sha256[:SHA256_CHARS]}-{page.number}-{state.zoom}-{state.moves}"
    quote = state.quote
    boxes = boxes_of(page, *quote) if quote else ()
    if quote and (not boxes if has_picture else not page.text[quote[0] : quote[1]].strip()):
        st.html(text_html("The quoted words can't be located on this page, so nothing is marked.", small=True))
        quote = None
    if page.source == "none" and page.note:
        st.html(text_html(f"This page could not be read, and the search passes over it: {page.note}", small=True))
    if has_picture:
        dpi = image_dpi(page.width or 612.0, page.height or 792.0, state.zoom)
        kept = _picture if state.zoom == 100 else _large_picture
        st.html(
            page_html(
                kept(library, document, document.sha256, document.revision, page.number, dpi),
                page,
                marks=boxes,
                hits=[box for span in found if span != now for box in boxes_of(page, *span)],
                now=boxes_of(page, *now) if now else (),
                zoom=state.zoom,
                token=token,
            )
        )
    else:
        st.html(page_text_html(page.text, quote=quote, hits=found, now=now, zoom=state.zoom, token=token))
    st.html(scroll_script(token), unsafe_allow_javascript=True)


def _icon_button(
    label: str,
    icon: str,
    meaning: str = "",
    *,
    move: tuple[Callable[..., None], *tuple[Any, ...]] | None = None,
    disabled: bool = False,
) -> bool:
    """A button that is an icon to the eye; `move` is what a click calls, with what."""
    key = label.lower().replace(" ", "-")
    with st.container(width="content", key=f"page-icon-{key}"):
        return st.button(
            label,
            key=f"viewer-{key}",
            icon=icon,
            type="tertiary",
            help=meaning or label,
            disabled=disabled,
            on_click=move[0] if move else None,
            args=move[1:] if move else (),
        )


# --- what was typed or chosen


def _turn_to_typed(key: str) -> None:
    turn(int(st.session_state[key]))


def _zoom_to_chosen() -> None:
    enlarge(ZOOMS[st.session_state["viewer-zoom"]])


def _find_typed(service: Service, document: Document, key: str) -> None:
    """Searches for what was typed, and goes to the first place from the shown page on."""
    words = str(st.session_state[key])[:MAX_WORDS_CHARS]
    state = search_for(words)
    if state is None or state.sha256 != document.sha256:
        return
    with errors_shown():
        hits = _hits(service.library, document, document.sha256, document.revision, words)
        if hits:
            find_hit(hits, next((i for i, hit in enumerate(hits) if hit.page >= state.page), 0))


# --- what is fetched


def _page(library: Library, document: Document, number: int) -> Page:
    try:
        return library.page(document, number)
    except ValueError as exc:
        raise DocumentNotFoundError(
            f"{document.name}: page {number:,} is not there (yet); it is being read in"
        ) from exc


# A page of text takes 0.1 to 0.4 MB, one with photographs some megabytes, and at 300 % up to six times that: what is
# enlarged is looked at and left again, so only a few of those are kept. The bytes' identity is the key.
@st.cache_data(max_entries=24, show_spinner=False)
def _picture(_library: Library, _document: Document, sha256: str, revision: int, number: int, dpi: int) -> bytes:  # noqa: ARG001
    return _library.page_image(_document, number, dpi)


@st.cache_data(max_entries=4, show_spinner=False)
def _large_picture(_library: Library, _document: Document, sha256: str, revision: int, number: int, dpi: int) -> bytes:  # noqa: ARG001
    return _library.page_image(_document, number, dpi)


@st.cache_data(max_entries=32, show_spinner=False)
def _hits(_library: Library, _document: Document, sha256: str, revision: int, words: str) -> list[TextHit]:  # noqa: ARG001
    return find_text(_library, _document, words, MAX_HITS)
