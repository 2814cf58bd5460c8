"""What the pane beside the chat shows, and the moves from there: one value in the session, in step with the address.

A refresh and a shared link so show the same page with the same marks. It draws nothing but the warnings about a link.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from longleaf.app.page_view import plain
from longleaf.app.service import Service
from longleaf.app.ui.page_html import Span
from longleaf.ingestion import Library
from longleaf.retrieval.find_text import TextHit

__all__ = [
    "Place", "Shown", "cite", "close", "enlarge", "find_hit", "is_at_its_place", "open_from_link", "search_for", "show",
    "shown", "turn",
]  # fmt: skip

SHA256_CHARS = 12
"""Of a document's sha256, in the address."""
LEFT_S = 3.0
"""Seconds in which an address that was left is no wish to go back to it."""

_STATE, _LEFT = "shown", "shown_links_left"
_LINK = ("document", "page", "quote")
_HEX = re.compile(r"[0-9a-f]{6,64}")
_SPAN = re.compile(r"(\d{1,9})-(\d{1,9})", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A quote's place: document, page (1-based) and the span of its characters in that page's text."""

    sha256: str
    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What the pane shows.

    Attributes:
        sha256: The document.
        page: 1-based.
        quote: The characters of the page's text that are marked.
        places: Citations to move between.
        at: Which of them was shown last, 0-based.
        words: What was searched for in the document.
        hit: At which of the places found the search is, 0-based; -1 at none.
        zoom: Per cent of the pane's width that the page takes.
        moves: Grows with each move: what the mark is brought into view for once more.
    """

    sha256: str
    page: int
    quote: Span | None = None
    places: tuple[Place, ...] = ()
    at: int = 0
    words: str = ""
    hit: int = -1
    zoom: int = 100
    moves: int = 0


def show(sha256: str, page: int, quote: Span | None = None, places: Sequence[Place] = ()) -> None:
    """Opens a page; may be called where a button is clicked.

    Args:
        sha256: The document.
        page: 1-based.
        quote: The characters of the page's text to mark.
        places: Citations to move between, this one among them.
    """
    before = shown()
    kept = tuple(places) or ((Place(sha256, page, *quote),) if quote else ())
    here = Place(sha256, page, *quote) if quote else None
    _keep(
        Shown(
            sha256,
            page,
            quote,
            kept,
            at=kept.index(here) if here in kept else 0,
            words=before.words if before and before.sha256 == sha256 else "",
            zoom=before.zoom if before else 100,
            moves=before.moves + 1 if before else 0,
        )
    )


def shown() -> Shown | None:
    """What the pane shows; None while it is closed."""
    state: Shown | None = st.session_state.get(_STATE)
    return state


def close() -> None:
    """Closes the pane, from the next drawing of the whole page on."""
    st.session_state.pop(_STATE, None)
    _write_link({})


def open_from_link(service: Service) -> None:
    """Opens what the address names; to be called by a page before it looks at `shown`.

    An address that names no document of the library, or no page of it, is answered with a warning.
    """
    before = shown()
    given = {name: st.query_params[name] for name in _LINK if name in st.query_params}
    if (before and given in ({}, _link_of(before))) or _just_left(given):
        # It is missing where another page of the app was visited.
        _write_link(_link_of(before) if before else {})
    elif "document" in given:
        _open_link(service.library, given)
    elif given:
        _write_link({})


def _open_link(library: Library, given: dict[str, str]) -> None:
    ref = given["document"].strip().lower()
    documents = [d for d in library.documents() if d.sha256.startswith(ref)] if _HEX.fullmatch(ref) else []
    if len(documents) != 1:
        if documents:
            names = plain(", ".join(document.name for document in documents[:5]))
            st.warning(f"The link does not tell which document is meant: {names}. Open one from the Library.")
        else:
            st.warning("The link names a document that is not in this library: it was removed, or the link is cut off.")
        close()
        return
    document = documents[0]
    asked = given.get("page", "1").strip()
    page = int(asked) if _NUMBER.fullmatch(asked) else 0
    quote = given.get("quote", "").strip()
    span = _SPAN.fullmatch(quote)
    if not 1 <= page <= document.n_pages:
        pages = f"{document.n_pages:,} page{'' if document.n_pages == 1 else 's'}"
        st.warning(f"The link names page “{plain(asked[:20])}”; {plain(document.name)} has {pages}. This is the first.")
        page, span = 1, None
    elif quote and not span:
        st.warning("What the link would have marked can't be read from it: it may be cut off.")
    show(document.sha256, page, (int(span[1]), int(span[2])) if span else None)


def _link_of(state: Shown) -> dict[str, str]:
    link = {"document": state.sha256[:SHA256_CHARS], "page": str(state.page)}
    return link | ({"quote": f"{state.quote[0]}-{state.quote[1]}"} if state.quote else {})


def _write_link(link: dict[str, str]) -> None:
    """Puts these into the address in place of ours that stand there, at once: each change is a step of "back"."""
    given = st.query_params.to_dict()
    wanted = {name: value for name, value in given.items() if name not in _LINK} | link
    if wanted != given:
        left = {name: value for name, value in given.items() if name in _LINK}
        st.session_state[_LEFT] = [*_links_just_left(), (left, time.monotonic())]
        st.query_params.from_dict(wanted)


def _just_left(link: dict[str, str]) -> bool:
    """Whether this is where we were a moment ago.

    The browser sends its address with everything that it asks for, and what it asked for before it heard of a new
    address comes with the old one: that is no wish to go back.
    """
    return any(link == left for left, _ in _links_just_left())


def _links_just_left() -> list[tuple[dict[str, str], float]]:
    now = time.monotonic()
    return [(link, at) for link, at in st.session_state.get(_LEFT, []) if link and now - at < LEFT_S]


def _keep(state: Shown) -> None:
    st.session_state[_STATE] = state
    _write_link(_link_of(state))


def turn(number: int) -> None:
    """Turns to a page; where that has the citation shown last, it is marked again."""
    if state := shown():
        place = state.places[state.at] if state.places else None
        here = place is not None and (place.sha256, place.page) == (state.sha256, number)
        quote = (place.start, place.end) if place and here else None
        _keep(replace(state, page=number, quote=quote, hit=-1, moves=state.moves + 1))


def cite(index: int) -> None:
    """Shows one of the citations, which may be in another document."""
    state = shown()
    if state and 0 <= index < len(state.places):
        place = state.places[index]
        words = state.words if place.sha256 == state.sha256 else ""
        _keep(
            Shown(
                place.sha256,
                place.page,
                (place.start, place.end),
                state.places,
                index,
                words,
                zoom=state.zoom,
                moves=state.moves + 1,
            )
        )


def enlarge(zoom: int) -> None:
    """Shows the page at this many per cent of the pane's width."""
    if state := shown():
        _keep(replace(state, zoom=zoom))


def search_for(words: str) -> Shown | None:
    """Keeps what is looked for, and goes nowhere yet; None where it is what was looked for already."""
    state = shown()
    if state is None or state.words == words:
        return None
    _keep(replace(state, words=words, hit=-1, moves=state.moves + 1))
    return shown()


def find_hit(hits: list[TextHit], index: int) -> None:
    """Goes to one of the places found."""
    state = shown()
    if state and 0 <= index < len(hits):
        if hits[index].page != state.page:
            turn(hits[index].page)
        state = shown() or state
        _keep(replace(state, hit=index, moves=state.moves + 1))


def is_at_its_place(state: Shown) -> bool:
    """Whether the citation shown last is what is shown."""
    place = state.places[state.at]
    return (place.sha256, place.page, (place.start, place.end)) == (state.sha256, state.page, state.quote)
