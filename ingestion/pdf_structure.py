"""Metadata, outline and page labels of a PDF, through pypdf, within a time limit.

All of it is nice to have: what can't be read becomes a warning and never fails the document.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pypdf import PdfReader

from .document import OutlineEntry

__all__ = ["PdfStructure", "read_structure"]

_log = logging.getLogger(__name__)
_MAX_ENTRIES = 5_000
_MAX_TITLE = 500


@dataclass(slots=True)
class PdfStructure:
    """What a PDF says about itself; `labels` is empty when the pages are numbered 1, 2, 3, …."""

    metadata: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    outline: list[OutlineEntry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _OutOfTimeError(Exception):
    pass


def read_structure(path: Path, n_pages: int, *, password: str = "", timeout_s: float = 15.0) -> PdfStructure:
    """Read metadata, labels and outline; never raises over the file's content.

    Args:
        path: A PDF.
        n_pages: Page count by pdfium; labels are used only if there are as many.
        password: For encrypted files; the empty one opens those that have only an owner password.
        timeout_s: For all of it together.
    """
    structure = PdfStructure()
    step = "the structure"
    try:
        with _time_limit(timeout_s):
            reader = PdfReader(path, strict=False)
            if reader.is_encrypted:
                reader.decrypt(password)
            step = "the metadata"
            structure.metadata = _metadata(reader)
            step = "the page labels"
            labels = list(reader.page_labels) if "/PageLabels" in reader.root_object else []
            if len(labels) == n_pages and labels != [str(i + 1) for i in range(n_pages)]:
                structure.labels = [label.strip()[:40] or str(i + 1) for i, label in enumerate(labels)]
            step = "the outline"
            structure.outline = list(_outline(reader, reader.outline, n_pages))[:_MAX_ENTRIES]
    except _OutOfTimeError:
        structure.warnings.append(f"Reading {step} took longer than {timeout_s:g} s and was left out.")
    except Exception as exc:
        _log.info("%s of %s: %s: %s", step, path, type(exc).__name__, exc)
        structure.warnings.append(f"Could not read {step} ({type(exc).__name__}).")
    return structure


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTimeError` after some seconds; without effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise _OutOfTimeError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _metadata(reader: PdfReader) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in (reader.metadata or {}).items():
        text = _plain(str(value))
        if text:
            found[str(key).lstrip("/")] = text[:2_000]
    return found


def _plain(text: str) -> str:
    kept = "".join(c for c in text if c.isprintable() or c.isspace())
    return " ".join(kept.encode("utf-8", "ignore").decode().split())


def _outline(reader: PdfReader, entries: Any, n_pages: int, level: int = 1) -> Iterator[OutlineEntry]:
    for entry in entries:
        if isinstance(entry, list):
            yield from _outline(reader, entry, n_pages, level + 1)
            continue
        title = _plain(str(entry.title or ""))[:_MAX_TITLE]
        if not title:
            continue
        try:
            index = reader.get_destination_page_number(entry)
        except Exception:
            index = None
        page_number = index + 1 if index is not None and 0 <= index < n_pages else None
        yield OutlineEntry(level, title, page_number)
