"""The values that ingestion hands out: pages, documents and what adding or removing one came to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Added", "Boxes", "Document", "MediaType", "OutlineEntry", "Page", "PageSource", "Removed"]

Boxes = NDArray[np.float32]
MediaType = Literal["application/pdf", "text/plain", "text/markdown"]
PageSource = Literal["text", "ocr", "none"]


@dataclass(frozen=True, slots=True)
class Page:
    r"""One page of a document.

    Attributes:
        number: 1-based.
        label: What the document itself prints as page number ("iv", "A-3"), or `str(number)`.
        text: Lines end in "\n". Inside a line one space separates words and two spaces separate columns.
        width: Of the displayed page (after rotation and crop box), in points.
        height: Likewise.
        boxes: `[len(text), 4]`: x0, y0, x1, y1 in points, origin at the top left of the displayed page, y down.
            NaN for characters without a box: line ends and spaces that were added.
        source: "text" (text layer), "ocr", or "none" (not readable: an image without OCR, of which `text` may hold a
            stamp or a page number; or the parser gave up).
        note: Why a page is "none" or doubtful.
    """

    number: int
    label: str
    text: str
    width: float
    height: float
    boxes: Boxes
    source: PageSource
    note: str = ""


@dataclass(frozen=True, slots=True)
class OutlineEntry:
    """A bookmark or heading; `level` starts at 1, `page_number` is None when it leads nowhere in this document."""

    level: int
    title: str
    page_number: int | None


@dataclass(frozen=True, slots=True)
class Document:
    """One file's content, identified by the sha256 of its bytes.

    Attributes:
        id: The library's key; never used twice.
        sha256: Of the original bytes.
        name: What it goes by: its file name at first adding, until it is given another (`Library.rename`).
        title: From the metadata if that is sensible, else the name without its suffix.
        media_type: "application/pdf", "text/plain" or "text/markdown".
        size_bytes: Of the original file.
        n_pages: All pages, read or not.
        n_pages_ocr: Pages whose text comes from OCR.
        n_pages_unread: Pages with source "none".
        n_chars: Characters of text on all pages.
        added_at: ISO 8601, UTC.
        metadata: The document's own, as text (Title, Author, CreationDate, …).
        outline: Bookmarks or headings in reading order.
        warnings: What a reader should know: unread pages, repaired file, guessed encoding.
        state: "adding" until every page is stored, then "ready".
        revision: Grows when pages of a ready document are read again (OCR was installed later): whatever was
            made from its pages is then out of date.
        file_name: Its file name at first adding, which never changes: what is kept of it may be found by that.
    """

    id: int
    sha256: str
    name: str
    title: str
    media_type: MediaType
    size_bytes: int
    n_pages: int
    n_pages_ocr: int
    n_pages_unread: int
    n_chars: int
    added_at: str
    metadata: dict[str, str]
    outline: tuple[OutlineEntry, ...]
    warnings: tuple[str, ...]
    state: Literal["adding", "ready"]
    revision: int = 0
    file_name: str = ""

    def __post_init__(self) -> None:
        if not self.file_name:
            object.__setattr__(self, "file_name", self.name)


@dataclass(frozen=True, slots=True)
class Added:
    """What `Library.add` did.

    Attributes:
        document: As it is in the library now.
        already_there: Nothing had to be read.
        resumed_from_page: First page read this time when earlier work was kept; 0 if there was none.
        seconds: Wall time, waiting included.
    """

    document: Document
    already_there: bool
    resumed_from_page: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Removed:
    """What `Library.remove` took away; `passages` is 0 while nothing was made from the pages."""

    document: Document
    pages: int
    passages: int
    bytes: int
