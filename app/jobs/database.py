"""Where jobs are kept: the library's SQLite, or a PostgreSQL that several machines share, behind the same statements.

The statements are written once, with `?` for values, in words that both understand.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, Protocol

from longleaf.errors import MissingExtraError, StorageError
from longleaf.ingestion import Library
from longleaf.ingestion.schema import JOB_TABLES, statements_of

__all__ = ["Execute", "JobDatabase", "PostgresJobs", "SqliteJobs"]

Execute = Callable[..., list[dict[str, Any]]]
"""Runs a statement with its values, and gives the rows that it returns, by the names of their columns."""


_TRUSTED_S = 1.0
"""A connection that was used so short a time ago is taken to be there."""


class JobDatabase(Protocol):
    """A database that has the tables `jobs` and `job_items`."""

    @property
    def take_one(self) -> str:
        """Ends a SELECT … LIMIT 1 whose row is then updated: two that ask at once get different rows."""

    def transaction(self) -> AbstractContextManager[Execute]:
        """All statements of the block, or none of them.

        Raises:
            StorageError: It can't be reached or written.
        """


class SqliteJobs:
    """The jobs of one library, in its own database."""

    take_one = ""  # a transaction of the library's has the whole database to itself

    def __init__(self, library: Library) -> None:
        self._library = library

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """As `JobDatabase` has it."""
        with self._library.transaction() as connection:
            yield lambda sql, *values: [dict(row) for row in connection.execute(sql, values).fetchall()]


class PostgresJobs:
    """The jobs in a PostgreSQL; the tables are made as needed.

    Threads take turns: transactions are a few milliseconds, and work on a document is minutes.

    Args:
        url: postgresql://USER:PASSWORD@HOST:PORT/DATABASE.

    Raises:
        MissingExtraError: psycopg is not installed.
        StorageError: It can't be reached, or may not be written.
    """

    take_one = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str) -> None:
        try:
            self._psycopg = import_module("psycopg")
            self._rows = import_module("psycopg.rows")
        except ImportError as exc:
            raise MissingExtraError(
                f"jobs in PostgreSQL need psycopg ({exc}): pip install 'longleaf[pgvector]'"
            ) from exc
        self._url = url
        self._connection: Any = None
        self._used_at = 0.0
        self._lock = threading.RLock()
        with self.transaction() as execute:
            # Two that start at once would both make them; the lock ends with the transaction.
            execute("SELECT pg_advisory_xact_lock(7021)")
            if not execute("SELECT 1 AS there WHERE to_regclass('job_items') IS NOT NULL"):
                for statement in statements_of(JOB_TABLES):
                    execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        """As `JobDatabase` has it."""
        with self._lock:
            try:
                self._connect()
                with self._connection.transaction():
                    yield self._execute
                self._used_at = time.monotonic()
            except self._psycopg.Error as exc:
                said = " ".join(str(exc).split())[:300] or type(exc).__name__
                raise StorageError(f"PostgreSQL, where the jobs are kept: {said}") from exc

    def _connect(self) -> None:
        """Connects, also where the server or something on the way has ended a connection that lay idle."""
        if self._connection is not None and time.monotonic() - self._used_at > _TRUSTED_S:
            try:
                with self._connection.transaction():
                    self._connection.execute("SELECT 1")
            except self._psycopg.OperationalError:
                self._connection.close()
        if self._connection is None or self._connection.closed:
            self._connection = self._psycopg.connect(self._url, row_factory=self._rows.dict_row)

    def _execute(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql.replace("?", "%s"), values or None)
        return list(cursor.fetchall()) if cursor.description else []

    def close(self) -> None:
        """Hangs up."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
