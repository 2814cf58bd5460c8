"""The SQLite file: one connection per thread, transactions, and errors in words a user can act on."""

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longleaf.errors import StorageError

from .schema import migrate

__all__ = ["Database", "sqlite_errors", "storage_errors"]

_BUSY_TIMEOUT_S = 60
_WAY_OUT = "choose another folder with --home or LONGLEAF_HOME"


class Database:
    """The library's database.

    Args:
        path: The file; it is made and migrated as needed.

    Raises:
        StorageError: It can't be opened or written.
        SchemaVersionError: A newer Longleaf made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._guard = threading.Lock()
        self._write_lock = threading.RLock()  # threads of one process queue here instead of polling SQLite's lock
        self._closed = False
        try:
            with storage_errors(path):
                connection = self.connection()
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only before the first table is made
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection, path)
        except BaseException:
            self.close()
            raise

    def connection(self) -> sqlite3.Connection:
        """This thread's connection: rows by name, autocommit, foreign keys on."""
        thread = threading.current_thread()
        with self._guard:
            if self._closed:
                raise StorageError(f"{self.path}: the library is closed")
            found = self._connections.get(thread)
            if found is not None:
                return found
            for dead in [t for t in self._connections if not t.is_alive()]:
                self._connections.pop(dead).close()
            with sqlite_errors(self.path):
                connection = sqlite3.connect(
                    self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
                )
                connection.row_factory = sqlite3.Row
                try:
                    connection.execute("PRAGMA foreign_keys = ON")
                    connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten, not only let go
                    connection.execute("PRAGMA synchronous = NORMAL")  # with WAL: safe against kill, no fsync each time
                    connection.execute("PRAGMA cache_size = -16000")
                except BaseException:
                    connection.close()
                    raise
            self._connections[thread] = connection
            return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE, then COMMIT, or ROLLBACK when the block raises; inside another one it joins that.

        Raises:
            StorageError: Full disk, read-only folder, damaged database.
        """
        connection = self.connection()
        if connection.in_transaction:
            yield connection
            return
        with self._write_lock, sqlite_errors(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._guard:
            self._closed = True
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about disk, lock and file into `StorageError`s that name the path and the way out."""
    try:
        yield
    except sqlite3.Error as exc:
        reason = _sqlite_reason(str(exc).lower(), path)
        if reason is None:
            raise
        raise StorageError(f"{path}: {reason}") from exc


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """`sqlite_errors`, and the same for the file system's errors."""
    try:
        with sqlite_errors(path):
            yield
    except OSError as exc:
        reason = _os_reason(exc)
        if reason is None:
            raise
        raise StorageError(f"{exc.filename or path}: {reason}") from exc


def _sqlite_reason(text: str, path: Path) -> str | None:
    if "full" in text:
        return f"the disk is full; free some space, or {_WAY_OUT}"
    if "readonly" in text:
        return f"the library's folder can't be written; make it writable, or {_WAY_OUT}"
    if "unable to open" in text:
        return f"the library can't be opened or made in {path.parent}; check that the folder is writable, or {_WAY_OUT}"
    if "not a database" in text or "malformed" in text:
        return f"the library's database is damaged; move it away and add the documents again, or {_WAY_OUT}"
    if "disk i/o" in text:
        return f"the disk reports an error (it may be full or gone); check it, or {_WAY_OUT}"
    if "locked" in text:
        return "another process has been writing to the library for a minute; try again when it is done"
    return None


def _os_reason(exc: OSError) -> str | None:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; free some space, or {_WAY_OUT}"
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"the library's folder can't be written; make it writable, or {_WAY_OUT}"
    if exc.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"this is not a folder; {_WAY_OUT}"
    if exc.errno == errno.EIO:
        return f"the disk reports an error; check it, or {_WAY_OUT}"
    return None
