"""Reads a table row under its columns: "Sales  120  110" under "2024  2023" is "Sales: 2024 120; 2023 110".

A small reader that is shown a row of figures and a row of years often takes the wrong figure; shown each figure with
its year it does not have to count. Nothing here is quoted: quotes keep the characters of the page.
"""

import re
from itertools import pairwise

__all__ = ["named_cells"]

_GAP = re.compile(r"\s{2,}")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CURRENCY_GAP = re.compile(r"([$€£])\s+(?=[\d(—–-])")
_CELL = re.compile(r"[$€£]?\(?-?\d[\d,]*(?:\.\d+)?\)?\s?%?(?!\S)|(?<!\S)[$€£]?[—–-](?!\S)")
_WORD = re.compile(r"[^\W\d_]")


def named_cells(row: str, column_names: str) -> str | None:
    """The row with each of its closing figures under its column's name.

    Args:
        row: A table row: a label, then figures.
        column_names: The line above that names the columns; wide gaps (two spaces) part them, or all are years.

    Returns:
        "label: name figure; name figure; …", or None where names and figures do not pair off.
    """
    names = _names(column_names)
    label, cells = _label_and_cells(_CURRENCY_GAP.sub(r"\1", row))
    if len(names) == len(cells) + 1:
        names = names[1:]  # the first names the labels: "Department", "Material"
    if len(cells) < 2 or len(names) != len(cells):
        return None
    return f"{label}: " + "; ".join(f"{name} {cell}" for name, cell in zip(names, cells, strict=True))


def _names(line: str) -> list[str]:
    words = line.split()
    if words and all(_YEAR.fullmatch(word) for word in words):
        return words
    return [name for name in _GAP.split(line.strip()) if name]


def _label_and_cells(row: str) -> tuple[str, list[str]]:
    """The closing figures of a row, with nothing between them but white space, and what stands before."""
    matches = list(_CELL.finditer(row))
    first = len(matches)
    for index, (before, after) in reversed(list(enumerate(pairwise(matches)))):
        if row[before.end() : after.start()].strip():
            first = index + 1
            break
        first = index
    if not matches or row[matches[-1].end() :].strip() or first == len(matches):
        return row, []
    label = row[: matches[first].start()].strip(" .:\t")
    return (label, [match.group().strip() for match in matches[first:]]) if _WORD.search(label) else (row, [])
