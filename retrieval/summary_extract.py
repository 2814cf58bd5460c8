"""A summary without a reader: the sentences nearest to the middle of what a document says, as they stand.

Each section gives as many as its share of the text; the middle is the mean vector of its passages, or by words the
stems that its sentences share. Knows nothing of prompts and of how summaries are kept.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from .embeddings import Embedder
from .evidence import SearchedPage
from .scope import Scope
from .sentences import Unit
from .store import PassageStore, StoredPassage
from .summary_parts import SEPARATOR, Passages
from .summary_support import DocumentUnits
from .words import stems

__all__ = ["Sentence", "central_sentences", "sentences_about"]

MIN_CHARS, MAX_CHARS = 40, 350
"""A shorter sentence says too little alone, a longer one is no summary."""
TOO_ALIKE = 0.85
"""Cosine, or share of common stems, from which on a sentence says what another one has said."""
PASSAGES_PER_SENTENCE = 4
MIN_LETTERS = 0.75
"""Share of letters and spaces in a sentence."""

_ENDS = re.compile(r"[.!?。！？][\"'”’)\]]*$")
_WORD = re.compile(r"\w+")

Sentence = tuple[SearchedPage, Unit]


def central_sentences(
    units: DocumentUnits, passages: Sequence[StoredPassage], n: int, store: PassageStore, embedder: Embedder | None
) -> list[tuple[Passages, list[Sentence]]]:
    """For each chapter that gives any, its passages and its most central sentences in their order; `n` in all.

    Args:
        units: The document's pages.
        passages: All of it, in order; embedded where there is an embedder.
        n: Sentences wanted.
        store: For the passages' vectors.
        embedder: None goes by words.
    """
    chapters = [tuple(same) for _, same in groupby(passages, key=lambda s: s.passage.section.split(SEPARATOR)[0])]
    prose = [[stored for stored in chapter if _sentences(units, stored)] for chapter in chapters]
    shares = _shares([sum(len(stored.passage.text) for stored in kept) for kept in prose], n)
    vectors: dict[int, np.ndarray] = {}
    if embedder:
        ids, matrix = store.vectors(Scope.of([units.document]), embedder.name)
        vectors = dict(zip(ids.tolist(), matrix, strict=True))
    found = []
    for chapter, kept, share in zip(chapters, prose, shares, strict=True):
        if share:
            found.append((chapter, _most_central(units, kept, share, vectors, embedder)))
    return found


def sentences_about(ranked: Sequence[Sentence], n: int) -> list[Sentence]:
    """The first `n` of these that are whole sentences, in the order of the document."""
    chosen = [(page, unit) for page, unit in ranked if _is_sentence(page, unit)][:n]
    return sorted(chosen, key=lambda s: (s[0].page.number, s[1].start))


def _most_central(
    units: DocumentUnits,
    passages: Sequence[StoredPassage],
    n: int,
    vectors: dict[int, np.ndarray],
    embedder: Embedder | None,
) -> list[Sentence]:
    embedded = [stored for stored in passages if stored.id in vectors]
    if embedder and embedded:
        middle = np.mean([vectors[stored.id] for stored in embedded], axis=0)  # [d]
        nearest = sorted(embedded, key=lambda stored: -float(vectors[stored.id] @ middle))
        sentences = _unique(units, nearest[: PASSAGES_PER_SENTENCE * n])
        own = embedder.encode([page.text_of(unit) for page, unit in sentences])  # [n sentences, d]
        scores = own @ middle

        def alike(one: int, other: int) -> float:
            return float(own[one] @ own[other])
    else:
        sentences = _unique(units, passages)
        words = [set(stems(page.text_of(unit))) for page, unit in sentences]
        counts = Counter(stem for held in words for stem in held)
        # A stem that no other sentence has says nothing of the middle.
        scores = np.array([sum(math.log(counts[stem]) for stem in held) / math.sqrt(len(held) + 1) for held in words])

        def alike(one: int, other: int) -> float:
            return len(words[one] & words[other]) / max(min(len(words[one]), len(words[other])), 1)

    chosen: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if len(chosen) < n and all(alike(index, other) < TOO_ALIKE for other in chosen):
            chosen.append(index)
    return sorted((sentences[i] for i in chosen), key=lambda s: (s[0].page.number, s[1].start))


def _unique(units: DocumentUnits, passages: Sequence[StoredPassage]) -> list[Sentence]:
    found = {
        (page.page.number, unit.start): (page, unit) for stored in passages for page, unit in _sentences(units, stored)
    }
    return list(found.values())


def _sentences(units: DocumentUnits, stored: StoredPassage) -> list[Sentence]:
    passage, page = stored.passage, units.page(stored.passage.page)
    if passage.kind != "prose":
        return []
    return [
        (page, unit)
        for unit in page.units
        if passage.start <= unit.start and unit.end <= passage.end and _is_sentence(page, unit)
    ]


def _is_sentence(page: SearchedPage, unit: Unit) -> bool:
    """Whether it reads as a sentence that can stand alone; headings, lines of contents and lists of figures do not."""
    text = page.text_of(unit)
    if unit.is_row or not MIN_CHARS <= len(text) <= MAX_CHARS or text[0].islower() or not _ENDS.search(text):
        return False
    words = _WORD.findall(text)
    letters = sum(character.isalpha() or character.isspace() for character in text)
    in_capitals = sum(word[0].isupper() for word in words)
    return letters >= MIN_LETTERS * len(text) and 2 * in_capitals <= len(words)


def _shares(sizes: Sequence[int], n: int) -> list[int]:
    """`n` among chapters of these sizes, by the largest remainder."""
    total = sum(sizes)
    if not total:
        return [0] * len(sizes)
    exact = [n * size / total for size in sizes]
    shares = [math.floor(share) for share in exact]
    for index in sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])[: n - sum(shares)]:
        shares[index] += 1
    return shares
