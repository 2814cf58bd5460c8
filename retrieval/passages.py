"""Cuts a document's pages into passages: what is embedded, searched and widened into evidence.

A passage stays inside one page and knows its section. It ends at the end of a paragraph where one is near, else at that
of a sentence. A table is a passage of its own with its title and column names; a long one is cut between rows, and its
further parts carry title and column names as their header. Running headers, footers and page numbers belong to no
passage. Works on pages alone: knows nothing of files, databases or models.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from longleaf.ingestion import OutlineEntry, Page
from longleaf.ingestion.document import Boxes

from .furniture import furniture_lines
from .sentences import Unit, split_units
from .structure import (
    Heading,
    Line,
    body_height,
    find_headings,
    find_tables,
    footnote_start,
    page_lines,
    section_path,
)

__all__ = ["CUTTER_VERSION", "PageLike", "Passage", "PassageKind", "cut_passages"]

CUTTER_VERSION = 2
"""Raised whenever the same pages would give other passages; stored passages of another version are cut anew."""

PassageKind: TypeAlias = Literal["prose", "table", "footnote"]
PageLike: TypeAlias = Page | tuple[int, str] | tuple[int, str, Boxes]
"""A page, or (page number, text), or (page number, text, boxes)."""

TARGET_CHARS = 900
MIN_CHARS = 250
"""A heading ends the passage before it only when that holds at least this much."""
FEW_CHARS = 100
"""Fewer are never a passage where one before can take them."""
PARAGRAPH_CHARS = 500
"""From here on a passage ends with a paragraph whose successor would not fit."""
OVERLAP_CHARS = 220
"""The last sentence of a passage opens the next one too, when it is no longer than this."""
TABLE_CHARS = 900
"""A longer table is cut between rows. With 1,500 fewer right pages were found: full text favours short passages."""
HEADER_CHARS = 300
"""How much of a table's title, and of its column names, its further parts carry."""

# A sentence that introduces a table ends in a colon or says so.
_INTRODUCES = re.compile(r":$|\b(?:following|below|table|as follows|summari[sz]e[sd]?)\b", re.IGNORECASE)
_YEAR_OR_UNIT = re.compile(
    r"\b(?:19|20)\d\d\b|\b(?:millions|thousands|billions|ended|ending|total|amount|percent)\b|%", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of one page.

    Attributes:
        page: Page number, 1-based.
        start: First character in the page's text, 0-based.
        end: Character after the last.
        section: Section path, outermost first, joined with " › "; "" where none is known.
        text: The page's text from `start` to `end`.
        header: Title and column names of the table that the passage goes on with: searched with the text, never
            quoted. "" where the text itself has them.
        kind: What the text is.
    """

    page: int
    start: int
    end: int
    section: str
    text: str
    header: str = ""
    kind: PassageKind = "prose"


def cut_passages(pages: Iterable[PageLike], outline: Sequence[OutlineEntry] = ()) -> list[Passage]:
    """Cuts pages into passages of about 900 characters, long tables into parts of that size.

    Args:
        pages: In order; boxes, where there are any, show the size and place of lines. They are not kept.
        outline: The document's outline; headings that it leaves out are found by their numbering and look.

    Returns:
        Passages in order. Each character of a page that is neither white space nor furniture is in at least one.
    """
    sheets = [_sheet(page) for page in pages]
    furniture = furniture_lines([s.number for s in sheets], [s.lines for s in sheets])
    for sheet, found in zip(sheets, furniture, strict=True):
        sheet.breaks = {sheet.lines[index].start for index in found}
        sheet.lines = [line for index, line in enumerate(sheet.lines) if index not in found]
    bodies = [sheet.lines for sheet in sheets]
    body = body_height(bodies)
    headings = find_headings([s.number for s in sheets], bodies, outline, page_widths=[s.width for s in sheets])
    passages: list[Passage] = []
    path: list[tuple[float, str]] = []
    before: _OpenTable | None = None
    for sheet, heads in zip(sheets, headings, strict=True):
        cutter = _PageCutter(sheet, path, before)
        cutter.cut(list(_blocks(sheet, heads, body)) if sheet.lines else [_Block("prose", (), headings=tuple(heads))])
        passages += cutter.passages
        path = cutter.path
        if sheet.lines:
            before = cutter.open_table
    return passages


class _OpenTable(NamedTuple):
    """A table that a page ends with, for the page after: where it began and what its columns are."""

    page: int
    header: str


@dataclass(slots=True)
class _Sheet:
    """A page on its way; `breaks` are the first characters of its furniture."""

    number: int
    text: str
    lines: list[Line]
    width: float
    breaks: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that are cut alike; `data` is the first row of a table, `headings` open the block."""

    kind: PassageKind
    lines: Sequence[Line]
    data: int = 0
    headings: tuple[Heading, ...] = ()
    after_break: bool = False


def _sheet(page: PageLike) -> _Sheet:
    if isinstance(page, Page):
        return _Sheet(page.number, page.text, page_lines(page.text, page.boxes), page.width)
    number, text = page[0], page[1]
    boxes = page[2] if len(page) == 3 else None
    lines = page_lines(text, boxes)
    # Without a page the text's own margins say what is centred.
    edges = [line.left + line.right for line in lines if line.has_box]
    return _Sheet(number, text, lines, max(edges) if edges else np.nan)


def _blocks(sheet: _Sheet, headings: Sequence[Heading], body: float) -> Iterator[_Block]:
    """The page as tables, footnotes and prose; a block of prose begins at each heading and after furniture."""
    lines = sheet.lines
    notes = footnote_start(lines, body)
    tables = {table.first: table for table in find_tables(lines[:notes], headings)}
    opening: dict[int, list[Heading]] = {}
    for heading in headings:
        opening.setdefault(min(heading.first, max(len(lines) - 1, 0)), []).append(heading)
    breaks = sorted(sheet.breaks)

    def broken(index: int) -> bool:
        return index > 0 and any(lines[index - 1].start < start < lines[index].start for start in breaks)

    index = 0
    while index < len(lines):
        first = index
        heads = tuple(opening.get(index, ()))
        table = tables.get(index)
        if table:
            index = table.last + 1
            inner = [h for i in range(first + 1, index) for h in opening.get(i, ())]
            split = [i for i in range(first + 1, index) if broken(i)]
            if not split:
                yield _Block("table", lines[first:index], table.data - first, (*heads, *inner), broken(first))
                continue
            index = split[0]  # furniture inside: a span can't leave it out
            yield _Block(
                "prose", lines[first:index], 0, (*heads, *(h for h in inner if h.first < index)), broken(first)
            )
            continue
        index += 1
        if first >= notes:
            while index < len(lines) and not broken(index):
                index += 1
            yield _Block("footnote", lines[first:index], 0, heads, broken(first))
            continue
        while index < notes and index not in tables and index not in opening and not broken(index):
            index += 1
        yield _Block("prose", lines[first:index], 0, heads, broken(first))


class _PageCutter:
    """Fills passages with the units of one page; `path` is the section that is open, as (level, title)."""

    def __init__(self, sheet: _Sheet, path: list[tuple[float, str]], before: _OpenTable | None) -> None:
        self.number, self.text = sheet.number, sheet.text
        self.path = path
        self.before = before
        self.open_table: _OpenTable | None = None
        self.passages: list[Passage] = []
        self.group: list[Unit] = []
        self.section = section_path([title for _, title in path])

    def cut(self, blocks: Sequence[_Block]) -> None:
        for position, block in enumerate(blocks):
            if block.after_break:
                self._flush()
            if block.headings:
                self._end_section()
                self._enter(block.headings)
            if block.kind == "table":
                self._table(block, first=position == 0)
            elif block.kind == "footnote":
                self._flush()
                self._prose(block)
                self._flush("footnote")
            else:
                self.open_table = None
                self._prose(block)
        self._flush()

    def _enter(self, headings: Sequence[Heading]) -> None:
        for heading in headings:
            self.path = [(level, title) for level, title in self.path if level < heading.level]
            self.path.append((heading.level, heading.title))
        if not self.group:
            self.section = self._section()

    def _section(self) -> str:
        return section_path([title for _, title in self.path])

    def _prose(self, block: _Block) -> None:
        if not block.lines:
            return  # a page without text can open a section all the same: a picture that the outline names
        opens = {line.start for line in block.lines if line.opens_paragraph}
        units = split_units(self.text, block.lines[0].start, block.lines[-1].end)
        ends = _paragraph_ends(units, opens)
        for unit, paragraph_end in zip(units, ends, strict=True):
            if self.group and self._is_full(unit, paragraph_end, opens):
                last, carries = self.group[-1], len(self.group) > 1
                self._flush()
                carried = not last.is_row and last.end - last.start <= OVERLAP_CHARS and not unit.is_row
                if carries and carried and last.start >= block.lines[0].start:
                    self.group = [last]
            if not self.group:
                self.section = self._section()
            self.group.append(unit)

    def _is_full(self, unit: Unit, paragraph_end: int, opens: set[int]) -> bool:
        begin = self.group[0].start
        length = self.group[-1].end - begin
        if unit.end - begin > TARGET_CHARS:
            return length >= MIN_CHARS
        return length >= PARAGRAPH_CHARS and unit.start in opens and paragraph_end - begin > TARGET_CHARS

    def _end_section(self) -> None:
        """A new section begins: what is open ends, unless it is so short that it goes along."""
        if self.group and (self._length() >= MIN_CHARS or self._joined_to_last()):
            self._flush()

    def _length(self) -> int:
        return self.group[-1].end - self.group[0].start

    def _joined_to_last(self) -> bool:
        """Whether the short rest of a section, or a few words after a table, have become part of the passage before."""
        last = self.passages[-1] if self.passages else None
        end = self.group[-1].end
        if last is None or last.kind == "footnote":
            return False
        if self._length() >= FEW_CHARS and (last.kind != "prose" or last.section != self.section):
            return False
        if end - last.start > TARGET_CHARS + MIN_CHARS or self.text[last.end : self.group[0].start].strip():
            return False
        self.passages[-1] = self._passage(last.start, end, last.section, last.header, last.kind)
        self.group = []
        return True

    def _flush(self, kind: PassageKind = "prose") -> None:
        if not self.group:
            return
        if kind == "prose" and self._length() < MIN_CHARS and self._joined_to_last():
            return
        self.passages.append(self._passage(self.group[0].start, self.group[-1].end, self.section, kind=kind))
        self.group = []

    def _passage(self, start: int, end: int, section: str, header: str = "", kind: PassageKind = "prose") -> Passage:
        return Passage(self.number, start, end, section, self.text[start:end], header, kind)

    def _table(self, block: _Block, *, first: bool) -> None:
        rows = block.lines[block.data :]
        start = self._introduction(block)
        title = self.text[start : rows[0].start]
        header = ""
        if first and self.before and not _YEAR_OR_UNIT.search(title):
            header = f"{self.before.header}\n(continued from page {self.before.page})"
            self.open_table = self.before
        own = _header(title)
        if own and not header:
            self.open_table = _OpenTable(self.number, own)
        for begin, end in _parts(start, rows):
            part = header or ("" if begin == start else own)
            self.passages.append(self._passage(begin, end, self._section(), part, "table"))
        self.section = self._section()

    def _introduction(self, block: _Block) -> int:
        """Where the table's passage begins: with the sentence that introduces it, or all of a short text before it."""
        start = block.lines[0].start
        if self.group and self._length() < MIN_CHARS:
            start, self.group = self.group[0].start, []
            return start
        last = self.group[-1] if self.group else None
        if last and not last.is_row and _INTRODUCES.search(self.text[last.start : last.end].strip()):
            start = last.start
            self.group.pop()
        self._flush()
        return start


def _paragraph_ends(units: Sequence[Unit], opens: set[int]) -> list[int]:
    """For each unit the end of the paragraph that it stands in."""
    ends: list[int] = []
    end = units[-1].end if units else 0
    for unit, after in zip(reversed(units), [None, *reversed(units[1:])], strict=True):
        if after is None or after.start in opens:
            end = unit.end
        ends.append(end)
    return ends[::-1]


def _parts(start: int, rows: Sequence[Line]) -> list[tuple[int, int]]:
    """Spans of a table's parts, cut between rows so that they are of a size."""
    end = rows[-1].end
    n_parts = -(-(end - start) // TABLE_CHARS)
    spans: list[tuple[int, int]] = []
    begin = start
    for row, after in pairwise(rows):
        goal = (end - start) * (len(spans) + 1) // n_parts
        if row.is_row and row.end - start >= goal - 40 and len(spans) < n_parts - 1:
            spans.append((begin, row.end))
            begin = after.start
    return [*spans, (begin, end)]


def _header(title: str) -> str:
    """Title, then column names, from what stands above a table's rows."""
    lines = [line.strip() for line in title.split("\n") if line.strip()]
    names = len(lines)
    while names > 0 and len(lines[names - 1]) <= 110 and not lines[names - 1].endswith(":"):
        names -= 1
        if names == 0 or lines[names - 1].endswith((".", ":")):
            break
    if names == 0 and len(lines) > 1:
        names = 1  # a title above its column names
    above, below = " ".join(lines[:names]), "  ".join(lines[names:])
    return "\n".join(part for part in (above[-HEADER_CHARS:], below[-HEADER_CHARS:]) if part)
