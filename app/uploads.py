"""Takes files that came through the browser into the library; knows nothing of Streamlit.

A file goes from the browser's upload to a file beside the library, block by block, and from there into the library; so
its bytes are in memory no longer than it takes to write them.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from longleaf.errors import DocumentError, LongleafError
from longleaf.ingestion import Added, Document, Library
from longleaf.retrieval import Answerer

from .work_queue import Control, WorkStopped, error_text

__all__ = ["Outcome", "safe_name", "spool", "take_in"]

_MAX_NAME = 200
"""Bytes of a file name that every file system takes, with room to spare."""
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one file.

    Attributes:
        text: In a line, after the file's name: what it is now, or why it was not taken in.
        document: As it is in the library; None where nothing of the file is there.
        added: Whether it can be asked: it was taken in whole, now or before.
    """

    text: str
    document: Document | None
    added: bool


def spool(file: BinaryIO, folder: Path, name: str) -> Path:
    """Writes an upload to a file of its own in a folder.

    Raises:
        OSError: Full disk or read-only folder; nothing stays then.
    """
    path = folder / safe_name(name)
    try:
        with path.open("wb") as target:
            shutil.copyfileobj(file, target, 1 << 20)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def take_in(
    library: Library,
    answerer: Answerer,
    path: Path,
    control: Control,
    *,
    password: str | None = None,
    ocr: Literal["auto", "never"] = "auto",
) -> Outcome:
    """Adds one file and makes it ready for questions. What is wrong with a file is said, not raised.

    Args:
        library: Where to.
        answerer: Cuts and embeds, so that the first question finds it done.
        path: The file, under the name that it is to have.
        control: Stops the work between two pages, and between two batches of passages.
        password: For an encrypted PDF.
        ocr: As for `Library.add`.

    Raises:
        WorkStopped: Somebody stopped it, with an outcome that says what stays: adding the file again goes on there.
    """

    def on_page(done: int, total: int, stage: str) -> None:
        control.stop_if_asked()
        control.progress(_STAGES.get(stage, stage), done, total)

    try:
        added = library.add(path, password=password, ocr=ocr, progress=on_page)
        _make_ready(answerer, added.document, control)
    except WorkStopped as stopped:
        raise WorkStopped(_what_stays(library, path)) from stopped
    except DocumentError as exc:
        return Outcome(exc.reason, None, added=False)
    except LongleafError as exc:
        return Outcome(str(exc), None, added=False)
    except Exception as exc:
        return Outcome(error_text(exc, f"taking in {path.name!r}"), None, added=False)
    return Outcome(_told(added, path.name), added.document, added=True)


_STAGES = {"copying": "copying", "opening": "opening", "reading": "reading pages", "ocr": "reading pages by OCR"}


def _make_ready(answerer: Answerer, document: Document, control: Control) -> None:
    """Cuts and embeds; the document can be asked from the cutting on, so a stop here leaves it whole."""
    control.progress("cutting into passages", 0, 0)
    answerer.begin([document])
    control.progress("counting tokens", 0, 0)
    answerer.count_tokens([document])
    while (left := answerer.n_unembedded(document)) and answerer.embedding:
        total = answerer.store.n_passages([document])
        control.progress("embedding passages", total - left, total)
        if control.should_stop():
            answerer.stop_embedding(document)
            raise WorkStopped
        time.sleep(_LOOK_EVERY_S)


def _what_stays(library: Library, path: Path) -> Outcome:
    try:
        document = library.find(path)
    except LongleafError:
        return Outcome("stopped before anything was kept", None, added=False)
    if document.state == "ready":
        return Outcome("stopped; it can be asked, by its words until it is embedded", document, added=True)
    return Outcome("stopped; the pages read so far are kept, and adding it again goes on there", document, added=False)


def _told(added: Added, name: str) -> str:
    document = added.document
    pages = f"{document.n_pages:,} page{'' if document.n_pages == 1 else 's'}"
    if added.already_there:
        known_as = "" if document.name == name else f" as {document.name}"
        return f"already in the library{known_as}, {pages}"
    went_on = f", went on at page {added.resumed_from_page}" if added.resumed_from_page else ""
    return f"{pages} in {added.seconds:.1f} s{went_on}"


def safe_name(name: str) -> str:
    """The last part of a name from a browser, without what no file system takes."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "").strip() or "document"
    path = Path(last if last not in (".", "..") else "document")
    stem = path.stem.encode()[: _MAX_NAME - len(path.suffix.encode()[:20])].decode(errors="ignore")
    return stem + path.suffix[:20]
