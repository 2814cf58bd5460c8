"""Cuts page text into units: a sentence of prose, or a row of a table.

A unit is the smallest thing that is quoted. Page text keeps the printed lines, so a sentence may run over several of
them, while a table row is one line; which of the two a line is, is decided from its own shape. Knows nothing of
documents, models or search.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Unit", "is_table_row", "split_units"]

# A cell of numbers: 1,234 | (56.7)% | $ 12 | 2021 | — | n/a. Years count: a header row of years is a row. A dash before
# a word is none: "NOTE 4 — INVESTMENTS".
_NUMERIC_CELL = re.compile(
    r"(?<![\w.])[$€£]?\s?\(?-?\d[\d,]*(?:\.\d+)?\)?\s?%?(?![\w])|(?<!\S)[—–-](?!\S)(?!\s*[^\W\d_])"
    r"|(?<!\S)[nN]/[aA](?!\S)"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_LEADERS = re.compile(r"(?:\s?\.){4,}")

# Where a sentence may end: a terminator, closing quotes or brackets, white space, then something that can begin one.
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9•●§])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[A-Za-z]\.[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Inc|Corp|Co|Ltd|No|Nos|vs|Fig|Figs|Eq|Sec|Art|Vol|pp|p|ed|eds"
    r"|cf|approx|est|dept|Gov|Gen|Sen|Rep|Hon|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec|e\.g|i\.e|al|U\.S|U\.K))\.$"
)
_BULLET = re.compile(r"^\s*(?:[•●▪◦‣■□–—*-]|\(?[a-z0-9]{1,3}[.)]|[ivx]{1,4}[.)])\s+\S")

MAX_UNIT_CHARS = 600
"""A longer sentence is cut at a line end or a space: a quote has to be readable."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A span of page text, `start` included and `end` not; `is_row` says that it is a table row."""

    start: int
    end: int
    is_row: bool


def is_table_row(line: str) -> bool:
    """Says whether a printed line looks like a row of a table: at least two numeric cells and few words beside them.

    A line of prose with two figures in it ("from 12 percent in 2020 to 14 percent in 2021") has many words for each
    figure; a row has a label and then figures.
    """
    line = _LEADERS.sub("  ", line).rstrip()
    if line.endswith((".", ",", ";")) and _WORD.search(line):
        return False  # dates in a sentence are figures too
    cells = _NUMERIC_CELL.findall(line)
    if len(cells) < 2:
        return len(cells) == 1 and _label_and_figure(line)
    n_words = len(_WORD.findall(line))
    if n_words <= 2 * len(cells):
        return True
    # A long label, then nothing but figures: what stands after the first of the closing figures holds no words.
    closing = 0
    end = len(line)
    for figure in reversed(list(_NUMERIC_CELL.finditer(line))):
        if _WORD.search(line, figure.end(), end):
            break
        closing += 1
        end = figure.start()
    return closing >= 2 and n_words <= 8 * closing


def _label_and_figure(line: str) -> bool:
    # "Operating revenue  41,207": a wide gap (two spaces) between a short label and one figure.
    return (
        bool(re.fullmatch(r"\s*\S.{0,80}?\s{2,}[$€£]?\s?\(?-?\d[\d,.]*\)?\s?%?\s*", line))
        and len(_WORD.findall(line)) <= 10
    )


def split_units(text: str, start: int = 0, end: int | None = None) -> list[Unit]:
    """Cuts `text[start:end]` into units in order; white space between them belongs to none.

    Args:
        text: A page's text.
        start: First character, 0-based.
        end: Character after the last; the text's end by default.

    Returns:
        Units whose spans lie inside [start, end), do not overlap and hold every character that is not white space.
    """
    end = len(text) if end is None else end
    units: list[Unit] = []
    for block_start, block_end, is_row in _blocks(text, start, end):
        if is_row:
            units.append(_trimmed(text, block_start, block_end, is_row=True))
        else:
            units.extend(_sentences(text, block_start, block_end))
    return [piece for unit in units for piece in _bounded(text, unit)]


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Runs of lines that belong together: a table row alone, lines of prose up to a heading, bullet or gap."""
    prose_start: int | None = None
    prose_end = start
    previous = ""
    for line_start, line_end in _lines(text, start, end):
        line = text[line_start:line_end]
        row = is_table_row(line)
        breaks = prose_start is not None and (
            row or not line.strip() or _BULLET.match(line) or _ends_block(previous, line)
        )
        if prose_start is not None and breaks:
            yield prose_start, prose_end, False
            prose_start = None
        if row:
            yield line_start, line_end, True
        elif line.strip():
            prose_start = line_start if prose_start is None else prose_start
            prose_end = line_end
        previous = "" if row else line
    if prose_start is not None:
        yield prose_start, prose_end, False


def _ends_block(line: str, following: str) -> bool:
    """A heading: a short line without a full stop, before one that begins like a new sentence."""
    line, following = line.strip(), following.strip()
    if not line or not following:
        return True
    if line[-1] in ".,;:-–—(" or len(line) > 75:
        return False
    return (
        len(line) <= 60
        and following[0].isupper()
        and (line.isupper() or _is_title(line) or len(line) < 0.6 * len(following))
    )


def _is_title(line: str) -> bool:
    words = [word for word in re.findall(r"[^\W\d_]+", line) if len(word) > 3]
    return bool(words) and all(word[0].isupper() for word in words)


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        newline = text.find("\n", start, end)
        stop = end if newline < 0 else newline
        yield start, stop
        start = stop + 1


def _sentences(text: str, start: int, end: int) -> Iterator[Unit]:
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        if text[match.start()] == "." and _ABBREVIATION.search(text, max(begin, match.start() - 12), match.start() + 1):
            continue
        if text[begin : match.end()].strip():
            yield _trimmed(text, begin, match.end(), is_row=False)
        begin = match.end()
    if text[begin:end].strip():
        yield _trimmed(text, begin, end, is_row=False)


def _trimmed(text: str, start: int, end: int, *, is_row: bool) -> Unit:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Unit(start, end, is_row)


def _bounded(text: str, unit: Unit) -> Iterator[Unit]:
    """The unit itself, or pieces of at most `MAX_UNIT_CHARS` cut at a line end, else a space, else anywhere."""
    start = unit.start
    while unit.end - start > MAX_UNIT_CHARS:
        limit = start + MAX_UNIT_CHARS
        cut = text.rfind("\n", start + MAX_UNIT_CHARS // 2, limit)
        if cut < 0:
            cut = text.rfind(" ", start + MAX_UNIT_CHARS // 2, limit)
        if cut < 0:
            cut = limit
        yield _trimmed(text, start, cut, is_row=unit.is_row)
        start = cut
    piece = _trimmed(text, start, unit.end, is_row=unit.is_row)
    if piece.end > piece.start:
        yield piece
