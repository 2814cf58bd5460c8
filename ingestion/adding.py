"""Taking one file into the library, step by step, so that being stopped at any of them loses no finished work.

1.  Look at the file; hash it; if its document is ready there is nothing to do.
2.  Take the document's lock (another process may be adding the same bytes; then wait and look again).
3.  Copy it under tmp, open it in the parser process, move it to its place, write its row with state "adding".
4.  Store pages in batches, in order: what is there is always pages 1 to n.
5.  Count, warn, set the state to "ready".

Stopped before 3 is done, a scratch folder is left, which the next opening of the library deletes. Stopped later, the
next adding of the same bytes goes on after the last stored page.
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, Timeout

from longleaf.errors import DocumentError, NoTextError, ParserLimitError

from .database import Database, storage_errors
from .document import MediaType, OutlineEntry
from .ocr import INSTALL_OCR, ocr_missing
from .parser_process import OpenedFile, ParsedPage, ParserProcess, ParserStoppedError
from .sniff import media_type_of
from .storage import Storage, sha256_of
from .text_parser import parse_text

__all__ = ["Adding", "Progress", "storable"]

Progress = Callable[[int, int, str], None]
"""Pages done, pages in total, stage."""

_BATCH_PAGES = 64
_BATCH_S = 1.0
_SUFFIXES: dict[MediaType, str] = {"application/pdf": ".pdf", "text/plain": ".txt", "text/markdown": ".md"}
_UNTITLED = re.compile(r"(untitled|title|document\d*|no ?title|slide 1|powerpoint presentation|layout 1)?", re.I)
_FILE_NAME = re.compile(r".*\.(docx?|xlsx?|pptx?|indd|qxd|pdf|dvi|tex|ps|html?|txt|rtf|fm|p65)", re.I)


class Adding:
    """One attempt to add one file; `run` does it."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        parser: ParserProcess,
        path: Path,
        *,
        password: str | None,
        ocr: bool,
        repair: bool,
        progress: Progress,
    ) -> None:
        self._database, self._storage, self._parser = database, storage, parser
        self._path, self._password, self._ocr, self._repair = path, password, ocr, repair
        self._progress = progress

    def run(self) -> tuple[int, bool, int, float]:
        """Add the file.

        Returns:
            The document's id, whether it was there already, the first page read when going on (else 0), seconds.
        """
        started = time.monotonic()
        media_type = media_type_of(self._path)
        self._progress(0, 0, "copying")
        sha256 = sha256_of(self._path)
        found = self._row(sha256)
        if found is not None and self._is_whole(found):
            return found["id"], True, 0, time.monotonic() - started
        with storage_errors(self._storage.home):
            lock = self._storage.lock_of(sha256)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._progress(0, 0, "waiting for another process")
                self._wait_for(lock)
        try:
            document_id, already_there, first = self._locked(sha256, media_type)
        finally:
            lock.release()
        return document_id, already_there, first, time.monotonic() - started

    def _wait_for(self, lock: BaseFileLock) -> None:
        while True:
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                if self._parser.is_stopped:  # Ctrl-C in the thread that started this one
                    raise ParserStoppedError from None
            else:
                return

    def _locked(self, sha256: str, media_type: MediaType) -> tuple[int, bool, int]:
        row = self._row(sha256)
        first = 0
        if row is not None and self._is_whole(row):
            return row["id"], True, 0
        if row is None:
            row = self._take_in(sha256, media_type)
        else:
            if not self._file_of(row).exists():
                self._take_file(sha256, row["media_type"])  # the name may say Markdown now and said text then
            if row["state"] == "ready":
                return row["id"], False, self._read_images(row)
            n_stored = self._count_pages(row["id"])
            first = n_stored + 1 if 0 < n_stored < row["n_pages"] else 0
        if media_type == "application/pdf":
            self._read(row)
        self._finish(row["id"])
        return row["id"], False, first

    # --- step 3: file and row

    def _take_in(self, sha256: str, media_type: MediaType) -> sqlite3.Row:
        opened, pages, size = self._take_file(sha256, media_type)
        try:
            return self._insert(sha256, media_type, size, opened, pages)
        except BaseException:
            self._storage.drop(sha256)
            raise

    def _take_file(self, sha256: str, media_type: MediaType) -> tuple[OpenedFile, list[ParsedPage], int]:
        """Copy the file, open it, move it (or its readable copy) to its place; also the pages of a text, the size."""
        with self._storage.scratch() as folder:
            original = folder / "original"
            size = self._storage.copy_in(self._path, sha256, original)
            self._progress(0, 0, "opening")
            pages: list[ParsedPage] = []
            if media_type == "application/pdf":
                opened = self._parser.open(
                    original, scratch=folder / "copy", password=self._password, repair=self._repair, name=self._path
                )
            else:
                opened, pages = self._open_text(original, markdown=media_type == "text/markdown")
            self._storage.place(opened.copy or original, sha256, _SUFFIXES[media_type])
        return opened, pages, size

    def _open_text(self, original: Path, *, markdown: bool) -> tuple[OpenedFile, list[ParsedPage]]:
        parsed = parse_text(original.read_bytes(), self._path, markdown=markdown)
        outline, warnings = tuple(parsed.outline), tuple(parsed.warnings)
        opened = OpenedFile(len(parsed.pages), {}, (), outline, warnings, None)
        pages = [ParsedPage(i, text, b"", 0.0, 0.0, "text") for i, text in enumerate(parsed.pages, start=1)]
        return opened, pages

    def _insert(
        self, sha256: str, media_type: MediaType, size: int, opened: OpenedFile, pages: list[ParsedPage]
    ) -> sqlite3.Row:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO documents (sha256, name, title, media_type, suffix, size_bytes, n_pages, added_at, "
                "metadata, labels, outline, warnings, is_damaged, state) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'adding')",
                (
                    sha256,
                    storable(self._path.name),
                    _title(opened.metadata.get("Title", ""), opened.outline, self._path, media_type),
                    media_type,
                    _SUFFIXES[media_type],
                    size,
                    opened.n_pages,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                    json.dumps(opened.metadata),
                    json.dumps(opened.labels),
                    json.dumps([astuple(entry) for entry in opened.outline]),
                    json.dumps(opened.warnings),
                    opened.is_damaged,
                ),
            )
            row = self._row(sha256)
            assert row is not None
            self._store(connection, row["id"], pages, [])
        return row

    # --- step 4: pages

    def _read(self, row: sqlite3.Row) -> None:
        n_done = self._count_pages(row["id"])
        self._read_pages(row, range(n_done + 1, row["n_pages"] + 1), n_done)

    def _read_images(self, row: sqlite3.Row) -> int:
        """Read the pages that waited for OCR; the first of them, 0 if there is none."""
        rows = self._select("SELECT number FROM pages WHERE document_id = ? AND needs_ocr ORDER BY number", row["id"])
        if not rows or not self._can_read_more(row):
            return 0
        numbers = [int(page["number"]) for page in rows]
        self._read_pages(row, numbers, row["n_pages"] - len(numbers), again=True)
        self._finish(row["id"])
        return numbers[0]

    def _read_pages(self, row: sqlite3.Row, numbers: range | list[int], n_done: int, *, again: bool = False) -> None:
        path = self._file_of(row)
        labels: list[str] = json.loads(row["labels"])
        batch: list[ParsedPage] = []
        stored_at = time.monotonic()

        def store() -> None:
            nonlocal stored_at
            with self._database.transaction() as connection:
                self._store(connection, row["id"], batch, labels)
                if again and batch:
                    connection.execute("UPDATE documents SET revision = revision + 1 WHERE id = ?", (row["id"],))
            batch.clear()
            stored_at = time.monotonic()

        self._progress(n_done, row["n_pages"], "reading")
        try:
            for page in self._parser.pages(
                path, list(numbers), ocr=self._ocr, is_damaged=bool(row["is_damaged"]), name=self._path
            ):
                if isinstance(page, int):
                    self._progress(n_done, row["n_pages"], "ocr")
                    continue
                batch.append(page)
                n_done += 1
                self._progress(n_done, row["n_pages"], "reading")
                if len(batch) >= _BATCH_PAGES or time.monotonic() - stored_at > _BATCH_S:
                    store()
        except DocumentError:
            if not again:
                self._forget(row["sha256"])
            raise
        except (KeyboardInterrupt, ParserStoppedError):
            store()  # keep what is read
            raise
        store()

    @staticmethod
    def _store(connection: sqlite3.Connection, document_id: int, pages: list[ParsedPage], labels: list[str]) -> None:
        connection.executemany(
            "INSERT INTO pages (document_id, number, label, text, width, height, source, note, needs_ocr) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (document_id, number) DO UPDATE SET text = excluded.text, "
            "width = excluded.width, height = excluded.height, source = excluded.source, note = excluded.note, "
            "needs_ocr = excluded.needs_ocr",
            [
                (
                    document_id,
                    p.number,
                    labels[p.number - 1] if labels else str(p.number),
                    p.text,
                    p.width,
                    p.height,
                    p.source,
                    p.note,
                    p.needs_ocr,
                )
                for p in pages
            ],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO page_boxes (document_id, number, boxes) VALUES (?, ?, ?)",
            [(document_id, p.number, p.boxes) for p in pages if p.boxes],
        )

    # --- step 5: ready

    def _finish(self, document_id: int) -> None:
        """Count the pages, write the warnings, set the state; a document without any text is not kept."""
        (totals,) = self._select(
            "SELECT count(*) AS n, sum(source = 'ocr') AS ocr, sum(source = 'none') AS unread, "
            "sum(needs_ocr) AS images, sum(length(text)) AS chars, sum(text <> '' AND source <> 'none') AS written "
            "FROM pages WHERE document_id = ?",
            document_id,
        )
        (row,) = self._select("SELECT * FROM documents WHERE id = ?", document_id)
        unread = self._select(
            "SELECT number, note, needs_ocr FROM pages WHERE document_id = ? AND source = 'none' ORDER BY number",
            document_id,
        )
        images = [page["number"] for page in unread if page["needs_ocr"]]
        lost = [page for page in unread if not page["needs_ocr"]]
        if not totals["written"] and row["state"] == "adding":
            self._forget(row["sha256"])
            raise self._no_text(totals, lost)
        warnings = [w for w in json.loads(row["warnings"]) if not w.startswith(("Not read", "Images not read"))]
        if images:
            how = f"install OCR ({INSTALL_OCR}) and add the file again" if ocr_missing() else "add it again with OCR"
            warnings.append(f"Images not read: {_pages(images)}; {how}.")
        if lost:
            notes = "; ".join(dict.fromkeys(page["note"] for page in lost))
            warnings.append(f"Not read: {_pages([page['number'] for page in lost])}: {notes[:300]}.")
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE documents SET n_pages_ocr = ?, n_pages_unread = ?, n_chars = ?, warnings = ?, state = 'ready' "
                "WHERE id = ?",
                (totals["ocr"], totals["unread"], totals["chars"], json.dumps(warnings), document_id),
            )

    def _no_text(self, totals: sqlite3.Row, lost: list[sqlite3.Row]) -> DocumentError:
        n = totals["n"]
        pages = "its only page is" if n == 1 else f"none of its {n} pages has text that can be read: all are"
        if totals["images"]:
            why = ocr_missing()
            how = f"install OCR ({INSTALL_OCR}) and add it again" if why else "add it again with OCR switched on"
            return NoTextError(self._path, f"{pages} without text, as images; {how}")
        if lost:
            return ParserLimitError(self._path, f"no page could be read ({lost[0]['note']})")
        if totals["ocr"]:
            return NoTextError(self._path, f"OCR found no text on its {n} page{'s' if n > 1 else ''}")
        return NoTextError(self._path, f"{pages} blank")

    # --- small

    def _is_whole(self, row: sqlite3.Row) -> bool:
        return row["state"] == "ready" and self._file_of(row).exists() and not self._can_read_more(row)

    def _file_of(self, row: sqlite3.Row) -> Path:
        return self._storage.path_of(row["sha256"], row["suffix"])

    def _can_read_more(self, row: sqlite3.Row) -> bool:
        if not self._ocr or not row["n_pages_unread"] or ocr_missing():
            return False
        return bool(self._select("SELECT 1 FROM pages WHERE document_id = ? AND needs_ocr LIMIT 1", row["id"]))

    def _select(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with storage_errors(self._database.path):
            return self._database.connection().execute(sql, values).fetchall()

    def _row(self, sha256: str) -> sqlite3.Row | None:
        rows = self._select("SELECT * FROM documents WHERE sha256 = ?", sha256)
        return rows[0] if rows else None

    def _count_pages(self, document_id: int) -> int:
        return int(self._select("SELECT count(*) FROM pages WHERE document_id = ?", document_id)[0][0])

    def _forget(self, sha256: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM documents WHERE sha256 = ?", (sha256,))
        self._storage.drop(sha256)


def storable(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _title(title: str, outline: tuple[OutlineEntry, ...], path: Path, media_type: MediaType) -> str:
    title = re.sub(r"^Microsoft (Office )?(Word|PowerPoint|Excel) - ", "", title).strip()
    if media_type == "text/markdown" and outline and outline[0].page_number == 1:
        title = outline[0].title
    sensible = (
        len(title) >= 4
        and not _UNTITLED.fullmatch(title)
        and not _FILE_NAME.fullmatch(title)
        and sum(c.isalpha() for c in title) >= len(title) / 3
        and (" " in title or not re.search(r"[\\/_]|\d{4,}", title))
    )
    return title if sensible else storable(path.stem) or storable(path.name)


def _pages(numbers: list[int]) -> str:
    """Such as "3 pages (4, 7-9)", with ranges for neighbours."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    listed = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans[:20])
    more = ", …" if len(spans) > 20 else ""
    return f"{len(numbers)} page{'' if len(numbers) == 1 else 's'} ({listed}{more})"
