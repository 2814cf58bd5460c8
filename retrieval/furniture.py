"""Finds a document's page furniture: running headers, running footers and page numbers, which belong to no passage.

Furniture stands at the edge of a page and comes back on others. Where lines have a position the edge is what is printed
highest and lowest, else what the text begins and ends with. Knows lines and page numbers, nothing of what they say; in
doubt a line stays: a header too many in a passage does less harm than a figure that cannot be found.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from .structure import Line

__all__ = ["furniture_lines"]

EDGE_LINES = 3
"""How many lines at the top and at the bottom of a page may be furniture."""
CHAPTERS_AT_LEAST = 0.6
"""Of the pages without a common line at that edge, the share with a chapter's title, where there are such titles."""

# Whole numbers; 107.50 and 1,204 are none.
_INTEGER = re.compile(r"(?<!\d[.,])(?<!\d)\d{1,12}(?![.,]?\d)")
_CURRENCIES = "usd|eur|gbp|chf|jpy|cny|inr|cad|aud|sek|nok|dkk|pln|czk"
_AMOUNT = re.compile(rf"(?:[$€£¥]|\b(?:{_CURRENCIES}))\s*\d|\d\s*(?:[$€£¥]|(?:{_CURRENCIES})\b)", re.IGNORECASE)
_NUMBER = re.compile(r"[\d#]")
_LETTER = re.compile(r"[^\W\d_]")
_LONE_NUMBER = re.compile(
    r"(?:page\s+)?[-–—|(\[]?\s*(\d{1,4}|[ivxl]{1,7})\s*[-–—|)\]]?(?:\s*(?:of|/)\s*\d{1,4})?", re.IGNORECASE
)
_SAYS_PAGE = re.compile(r"page\s+\d|\d\s+of\s+\d", re.IGNORECASE)
# Column names and units come back from page to page too, but a table needs them.
_COLUMN_NAMES = re.compile(
    r"\b(?:ended|ending|as of|millions|thousands|billions|unaudited|except per)\b|^\W*(?:19|20)\d\d\b", re.IGNORECASE
)
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50}


def furniture_lines(numbers: Sequence[int], pages: Sequence[Sequence[Line]]) -> list[set[int]]:
    """The furniture of each page, as indices of its lines.

    A line at the edge is furniture when it stands, whole numbers aside, at the edge of a fifth of the pages (three at
    least), and its numbers are those of furniture: most of them stay as they are from page to page, or go up with it.
    A line with an amount of money is never furniture, and of a page that would keep no line only page numbers are.
    Titles of chapters run over fewer pages: they are furniture where most pages that lack such a common line have one,
    that is, a line that at least two of the four pages around have as well (left and right pages may differ). Without
    that a line on a few pages in a row is a title that these pages need, such as a company's name over its statements.
    A number alone on a line is a page number when it keeps its distance from the page's own number on another page.

    Args:
        numbers: Page numbers, 1-based.
        pages: Each page's lines, in reading order.
    """
    edges = [_edges(lines) for lines in pages]
    patterns = [
        {index: _pattern(lines[index].text) for side in sides for index in side}
        for lines, sides in zip(pages, edges, strict=True)
    ]
    common = _common(numbers, pages, patterns)
    offsets = Counter(
        offset
        for number, lines, sides in zip(numbers, pages, edges, strict=True)
        for offset in {_offset(number, lines[index].text) for side in sides for index in side} - {None}
    )
    running = [_running_titles(patterns, edges, side, common) for side in (0, 1)]
    found = []
    for page_index, (lines, sides) in enumerate(zip(pages, edges, strict=True)):
        furniture: set[int] = set()
        page_numbers: set[int] = set()
        for side, titles in zip(sides, running, strict=True):
            for index in side:  # from the edge inwards: text ends the furniture
                pattern = patterns[page_index][index]
                if _is_page_number(numbers[page_index], lines[index].text, offsets):
                    page_numbers.add(index)
                elif pattern not in common and pattern not in titles[page_index]:
                    break
                furniture.add(index)
        found.append(furniture if len(furniture) < len(lines) else page_numbers)
    return found


def _common(numbers: Sequence[int], pages: Sequence[Sequence[Line]], patterns: Sequence[Mapping[int, str]]) -> set[str]:
    """Patterns that stand at the edge of many pages and whose numbers are those of furniture."""
    seen: defaultdict[str, dict[int, list[int]]] = defaultdict(dict)  # by page number, the numbers in the line
    for number, lines, page in zip(numbers, pages, patterns, strict=True):
        for index, pattern in page.items():
            text = lines[index].text
            if _LETTER.search(pattern) and not _AMOUNT.search(text):
                seen[pattern].setdefault(number, [int(value) for value in _INTEGER.findall(text)])
    needed = max(3, len(pages) // 5)
    return {pattern for pattern, found in seen.items() if len(found) >= needed and _in_step(found)}


def _in_step(found: Mapping[int, Sequence[int]]) -> bool:
    """Whether each number of a line mostly stays as it is or goes up with the page; chapters may count anew."""
    by_place = zip(*found.values(), strict=True)
    return all(
        min(len(set(values)), len({value - page for page, value in zip(found, values, strict=True)})) <= len(found) / 2
        for values in by_place
    )


def _edges(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """Indices of the top lines, from the top down, and of the bottom lines, from the bottom up; none is in both."""
    order = list(range(len(lines)))
    if all(line.has_box for line in lines):
        order.sort(key=lambda index: (lines[index].top, index))
    depth = EDGE_LINES if len(order) > 2 * EDGE_LINES else (len(order) + 1) // 2
    return order[:depth], order[max(depth, len(order) - EDGE_LINES) :][::-1]


def _pattern(text: str) -> str:
    return _INTEGER.sub("#", " ".join(text.split())).casefold()


def _offset(page_number: int, text: str) -> int | None:
    """A lone number's distance from the page's own; None where the line is something else."""
    match = _LONE_NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    printed = match.group(1).lower()
    return (int(printed) if printed.isdigit() else _roman(printed)) - page_number


def _roman(numeral: str) -> int:
    values = [_ROMAN[letter] for letter in numeral]
    return sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0], strict=True))


def _is_page_number(page_number: int, text: str, offsets: Counter[int | None]) -> bool:
    offset = _offset(page_number, text)
    return offset is not None and (offset == 0 or offsets[offset] >= 2 or bool(_SAYS_PAGE.search(text)))


def _running_titles(
    patterns: Sequence[dict[int, str]], edges: Sequence[tuple[list[int], list[int]]], side: int, common: set[str]
) -> list[set[str]]:
    """For each page the titles of chapters at its top (side 0) or bottom (1); none where the document has no such."""
    at_side = [{page[index] for index in sides[side]} for page, sides in zip(patterns, edges, strict=True)]
    found = [{p for p in page if _runs_nearby(p, at_side, page_index)} for page_index, page in enumerate(at_side)]
    lacking = [running for page, running in zip(at_side, found, strict=True) if not page & common]
    if len(lacking) < len(patterns) / 5 or sum(map(bool, lacking)) < CHAPTERS_AT_LEAST * len(lacking):
        return [set() for _ in patterns]
    return found


def _runs_nearby(pattern: str, at_side: Sequence[set[str]], page_index: int) -> bool:
    """Whether it may be the running title of a chapter: words that the pages around have at their edge too."""
    if not _LETTER.search(pattern) or _NUMBER.search(pattern) or _COLUMN_NAMES.search(pattern):
        return False
    near = (i for i in range(max(0, page_index - 2), min(page_index + 3, len(at_side))) if i != page_index)
    return sum(pattern in at_side[i] for i in near) >= 2
