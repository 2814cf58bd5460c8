"""Finds a quote on its page and the boxes to mark: the check that stands behind every citation.

A quote counts as found only when its characters stand on the page in order. What a printed page and a quotation may
differ in is forgiven: white space and line ends, capitals, the shape of quotation marks and dashes, a word hyphenated
over a line end. Nothing else is: a quote that is nearly there is not there.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from longleaf.ingestion import Document, Page

__all__ = ["Box", "Citation", "Location", "boxes_of", "cite", "folded", "folded_words", "locate", "locate_in_pages"]

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points; the origin is the top left corner of the page as displayed, y grows downwards."""

_SAME = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "′": "'", "“": '"', "”": '"', "„": '"', "″": '"'} | dict.fromkeys("‐‑‒–—―−", "-")
)
_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])[-‐]\n(?=[a-z])")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a quote stands: page number (1-based) and the span of its characters in that page's text."""

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote and where it stands.

    Attributes:
        document: The document's name.
        sha256: Its identity.
        page: Page number in the file, 1-based.
        page_label: The number printed on that page, where it differs from `page`.
        quote: The words, as the page has them.
        heading: Lines of the page above a table row that name its columns, unit and group; "" for prose.
        start: First character in the page's text, 0-based.
        end: Character after the last.
        boxes: One for each printed line of the quote; empty for documents without a page image.
        verified: Whether the quote was looked up on the stored page and found there.
    """

    document: str
    sha256: str
    page: int
    page_label: str
    quote: str
    heading: str
    start: int
    end: int
    boxes: tuple[Box, ...]
    verified: bool


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """The span of `quote` in `text`, or None where it does not stand there.

    Exact characters are preferred; else the first place that matches but for white space, capitals, quotation marks,
    dashes and hyphenation at line ends.
    """
    quote = quote.strip()
    if not quote:
        return None
    start = text.find(quote)
    if start >= 0:
        return start, start + len(quote)
    needle, _ = folded(quote)
    haystack, positions = folded(text)
    start = haystack.find(needle)
    if start < 0 or not needle:
        return None
    return positions[start], positions[start + len(needle) - 1] + 1


def folded(text: str, *, gap: str = "") -> tuple[str, list[int]]:
    """The text with look-alikes made alike, and each of its characters' place in the original.

    Args:
        text: As a page has it, or as somebody typed it.
        gap: What stands for a run of white space: "" leaves it out, " " tells words apart.
    """
    broken = {match.start() for match in _BROKEN_WORD.finditer(text)}
    characters: list[str] = []
    positions: list[int] = []
    for position, character in enumerate(text.translate(_SAME)):
        if character.isspace():
            if gap and characters and characters[-1] != gap and position - 1 not in broken:
                characters.append(gap)
                positions.append(position)
        elif position not in broken:
            for each in character.casefold():
                characters.append(each)
                positions.append(position)
    return "".join(characters), positions


def folded_words(text: str) -> str:
    """What `folded` makes of a text with " " between its words, without the places: twenty times as quick."""
    return " ".join(_BROKEN_WORD.sub("", text).translate(_SAME).casefold().split())


def locate_in_pages(quote: str, pages: Iterable[Page]) -> Location | None:
    """The first page that holds the quote, and where on it."""
    for page in pages:
        span = locate(quote, page.text)
        if span:
            return Location(page.number, *span)
    return None


def cite(document: Document, page: Page, quote: str, near: int = 0, heading: str = "") -> Citation | None:
    """A citation of `quote` on `page` with its boxes, or None where the page does not hold it.

    Args:
        document: The document.
        page: The page as stored, with its boxes.
        quote: The words to find.
        near: Where the quote is expected; of several places the first at or after it is taken.
        heading: What stands above the quote and belongs to it.
    """
    span = locate(quote, page.text[near:])
    span = (span[0] + near, span[1] + near) if span else locate(quote, page.text)
    if span is None:
        return None
    start, end = span
    return Citation(
        document=document.name,
        sha256=document.sha256,
        page=page.number,
        page_label=page.label,
        quote=page.text[start:end],
        heading=heading,
        start=start,
        end=end,
        boxes=boxes_of(page, start, end),
        verified=True,
    )


def boxes_of(page: Page, start: int, end: int) -> tuple[Box, ...]:
    """One box for each printed line of the span, to a tenth of a point; none where the page has no boxes."""
    boxes = page.boxes[start:end]  # [end - start, 4]
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    lines: list[np.ndarray] = []
    for box in boxes:
        line = lines[-1] if lines else None
        if line is not None and _same_line(line, box):
            lines[-1] = np.concatenate([np.minimum(line[:2], box[:2]), np.maximum(line[2:], box[2:])])
        else:
            lines.append(box.copy())
    return tuple((_tenths(b[0]), _tenths(b[1]), _tenths(b[2]), _tenths(b[3])) for b in lines)


def _same_line(line: np.ndarray, box: np.ndarray) -> bool:
    overlap = min(line[3], box[3]) - max(line[1], box[1])
    height = min(line[3] - line[1], box[3] - box[1])
    # A character far to the left of the line's end opens the next line or column, even where heights touch.
    return bool(overlap > 0.5 * height and box[0] >= line[0] - 1.0)


def _tenths(value: float) -> float:
    return round(float(value), 1)
