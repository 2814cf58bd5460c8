"""Finds what somebody typed in the pages of a document: every place, with its exact characters to be marked.

The same is forgiven as in a quote (`citations.py`): capitals, line ends, the shape of quotation marks and dashes, a
word hyphenated over a line end. Words stay words, though: "is a" is not found in "advisable".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

from longleaf.ingestion import Document, Library

from .citations import folded, folded_words

__all__ = ["TextHit", "find_text", "spans_of"]


@dataclass(frozen=True, slots=True)
class TextHit:
    """Where the words stand: page number (1-based) and the span of their characters in that page's text."""

    page: int
    start: int
    end: int


def find_text(library: Library, document: Document, words: str, limit: int = 500) -> list[TextHit]:
    """The places where the words stand, in reading order.

    Args:
        library: What holds the document.
        document: Where to look.
        words: A word, part of one or a phrase; accents count. Blank finds nothing.
        limit: Places found at most.
    """
    hits = (
        TextHit(page.number, start, end)
        for page in library.pages(document)
        for start, end in spans_of(words, page.text)
    )
    return list(islice(hits, limit))


def spans_of(words: str, text: str) -> Iterator[tuple[int, int]]:
    """The spans of the words in a text, from its beginning on; they don't overlap."""
    needle = folded_words(words)
    # Most pages hold nothing, which the quick way tells. A hyphen may be gone where the line ended at it.
    if not needle or needle.replace("-", "") not in folded_words(text).replace("-", ""):
        return
    pattern = re.compile("-?".join(map(re.escape, needle.split("-")))) if needle.strip("-") else re.compile(needle)
    haystack, positions = folded(text, gap=" ")
    for match in pattern.finditer(haystack):
        found = match.group()
        places = positions[match.start() : match.end()]
        # Fewer hyphens than were typed: those missing have to be ones that ended a line.
        n_broken = sum(text[a + 1 : b] in ("-\n", "‐\n") for a, b in pairwise(places))
        if needle.count("-") - found.count("-") <= n_broken:
            yield places[0], places[-1] + 1
