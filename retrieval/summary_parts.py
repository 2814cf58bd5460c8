"""Cuts a document that is too long for the reader into parts, along its sections.

A part holds whole sections, as many as there is room for; a section is cut only where it does not fit alone, and then
between passages. Works on passages and their sizes: knows nothing of models, prompts or the database.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from longleaf.errors import ContextOverflowError
from longleaf.ingestion import Document

from .evidence import Excerpt, SearchedPage
from .store import StoredPassage

__all__ = ["SEPARATOR", "Passages", "cut_parts", "pack", "page_numbers", "part_title", "shown_pages"]

SEPARATOR = " › "
"""Between the headings of a section path."""

Passages = tuple[StoredPassage, ...]


def cut_parts(passages: Sequence[StoredPassage], sizes: Mapping[int, int], room: int) -> list[Passages]:
    """The passages in parts of at most `room` tokens, each passage in one part, in order.

    A new part also begins at a heading of the first level once a part is half full: what belongs together is read
    together.

    Args:
        passages: All of a document, in order.
        sizes: Tokens by passage id.
        room: Most tokens of a part.

    Raises:
        ContextOverflowError: A passage alone is larger.
    """
    parts: list[Passages] = []
    current: list[StoredPassage] = []
    used = 0
    for _, same in groupby(passages, key=lambda stored: stored.passage.section):
        section = list(same)
        size = sum(sizes[stored.id] for stored in section)
        new_chapter = bool(current) and _chapter(section[0]) != _chapter(current[-1]) and 2 * used >= room
        if current and (used + size > room or new_chapter):
            parts.append(tuple(current))
            current, used = [], 0
        if size <= room:
            current += section
            used += size
        else:
            parts += _pieces(section, sizes, size, room)
    return [*parts, tuple(current)] if current else parts


def _pieces(section: Sequence[StoredPassage], sizes: Mapping[int, int], size: int, room: int) -> list[Passages]:
    """A section in pieces of about the same size."""
    target = size / math.ceil(size / room)
    pieces: list[Passages] = []
    current: list[StoredPassage] = []
    used = 0
    for stored in section:
        if sizes[stored.id] > room:
            raise ContextOverflowError(
                f"a passage on page {stored.passage.page} has {sizes[stored.id]:,} tokens, and the reader has room for "
                f"{room:,}: run it with a larger context (--context-tokens)"
            )
        if current and (used >= target or used + sizes[stored.id] > room):
            pieces.append(tuple(current))
            current, used = [], 0
        current.append(stored)
        used += sizes[stored.id]
    return [*pieces, tuple(current)]


def pack(sizes: Sequence[int], room: int) -> list[range]:
    """Runs of neighbours whose sizes add up to at most `room` (a larger one stands alone), as ranges of indexes."""
    runs: list[range] = []
    begin = used = 0
    for index, size in enumerate(sizes):
        if index > begin and used + size > room:
            runs.append(range(begin, index))
            begin, used = index, 0
        used += size
    return [*runs, range(begin, len(sizes))] if sizes else []


def part_title(passages: Passages) -> str:
    """The headings that a part stands under, or its first and last, or its pages where it has none."""
    paths = list(dict.fromkeys(stored.passage.section for stored in passages))
    split = [path.split(SEPARATOR) for path in paths if path]
    if not split:
        numbers = page_numbers(passages)
        return f"Page {numbers[0]}" if len(numbers) == 1 else f"Pages {numbers[0]}–{numbers[-1]}"
    n_shared = 0
    for level in zip(*split, strict=False):
        if len(set(level)) > 1:
            break
        n_shared += 1
    if n_shared:
        return SEPARATOR.join(split[0][:n_shared])
    return f"{split[0][0]} … {split[-1][0]}"


def page_numbers(passages: Sequence[StoredPassage]) -> tuple[int, ...]:
    """The pages (1-based) that these passages stand on, in order."""
    return tuple(sorted({stored.passage.page for stored in passages}))


def shown_pages(
    document: Document, passages: Sequence[StoredPassage], pages: Mapping[int, SearchedPage]
) -> list[Excerpt]:
    """The text of a part, page by page; a table that goes on from an earlier part is under its column names.

    Args:
        document: The document.
        passages: Those of the part, in order.
        pages: At least the pages that they stand on, by number.
    """
    found: list[Excerpt] = []
    for number in page_numbers(passages):
        on_page = sorted((s.passage for s in passages if s.passage.page == number), key=lambda p: p.start)
        text = pages[number].page.text
        pieces = [on_page[0].header] if on_page[0].header else []
        end = 0
        for passage in on_page:
            start = max(passage.start, end)  # neighbours may share a sentence
            pieces.append(text[start : passage.end].strip())
            end = max(end, passage.end)
        found.append(Excerpt(document, number, on_page[0].section, "\n".join(piece for piece in pieces if piece)))
    return found


def _chapter(stored: StoredPassage) -> str:
    return stored.passage.section.split(SEPARATOR)[0]
