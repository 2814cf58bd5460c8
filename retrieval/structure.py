"""The printed structure of pages: lines, headings with their level, paragraphs, tables and footnotes.

A PDF says nothing of what is a heading; it shows in the outline, in the numbering, in the size of the letters and in
where a line stands. A false heading does more harm than a missing one: it names a section that the text is not in. So
each sign has conditions that keep out table rows, labels of charts, signatures and names of companies. Without
boxes (text files) numbering, capitals and blank lines remain. Knows nothing of passages, models or search.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from longleaf.ingestion import OutlineEntry
from longleaf.ingestion.document import Boxes

from .sentences import is_table_row

__all__ = [
    "Heading",
    "Line",
    "Table",
    "body_height",
    "find_headings",
    "find_tables",
    "footnote_start",
    "page_lines",
    "section_path",
]

MAX_TITLE_CHARS = 80
MAX_PATH_DEPTH = 3
"""A deeper path keeps its innermost titles: the outer ones ("Part II") say least, and full text searches the path."""
LARGER = 1.15
"""How many times as high as the body's lines a heading's are at least."""
SMALLER = 0.92
"""How many times as high as the body's lines a footnote's are at most."""

_WORD = re.compile(r"[^\W\d_]+")
_KEYWORD = re.compile(
    r"(PART|Part|CHAPTER|Chapter|ITEM|Item|ARTICLE|Article|APPENDIX|Appendix|ANNEX|Annex|EXHIBIT|Exhibit|SCHEDULE|Schedule"
    r"|SECTION|Section|NOTE|Note)\s+(?:\d{1,3}[A-Za-z]?(?:\(\w\))?(?:\.\d{1,2})*|[IVXLC]+|[A-Z])"
    r"(?=\s*[.:–—-]|\s{2,}|\s*$|\s+[A-Z“\"(])"
)
_KEYWORD_LEVELS = {"part": 10, "chapter": 10, "section": 25, "note": 42}
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3}|[IVX]{1,5}(?=\.))\.?\s+(?=[A-Z“\"])")
_NO_TITLE = re.compile(
    r"/s/|[$€£%_|@=]|\.{3,}|(?:\. ){3,}"
    r"|^(?:by|date|name|title|signature|source|page|table of contents|contents|index)\b:?$"
    r"|^(?:by|date|name|title|signature|source):|^\(|\(\d\)",
    re.IGNORECASE,
)
_COMPANY = re.compile(
    r"\b(?:inc|corporation|corp|company|ltd|limited|plc|llc|l\.p|subsidiaries|companies)\.?$", re.IGNORECASE
)
_PERIOD = re.compile(
    r"\b(?:ended|ending|as of|january|february|march|april|may|june|july|august|september|october|november|december"
    r"|years?|months|weeks|quarters?|fiscal|first|second|third|fourth|unaudited|audited|millions|thousands|total)\b",
    re.IGNORECASE,
)
_PAGE_REFERENCE = re.compile(r"(?:\.{2,}|\s)\s*(\d{1,3})$")
_MARK = re.compile(r"(?:\(\w{1,2}\)|[*†‡§]{1,3}|\d{1,2})\s*(?=[^\W\d_])")
_SENTENCE_END = re.compile(r"[.!?:;][\"'”’)\]]*$")
_FIGURE = re.compile(r"\d")
_CALENDAR = re.compile(
    r"\b(?:19|20)\d\d\b|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+\d{1,2}\b,?", re.IGNORECASE
)
_UNFINISHED = re.compile(r"\b(?:of|and|the|for|in|to|on|with|or|by|about)$|,$", re.IGNORECASE)
_CONTINUED = re.compile(r"\s*[-–—]*\s*[(\[]continued[)\]]\s*$|\s*[-–—]+\s*continued\s*$", re.IGNORECASE)
_BARE = re.compile(r"[\W_]+")


_Place: TypeAlias = tuple[float, float, float, float]  # left, right, top, height
_NOWHERE: _Place = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class Line:
    """A printed line that is not empty.

    Attributes:
        start: First character in the page's text, white space aside.
        end: Character after the last.
        text: What stands there.
        is_row: It looks like a row of a table.
        opens_paragraph: It follows a gap or is indented; always true of a page's first line.
        left: In points, as `right`, `top` and `height`; NaN without boxes. y grows downwards.
        right: See `left`.
        top: See `left`.
        height: Of most of its characters: near the size of the letters.
    """

    start: int
    end: int
    text: str
    is_row: bool
    opens_paragraph: bool
    left: float = np.nan
    right: float = np.nan
    top: float = np.nan
    height: float = np.nan

    @property
    def has_box(self) -> bool:
        """Whether its place on the page is known."""
        return not np.isnan(self.height)


@dataclass(frozen=True, slots=True)
class Heading:
    """Lines `first` to `last` of a page; a smaller `level` is further out. `last` < `first`: before the first line."""

    first: int
    last: int
    level: float
    title: str


@dataclass(frozen=True, slots=True)
class Table:
    """Lines `first` to `last` of a page: title and column names, then from `data` on rows of figures."""

    first: int
    data: int
    last: int


def page_lines(text: str, boxes: Boxes | None = None) -> list[Line]:
    """The lines of a page that are not empty, in the order of its text.

    Args:
        text: A page's text.
        boxes: `[len(text), 4]` as `Page.boxes`; None or another length where there are none.
    """
    spans = [(m.start(), m.end()) for m in re.finditer(r"\S(?:[^\n]*\S)?", text)]
    if not spans:
        return []
    known = boxes is not None and len(boxes) == len(text)
    places = _places(spans, boxes) if boxes is not None and known else [_NOWHERE] * len(spans)
    opens = _paragraph_starts(text, spans, places)
    return [
        Line(start, end, text[start:end], is_table_row(text[start:end]), opens[i], *places[i])
        for i, (start, end) in enumerate(spans)
    ]


def _places(spans: Sequence[tuple[int, int]], boxes: Boxes) -> list[_Place]:
    """Left, right, top and height of each line."""
    edges = np.array(spans, np.intp).ravel()  # start, end, start, end: every second piece is a line
    padded = np.vstack([boxes, np.full((1, 4), np.nan, np.float32)])
    left = np.fmin.reduceat(padded[:, 0], edges)[::2]
    right = np.fmax.reduceat(padded[:, 2], edges)[::2]
    heights = padded[:, 3] - padded[:, 1]
    places: list[_Place] = []
    for i, (start, end) in enumerate(spans):
        known = heights[start:end]
        known = np.sort(known[known == known])
        if not len(known):
            places.append(_NOWHERE)
            continue
        height = float(known[(len(known) - 1) // 2])
        top = padded[start:end, 1]
        # A superscript stands higher than its line: the top is that of a character of the line's own height.
        own = top[np.abs(heights[start:end] - height) < 0.01 * height + 0.01]
        places.append((float(left[i]), float(right[i]), float(own[0]) if len(own) else float(np.nanmin(top)), height))
    return places


def _paragraph_starts(text: str, spans: Sequence[tuple[int, int]], places: Sequence[_Place]) -> list[bool]:
    steps = [after[2] - before[2] for before, after in pairwise(places)]
    near = sorted(step for step, place in zip(steps, places, strict=False) if 0 < step < 2.5 * place[3])
    pitch = near[(len(near) - 1) // 2] if near else np.nan
    longest = max(end - start for start, end in spans)
    opens = [True]
    for i in range(1, len(spans)):
        if pitch == pitch and steps[i - 1] == steps[i - 1]:
            step, indent, em = steps[i - 1], places[i][0] - places[i - 1][0], 0.8 * places[i][3]
            following = places[i + 1][0] if i + 1 < len(spans) else np.nan
            opens.append(step > 1.25 * pitch or step < -0.5 * pitch or (indent > em and places[i][0] - following > em))
        else:
            before = text[slice(*spans[i - 1])]
            short = longest >= 60 and len(before) < 0.7 * longest and bool(_SENTENCE_END.search(before))
            opens.append(short or text.count("\n", spans[i - 1][1], spans[i][0]) > 1)
    return opens


def body_height(pages: Sequence[Sequence[Line]]) -> float:
    """The line height that most characters of the document have, to half a point; NaN where none is known."""
    counts: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            if line.has_box:
                counts[round(2 * line.height) / 2] += line.end - line.start
    return max(counts, key=lambda height: (counts[height], -height)) if counts else np.nan


def section_path(titles: Sequence[str]) -> str:
    """Titles, outermost first, as one path: "Part II › Item 8 › Note 5—Debt"."""
    return " › ".join(_shortened(title) for title in titles[-MAX_PATH_DEPTH:])


def _shortened(title: str) -> str:
    title = " ".join(title.split())
    if len(title) <= MAX_TITLE_CHARS:
        return title
    return title[:MAX_TITLE_CHARS].rsplit(" ", 1)[0].rstrip(" ,;:–—-") + "…"


# --- headings ---------------------------------------------------------------------------------------------------


def find_headings(
    numbers: Sequence[int],
    pages: Sequence[Sequence[Line]],
    outline: Sequence[OutlineEntry] = (),
    *,
    page_widths: Sequence[float] | None = None,
) -> list[list[Heading]]:
    """The headings of each page, in order.

    An outline's titles are looked up among the lines of their page; one that is not printed there counts from the top
    of the page. Headings that the outline leaves out stand below its levels.

    Args:
        numbers: Page numbers, 1-based.
        pages: Each page's lines without furniture.
        outline: The document's outline or Markdown headings.
        page_widths: In points, to tell what is centred; by default nothing is.
    """
    body = body_height(pages)
    widths = page_widths or [np.nan] * len(pages)
    in_outline: dict[int, list[OutlineEntry]] = {}
    for entry in outline:
        if entry.page_number is not None and not re.fullmatch(r"(?:page|slide)?\s*\d+", entry.title.strip(), re.I):
            in_outline.setdefault(entry.page_number, []).append(entry)
    below = max((entry.level for entries in in_outline.values() for entry in entries), default=0)
    shown: list[list[Heading]] = []
    for number, lines, width in zip(numbers, pages, widths, strict=True):
        located = _located(lines, in_outline.get(number, []))
        taken = {index for heading in located for index in range(heading.first, heading.last + 1)}
        seen = _seen(lines, body, width, taken)
        if _is_contents(lines):  # what stands above its first entry may be the chapter that the contents are of
            first_entry = next(i for i, line in enumerate(lines) if _PAGE_REFERENCE.search(line.text))
            seen = [h for h in seen if h.last < first_entry and 10 < h.level < 30]
        if not shown and sum(h.level == 40 for h in seen) >= 3:
            seen = [h for h in seen if h.level != 40]  # a cover: lines in the middle of it are no sections
        shown.append(sorted([*located, *((_deeper(h, below)) for h in seen)], key=lambda h: (h.first, h.last)))
    return _without_refrains(_with_size_ranks(shown, below, pages))


def _deeper(heading: Heading, below: int) -> Heading:
    return Heading(heading.first, heading.last, heading.level + 100 * below, heading.title)


def _located(lines: Sequence[Line], entries: Sequence[OutlineEntry]) -> list[Heading]:
    """Where the titles of the outline stand on their page, each after the one before."""
    bare = [_BARE.sub("", line.text).casefold() for line in lines]
    found: list[Heading] = []
    begin = 0
    for entry in entries:
        title = _BARE.sub("", entry.title).casefold()
        place = next((p for i in range(begin, len(bare)) if (p := _match(bare, i, title))), None)
        if place:
            begin = place[1] + 1
        first, last = place or (begin, begin - 1)
        found.append(Heading(first, last, 100.0 * (entry.level - 1), entry.title))
    return found


def _match(bare: Sequence[str], index: int, title: str) -> tuple[int, int] | None:
    """The lines that hold the title from line `index` on: it may be broken over three, or run into the text."""
    joined = ""
    for last in range(index, min(index + 3, len(bare))):
        joined += bare[last]
        if title and joined.startswith(title):
            return index, last
        if not title.startswith(joined):
            return None
    return None


def _is_contents(lines: Sequence[Line]) -> bool:
    """Whether it is a table of contents: lines that end in page numbers which never fall."""
    pages = [int(m.group(1)) for line in lines if (m := _PAGE_REFERENCE.search(line.text)) and _WORD.search(line.text)]
    if len(pages) < 5 or len(pages) < 0.4 * len(lines):
        return False
    rises = sum(a <= b for a, b in pairwise(pages))
    return rises >= 0.9 * (len(pages) - 1)


def _seen(lines: Sequence[Line], body: float, width: float, taken: set[int]) -> list[Heading]:
    """Headings by numbering, size, capitals and place. Levels 30 to 39 are set later, from the sizes there are."""
    large = sum(len(line.text) for line in lines if line.height >= LARGER * body)
    by_size = large < 0.3 * sum(len(line.text) for line in lines)  # a cover or a slide has large text throughout
    found: list[Heading] = []
    index = 0
    while index < len(lines):
        if index in taken or (level := _level(lines, index, body, width, by_size=by_size)) is None:
            index += 1
            continue
        last = index
        while last + 1 < min(index + 3, len(lines)) and last + 1 not in taken and _goes_on(lines, last, level):
            last += 1
        title = _CONTINUED.sub("", " ".join(line.text for line in lines[index : last + 1]))
        found.append(Heading(index, last, level, title))
        index = last + 1
    return found


def _level(lines: Sequence[Line], index: int, body: float, width: float, *, by_size: bool) -> float | None:
    """The level of the heading that the line is or opens; None where it is none."""
    line = lines[index]
    text = line.text
    if line.is_row or len(text) > 130 or _NO_TITLE.search(text) or _continues(lines, index) or _in_table(lines, index):
        return None
    if len(text.split()) > 14 or (_PAGE_REFERENCE.search(text) and not _KEYWORD.fullmatch(text)):
        return None
    if (match := _KEYWORD.match(text)) and _is_keyword_title(lines, index, text[match.end() :]):
        return float(_KEYWORD_LEVELS.get(match.group(1).lower(), 20))
    if text.endswith((".", ",", ";", ":")) or "  " in text or not _leads_to_body(lines, index):
        return None
    larger = by_size and line.height >= LARGER * body
    following = lines[index + 1]
    if following.text[0].islower() and not following.opens_paragraph and not larger:
        return None
    alone = line.opens_paragraph and _mostly_letters(text)
    if (match := _NUMBERED.match(text)) and len(text) - match.end() >= 3:
        depth = match.group(1).count(".") + 1
        small_number = not match.group(1)[0].isdigit() or int(match.group(1).split(".")[0]) <= 30
        if small_number and (larger or (alone and (depth > 1 or _is_title_case(text[match.end() :])))):
            return (30.0 if larger else 41.0) + 0.1 * (depth - 1)
        return None
    if not _mostly_letters(text) or _COMPANY.search(text) or not text[0].isupper():
        return None
    if larger:
        return 30.0
    words = _WORD.findall(text)
    centred = abs(line.left + line.right - width) < 0.03 * width and line.right - line.left < 0.7 * width
    if text.isupper() and sum(map(len, words)) >= 8 and alone:
        return 40.0
    if _PERIOD.search(text) and len(words) < 5:
        return None
    if centred and alone and index <= 4 and len(words) >= 2 and _is_title_case(text):
        return 40.0
    if line.has_box and alone and _is_minor_title(lines, index, body):
        return 50.0
    return None


def _is_keyword_title(lines: Sequence[Line], index: int, rest: str) -> bool:
    """Whether a line that begins "Item 7" is its heading rather than a sentence about it."""
    rest = rest.strip(" .:–—-")
    following = lines[index + 1].text if index + 1 < len(lines) else ""
    if lines[index].text.endswith((",", ";")) or (following[:1].islower() and not lines[index + 1].opens_paragraph):
        return False
    return not rest or _is_title_case(rest) or (lines[index].opens_paragraph and not lines[index].text.endswith("."))


def _is_minor_title(lines: Sequence[Line], index: int, body: float) -> bool:
    """A short line in title case over prose that begins at once, in a document whose body has that size."""
    line, following = lines[index], lines[index + 1]
    return (
        abs(line.height - body) < 0.06 * body
        and _is_title_case(line.text)
        and len(line.text) <= 70
        and (len(_WORD.findall(line.text)) >= 2 or len(line.text) >= 6)
        and _is_prose(following)
        and following.text[0].isupper()
        and line.right - line.left < 0.6 * (following.right - following.left)
        and line.left <= following.left + 2 * body
    )


def _continues(lines: Sequence[Line], index: int) -> bool:
    """Whether the line goes on with a sentence of the line before."""
    if index == 0 or lines[index].opens_paragraph:
        return False
    before = lines[index - 1]
    return len(before.text) >= 40 and not before.is_row and not _SENTENCE_END.search(before.text)


def _in_table(lines: Sequence[Line], index: int) -> bool:
    """Whether rows stand close above and below, with no prose between."""
    for step in (-1, 1):
        for j in range(index + step, index + 4 * step, step):
            if not 0 <= j < len(lines) or _is_prose(lines[j]):
                return False
            if lines[j].is_row:
                break
        else:
            return False
    return True


def _leads_to_body(lines: Sequence[Line], index: int) -> bool:
    """Whether prose or a table follows, other short lines between them aside."""
    for j in range(index + 1, min(index + 8, len(lines))):
        if lines[j].is_row or (_is_prose(lines[j]) and j <= index + 4):
            return True
    return False


def _is_prose(line: Line) -> bool:
    return (
        not line.is_row
        and len(line.text) >= 45
        and len(_WORD.findall(line.text)) >= 6
        and "  " not in line.text.strip("•●▪ ")
    )


def _mostly_letters(text: str) -> bool:
    letters = sum(map(len, _WORD.findall(text)))
    return letters >= 4 and letters >= 0.7 * len(text.replace(" ", ""))


def _is_title_case(text: str) -> bool:
    words = [word for word in _WORD.findall(text) if len(word) > 3]
    return bool(words) and all(word[0].isupper() for word in words)


def _goes_on(lines: Sequence[Line], last: int, level: float) -> bool:
    """Whether the next line is the rest of a heading that was broken."""
    line, following = lines[last], lines[last + 1]
    if level < 40 and _UNFINISHED.search(line.text) and not following.is_row and not _KEYWORD.match(following.text):
        return len(following.text) <= 80
    if following.is_row or following.opens_paragraph or _KEYWORD.match(following.text) or _is_prose(following):
        return False
    alike = abs(line.height - following.height) < 0.02 * line.height if line.has_box else True
    if not alike or level >= 50 or following.text.startswith("("):
        return False
    return level < 40 and line.text.isupper() == following.text.isupper() and len(line.text) > 25


def _with_size_ranks(shown: list[list[Heading]], below: int, pages: Sequence[Sequence[Line]]) -> list[list[Heading]]:
    """Sets levels 30 to 39 from the sizes that headings have; a size seen once, on the first page, is the title's."""
    base = 100 * below

    def size(page_index: int, heading: Heading) -> float | None:
        by_size = base + 30 <= heading.level < base + 40
        return round(pages[page_index][heading.first].height * 2) / 2 if by_size else None

    uses = Counter(s for i, headings in enumerate(shown) for h in headings if (s := size(i, h)) is not None)
    title = {s for h in (shown[0] if len(shown) > 1 else []) if (s := size(0, h)) and uses[s] == 1 and s == max(uses)}
    ranks = {s: min(rank, 8) for rank, s in enumerate(sorted(uses, reverse=True))}
    ranked = []
    for i, headings in enumerate(shown):
        kept = []
        for heading in headings:
            s = size(i, heading)
            if s is None:
                kept.append(heading)
            elif s not in title:
                kept.append(Heading(heading.first, heading.last, heading.level + ranks[s], heading.title))
        ranked.append(kept)
    return ranked


def _without_refrains(shown: list[list[Heading]]) -> list[list[Heading]]:
    """Leaves out titles that come back on more than six pages: labels, not sections."""
    counts = Counter(title for headings in shown for title in {h.title.casefold() for h in headings})
    return [[h for h in headings if counts[h.title.casefold()] <= 6 or _KEYWORD.match(h.title)] for headings in shown]


# --- tables and footnotes -----------------------------------------------------------------------------------------


def find_tables(lines: Sequence[Line], headings: Sequence[Heading] = ()) -> list[Table]:
    """The tables of a page: at least three rows, with the labels between them and the title and column names above.

    Args:
        lines: A page's lines without furniture.
        headings: The page's headings: none stands inside a table, but those right above one belong to it.
    """
    heads = {index for heading in headings for index in range(heading.first, heading.last + 1)}
    tables: list[Table] = []
    index = 0
    while index < len(lines):
        if not lines[index].is_row:
            index += 1
            continue
        last = _last_row(lines, index, heads)
        rows = sum(line.is_row for line in lines[index : last + 1])
        if rows >= 3 or (rows == 2 and not _is_data(lines[index])):
            floor = tables[-1].last + 1 if tables else 0
            first = _caption_start(lines, index, floor, heads)
            data = next((i for i in range(index, last + 1) if lines[i].is_row and _is_data(lines[i])), index)
            tables.append(Table(first, data, last))
        index = last + 1
    return tables


def _last_row(lines: Sequence[Line], index: int, heads: set[int]) -> int:
    """The last row of the table that begins at `index`; up to three labels may stand between two rows."""
    last = index
    j = index + 1
    while j < len(lines) and j - last <= 4 and j not in heads:
        if lines[j].is_row:
            last = j
        elif _ends_table(lines, j) or (_is_data(lines[last]) and _opens_another(lines[j])):
            break
        j += 1
    return last


def _ends_table(lines: Sequence[Line], index: int) -> bool:
    """Whether a line is prose rather than a long label, broken or with a colon before the row that it labels."""
    line = lines[index]
    if not _is_prose(line):
        return False
    if line.text.endswith(":"):
        return not (index + 1 < len(lines) and lines[index + 1].is_row and _is_data(lines[index + 1]))
    return bool(_SENTENCE_END.search(line.text)) or len(line.text) > 110


def _opens_another(line: Line) -> bool:
    """Whether the names of new columns begin: periods or units in a line after rows of figures."""
    return bool(re.search(r"\b(?:ended|ending)\b|\bin (?:millions|thousands|billions)\b", line.text, re.IGNORECASE))


def _is_data(line: Line) -> bool:
    """Whether a row has a label and figures, not dates alone: those name columns."""
    rest = _CALENDAR.sub(" ", line.text)
    return bool(_FIGURE.search(rest)) and bool(_WORD.search(rest))


def _caption_start(lines: Sequence[Line], index: int, floor: int, heads: set[int]) -> int:
    """The first of the short lines above a table: its title, its units, its column names."""
    first = index
    while first > floor and index - first < 14:
        line = lines[first - 1]
        if line.is_row or _is_prose(line) or line.text.endswith((".", ";")) or len(line.text) > 110:
            break
        if first in heads and first - 1 not in heads:
            break
        first -= 1
    return first


def footnote_start(lines: Sequence[Line], body: float) -> int:
    """The index of the first footnote of a page: small print down to the last line, opened by a mark.

    Returns:
        `len(lines)` where there is none.
    """
    first = len(lines)
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if line.is_row or not (line.has_box and line.height <= SMALLER * body):
            break
        if _MARK.match(line.text):
            first = index
    return first or len(lines)  # a page of nothing but small print has no footnotes
