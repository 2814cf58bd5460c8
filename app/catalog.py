"""The documents of a library as rows of a list: what is known of each, for people to choose from. No Streamlit here."""

from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.errors import LongleafError
from longleaf.ingestion import Document

from .render import human_bytes, page_count
from .service import Service

__all__ = ["CatalogRow", "catalog", "matching", "what_goes"]


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One document in the list.

    Attributes:
        document: Itself.
        tokens: For the reader in use; None while they are not counted, or without a reader.
        is_read: Whether a reading of it by the reader in use is on disk.
        remark: What somebody should know of it: stopped in the middle, pages without readable text; "" for nothing.
    """

    document: Document
    tokens: int | None
    is_read: bool
    remark: str


def catalog(service: Service) -> list[CatalogRow]:
    """All documents, the newest first."""
    answerer = service.answerer
    tokenizer = answerer.tokenizer_name
    tokens = answerer.store.token_counts(tokenizer) if tokenizer else {}
    read = _read_by(service, answerer.reader.model_name if answerer.reader else "")
    return [
        CatalogRow(document, tokens.get(document.id), document.sha256 in read, _remark(document))
        for document in sorted(service.library.documents(), key=lambda document: -document.id)
    ]


def matching(rows: Sequence[CatalogRow], words: str) -> list[CatalogRow]:
    """Those whose name or title has all these words, in any order."""
    wanted = words.casefold().split()
    return [
        row
        for row in rows
        if all(
            word in f"{row.document.name} {row.document.file_name} {row.document.title}".casefold() for word in wanted
        )
    ]


def what_goes(service: Service, documents: Sequence[Document]) -> str:
    """What removing documents takes away, in a sentence."""
    pages = sum(document.n_pages for document in documents)
    size = human_bytes(sum(document.size_bytes for document in documents))
    chats = {chat.id for document in documents for chat in service.chats.with_document(document.sha256)}
    one = len(documents) == 1
    said = ""
    if chats:
        about = "1 chat says" if len(chats) == 1 else f"{len(chats)} chats say"
        said = f", and what {about} of {'it' if one else 'them'}, or the whole chat where it is about nothing else"
    return (
        f"{page_count(pages)} with their passages, vectors, readings, summaries and results of jobs; the stored "
        f"{'copy' if one else 'copies'} ({size}){said}. "
        f"{'The file that was added stays where it is' if one else 'The files that were added stay where they are'}."
    )


def _read_by(service: Service, model: str) -> set[str]:
    """Ids of the documents that this model has read; none where the folder of readings can't be looked into."""
    try:
        listed = service.readings.list()
    except LongleafError:
        return set()
    return {sha256 for reading in listed if reading.model_name == model for sha256 in reading.sources}


def _remark(document: Document) -> str:
    if document.state != "ready":
        return "not read to its end: go on with it to ask it"
    return "; ".join(document.warnings)
