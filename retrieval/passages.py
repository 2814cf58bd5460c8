"""Cuts a document's pages into passages: what is embedded, searched and widened into evidence.

A passage stays inside one page and one section and knows both. Running headers, footers and page numbers belong to no
passage. Works on page text alone: knows nothing of files, databases or models.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from longleaf.ingestion import OutlineEntry

from .sentences import Unit, split_units

__all__ = ["CUTTER_VERSION", "Passage", "cut_passages"]

CUTTER_VERSION = 1
"""Raised whenever the same pages would give other passages; stored passages of another version are cut anew."""

TARGET_CHARS = 900
MIN_CHARS = 250
"""A heading ends the passage before it only when that holds at least this much."""
OVERLAP_CHARS = 220
"""The last sentence of a passage opens the next one too, when it is no longer than this."""

_HEADING = re.compile(
    r"^(?:(?:item|note|section|chapter|article|appendix|annex|exhibit|schedule)\s+(?:\d+[a-z]?|[a-z]|[ivxl]+)\b"
    r"|part\s+[ivx]+\b|\d{1,2}(?:\.\d{1,2}){0,3}\.?\s+[A-Z][A-Za-z])[^\n]{0,110}$",
    re.IGNORECASE | re.MULTILINE,
)
_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one page.

    Attributes:
        page: Page number, 1-based.
        start: First character in the page's text, 0-based.
        end: Character after the last.
        section: Section path, outermost first, joined with " › "; "" where none is known.
        text: The page's text from `start` to `end`.
    """

    page: int
    start: int
    end: int
    section: str
    text: str


def cut_passages(pages: Sequence[tuple[int, str]], outline: Sequence[OutlineEntry] = ()) -> list[Passage]:
    """Cuts pages into passages of about 900 characters that end at a sentence, row or heading.

    Args:
        pages: (page number, text) in order.
        outline: The document's outline; where it is empty, numbered headings in the text stand in for it.
    """
    furniture = _running_lines([text for _, text in pages])
    passages: list[Passage] = []
    for (number, text), sections in zip(pages, _sections(pages, outline), strict=True):
        starts = [start for start, _ in sections]
        body_start, body_end = _without_furniture(text, furniture)
        group: list[Unit] = []
        for unit in split_units(text, body_start, body_end):
            if group and _full(group, unit, starts):
                passages.append(_passage(number, text, group, sections))
                last = group[-1]
                carried = not last.is_row and last.end - last.start <= OVERLAP_CHARS and not unit.is_row
                same_section = bisect_right(starts, last.start) == bisect_right(starts, unit.start)
                group = [last] if carried and same_section and len(group) > 1 else []
            group.append(unit)
        if group:
            passages.append(_passage(number, text, group, sections))
    return passages


def _full(group: list[Unit], unit: Unit, section_starts: list[int]) -> bool:
    """Whether the passage ends before `unit`: it would grow too long, or a new section begins there."""
    length = group[-1].end - group[0].start
    if any(group[-1].start < start <= unit.start for start in section_starts):
        return length >= MIN_CHARS
    return unit.end - group[0].start > TARGET_CHARS and length >= MIN_CHARS


def _passage(number: int, text: str, group: list[Unit], sections: list[tuple[int, str]]) -> Passage:
    start, end = group[0].start, group[-1].end
    index = bisect_right([begin for begin, _ in sections], start) - 1
    return Passage(number, start, end, sections[index][1] if index >= 0 else "", text[start:end])


def _running_lines(texts: Sequence[str]) -> set[str]:
    """First and last lines that stand on many pages, digits aside: running headers, footers and page numbers.

    A row of figures is none: without digits, many are alike.
    """
    counts = Counter(line for text in texts for line in {_pattern(line) for line, _, _ in _edge_lines(text)})
    needed = max(3, len(texts) // 5)
    return {
        line for line, count in counts.items() if count >= needed and (_LETTER.search(line) or line.count("#") == 1)
    }


def _pattern(line: str) -> str:
    return _DIGITS.sub("#", " ".join(line.split())).casefold()


def _edge_lines(text: str, depth: int = 3) -> list[tuple[str, int, int]]:
    """The first and the last `depth` lines that are not empty, with their spans."""
    spans = [(match.group(), match.start(), match.end()) for match in re.finditer(r"[^\n]*\S[^\n]*", text)]
    return spans if len(spans) <= 2 * depth else spans[:depth] + spans[-depth:]


def _without_furniture(text: str, furniture: set[str]) -> tuple[int, int]:
    """The span of the page without its running lines at the top and at the bottom."""
    lines = _edge_lines(text)
    start, end = 0, len(text)
    for line, _, line_end in lines:
        if _pattern(line) not in furniture:
            break
        start = line_end
    for line, line_start, _ in reversed(lines):
        if line_start < start or _pattern(line) not in furniture:
            break
        end = line_start
    return start, max(start, end)


def _sections(pages: Sequence[tuple[int, str]], outline: Sequence[OutlineEntry]) -> Iterator[list[tuple[int, str]]]:
    """For each page the sections on it, as (first character, path); the first one is carried over from before."""
    entries = [entry for entry in outline if entry.page_number is not None]
    by_page: dict[int, list[OutlineEntry]] = {}
    for entry in entries:
        by_page.setdefault(entry.page_number or 0, []).append(entry)
    path: list[tuple[int, str]] = []
    for number, text in pages:
        starts = [(0, _joined(path))]
        found = [(_position(text, entry.title), entry.level, entry.title) for entry in by_page.get(number, [])]
        if not entries:
            found = [
                (match.start(), 1, match.group().strip()) for match in _HEADING.finditer(text) if _stands_alone(match)
            ]
        for position, level, title in sorted(found, key=lambda item: item[0]):
            path = [(above, name) for above, name in path if above < level] + [(level, " ".join(title.split()))]
            starts.append((position, _joined(path)))
        yield starts


def _joined(path: list[tuple[int, str]]) -> str:
    return " › ".join(name for _, name in path)


def _position(text: str, title: str) -> int:
    """Where the title stands in the page's text, whatever its case and spaces; 0 where it does not."""
    words = [re.escape(word) for word in title.split()]
    match = re.search(r"\s+".join(words), text, re.IGNORECASE) if words else None
    return match.start() if match else 0


def _stands_alone(heading: re.Match[str]) -> bool:
    """A heading, not a line of the table of contents (which ends with a page number) nor of a sentence."""
    line = heading.group().rstrip()
    return not re.search(r"(?:\.{2,}|\s)\s*\d+$", line) and not line.endswith((",", ";")) and len(line.split()) <= 14
