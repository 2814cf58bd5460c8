"""Removes a document with all that came from it, as `longleaf remove` and the browser's library page do it."""

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.errors import StorageError
from longleaf.ingestion import Document, Library, Removed

from .chats import Chats, Forgotten

if TYPE_CHECKING:
    from longleaf.model.readings import ReadingInfo, ReadingStore
    from longleaf.retrieval import PassageStore

__all__ = ["Gone", "remove_document", "remove_orphaned_readings"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gone:
    """What removing a document took away.

    Attributes:
        removed: Rows and files of the library.
        chats: Chats about it alone, and turns of other chats that lost something.
        readings: Readings that held its text, or that of documents removed earlier.
        readings_bytes: What they took on disk, with what killed processes had left there.
    """

    removed: Removed
    chats: Forgotten
    readings: int
    readings_bytes: int


def remove_document(
    document: Document, library: Library, store: "PassageStore", chats: Chats, readings: "ReadingStore"
) -> Gone:
    """Removes a document: rows, stored file, passages, vectors, summaries, readings, and what chats say of it.

    The document itself goes after what can be found through it alone: whoever is killed in between can do it again.

    Raises:
        DocumentNotFoundError: It is not there (any more).
        StorageError: The library or the folder of the readings can't be written.
    """
    forgotten = chats.forget_document(document.sha256)
    n_readings, n_bytes = readings.remove_where(lambda reading: _holds(reading, document))
    removed = library.remove(document)
    more, more_bytes = remove_orphaned_readings(library, readings)
    try:
        store.save_indexes()
    except StorageError as exc:  # the document is gone; an index elsewhere learns of it when it is next searched
        logger.warning("the vector index was not brought up to date: %s", exc)
    return Gone(removed, forgotten, n_readings + more, n_bytes + more_bytes)


def remove_orphaned_readings(library: Library, readings: "ReadingStore") -> tuple[int, int]:
    """Removes readings of documents that are gone: another process may have been reading one while it was removed.

    Returns:
        How many they were, and the bytes freed.

    Raises:
        StorageError: The folder of the readings can't be written.
    """
    known = {document.sha256 for document in library.documents()}
    return readings.remove_where(lambda reading: not known.issuperset(reading.sources))


def _holds(reading: "ReadingInfo", document: Document) -> bool:
    """Whether a reading has words of the document, or may have.

    An earlier version wrote down no more than the names of documents that it read whole, and nothing for excerpts.
    """
    if reading.knows_sources:
        return document.sha256 in reading.sources
    name = rf"(^|, ){re.escape(document.file_name)}( \(pages \d+-\d+\))?($|, )"
    return not reading.label or re.search(name, reading.label) is not None
