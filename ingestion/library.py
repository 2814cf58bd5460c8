"""The library: documents taken in once, by their sha256, and handed out page by page.

Knows files, pages and SQLite; nothing of models, passages or answers (whose tables lie in the same database and hang
on `documents` by ON DELETE CASCADE).
"""

import difflib
import json
import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from longleaf.errors import DocumentNotFoundError, LibraryError, LongleafError, UnsupportedFileError

from .adding import Adding, Progress, storable
from .boxes import decode_boxes
from .collections import Collections
from .database import Database, storage_errors
from .document import Added, Document, OutlineEntry, Page, Removed
from .parser_process import ParserLimits, ParserProcess
from .storage import Storage, sha256_of

__all__ = ["Library", "default_home"]

_MAX_REWRITTEN = 100_000
"""Passages whose full text is written anew when a document goes (a second); in a larger library that happens later."""
_COLUMNS = (
    "id", "sha256", "name", "title", "media_type", "size_bytes", "n_pages", "n_pages_ocr", "n_pages_unread", "n_chars",
    "added_at", "state", "revision", "file_name",
)  # fmt: skip
"""What a document has as it is in its row; the rest is JSON."""
_HEX = re.compile(r"[0-9a-f]{6,64}")


def default_home() -> Path:
    """The user's own library folder on this system."""
    return Path(platformdirs.user_data_dir("longleaf", appauthor=False))


class Library:
    """Documents in one folder: SQLite and, beside it, the files by sha256.

    Several processes and threads may use the same folder at once. A process that is killed leaves nothing that the
    next one can't go on with or clean up.

    A PDF that needs a password, or that only a rewritten copy makes readable, is stored as that readable copy: the
    password is never stored, `sha256` and `size_bytes` remain those of the original, and a warning stays with the
    document.

    Args:
        home: The folder; made as needed.
        limits: What parsing one file may take.

    Raises:
        StorageError: The folder can't be made, read or written, or its database is damaged.
        SchemaVersionError: A newer Longleaf made it.

    ```python
    library = Library(default_home())
    added = library.add("report.pdf")
    for page in library.pages(added.document):
        print(page.number, page.text)
    ```
    """

    def __init__(self, home: Path | str, *, limits: ParserLimits | None = None) -> None:
        self.home = Path(home).expanduser().absolute()
        self._limits = limits or ParserLimits()
        self._storage = Storage(self.home)
        self._database = Database(self.home / "longleaf.db")
        self._viewer = ParserProcess(self._limits)
        self._viewer_lock = threading.Lock()
        self._busy: set[ParserProcess] = set()
        self._parsed: dict[int, tuple[dict[str, str], tuple[OutlineEntry, ...]]] = {}  # by document: it never changes
        self._at_close: list[weakref.WeakMethod[Callable[[], None]]] = []
        self._release = weakref.finalize(self, _release, self._database, self._viewer, self._busy)
        with storage_errors(self.home):
            self._storage.clean(self._is_known)

    def __enter__(self) -> "Library":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connection(self) -> sqlite3.Connection:
        """This thread's database connection (rows by name, autocommit, foreign keys on)."""
        return self._database.connection()

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when the block raises; errors of SQLite become `StorageError`."""
        return self._database.transaction()

    @property
    def collections(self) -> Collections:
        """The named sets of documents."""
        return Collections(self)

    def add(
        self,
        path: Path | str,
        *,
        password: str | None = None,
        ocr: Literal["auto", "never"] = "auto",
        repair: bool = False,
        progress: Progress | None = None,
    ) -> Added:
        """Take in a file, or go on where an earlier attempt was stopped.

        The same bytes are one document, whatever the name. A document whose images could not be read for want of
        OCR is read again on those pages once OCR is installed.

        Args:
            path: PDF, plain text or Markdown; what it is, its content decides.
            password: For an encrypted PDF.
            ocr: "auto" reads images where OCR is installed, "never" does not.
            repair: Take what is left of a damaged PDF.
            progress: Called with pages done, pages in total and the stage ("copying", "opening", "reading", "ocr",
                "waiting for another process").

        Raises:
            DocumentError: The file can't be taken in; the kind says why. Nothing of it stays.
            StorageError: Full disk or read-only folder. Pages stored before stay; adding again goes on after them.
        """
        with self._parser() as parser:
            return self._add(Path(path), parser, password=password, ocr=ocr, repair=repair, progress=progress)

    def add_many(
        self,
        paths: Iterable[Path | str],
        *,
        password: str | None = None,
        ocr: Literal["auto", "never"] = "auto",
        repair: bool = False,
        progress: Callable[[Path, int, int, str], None] | None = None,
        workers: int | None = None,
    ) -> Iterator[tuple[Path, Added | LongleafError]]:
        """Take in many files side by side; one that can't be taken in does not stop the others.

        Args:
            paths: The files.
            password: As for `add`.
            ocr: As for `add`.
            repair: As for `add`.
            progress: As for `add`, with the file first; called from several threads.
            workers: Parser processes; by default one for each core, at most 8.

        Yields:
            Each path in the order given, with what was done or the error.
        """
        names = [Path(path) for path in paths]
        n_workers = max(1, min(workers or _n_cores(), 8, len(names)))

        def work(path: Path) -> Added | LongleafError:
            parser = idle.pop()
            report = None if progress is None else lambda done, total, stage: progress(path, done, total, stage)
            try:
                return self._add(path, parser, password=password, ocr=ocr, repair=repair, progress=report)
            except LongleafError as exc:
                return exc
            finally:
                idle.append(parser)

        with ExitStack() as stack:
            parsers = [stack.enter_context(self._parser()) for _ in range(n_workers)]
            idle = list(parsers)  # as many as threads: whoever takes one finds one
            pool = ThreadPoolExecutor(n_workers, thread_name_prefix="longleaf-add")
            try:
                futures: list[Future[Added | LongleafError]] = [pool.submit(work, path) for path in names]
                for path, future in zip(names, futures, strict=True):
                    yield path, future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                for parser in parsers:
                    parser.interrupt()
                pool.shutdown(wait=True)

    def _add(
        self,
        path: Path,
        parser: ParserProcess,
        *,
        password: str | None,
        ocr: str,
        repair: bool,
        progress: Progress | None,
    ) -> Added:
        if ocr not in ("auto", "never"):
            raise ValueError(f'ocr must be "auto" or "never", not {ocr!r}')
        adding = Adding(
            self._database,
            self._storage,
            parser,
            path,
            password=password,
            ocr=ocr == "auto",
            repair=repair,
            progress=progress or (lambda _done, _total, _stage: None),
        )
        document_id, already_there, resumed_from_page, seconds = adding.run()
        return Added(self._by_id(document_id), already_there, resumed_from_page, seconds)

    @contextmanager
    def _parser(self) -> Iterator[ParserProcess]:
        with ParserProcess(self._limits) as parser:
            self._busy.add(parser)
            try:
                yield parser
            finally:
                self._busy.discard(parser)

    def documents(self) -> list[Document]:
        """All documents in order of adding, ready ones first.

        Quick enough to be asked for at every click: outlines, of which there may be much, are parsed once.
        """
        columns = ", ".join(_COLUMNS)
        rows = self._query(f"SELECT {columns}, warnings FROM documents ORDER BY state = 'adding', id")
        parsed = {row["id"]: self._parsed[row["id"]] for row in rows if row["id"] in self._parsed}
        unparsed = json.dumps([row["id"] for row in rows if row["id"] not in parsed])
        sql = "SELECT id, metadata, outline FROM documents WHERE id IN (SELECT value FROM json_each(?))"
        parsed |= {row["id"]: _metadata_and_outline(row) for row in self._query(sql, unparsed)}
        self._parsed = parsed
        # One that has gone between the two queries is left out.
        return [_document(row, parsed[row["id"]]) for row in rows if row["id"] in parsed]

    def find(self, ref: str | Path) -> Document:
        """Find a document by the path of a file, its name, its sha256 or at least 6 characters of that.

        A document that was renamed is also found by the file name it was added under, where no other goes by that.

        Raises:
            DocumentNotFoundError: There is none, or several; names that come near are listed.
        """
        text = str(ref)
        path = Path(ref)
        is_file = False
        with suppress(OSError, ValueError):
            is_file = path.is_file()
        if is_file:
            try:
                rows = self._query("SELECT * FROM documents WHERE sha256 = ?", sha256_of(path))
            except UnsupportedFileError:
                rows = []
            if rows:
                return _document(rows[0])
            same_name = self._query("SELECT sha256 FROM documents WHERE ? IN (name, file_name)", path.name)
            other = f" (a document of this name with other content is: {same_name[0][0][:12]})" if same_name else ""
            raise DocumentNotFoundError(f"{ref}: this file is not in the library{other}; add it first (longleaf add)")
        rows = self._query("SELECT * FROM documents WHERE name = ? ORDER BY id", text)
        rows = rows or self._query("SELECT * FROM documents WHERE file_name = ? ORDER BY id", text)
        if len(rows) == 1:
            return _document(rows[0])
        if len(rows) > 1:
            prefixes = ", ".join(row["sha256"][:12] for row in rows)
            raise DocumentNotFoundError(f"{text}: {len(rows)} documents have this name; use one of {prefixes}")
        if _HEX.fullmatch(text.lower()):
            rows = self._query("SELECT * FROM documents WHERE sha256 GLOB ? ORDER BY id", text.lower() + "*")
            if len(rows) == 1:
                return _document(rows[0])
            if len(rows) > 1:
                found = ", ".join(f"{row['sha256'][:12]} ({row['name']})" for row in rows)
                raise DocumentNotFoundError(f"{text}: several documents begin like this: {found}")
        raise DocumentNotFoundError(f"{ref}: no such document in the library{self._near(path.name or text)}")

    def pages(self, document: Document, *, boxes: bool = False) -> Iterator[Page]:
        """The stored pages in order; without `boxes` they carry an empty `[0, 4]` array and come quickly."""
        if boxes:
            sql = (
                "SELECT pages.*, page_boxes.boxes FROM pages LEFT JOIN page_boxes USING (document_id, number) "
                "WHERE document_id = ? AND number > ? ORDER BY number LIMIT 64"
            )
        else:
            sql = "SELECT *, NULL AS boxes FROM pages WHERE document_id = ? AND number > ? ORDER BY number LIMIT 256"
        last = 0
        while rows := self._query(sql, document.id, last):  # in blocks: no read transaction stays open between pages
            for row in rows:
                yield _page(row, with_boxes=boxes)
            last = int(rows[-1]["number"])

    def page(self, document: Document, number: int) -> Page:
        """One page with its boxes.

        Raises:
            ValueError: The document has no such page, or it is not stored yet.
        """
        rows = self._query(
            "SELECT pages.*, page_boxes.boxes FROM pages LEFT JOIN page_boxes USING (document_id, number) "
            "WHERE document_id = ? AND number = ?",
            document.id,
            number,
        )
        if not rows:
            raise ValueError(f"{document.name} has pages 1 to {document.n_pages}, not {number}")
        return _page(rows[0], with_boxes=True)

    def file(self, document: Document) -> Path:
        """The stored file (for an encrypted or rebuilt PDF: its readable copy)."""
        rows = self._query("SELECT suffix FROM documents WHERE id = ?", document.id)
        if not rows:
            raise DocumentNotFoundError(f"{document.name}: no longer in the library")
        return self._storage.path_of(document.sha256, rows[0]["suffix"])

    def page_image(self, document: Document, number: int, dpi: int = 110) -> bytes:
        """Draw a page as displayed, in the parser process; PNG.

        Args:
            document: A PDF.
            number: 1-based.
            dpi: 20 to 600.

        Raises:
            ValueError: No such page, or `dpi` out of range.
            DocumentError: Not a PDF, or it can't be drawn.
        """
        if not 1 <= number <= document.n_pages:
            raise ValueError(f"{document.name} has pages 1 to {document.n_pages}, not {number}")
        if not 20 <= dpi <= 600:
            raise ValueError(f"dpi must be 20 to 600, not {dpi}")
        if document.media_type != "application/pdf":
            raise UnsupportedFileError(document.name, f"a {document.media_type} file has no page images")
        with self._viewer_lock:
            return self._viewer.image(self.file(document), number, dpi)

    def rename(self, document: Document, name: str) -> Document:
        """Give a document another name; what was made from it stays, and is found under either name.

        Args:
            document: The document.
            name: Blanks at its ends, and several in a row, make no difference.

        Raises:
            LibraryError: The name is empty.
            DocumentNotFoundError: The document is not there (any more).
        """
        squeezed = " ".join(storable(name).split())
        if not squeezed:
            raise LibraryError(f"{document.name}: a document needs a name; give one, or keep this")
        with storage_errors(self.home), self.transaction() as connection:
            connection.execute(
                "UPDATE documents SET name = ?, file_name = CASE file_name WHEN '' THEN name ELSE file_name END "
                "WHERE id = ? AND name <> ?",
                (squeezed, document.id, squeezed),
            )
            rows = connection.execute("SELECT * FROM documents WHERE id = ?", (document.id,)).fetchall()
        if not rows:
            raise DocumentNotFoundError(f"{document.name}: no longer in the library")
        return _document(rows[0])

    def remove(self, document: Document) -> Removed:
        """Remove a document and everything that came from it: rows, stored file, derived files.

        Raises:
            DocumentNotFoundError: It is not there (any more).
        """
        with storage_errors(self.home), self._storage.last_lock_of(document.sha256):
            with self.transaction() as connection:
                if not connection.execute("SELECT 1 FROM documents WHERE id = ?", (document.id,)).fetchone():
                    raise DocumentNotFoundError(f"{document.name}: no longer in the library")
                n_pages = self._count(connection, "pages", document.id)
                n_passages = self._count(connection, "passages", document.id)
                connection.execute("DELETE FROM documents WHERE id = ?", (document.id,))
                # Its words would stay in segments of the full text.
                if connection.execute("SELECT count(*) FROM passages").fetchone()[0] <= _MAX_REWRITTEN:
                    connection.execute("INSERT INTO passages_text(passages_text) VALUES ('optimize')")
            n_bytes = self._storage.drop(document.sha256)
            # The write-ahead log has them too.
            with suppress(sqlite3.OperationalError):  # somebody writes: it is emptied another time
                self.connection().execute("PRAGMA incremental_vacuum").fetchall()
                self.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Removed(document, n_pages, n_passages, n_bytes)

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder on the library's disk for files on their way; gone afterwards, or when it is next opened."""
        return self._storage.scratch()

    def at_close(self, callback: Callable[[], None]) -> None:
        """Have a method called before the library is closed: a thread that uses the library has to end first.

        Args:
            callback: A bound method; its object is not kept alive by this.
        """
        self._at_close.append(weakref.WeakMethod(callback))

    def close(self) -> None:
        """End what works on the library (see `at_close`) and the parser processes, and close the database."""
        for reference in self._at_close:
            if callback := reference():
                callback()
        self._at_close.clear()
        self._viewer.interrupt()
        with self._viewer_lock:
            self._release()

    @staticmethod
    def _count(connection: sqlite3.Connection, table: str, document_id: int) -> int:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table'", (table,)).fetchone()
        if not known:
            return 0
        sql = f"SELECT count(*) FROM {table} WHERE document_id = ?"
        return int(connection.execute(sql, (document_id,)).fetchone()[0])

    def _query(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with storage_errors(self._database.path):
            return self.connection().execute(sql, values).fetchall()

    def _is_known(self, sha256: str) -> bool:
        return bool(self._query("SELECT 1 FROM documents WHERE sha256 = ?", sha256))

    def _by_id(self, document_id: int) -> Document:
        rows = self._query("SELECT * FROM documents WHERE id = ?", document_id)
        if not rows:
            raise DocumentNotFoundError(f"document {document_id} was removed while it was being added")
        return _document(rows[0])

    def _near(self, name: str) -> str:
        rows = self._query("SELECT name, file_name FROM documents ORDER BY id")
        names = [name for row in rows for name in row if name]
        if not names:
            return "; it is empty (longleaf add FILE)"
        low = name.lower()
        near = [n for n in names if low in n.lower()] + difflib.get_close_matches(name, names, n=5, cutoff=0.5)
        listed = list(dict.fromkeys(near))[:5]
        return f"; near it: {', '.join(listed)}" if listed else f"; it has {len(rows)} others (longleaf list)"


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _release(database: Database, viewer: ParserProcess, busy: set[ParserProcess]) -> None:
    """What a library lets go of, be it closed or forgotten."""
    for parser in list(busy):
        parser.interrupt()
    viewer.stop()
    database.close()


def _document(row: sqlite3.Row, parsed: tuple[dict[str, str], tuple[OutlineEntry, ...]] | None = None) -> Document:
    values = dict(row)
    metadata, outline = parsed or _metadata_and_outline(row)
    return Document(
        **{column: values[column] for column in _COLUMNS if column in values},
        metadata=dict(metadata),
        outline=outline,
        warnings=tuple(json.loads(row["warnings"])),
    )


def _metadata_and_outline(row: sqlite3.Row) -> tuple[dict[str, str], tuple[OutlineEntry, ...]]:
    return json.loads(row["metadata"]), tuple(OutlineEntry(*entry) for entry in json.loads(row["outline"]))


def _page(row: sqlite3.Row, *, with_boxes: bool = False) -> Page:
    text, blob = row["text"], row["boxes"]
    none = np.full((len(text) if with_boxes else 0, 4), np.nan, np.float32)
    boxes = none if blob is None else decode_boxes(blob)
    return Page(row["number"], row["label"], text, row["width"], row["height"], boxes, row["source"], row["note"])
