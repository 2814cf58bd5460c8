"""Collections: named sets of documents that are asked together. A document may be in several."""

import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from longleaf.errors import DocumentNotFoundError, LongleafError

from .document import Document

__all__ = ["Collection", "Collections"]


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents; `document_ids` in order of adding to the library."""

    id: int
    name: str
    made_at: str
    document_ids: tuple[int, ...]


class _Store(Protocol):
    def connection(self) -> sqlite3.Connection: ...
    def transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...


class Collections:
    """The collections of one library; blanks at the ends of a name, and several in a row, make no difference.

    library.collections.put("filings", [document])
    library.collections.find("filings").document_ids
    """

    def __init__(self, library: _Store) -> None:
        self._library = library

    def all(self) -> list[Collection]:
        """All collections by name."""
        rows = self._library.connection().execute("SELECT * FROM collections ORDER BY name COLLATE NOCASE").fetchall()
        return [self._collection(row) for row in rows]

    def find(self, name: str) -> Collection:
        """The collection of this name.

        Raises:
            DocumentNotFoundError: There is none; the others are listed.
        """
        name = _squeezed(name)
        row = self._library.connection().execute("SELECT * FROM collections WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = ", ".join(collection.name for collection in self.all()) or "none"
            raise DocumentNotFoundError(f"{name}: no such collection; there are: {known}")
        return self._collection(row)

    def put(self, name: str, documents: Iterable[Document]) -> Collection:
        """Adds documents to a collection, which is made if there is none of this name.

        Raises:
            LongleafError: The name is empty.
            DocumentNotFoundError: A document was removed meanwhile; nothing is changed then.
        """
        name = _usable(name)
        with self._library.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO collections (name, made_at) VALUES (?, ?)",
                (name, datetime.now(UTC).isoformat(timespec="seconds")),
            )
            found = self.find(name)
            for document in documents:
                if not connection.execute("SELECT 1 FROM documents WHERE id = ?", (document.id,)).fetchone():
                    raise DocumentNotFoundError(f"{document.name}: no longer in the library")
                connection.execute(
                    "INSERT OR IGNORE INTO collection_documents (collection_id, document_id) VALUES (?, ?)",
                    (found.id, document.id),
                )
            return self.find(name)

    def take_out(self, name: str, documents: Iterable[Document]) -> Collection:
        """Takes documents out of a collection; they stay in the library.

        Raises:
            DocumentNotFoundError: There is no such collection.
        """
        with self._library.transaction() as connection:
            found = self.find(name)
            connection.executemany(
                "DELETE FROM collection_documents WHERE collection_id = ? AND document_id = ?",
                ((found.id, document.id) for document in documents),
            )
            return self.find(name)

    def rename(self, name: str, new_name: str) -> Collection:
        """Gives a collection another name.

        Raises:
            LongleafError: The new name is empty or taken.
            DocumentNotFoundError: There is no such collection.
        """
        new_name = _usable(new_name)
        with self._library.transaction() as connection:
            found = self.find(name)
            taken = "SELECT 1 FROM collections WHERE name = ? AND id <> ?"
            if connection.execute(taken, (new_name, found.id)).fetchone():
                raise LongleafError(f"{new_name}: there is a collection of this name already")
            connection.execute("UPDATE collections SET name = ? WHERE id = ?", (new_name, found.id))
            return self.find(new_name)

    def remove(self, name: str) -> None:
        """Forgets a collection; its documents stay in the library.

        Raises:
            DocumentNotFoundError: There is no such collection.
        """
        with self._library.transaction() as connection:
            connection.execute("DELETE FROM collections WHERE id = ?", (self.find(name).id,))

    def _collection(self, row: sqlite3.Row) -> Collection:
        rows = self._library.connection().execute(
            "SELECT document_id FROM collection_documents WHERE collection_id = ? ORDER BY document_id", (row["id"],)
        )
        return Collection(row["id"], row["name"], row["made_at"], tuple(int(r["document_id"]) for r in rows))


def _squeezed(name: str) -> str:
    return " ".join(name.split())


def _usable(name: str) -> str:
    """A name as it is kept."""
    if not (squeezed := _squeezed(name)):
        raise LongleafError("a collection needs a name")
    return squeezed
