"""The vector index in PostgreSQL with pgvector, for a corpus that several machines search: a `VectorIndex`.

The table is one of langchain-postgres, so that other applications can search it with its `PGVectorStore`, as happens
here for more than `exact_limit` vectors, over an HNSW index (which pgvector can delete from). Smaller tables, and parts
of large ones, are searched exactly. The measure is the inner product, which is the cosine of vectors of length 1, and
so the scores are those of the embedded index. Vectors are written by statements of our own: langchain-postgres commits
each by itself (0.0.19), and here they are one transaction with the position in the change log, so that nothing killed
in between can leave the two apart.

SQLite remains the truth. Where its log does not lead on from that position, because another index has pruned it, the
table is compared with SQLite, key by key and vector by vector (by their hashes), and only what differs is written. This
index never prunes the log.
"""

import asyncio
import hashlib
import json
import re
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from longleaf.errors import MissingExtraError, StorageError

from .vector_index import Neighbours, VectorSource

__all__ = ["PgVectorIndex"]

_BATCH = 1000
_EF_SEARCH = 400
"""Candidates that HNSW keeps for a question; also the most that it can find."""
_SAMPLE = 2000
_POSITIONS = "longleaf_positions"


class PgVectorIndex:
    """Nearest vectors of one space of a library, found by PostgreSQL; a `VectorIndex`.

        source = SqliteVectors.of_passages(library, embedder.name)
        with PgVectorIndex(source, "postgresql://longleaf@db.example/longleaf") as index:
            found = index.search(embedder.encode([question])[0], top_k=12)

    Each library and space has a table of its own, made at the first use. Threads and processes may share it.

    Args:
        source: The truth.
        connection_string: `postgresql://user:password@host:port/database`; its user must be allowed to make tables, and
            the database must have the extension `vector`, or the user be allowed to make that too.
        exact_limit: A larger table gets an HNSW index.

    Raises:
        MissingExtraError: langchain-postgres is not installed.
        StorageError: The connection string can't be understood.
    """

    def __init__(self, source: VectorSource, connection_string: str, *, exact_limit: int = 50_000) -> None:
        try:
            self._sql, self._langchain = import_module("sqlalchemy"), import_module("langchain_postgres")
            self._indexes = import_module("langchain_postgres.v2.indexes")
            self._measure = self._indexes.DistanceStrategy.INNER_PRODUCT
            import_module("psycopg")
        except ImportError as exc:
            raise MissingExtraError(
                f"the PostgreSQL index needs langchain-postgres and psycopg ({exc}): pip install 'longleaf[pgvector]'"
            ) from exc
        try:
            url = self._sql.engine.make_url(connection_string).set(drivername="postgresql+psycopg")
        except self._sql.exc.ArgumentError as exc:
            raise StorageError(
                "the connection string for PostgreSQL can't be understood; it looks like"
                " postgresql://user:password@host:port/database"
            ) from exc
        self._source = source
        self._url = url
        self._exact_limit = exact_limit
        self._lock = threading.RLock()
        self._table = ""
        self._engine: Any = None
        self._langchain_engine: Any = None
        self._forget()

    def __enter__(self) -> "PgVectorIndex":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections; the next use makes new ones."""
        with self._lock:
            self._forget()
            engine, self._engine = self._engine, None
            if engine is not None:
                engine.dispose()
            langchain_engine, self._langchain_engine = self._langchain_engine, None
            if langchain_engine is not None:
                with ThreadPoolExecutor(1) as pool:  # a thread, as this one may be running an event loop
                    pool.submit(asyncio.run, langchain_engine.close()).result()

    def _forget(self) -> None:
        """Nothing is known of the table."""
        self._is_open = False
        self._store: Any = None
        self._d = 0  # 0 while there is no table
        self._n = 0  # rows of the table …
        self._n_at: int | None = None  # … when it stood at this position in the log

    @property
    def n_vectors(self) -> int:
        """Vectors in the table, after catching up."""
        with self._lock:
            self.sync()
            return self._n

    def describe(self) -> str:
        """How it searches: "PostgreSQL exact, 16,153 vectors" or "PostgreSQL HNSW, 1,000,000 vectors"."""
        with self._lock:
            n = self.n_vectors
            return f"PostgreSQL {'HNSW' if self._store is not None else 'exact'}, {n:,} vectors"

    def search(self, vector: np.ndarray, top_k: int, keys: np.ndarray | None = None) -> Neighbours:
        """The `top_k` nearest by cosine, after catching up with the source.

        Args:
            vector: fp32 [d], of any length.
            top_k: At least 1; fewer come back where fewer are in scope.
            keys: int64, the scope; keys without a vector are passed over. None is all.

        Raises:
            ValueError: `top_k` below 1, or a vector of another length than those of the space.
            StorageError: PostgreSQL can't be reached, or refuses.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        with self._lock, self._errors():
            self.sync()
            query = np.asarray(vector, np.float32).reshape(-1)
            query = query / (np.linalg.norm(query) or 1.0)  # [d]
            if not self._d or (keys is not None and not len(keys)):
                return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32), 0.0, 0.0)
            if len(query) != self._d:
                raise ValueError(
                    f"a vector of {len(query)} numbers can't be compared with those of {self._source.space}, which have"
                    f" {self._d}"
                )
            if keys is None and self._store is not None and top_k <= _EF_SEARCH:
                return self._search_hnsw(query, top_k)
            return self._search_exactly(query, top_k, keys)

    def sync(self) -> int:
        """Catch up with the source, in one transaction; how many changes were applied.

        Raises:
            StorageError: PostgreSQL can't be reached, or refuses.
            RuntimeError: Inside a transaction of this thread over the library.
        """
        with self._lock, self._errors():
            if not self._is_open:
                self._open()
            changes = self._changes()
            if changes is not None and not len(changes[0]):
                if changes[1] != self._n_at:
                    self._look()  # another process has written
                return 0
            with self._alone():
                changes = self._changes()  # another process may have done it meanwhile
                n_changes = None if changes is None else self._apply(*changes)
                if n_changes is None:
                    n_changes = self._reconcile()
                self._look()
                self._index_if_large()
            return n_changes

    def save(self) -> None:
        """Catch up: PostgreSQL keeps by itself what it was told, and has to be told what was removed.

        Raises:
            StorageError: PostgreSQL can't be reached, or refuses.
        """
        self.sync()

    # Searching

    def _search_exactly(self, query: np.ndarray, top_k: int, keys: np.ndarray | None) -> Neighbours:
        scope = "" if keys is None else "WHERE key = ANY(:keys)"
        rows = self._rows(
            f"WITH scored AS MATERIALIZED"
            f' (SELECT key, -(embedding <#> CAST(:query AS vector)) AS score FROM "{self._table}" {scope})'
            " SELECT key, score, (SELECT avg(score) FROM scored), (SELECT stddev_pop(score) FROM scored)"
            " FROM scored ORDER BY score DESC, key LIMIT :top_k",
            query=_literal(query),
            top_k=top_k,
            **({} if keys is None else {"keys": np.asarray(keys).tolist()}),
        )
        mean, spread = (float(rows[0][2]), float(rows[0][3])) if rows else (0.0, 0.0)
        return _neighbours([(row[0], row[1]) for row in rows], mean, spread)

    def _search_hnsw(self, query: np.ndarray, top_k: int) -> Neighbours:
        found = self._store.similarity_search_with_score_by_vector(query.tolist(), k=top_k)
        percent = min(100.0, 100.0 * _SAMPLE / max(self._n, 1))
        (row,) = self._rows(
            "SELECT avg(score), stddev_pop(score) FROM (SELECT -(embedding <#> CAST(:query AS vector)) AS score"
            f' FROM "{self._table}" TABLESAMPLE SYSTEM ({percent:.6f}) REPEATABLE (0)) AS sample',
            query=_literal(query),
        )
        pairs = [(int(document.id), score) for document, score in found]
        return _neighbours(pairs, float(row[0] or 0), float(row[1] or 0))

    # Following the truth

    def _changes(self) -> tuple[np.ndarray, int] | None:
        rows = self._rows(f"SELECT seq FROM {_POSITIONS} WHERE table_name = :table", table=self._table)
        return self._source.changes_after(int(rows[0][0])) if rows else None

    def _apply(self, keys: np.ndarray, seq: int) -> int | None:
        """Make these keys what they are in SQLite; None where the table can't hold the vectors."""
        with self._engine.begin() as connection:
            for begin in range(0, len(keys), _BATCH):
                batch = keys[begin : begin + _BATCH]
                present, matrix = self._source.vectors(batch)
                if len(present) and matrix.shape[1] != self._d:
                    connection.rollback()
                    return None
                self._delete(connection, np.setdiff1d(batch, present))
                self._write(connection, present, matrix)
            self._stand_at(connection, seq)
        return len(keys)

    def _reconcile(self) -> int:
        """Compare the whole table with SQLite and mend what differs; how many rows did."""
        seq = self._source.last_seq()  # before reading: what changes meanwhile is in the log after this
        first = next(self._source.all_blocks(), None)
        if first is not None and first[1].shape[1] != self._d:
            self._make_table(first[1].shape[1])
        n_changes, last = 0, -(2**63)
        with self._engine.begin() as connection:
            for keys, matrix in self._source.all_blocks():
                n_changes += self._mend(connection, last, int(keys[-1]), keys, matrix)
                last = int(keys[-1])
            if self._d:
                n_changes += self._mend(connection, last, 2**63 - 1, np.empty(0, np.int64), np.empty((0, 0)))
            self._stand_at(connection, seq)
        return n_changes

    def _mend(self, connection: Any, after: int, to: int, keys: np.ndarray, matrix: np.ndarray) -> int:
        """Bring the rows with keys in (after, to] to what they should be; how many were not."""
        rows = connection.execute(
            self._sql.text(
                f'SELECT key, sha256(vector_send(embedding)) FROM "{self._table}" WHERE key > :after AND key <= :to'
            ),
            {"after": after, "to": to},
        )
        there = {int(key): bytes(digest) for key, digest in rows}
        wanted = dict(zip(keys.tolist(), map(_sent_digest, matrix), strict=True))
        differs = np.array([there.get(key) != digest for key, digest in wanted.items()], bool)
        gone = np.array(sorted(there.keys() - wanted.keys()), np.int64)
        self._delete(connection, gone)
        if differs.any():
            self._write(connection, keys[differs], matrix[differs])
        return len(gone) + int(differs.sum())

    def _delete(self, connection: Any, keys: np.ndarray) -> None:
        if self._d and len(keys):
            statement = self._sql.text(f'DELETE FROM "{self._table}" WHERE key = ANY(:keys)')
            connection.execute(statement, {"keys": keys.tolist()})

    def _write(self, connection: Any, keys: np.ndarray, matrix: np.ndarray) -> None:
        if len(keys):
            statement = self._sql.text(
                f"INSERT INTO \"{self._table}\" (key, content, embedding) VALUES (:key, '', CAST(:vector AS vector))"
                " ON CONFLICT (key) DO UPDATE SET embedding = excluded.embedding"
            )
            pairs = zip(keys.tolist(), matrix, strict=True)
            connection.execute(statement, [{"key": key, "vector": _literal(vector)} for key, vector in pairs])

    def _stand_at(self, connection: Any, seq: int) -> None:
        statement = self._sql.text(
            f"INSERT INTO {_POSITIONS} (table_name, space, seq) VALUES (:table, :space, :seq)"
            " ON CONFLICT (table_name) DO UPDATE SET seq = excluded.seq"
        )
        connection.execute(statement, {"table": self._table, "space": self._source.space, "seq": seq})

    # Opening

    def _open(self) -> None:
        library = self._source.library_id()
        if not library:
            raise StorageError(
                f"{self._source.space}: the library can't be written, and without a name of its own in it no table"
                " in PostgreSQL can be told to be its own; make the library writable"
            )
        slug = re.sub(r"[^a-z0-9]+", "_", self._source.space.lower()).strip("_")[:32]
        digest = hashlib.sha256(f"{library}/{self._source.space}".encode()).hexdigest()[:16]
        self._table = f"longleaf_{slug}_{digest}"  # 58 characters at most: PostgreSQL cuts names at 63
        if self._engine is None:
            self._engine = self._sql.create_engine(self._url, pool_pre_ping=True)
        with self._alone(), self._engine.begin() as connection:
            connection.execute(
                self._sql.text(
                    f"CREATE TABLE IF NOT EXISTS {_POSITIONS}"
                    " (table_name TEXT PRIMARY KEY, space TEXT NOT NULL, seq BIGINT NOT NULL)"
                )
            )
        if self._langchain_engine is None:
            self._langchain_engine = self._langchain.PGEngine.from_connection_string(self._url, pool_pre_ping=True)
        self._look()
        self._is_open = True

    def _look(self) -> None:
        """See what the table is: the length of its vectors, how many there are, and whether it has an HNSW index."""
        # For a column of pgvector the type's modifier is the number of dimensions.
        rows = self._rows(
            "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = 'embedding'",
            table=f'"{self._table}"',
        )
        self._d = int(rows[0][0]) if rows else 0
        counted = f'(SELECT count(*) FROM "{self._table}")' if self._d else "0"
        # One statement sees one moment: so many rows there are at this position.
        rows = self._rows(
            f"SELECT {counted}, (SELECT seq FROM {_POSITIONS} WHERE table_name = :table)", table=self._table
        )
        self._n, self._n_at = int(rows[0][0]), rows[0][1]
        if not self._d or not self._has_hnsw():
            self._store = None
        elif self._store is None:
            self._store = self._opened_store()

    def _make_table(self, d: int) -> None:
        """Make the table for vectors of this length; one for another length goes."""
        self._langchain_engine.init_vectorstore_table(
            self._table,
            d,
            id_column=self._langchain.Column("key", "BIGINT", nullable=False),
            overwrite_existing=True,
        )
        self._d, self._store = d, None

    def _index_if_large(self) -> None:
        if self._d and self._store is None and self._n > self._exact_limit:
            store = self._opened_store()
            store.apply_vector_index(self._indexes.HNSWIndex(name=self._hnsw, distance_strategy=self._measure))
            self._store = store

    def _opened_store(self) -> Any:
        return self._langchain.PGVectorStore.create_sync(
            self._langchain_engine,
            _NoEmbeddings(),
            self._table,
            id_column="key",
            distance_strategy=self._measure,
            index_query_options=self._indexes.HNSWQueryOptions(ef_search=_EF_SEARCH),
        )

    @property
    def _hnsw(self) -> str:
        return f"{self._table}_hnsw"

    def _has_hnsw(self) -> bool:
        return bool(self._rows("SELECT to_regclass(:name) IS NOT NULL", name=f'"{self._hnsw}"')[0][0])

    def _rows(self, statement: str, **values: object) -> Sequence[Any]:
        with self._engine.connect() as connection:
            rows: Sequence[Any] = connection.execute(self._sql.text(statement), values).fetchall()
            return rows

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one process at a time writes to the table."""
        with self._engine.connect() as gate:
            name = {"name": self._table}
            gate.execute(self._sql.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))"), name)
            gate.commit()  # the lock belongs to the session, and goes with it if we are killed
            try:
                yield
            finally:
                gate.execute(self._sql.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), name)
                gate.commit()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say in our words what PostgreSQL says; the password stays out of it."""
        try:
            yield
        except self._sql.exc.DBAPIError as exc:
            where = self._url.render_as_string(hide_password=True).replace("+psycopg", "", 1)
            said = " ".join(str(exc.orig).split())
            state = getattr(exc.orig, "sqlstate", None)
            if state in ("58P01", "0A000", "42704"):
                message = (
                    f"the server has no pgvector extension ({said}); install it there (apt.postgresql.org has it as"
                    " postgresql-VERSION-pgvector)"
                )
            elif state == "42501":
                message = (
                    f"the user may not do this ({said}); let an administrator run CREATE EXTENSION vector, and allow"
                    " the user to make tables"
                )
            elif isinstance(exc, self._sql.exc.OperationalError):
                message = f"PostgreSQL can't be reached ({said}); check that it runs, and the connection string"
            else:
                message = f"PostgreSQL refuses ({said})"
            raise StorageError(f"{where}: {message}") from exc


class _NoEmbeddings(Embeddings):
    """langchain-postgres asks for an embedder; all vectors here were made before."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError("this table is given vectors, not texts")

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError("this table is searched by vectors, not texts")


def _literal(vector: np.ndarray) -> str:
    return json.dumps(vector.tolist())


def _sent_digest(vector: np.ndarray) -> bytes:
    """The sha256 of what `vector_send` makes of it: d and 0 as 16-bit numbers, then fp32, the big end first."""
    return hashlib.sha256(struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()).digest()


def _neighbours(pairs: Sequence[tuple[int, float]], mean: float, spread: float) -> Neighbours:
    keys, scores = zip(*pairs, strict=True) if pairs else ((), ())
    return Neighbours(np.array(keys, np.int64), np.array(scores, np.float32), mean, spread)
