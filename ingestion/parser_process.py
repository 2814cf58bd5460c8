"""The library's side of the parser process: starts it, watches its clock, replaces it when a page kills it.

One process serves many documents. Nothing it does can reach the caller other than as pages, a `LongleafError`, or a
page of source "none" whose note says what happened.
"""

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import longleaf.errors
from longleaf.errors import DocumentError, ParserLimitError

from .document import OutlineEntry, PageSource
from .wire import Frame, encode_frame, split_frame

__all__ = ["OpenedFile", "ParsedPage", "ParserLimits", "ParserProcess", "ParserStoppedError"]


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """What parsing may take before it is stopped.

    Attributes:
        open_s: Seconds without an answer while a file is being opened.
        page_s: Seconds without a page.
        ocr_s: Seconds for OCR of one page.
        lost_s: Seconds that the lost pages of one document may take together before it is given up.
        memory_bytes: Address space on top of the bare process.
    """

    open_s: float = 60.0
    page_s: float = 60.0
    ocr_s: float = 120.0
    lost_s: float = 600.0
    memory_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """What the parser says about a file; `copy` is the readable copy it had to make, if any."""

    n_pages: int
    metadata: dict[str, str]
    labels: tuple[str, ...]
    outline: tuple[OutlineEntry, ...]
    warnings: tuple[str, ...]
    copy: Path | None
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class ParsedPage:
    """A page on its way into the library; `boxes` is a blob of `boxes.encode_boxes`, empty when the page was lost."""

    number: int
    text: str
    boxes: bytes
    width: float
    height: float
    source: PageSource
    note: str = ""
    needs_ocr: bool = False


class ParserStoppedError(Exception):
    """`interrupt` or `stop` was called."""


class _GoneError(Exception):
    """The process died or was killed for taking too long; the message says which."""


class ParserProcess:
    """A parser in its own process. One thread uses it at a time.

    Args:
        limits: Time and memory.
        command: What to run instead of `longleaf.ingestion.worker` (tests do).

    ```python
    with ParserProcess() as parser:
        opened = parser.open(path, scratch=folder / "copy.pdf")
        for page in parser.pages(path, range(1, opened.n_pages + 1)):
            ...
    ```
    """

    def __init__(self, limits: ParserLimits | None = None, command: Sequence[str] | None = None) -> None:
        self.limits = limits or ParserLimits()
        self._command = list(command or [sys.executable, "-P", "-m", "longleaf.ingestion.worker"])  # -P: not from here
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._buffer = bytearray()
        self._stopped = False

    def __enter__(self) -> "ParserProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open(
        self, path: Path, *, scratch: Path, password: str | None = None, repair: bool = False, name: Path | None = None
    ) -> OpenedFile:
        """Open a PDF and read its structure.

        Args:
            path: The file.
            scratch: Where a readable copy may be written.
            password: If it needs one.
            repair: Take what is left of a damaged file.
            name: What to call the file in errors.

        Raises:
            DocumentError: It can't be opened; `ParserLimitError` when that takes too much time or memory.
        """
        name = name or path
        request = {"op": "open", "path": str(path), "password": password, "repair": repair, "scratch": str(scratch)}
        with self._cleared_on_error():
            try:
                self._send(request)
                n_pages = int(self._answer(self.limits.open_s, name)["opened"])
            except _GoneError as exc:
                raise ParserLimitError(name, f"it could not be opened: {exc}") from exc
            try:
                header = self._answer(self.limits.open_s, name)
            except _GoneError as exc:
                warning = f"Metadata, outline and page labels could not be read: {exc}."
                return OpenedFile(n_pages, {}, (), (), (warning,), scratch if scratch.exists() else None)
        return OpenedFile(
            n_pages=n_pages,
            metadata=header["metadata"],
            labels=tuple(header["labels"]),
            outline=tuple(OutlineEntry(**entry) for entry in header["outline"]),
            warnings=tuple(header["warnings"]),
            copy=Path(header["copy"]) if header["copy"] else None,
            is_damaged=header["is_damaged"],
        )

    def pages(
        self,
        path: Path,
        numbers: Sequence[int],
        *,
        ocr: bool = True,
        is_damaged: bool = False,
        name: Path | None = None,
    ) -> Iterator[ParsedPage | int]:
        """Read pages in the order of `numbers`.

        Yields:
            Each page; before a page that goes through OCR, its number alone (that one takes seconds). A page on
            which the process hangs or dies comes out with source "none" and a note, and reading goes on after it.

        Raises:
            ParserLimitError: The file can't be opened any more, or the lost pages take too long together.
        """
        name = name or path
        waiting = list(numbers)
        lost_s = 0.0
        with self._cleared_on_error():
            while waiting:
                started = time.monotonic()
                is_open = False
                try:
                    self._send(
                        {"op": "pages", "path": str(path), "numbers": waiting, "ocr": ocr, "is_damaged": is_damaged}
                    )
                    self._answer(self.limits.open_s, name)
                    is_open = True
                    while waiting:
                        started, patience = time.monotonic(), self.limits.page_s
                        header, payload = self._receive(patience)
                        if "ocr" in header:
                            yield int(header["ocr"])
                            header, payload = self._receive(self.limits.ocr_s + self.limits.page_s)
                        self._raise_error(header, name)
                        page = _page(header, payload)
                        waiting.remove(page.number)
                        yield page
                except _GoneError as exc:
                    if self._stopped:
                        raise ParserStoppedError from exc
                    if not is_open:
                        raise ParserLimitError(name, f"it could not be opened again: {exc}") from exc
                    lost_s += time.monotonic() - started
                    number = waiting.pop(0)
                    yield ParsedPage(number, "", b"", 0.0, 0.0, "none", f"not read: {exc}")
                    if lost_s > self.limits.lost_s:
                        raise ParserLimitError(
                            name, f"given up at page {number}: pages the parser fails on took {lost_s:.0f} s"
                        ) from exc

    def image(self, path: Path, number: int, dpi: float) -> bytes:
        """Draw one page as PNG.

        Raises:
            DocumentError: It can't be drawn within the limits.
        """
        with self._cleared_on_error():
            try:
                self._send({"op": "image", "path": str(path), "number": number, "dpi": dpi})
                header, payload = self._receive(self.limits.page_s)
            except _GoneError as exc:
                raise ParserLimitError(path, f"page {number} could not be drawn: {exc}") from exc
            self._raise_error(header, path)
            return payload

    def interrupt(self) -> None:
        """End the process from another thread; who waits for it gets `ParserStoppedError`."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    @property
    def is_stopped(self) -> bool:
        """Whether `interrupt` or `stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """End the process for good and tidy up; only while no other thread waits for it."""
        self._stopped = True
        self._kill()

    @contextlib.contextmanager
    def _cleared_on_error(self) -> Iterator[None]:
        """Answers that nobody waits for any more must not meet the next question: end the process."""
        try:
            yield
        except DocumentError as exc:
            if isinstance(exc, ParserLimitError):
                self._kill()
            raise
        except BaseException:
            self._kill()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        if self._stopped:
            raise ParserStoppedError
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._buffer.clear()
        limits = [str(self.limits.memory_bytes), str(self.limits.ocr_s)]
        self._process = subprocess.Popen(
            [*self._command, *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C goes to us, and we end it
            env={**os.environ, "OMP_THREAD_LIMIT": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if self._stopped:  # meanwhile
            self._process.kill()
        return self._process

    def _send(self, request: dict[str, Any]) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            self._kill()
            process = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(encode_frame(request))
            process.stdin.flush()
        except OSError as exc:
            raise _GoneError(self._last_words()) from exc

    def _answer(self, patience_s: float, name: Path) -> dict[str, Any]:
        header, _ = self._receive(patience_s)
        self._raise_error(header, name)
        return header

    def _receive(self, patience_s: float) -> Frame:
        """Wait for the next frame.

        Raises:
            _GoneError: The process died, or nothing came in time (and it was killed).
        """
        process = self._process
        if process is None or process.stdout is None:
            raise _GoneError("the parser was stopped")
        descriptor = process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + patience_s
        while (frame := split_frame(self._buffer)) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self._kill()
                raise _GoneError(f"the parser took longer than {patience_s:g} s")
            data = os.read(descriptor, 1 << 20)
            if not data:
                raise _GoneError(self._last_words())
            self._buffer += data
        return frame

    def _raise_error(self, header: dict[str, Any], name: Path) -> None:
        if "error" not in header:
            return
        kind = getattr(longleaf.errors, str(header["error"]), DocumentError)
        raise kind(name, str(header["reason"]))

    def _last_words(self) -> str:
        """Why the process is gone; ends what is left of it."""
        process = self._process
        if process is None:
            return "the parser was stopped"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.poll()
        lines = self._stderr_lines()
        self._kill()
        if code is not None and code < 0:
            return f"the parser crashed (signal {-code})"
        return f"the parser ended (code {code}{': ' + lines[-1] if lines else ''})"

    def _stderr_lines(self) -> list[str]:
        if self._stderr is None:
            return []
        try:
            self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, self._stderr.tell() - 2_000))
            return [line for line in self._stderr.read().decode("utf-8", "replace").splitlines() if line.strip()]
        except (OSError, ValueError):
            return []

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None


def _page(header: dict[str, Any], payload: bytes) -> ParsedPage:
    n_text = int(header["n_text"])
    return ParsedPage(
        number=int(header["page"]),
        text=payload[:n_text].decode(),
        boxes=payload[n_text:],
        width=float(header["width"]),
        height=float(header["height"]),
        source=header["source"],
        note=str(header["note"]),
        needs_ocr=bool(header.get("needs_ocr", False)),
    )
