"""The seam between the vectors in SQLite, which are the truth, and the indexes that are derived from them.

A `VectorSource` hands out one space of vectors (those that are compared with each other) and the log of what changed in
it; a `VectorIndex` finds the nearest of them and catches up with the log. Neither knows what a key stands for, nor who
embedded the vectors. `SqliteVectors` is the source over a library's tables.

The log: triggers note every key whose vector came, changed or went, under a growing number `seq`. An index remembers
the `seq` that it has reached, and reads from SQLite what those keys are now; so a change that is applied twice does no
harm. An index that has saved itself may forget the log up to there.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from longleaf.errors import StorageError

__all__ = ["Neighbours", "SqliteVectors", "Tables", "Tally", "VectorIndex", "VectorSource"]

_BLOCK = 8192
"""Vectors read from SQLite at a time: 6 MiB at 384 numbers each."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest vectors, and how they stand among all that were in scope.

    Attributes:
        keys: int64 [n], best first.
        scores: fp32 [n], their cosines.
        mean: Of the cosines of all vectors in scope; exact where the search is, else from a sample of some 2,000.
        spread: Their standard deviation, likewise; 0 where there is nothing in scope.
    """

    keys: np.ndarray
    scores: np.ndarray
    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What is cheap to compare of an index and its source.

    Attributes:
        n_vectors: How many there are.
        key_sum: Sum of their keys.
        last_seq: Last change before the count.
    """

    n_vectors: int
    key_sum: int
    last_seq: int


class VectorIndex(Protocol):
    """Finds the nearest vectors of one space. `FaissIndex` is the embedded one."""

    @property
    def n_vectors(self) -> int:
        """Vectors in the index."""

    def describe(self) -> str:
        """How it searches, in one phrase for receipts: "exact, 16,153 vectors"."""

    def search(self, vector: np.ndarray, top_k: int, keys: np.ndarray | None = None) -> Neighbours:
        """The `top_k` nearest by cosine, after catching up with the source.

        Args:
            vector: fp32 [d], of any length.
            top_k: At least 1; fewer come back where fewer are in scope.
            keys: int64, the scope; keys without a vector are passed over. None is all.
        """

    def sync(self) -> int:
        """Catch up with the source; how many changes were applied."""

    def save(self) -> None:
        """Keep on disk what is only in memory, where there is such a thing."""

    def close(self) -> None:
        """Let go of memory and connections; what is not saved is caught up with another time."""


class VectorSource(Protocol):
    """One space of vectors, and the log of its changes."""

    @property
    def space(self) -> str:
        """Its name."""

    def library_id(self) -> str:
        """What tells this library from all others; "" where it can't be kept."""

    def count(self) -> int:
        """Vectors in the space."""

    def tally(self) -> Tally:
        """Count, keys and position of the log, all of one moment."""

    def last_seq(self) -> int:
        """The last change of this space, be it still in the log or not; 0 before the first."""

    def pruned_seq(self) -> int:
        """Changes up to here are no longer in the log."""

    def reaches(self, seq: int) -> bool:
        """Whether an index that stands at `seq` can follow this log: it was really there, and nothing is missing."""

    def changes_after(self, seq: int) -> tuple[np.ndarray, int] | None:
        """The keys that changed since, each once, int64 [n], and the new position.

        None where the log does not lead on from `seq`: it was pruned beyond it, or never came so far.
        """

    def vectors(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these keys the ones that have a vector, int64 [n], and those vectors, fp32 [n, d]."""

    def all_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All keys and vectors, by ascending key, in blocks."""

    def forget_changes(self, seq: int) -> None:
        """Drop the log up to here: it is in a saved index."""


class Tables(Protocol):
    """What `SqliteVectors` needs of a `Library`."""

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """BEGIN IMMEDIATE … COMMIT."""


class SqliteVectors:
    """Vectors in a library's tables.

        SqliteVectors.of_passages(library, embedder.name)
        SqliteVectors.of_texts(library, "notes", embedder.name)

    Changes are read outside transactions only: what is not committed may be rolled back, and an index that had seen it
    would not know.

    Args:
        tables: A `Library`.
        space: As the triggers write it into the log.
        table: Where the vectors stand.
        key: The column of the keys.
        where: The columns that make the space, with their values.
    """

    def __init__(self, tables: Tables, space: str, table: str, key: str, where: dict[str, str]) -> None:
        self.space = space
        self._tables = tables
        self._table, self._key = table, key
        # "+" keeps SQLite from walking the table by these columns: blocks are read in the order of the keys.
        self._where = " AND ".join(f"+{column} = ?" for column in where)
        self._counted_where = self._where.replace("+", "")
        self._values = tuple(where.values())

    @classmethod
    def of_passages(cls, tables: Tables, embedder: str) -> "SqliteVectors":
        """The passages' vectors by one embedder; the keys are passages' ids."""
        return cls(tables, embedder, "embeddings", "passage_id", {"embedder": embedder})

    @classmethod
    def of_texts(cls, tables: Tables, collection: str, embedder: str) -> "SqliteVectors":
        """The vectors of one collection of texts; the keys are `texts.key`."""
        where = {"collection": collection, "embedder": embedder}
        return cls(tables, f"texts/{collection}/{embedder}", "texts", "key", where)

    def library_id(self) -> str:
        """A random name that the library is given when it is first asked for."""
        # Kept as a row of `vector_logs`, whose spaces are never called so: it needs no table of its own.
        sql = "SELECT substr(space, 9) FROM vector_logs WHERE space GLOB 'library/*'"
        row = self._tables.connection().execute(sql).fetchone()
        if row is None:
            try:
                with self._tables.transaction() as connection:
                    connection.execute(
                        "INSERT INTO vector_logs (space, pruned_seq) SELECT 'library/' || lower(hex(randomblob(16))), 0"
                        " WHERE NOT EXISTS (SELECT 1 FROM vector_logs WHERE space GLOB 'library/*')"
                    )
                    row = connection.execute(sql).fetchone()
            except StorageError:
                return ""
        return str(row[0])

    def count(self) -> int:
        """Vectors in the space."""
        return self.tally().n_vectors

    def tally(self) -> Tally:
        """Count, keys and position of the log, all of one moment."""
        row = self._row(
            f"SELECT count(*), coalesce(sum({self._key}), 0), ({_LAST_SEQ}) FROM {self._table}"
            f" WHERE {self._counted_where}",
            self.space,
            self.space,
            *self._values,
        )
        return Tally(int(row[0]), int(row[1]), int(row[2]))

    def last_seq(self) -> int:
        """The last change of this space, be it still in the log or not; 0 before the first."""
        return int(self._row(f"SELECT ({_LAST_SEQ})", self.space, self.space)[0])

    def pruned_seq(self) -> int:
        """Changes up to here are no longer in the log."""
        sql = "SELECT coalesce((SELECT pruned_seq FROM vector_logs WHERE space = ?), 0)"
        return int(self._row(sql, self.space)[0])

    def reaches(self, seq: int) -> bool:
        """Whether an index that stands at `seq` can follow this log: it was really there, and nothing is missing."""
        # A database that was put back to an older state lacks the change at which an index saved since then stands.
        known = self._row("SELECT EXISTS (SELECT 1 FROM vector_changes WHERE space = ? AND seq = ?)", self.space, seq)
        pruned = self.pruned_seq()
        return seq == pruned or (seq > pruned and bool(known[0]))

    def changes_after(self, seq: int) -> tuple[np.ndarray, int] | None:
        """The keys that changed since, each once, int64 [n], and the new position; None where the log does not lead on.

        Raises:
            RuntimeError: This thread is in the middle of a transaction.
        """
        connection = self._settled()
        rows = connection.execute(
            "SELECT key, max(seq) FROM vector_changes WHERE space = ? AND seq > ? GROUP BY key", (self.space, seq)
        )
        parts = [np.empty((0, 2), np.int64)]
        while block := rows.fetchmany(_BLOCK):
            parts.append(np.array([tuple(row) for row in block], np.int64))
        changes = np.concatenate(parts)  # [n, 2]
        if self.pruned_seq() > seq:  # read after the changes: had some of them been pruned by then, this would tell
            return None
        if not len(changes):
            return None if self.last_seq() < seq else (np.empty(0, np.int64), seq)
        return changes[:, 0].copy(), int(changes[:, 1].max())

    def vectors(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these keys the ones that have a vector, int64 [n], and those vectors, fp32 [n, d]."""
        rows = (
            self._tables.connection()
            .execute(
                f"SELECT {self._key}, vector FROM {self._table}"
                f" WHERE {self._key} IN (SELECT value FROM json_each(?)) AND {self._where} ORDER BY {self._key}",
                (json.dumps(np.asarray(keys).tolist()), *self._values),
            )
            .fetchall()
        )
        return self._arrays(rows)

    def all_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All keys and vectors, by ascending key, in blocks.

        No read transaction stays open between blocks: what changes meanwhile is in the log.

        Raises:
            RuntimeError: This thread is in the middle of a transaction.
        """
        sql = (
            f"SELECT {self._key}, vector FROM {self._table} WHERE {self._key} > ? AND {self._where}"
            f" ORDER BY {self._key} LIMIT {_BLOCK}"
        )
        last = -(2**63)
        while rows := self._settled().execute(sql, (last, *self._values)).fetchall():
            yield self._arrays(rows)
            last = int(rows[-1][0])

    def forget_changes(self, seq: int) -> None:
        """Drop the log up to here: it is in a saved index.

        Raises:
            StorageError: Full disk or read-only library.
        """
        with self._tables.transaction() as connection:
            connection.execute("DELETE FROM vector_changes WHERE space = ? AND seq <= ?", (self.space, seq))
            connection.execute(
                "INSERT INTO vector_logs (space, pruned_seq) VALUES (?, ?)"
                " ON CONFLICT (space) DO UPDATE SET pruned_seq = max(pruned_seq, excluded.pruned_seq)",
                (self.space, seq),
            )

    def _settled(self) -> sqlite3.Connection:
        connection = self._tables.connection()
        if connection.in_transaction:
            raise RuntimeError(f"the vectors of {self.space} were asked for inside a transaction: commit it first")
        return connection

    def _row(self, sql: str, *values: object) -> sqlite3.Row:
        row: sqlite3.Row = self._tables.connection().execute(sql, values).fetchone()
        return row

    def _arrays(self, rows: list[sqlite3.Row]) -> tuple[np.ndarray, np.ndarray]:
        if not rows:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        sizes = {len(row[1]) for row in rows}
        if len(sizes) > 1:
            found = " and ".join(str(size // 2) for size in sorted(sizes))
            raise StorageError(
                f"{self.space}: its vectors have {found} numbers each; vectors of one embedder are all of one length:"
                " embed the documents again"
            )
        keys = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        matrix = np.frombuffer(b"".join(row[1] for row in rows), np.float16).reshape(len(rows), -1)
        return keys, matrix.astype(np.float32)  # [n], [n, d]


_LAST_SEQ = (
    "SELECT max(coalesce((SELECT max(seq) FROM vector_changes WHERE space = ?), 0),"
    " coalesce((SELECT pruned_seq FROM vector_logs WHERE space = ?), 0))"
)
