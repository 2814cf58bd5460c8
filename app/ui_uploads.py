"""Takes files that came through the browser into the library, one after the other; knows nothing of Streamlit."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from longleaf.errors import DocumentError, LongleafError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer

from .question_queue import error_text

__all__ = ["Outcome", "take_in"]

Progress = Callable[[str, int, int], None]
"""Called with (stage in a few words, done, in all)."""

_MAX_NAME = 200
"""Bytes of a file name that every file system takes, with room to spare."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one file: the document, or None and the reason in `text`."""

    text: str
    document: Document | None


def take_in(
    library: Library,
    answerer: Answerer,
    name: str,
    file: BinaryIO,
    *,
    ocr: Literal["auto", "never"] = "auto",
    progress: Progress,
) -> Outcome:
    """Adds one file and makes it ready for questions. What is wrong with a file is said, not raised.

    Args:
        library: Where to.
        answerer: Cuts and embeds, so that the first question finds it done.
        name: The file's name, as the browser gave it.
        file: Its bytes, copied to disk block by block.
        ocr: As for `Library.add`.
        progress: Called as the work goes on.
    """
    name = _safe_name(name)
    try:
        with tempfile.TemporaryDirectory(prefix="longleaf-") as folder:
            path = Path(folder) / name
            with path.open("wb") as target:
                shutil.copyfileobj(file, target, 1 << 20)
            added = library.add(
                path, ocr=ocr, progress=lambda done, total, stage: progress(f"{stage} {name}", done, total)
            )
        document = added.document
        answerer.begin([document])
    except DocumentError as exc:
        return Outcome(f"{name}: {exc.reason}", None)
    except LongleafError as exc:
        return Outcome(f"{name}: {exc}", None)
    except OSError as exc:
        return Outcome(f"{name}: it can't be copied to {tempfile.gettempdir()}: {exc.strerror or exc}", None)
    except Exception as exc:
        return Outcome(f"{name}: {error_text(exc, f'taking in {name!r}')}", None)
    pages = f"{document.n_pages:,} page{'' if document.n_pages == 1 else 's'}"
    if added.already_there:
        known_as = "" if document.name == name else f" as {document.name}"
        return Outcome(f"{name}: already in the library{known_as}, {pages}", document)
    went_on = f", went on at page {added.resumed_from_page}" if added.resumed_from_page else ""
    return Outcome(f"{name}: {pages} in {added.seconds:.1f} s{went_on}", document)


def _safe_name(name: str) -> str:
    """The last part of a name from a browser, without what no file system takes."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "").strip() or "document"
    path = Path(last if last not in (".", "..") else "document")
    stem = path.stem.encode()[: _MAX_NAME - len(path.suffix.encode()[:20])].decode(errors="ignore")
    return stem + path.suffix[:20]
