"""From the characters a parser reports to clean text, with one box per character kept exactly in step.

Works on arrays: a page has thousands of characters and a library thousands of pages. What it does, in order:

1.  control characters, lone surrogates and zero-width marks go; every kind of space becomes a space;
2.  a hyphen that only breaks a word at a line end goes ("infor-/mation" -> "information"); one that belongs there
    stays ("2019-/2020", "Anglo-/American", or "long-/term" when the page also says "long-term");
3.  a line that goes on at the same height, further right, is the same line (cells of a table row);
4.  a gap wider than 1.5 em inside a line becomes two spaces, any other one space; spaces at line ends go;
5.  ligature glyphs become letters that share the glyph's box.

None of this reorders anything. Before it, `reading_order` puts right one case that parsers leave as it is: a page of
two columns of prose whose content stream runs across both, line by line.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .document import Boxes

__all__ = ["BREAK_HYPHEN", "clean_text", "reading_order"]

BREAK_HYPHEN = 0x02  # what pdfium reports for a hyphen at a line end that it joined (U+FFFE in FPDFText_GetText)

Codes = NDArray[np.uint32]

_SPACE, _NEWLINE, _HYPHEN, _SOFT_HYPHEN, _DROP = 0x20, 0x0A, 0x2D, 0xAD, 0
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_BULLETS = {0xF0B7: "•", 0xF0A7: "▪", 0xF0D8: "➢", 0xF0FC: "✓", 0xF0A8: "□", 0xF06F: "□"}  # Symbol and Wingdings
_WIDE_GAP_EM = 1.5
_EM_PER_LINE_HEIGHT = 1 / 1.2

_MIN_COLUMN_LINES = 6
_COLUMN_GAP_EM = 1.2
_SHARE_OF_LINES_FILLED = 0.6  # lines of a column that reach across most of it
_SHARE_OF_LINES_CONTINUED = 0.25  # lines of a column that begin with a small letter, inside a sentence


def _make_table() -> Codes:
    table = np.arange(0x10000, dtype=np.uint32)
    table[0x00:0x20] = _DROP
    table[0x7F:0xA0] = _DROP
    table[0xD800:0xE000] = _DROP
    table[[0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, 0xFFFF]] = _DROP
    table[[0x0A, 0x0B, 0x0C, 0x85, 0x2028, 0x2029]] = _NEWLINE
    table[[0x09, 0xA0, 0x1680, 0x202F, 0x205F, 0x3000]] = _SPACE
    table[0x2000:0x200B] = _SPACE
    table[[BREAK_HYPHEN, 0xFFFE]] = BREAK_HYPHEN
    for code, bullet in _BULLETS.items():
        table[code] = ord(bullet)
    return table


_TABLE = _make_table()


def clean_text(codes: Codes, boxes: Boxes) -> tuple[str, Boxes]:
    r"""Clean the characters of a page.

    Args:
        codes: `[n]` code points in reading order; lines end in \r, \n or \r\n.
        boxes: `[n, 4]` x0, y0, x1, y1, y down; NaN or without area where there is none.

    Returns:
        The text and its boxes `[len(text), 4]`.
    """
    lone_return = codes == 0x0D
    lone_return[:-1] &= codes[1:] != 0x0A
    codes = np.where(lone_return, np.uint32(_NEWLINE), codes)
    low = codes < 0x10000
    codes = np.where(low, _TABLE[np.where(low, codes, 0)], codes)
    keep = (codes != _DROP) & (codes <= 0x10FFFF)
    codes, boxes = codes[keep], boxes[keep]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    has_box = (width > 0) & (height > 0) & (codes != _NEWLINE)
    if not has_box.all():
        boxes = np.where(has_box[:, None], boxes, np.float32(np.nan))
    codes = _settle_hyphens(codes)
    if len(codes) == 0:
        return "", np.empty((0, 4), np.float32)

    counts = np.ones(len(codes), np.intp)
    counts[codes == _DROP] = 0
    codes = _join_rows(codes, boxes)
    wide = _space_runs(codes, boxes, counts)
    for code, letters in _LIGATURES.items():
        counts[codes == code] = len(letters)
    is_ligature = (codes >= 0xFB00) & (codes <= 0xFB06)

    out_boxes = np.repeat(boxes, counts, axis=0)
    out = np.repeat(codes, counts)
    starts = np.cumsum(counts) - counts
    out_boxes[starts[wide] + 1] = np.nan
    for i in np.flatnonzero(is_ligature):
        letters = _LIGATURES[int(codes[i])]
        out[starts[i] : starts[i] + len(letters)] = [ord(c) for c in letters]
    return out.astype("<u4").tobytes().decode("utf-32-le"), out_boxes


def reading_order(codes: Codes, boxes: Boxes) -> tuple[Codes, Boxes]:
    """Put two columns of prose in order where the characters run across both, line by line.

    Done only between lines that cross the gutter, and only where at least six lines on either side of one vertical
    gutter alternate and both sides are prose: most lines fill their column and many begin inside a sentence. Tables,
    lists beside each other and columns that already follow each other stay as they are.

    Args:
        codes: `[n]` code points as the parser gives them.
        boxes: `[n, 4]` x0, y0, x1, y1, y down; NaN or without area where there is none.

    Returns:
        The same characters; line ends are added where a line now ends.
    """
    pieces = _pieces(codes, boxes)
    gutter = _gutter(pieces)
    if gutter is None:
        return codes, boxes
    order: list[NDArray[np.intp]] = []
    moved = False
    for region in _regions(pieces, gutter):
        left = [piece for piece in region if piece.x1 <= gutter]
        right = [piece for piece in region if piece.x1 > gutter]
        is_one_row = len({piece.row for piece in region}) == 1
        if not is_one_row and _alternate(region, gutter) and _is_column(left, codes) and _is_column(right, codes):
            moved = True
            for piece in [*left, *right]:
                order += [np.arange(piece.start, piece.end), np.array([-1])]  # -1: a line end
        else:
            order.append(np.arange(region[0].start, region[-1].end))
    if not moved:
        return codes, boxes
    index = np.concatenate([np.arange(pieces[0].start), *order])
    return np.r_[codes, np.uint32(_NEWLINE)][index], np.vstack([boxes, np.full((1, 4), np.nan, np.float32)])[index]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of a printed line without a wide gap: characters `start` to `end`, blanks after it included."""

    start: int
    end: int
    row: int
    x0: float
    x1: float
    height: float


def _pieces(codes: Codes, boxes: Boxes) -> list[_Piece]:
    """The page's pieces in stream order; pieces of one `row` follow each other at the same height."""
    blank = (codes <= _SPACE) | (codes == 0xA0)
    solid = np.flatnonzero(~blank & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if len(solid) < 2:
        return []
    gap, height, share = _gaps(boxes, solid[:-1], solid[1:])
    new_row = (share == 0) | (gap < -0.5 * height)
    wide = gap > _COLUMN_GAP_EM * _EM_PER_LINE_HEIGHT * height
    first = np.r_[0, np.flatnonzero(new_row | wide) + 1]
    row = np.cumsum(np.r_[False, new_row])[first]
    starts = np.r_[solid[first], len(codes)]
    x0, x1 = np.minimum.reduceat(boxes[solid, 0], first), np.maximum.reduceat(boxes[solid, 2], first)
    tall = np.maximum.reduceat(boxes[solid, 3] - boxes[solid, 1], first)
    return [
        _Piece(int(a), int(b), int(r), float(left), float(right), float(h))
        for a, b, r, left, right, h in zip(starts[:-1], starts[1:], row, x0, x1, tall, strict=True)
    ]


def _gutter(pieces: Sequence[_Piece]) -> float | None:
    """Where the right column begins: the left edge that the second pieces of most rows of two share."""
    by_row: dict[int, list[_Piece]] = {}
    for piece in pieces:
        by_row.setdefault(piece.row, []).append(piece)
    pairs = [row for row in by_row.values() if len(row) == 2]
    if len(pairs) < _MIN_COLUMN_LINES:
        return None
    edge, n_rows = Counter(round(right.x0) for _, right in pairs).most_common(1)[0]
    x0, x1 = min(piece.x0 for piece in pieces), max(piece.x1 for piece in pieces)
    if n_rows < max(_MIN_COLUMN_LINES, 0.5 * len(pairs)) or not 0.35 < (edge - x0) / (x1 - x0) < 0.65:
        return None
    return edge - 2.0


def _regions(pieces: Sequence[_Piece], gutter: float) -> list[list[_Piece]]:
    """Runs of pieces that keep to one side of the gutter, at most one on each side in a row; other rows part them."""
    rows = Counter(piece.row for piece in pieces)
    crossing = {piece.row for piece in pieces if piece.x0 < gutter < piece.x1 or rows[piece.row] > 2}
    regions: list[list[_Piece]] = []
    for before, piece in zip([None, *pieces], pieces, strict=False):
        apart = piece.row in crossing
        if before is None or (apart and before.row != piece.row) or apart != (before.row in crossing):
            regions.append([])
        regions[-1].append(piece)
    return regions


def _alternate(region: Sequence[_Piece], gutter: float) -> bool:
    """Whether the stream goes from side to side at least at every other piece."""
    sides = [piece.x1 > gutter for piece in region]
    return sum(a != b for a, b in pairwise(sides)) >= 0.5 * len(sides)


def _is_column(pieces: Sequence[_Piece], codes: Codes) -> bool:
    """Whether these lines are a column of prose."""
    if len(pieces) < _MIN_COLUMN_LINES:
        return False
    width = max(piece.x1 for piece in pieces) - min(piece.x0 for piece in pieces)
    texts = ["".join(map(chr, codes[piece.start : piece.end])).strip() for piece in pieces]
    filled = sum(
        piece.x1 - piece.x0 > 0.75 * width and len(t.split()) >= 3 for piece, t in zip(pieces, texts, strict=True)
    )
    continued = sum(text[:1].islower() for text in texts)
    letters = sum(c.isalpha() for text in texts for c in text)
    return (
        filled >= _SHARE_OF_LINES_FILLED * len(pieces)
        and continued >= _SHARE_OF_LINES_CONTINUED * len(pieces)
        and letters >= 0.7 * sum(len(text.replace(" ", "")) for text in texts)
    )


def _settle_hyphens(codes: Codes) -> Codes:
    """Turn each hyphen at a line end into a hyphen or into nothing, and soft hyphens inside a line into hyphens."""
    codes = codes.copy()
    at = np.flatnonzero((codes == BREAK_HYPHEN) | (codes == _SOFT_HYPHEN))
    if len(at) == 0:
        return codes
    text = "".join(map(chr, codes))
    hyphenated = {m.lower() for m in re.findall(r"\w+-\w+", text)}
    for i in map(int, at):
        before = re.search(r"\w*$", text[max(0, i - 40) : i])
        after = re.match(r"( *\n ?)?(\w*)", text[i + 1 : i + 60])
        head = before.group() if before else ""
        line_end, tail = (after.group(1), after.group(2)) if after else (None, "")
        at_line_end = codes[i] == BREAK_HYPHEN or line_end is not None
        joins = (
            at_line_end and head[-1:].isalpha() and tail[:1].islower() and f"{head}-{tail}".lower() not in hyphenated
        )
        codes[i] = _DROP if joins else _HYPHEN
        if joins and line_end:
            codes[i + 1 : i + 1 + len(line_end)] = _DROP
    return codes


def _neighbours(is_solid: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each position the nearest solid one at or before it and at or after it (-1 and n where there is none)."""
    n = len(is_solid)
    index = np.arange(n)
    before = np.maximum.accumulate(np.where(is_solid, index, -1))
    after = np.minimum.accumulate(np.where(is_solid, index, n)[::-1])[::-1]
    return before, after


def _gaps(boxes: Boxes, left: NDArray[np.intp], right: NDArray[np.intp]) -> tuple[NDArray[np.float32], ...]:
    """Horizontal gap, line height and whether the two share a line, for pairs of characters (out of range: NaN)."""
    n = len(boxes)
    padded = np.vstack([boxes, np.full((1, 4), np.nan, np.float32)])
    a, b = padded[np.where(left < 0, n, left)], padded[right]
    height_a, height_b = a[:, 3] - a[:, 1], b[:, 3] - b[:, 1]
    overlap = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    share = (overlap > 0.5 * np.minimum(height_a, height_b)).astype(np.float32)
    return b[:, 0] - a[:, 2], np.maximum(height_a, height_b), share


def _join_rows(codes: Codes, boxes: Boxes) -> Codes:
    """Replace a line end by a space where the next line goes on at the same height, further right."""
    ends = np.flatnonzero(codes == _NEWLINE)
    if len(ends) == 0:
        return codes
    solid = np.isfinite(boxes[:, 0]) & (codes != _SPACE)
    before, after = _neighbours(solid)
    gap, height, share = _gaps(boxes, before[ends], after[ends])
    joins = (share > 0) & (gap >= -0.1 * height)
    if not joins.any():
        return codes
    codes = codes.copy()
    codes[ends[joins]] = _SPACE
    return codes


def _space_runs(codes: Codes, boxes: Boxes, counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Set `counts` so that each run of blanks leaves one newline, two spaces, one space or nothing.

    Returns:
        Positions of the spaces that become two.
    """
    alive = counts > 0
    newline = (codes == _NEWLINE) & alive
    blank = ((codes == _SPACE) & alive) | newline
    visible = alive & ~blank
    before, after = _neighbours(visible)
    at = np.flatnonzero(blank)
    if len(at) == 0:
        return at
    counts[at] = 0
    run = before[at]  # a run is known by the visible character before it
    first = np.flatnonzero(np.r_[True, run[1:] != run[:-1]])
    starts = at[first]
    has_newline = np.logical_or.reduceat(newline[at], first)
    inner = (before[starts] >= 0) & (after[starts] < len(codes))
    line_ends = inner & has_newline
    # The run keeps its own newline character, so that code and box stay what they were.
    newline_at = np.minimum.reduceat(np.where(newline[at], at, len(codes)), first)
    counts[newline_at[line_ends]] = 1
    spaces = starts[inner & ~has_newline]
    counts[spaces] = 1
    gap, height, share = _gaps(boxes, before[spaces], after[spaces])
    wide = spaces[(share > 0) & (gap > _WIDE_GAP_EM * _EM_PER_LINE_HEIGHT * height)]
    counts[wide] = 2
    return wide
