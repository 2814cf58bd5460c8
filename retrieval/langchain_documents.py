"""Passages as LangChain Documents, and LangChain Documents as pages that evidence is picked from.

A Document made here says where it stands (`sha256`, `page`, `start`, `end`), so that one that comes back, from
whatever store or chain, is evidence on its stored page, with boxes. Any other Document is a page of its own text: what
is cited from it was looked up in that text, and has no boxes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document as LangChainDocument

from longleaf.errors import DocumentNotFoundError
from longleaf.ingestion import Document, Page

from .citations import locate
from .evidence import SearchedPage
from .passages import Passage
from .search import Found, Hit
from .sentences import Unit, split_units
from .steps import Searched
from .store import PassageStore, StoredPassage

__all__ = ["searched_in", "to_langchain"]

RANK_SCORE = 0.5
"""What a rank counts: neighbours in our own search are about half a standard deviation apart."""


def to_langchain(hit: Hit, document: Document, page_label: str) -> LangChainDocument:
    """A passage that was found, with where it stands as metadata; `id` is the same in every library."""
    passage = hit.stored.passage
    return LangChainDocument(
        id=f"{document.sha256[:16]}:{passage.page}:{passage.start}-{passage.end}",
        page_content=passage.text,
        metadata={
            "document": document.name,
            "sha256": document.sha256,
            "page": passage.page,
            "page_label": page_label,
            "section": passage.section,
            "start": passage.start,
            "end": passage.end,
            "score": hit.score,
        },
    )


def searched_in(documents: Sequence[LangChainDocument], store: PassageStore, method: str) -> Searched:
    """The Documents of a retriever, best first, as if our own search had found them.

    Args:
        documents: What the retriever returned.
        store: Of the library in which Documents made here are looked up.
        method: The retriever's name, for the receipt.
    """
    hits: list[Hit] = []
    pages: dict[tuple[int, int], SearchedPage] = {}
    for rank, given in enumerate(documents):
        found = _stored(given, store) or _own_text(given, rank, len(documents))
        hit = Hit(StoredPassage(-1 - rank, found.document.id, _passage(given, found)), -RANK_SCORE * rank, np.nan, 0.0)
        key = (found.document.id, found.page.number)
        hits.append(hit)
        pages[key] = _merged(pages[key], found) if key in pages else found
    return Searched(Found(hits, method, len(hits), 0), pages)


def _passage(given: LangChainDocument, found: SearchedPage) -> Passage:
    start, end = _span(given, found.page)
    return Passage(found.page.number, start, end, str(given.metadata.get("section") or ""), found.page.text[start:end])


def _span(given: LangChainDocument, page: Page) -> tuple[int, int]:
    """Where the Document's text stands on its page; a splitter may have cut it smaller than its metadata say."""
    start, end = _number(given.metadata.get("start")), _number(given.metadata.get("end"))
    if start is not None and end is not None and 0 <= start < end <= len(page.text):
        inside = locate(given.page_content, page.text[start:end])
        if inside:
            return start + inside[0], start + inside[1]
    return locate(given.page_content, page.text) or (0, len(page.text))


def _stored(given: LangChainDocument, store: PassageStore) -> SearchedPage | None:
    """The library's page that the Document says it is from, if it is there and holds the Document's text."""
    sha256, number = given.metadata.get("sha256"), _number(given.metadata.get("page"))
    if not isinstance(sha256, str) or number is None or len(sha256) != 64:
        return None
    try:
        document = store.library.find(sha256)
    except DocumentNotFoundError:
        return None
    if document.state != "ready" or not 1 <= number <= document.n_pages:
        return None
    page = store.library.page(document, number)
    if locate(given.page_content, page.text) is None:
        return None
    store.cut(document)
    spans = [_span(given, page), *store.spans(document, number)]
    return SearchedPage(document, page, _units(page.text, spans))


def _units(text: str, spans: Sequence[tuple[int, int]]) -> tuple[Unit, ...]:
    """Units of the spans in order; of two that begin at the same character the later span's counts."""
    units = {unit.start: unit for span in spans for unit in split_units(text, *span)}
    return tuple(units[start] for start in sorted(units))


def _merged(one: SearchedPage, other: SearchedPage) -> SearchedPage:
    units = {unit.start: unit for unit in (*other.units, *one.units)}
    return SearchedPage(one.document, one.page, tuple(units[start] for start in sorted(units)))


def _own_text(given: LangChainDocument, rank: int, n_given: int) -> SearchedPage:
    """The Document as a page of its own; its page number and label are those of its metadata, as they stand there."""
    text, metadata = given.page_content, given.metadata
    number = _number(metadata.get("page", metadata.get("page_number")))
    label = metadata.get("page_label", metadata.get("page", metadata.get("page_number", "")))
    name = _first_text(metadata, ("source", "document", "title", "file_name")) or given.id or f"document {rank + 1}"
    document = Document(
        id=rank - n_given,  # below 0, where the library has none, and in the order of the ranks
        sha256="",
        name=name,
        title=_first_text(metadata, ("title",)) or name,
        media_type="text/plain",
        size_bytes=len(text.encode()),
        n_pages=1,
        n_pages_ocr=0,
        n_pages_unread=0,
        n_chars=len(text),
        added_at="",
        metadata={},
        outline=(),
        warnings=(),
        state="ready",
    )
    no_boxes = np.empty((0, 4), np.float32)
    page = Page(0 if number is None else number, "" if label is None else str(label), text, 0.0, 0.0, no_boxes, "text")
    return SearchedPage(document, page, tuple(split_units(text)))


def _first_text(metadata: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((value for key in keys if isinstance(value := metadata.get(key), str) and value.strip()), "")


def _number(value: object) -> int | None:
    """A whole number, also where a store gave it back as text or as a float."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) else None
