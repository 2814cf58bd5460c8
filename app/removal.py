"""Removes a document with all that came from it, as `longleaf remove` and the browser's library page do it."""

import logging
import re
from contextlib import closing
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
    document: Document,
    library: Library,
    store: "PassageStore",
    chats: Chats,
    readings: "ReadingStore",
    *,
    jobs_url: str | None = None,
) -> Gone:
    """Removes a document: rows, stored file, passages, vectors, summaries, readings, and what chats and jobs say of it.

    The document itself goes after what can be found through it alone: whoever is killed in between can do it again.

    Args:
        document: Which one.
        library: Where it is.
        store: Its passages and vectors.
        chats: The chats of this library.
        readings: The readings of this library.
        jobs_url: PostgreSQL that keeps jobs too; None for those beside the library alone.

    Raises:
        DocumentNotFoundError: It is not there (any more).
        StorageError: The library, the folder of the readings or the PostgreSQL can't be written.
    """
    # Here, as the package of jobs imports all that answers, which listing a library does without.
    from .jobs.database import PostgresJobs, SqliteJobs
    from .jobs.store import JobStore

    forgotten = chats.forget_document(document.sha256)  # has deleted words overwritten, also those of the jobs
    JobStore(SqliteJobs(library)).forget([document.sha256])
    if jobs_url:
        with closing(PostgresJobs(jobs_url)) as database:
            JobStore(database).forget([document.sha256])
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

    Documents are looked up while nobody else writes readings: a document is in the library before it is read, so what
    another process has just added and read stays.

    Returns:
        How many they were, and the bytes freed.

    Raises:
        StorageError: The folder of the readings can't be written.
    """
    known: set[str] | None = None

    def is_orphaned(reading: "ReadingInfo") -> bool:
        nonlocal known
        if known is None:
            known = {document.sha256 for document in library.documents()}
        return not known.issuperset(reading.sources)

    return readings.remove_where(is_orphaned)


def _holds(reading: "ReadingInfo", document: Document) -> bool:
    """Whether a reading has words of the document, or may have.

    An earlier version wrote down no more than the names of documents that it read whole, and nothing for excerpts.
    """
    if reading.knows_sources:
        return document.sha256 in reading.sources
    name = rf"(^|, ){re.escape(document.file_name)}( \(pages \d+-\d+\))?($|, )"
    return not reading.label or re.search(name, reading.label) is not None
