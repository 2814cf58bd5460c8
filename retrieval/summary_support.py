"""Finds on its pages what supports a statement of a summary, and makes citations of it.

The same rule as for answers (`support.py`): a sentence or row that holds all numbers and most words of the statement;
here also numbers that are written as words, since a small reader that joins sentences miscounts.
A summary joins facts that stand apart, so a statement of several clauses is also supported when each of them is, by
units that may be different ones; all of these are then cited.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from longleaf.ingestion import Document

from .citations import Citation, cite
from .embeddings import Embedder
from .evidence import Evidence, SearchedPage, rank_evidence
from .receipt import Statement
from .search import Hit
from .sentences import split_units
from .store import PassageStore, StoredPassage
from .support import find_support
from .words import numbers, stems

__all__ = ["DocumentUnits", "check_statements", "split_statements"]

NEAREST_PASSAGES = 16
"""Of the passages that may support a statement, so many are looked at sentence by sentence."""
MIN_CLAUSE_STEMS = 4
"""A shorter clause is taken together with its neighbour: three common words stand together on any page."""

_CLAUSE = re.compile(r"[;,]\s+(?:(?:and|but|while|whereas)\s+)?|\s+(?:and|while|whereas)\s+")
_MARK = re.compile(r"\s*[\[(](?:page|p\.|pages|pp\.)\s*[\d\s,–-]+[\])]", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[•●▪*–—-]|\d{1,2}[.)])\s+")
# Without "one", which is a pronoun as often as a number.
_NUMBER_WORDS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_NUMBER_WORDS)})\b")
_HAS_WORD = re.compile(r"\w{2}")


class DocumentUnits:
    """The pages of one document with their sentences and rows, and the vectors of these, each made once.

    Args:
        document: Its passages must be cut.
        store: The passages.
        embedder: None goes by words alone.
    """

    def __init__(self, document: Document, store: PassageStore, embedder: Embedder | None) -> None:
        self.document = document
        self._store = store
        self._embedder = embedder
        self._pages: dict[int, SearchedPage] = {}
        self._vectors: dict[tuple[int, int], np.ndarray] = {}

    def page(self, number: int) -> SearchedPage:
        """A page with its units, cut passage by passage so that running headers stay out."""
        if number not in self._pages:
            page = self._store.library.page(self.document, number)
            spans = self._store.spans(self.document, number)
            units = {unit.start: unit for span in spans for unit in split_units(page.text, *span)}
            self._pages[number] = SearchedPage(self.document, page, tuple(units[start] for start in sorted(units)))
        return self._pages[number]

    def pages(self, passages: Sequence[StoredPassage]) -> dict[int, SearchedPage]:
        """The pages that these passages stand on, by number."""
        return {number: self.page(number) for number in sorted({stored.passage.page for stored in passages})}

    def rank(self, statement: str, passages: Sequence[StoredPassage]) -> list[Evidence]:
        """The units of the passages that come nearest to the statement, best first."""
        pages = self.pages(passages)
        known: dict[tuple[int, int, int], float] = {}
        if self._embedder and passages:
            vector = self._embedder.encode_question(statement)  # [d]
            self._embed(passages, self._embedder)
            of_passage = {stored.id: self._keys(stored) for stored in passages}
            cosines = {key: float(self._vectors[key] @ vector) for keys in of_passage.values() for key in keys}
            known = {(self.document.id, *key): cosine for key, cosine in cosines.items()}
            nearness = {i: max((cosines[key] for key in keys), default=-1.0) for i, keys in of_passage.items()}
        else:
            wanted = set(stems(statement))
            nearness = {stored.id: float(len(wanted.intersection(stems(stored.passage.text)))) for stored in passages}
        nearest = sorted(passages, key=lambda stored: -nearness[stored.id])[:NEAREST_PASSAGES]
        hits = [Hit(stored, 0.0, math.nan, 0.0) for stored in nearest]
        by_key = {(self.document.id, number): page for number, page in pages.items()}
        return rank_evidence(statement, hits, by_key, self._embedder, known)

    def _keys(self, stored: StoredPassage) -> list[tuple[int, int]]:
        passage, source = stored.passage, self.page(stored.passage.page)
        return [
            (passage.page, unit.start)
            for unit in source.units
            if passage.start <= unit.start and unit.end <= passage.end and _HAS_WORD.search(source.text_of(unit))
        ]

    def _embed(self, passages: Sequence[StoredPassage], embedder: Embedder) -> None:
        missing = list(dict.fromkeys(k for stored in passages for k in self._keys(stored) if k not in self._vectors))
        if missing:
            starts = {number: {u.start: u for u in self.page(number).units} for number, _ in missing}
            texts = [self.page(number).text_of(starts[number][start]) for number, start in missing]
            self._vectors.update(zip(missing, embedder.encode(texts), strict=True))


def split_statements(text: str) -> list[str]:
    """The sentences or lines of what the reader wrote, without bullets and page marks, each once."""
    plain = _MARK.sub("", "\n".join(line for line in text.splitlines() if not line.strip() or _HAS_WORD.search(line)))
    found = (" ".join(_BULLET.sub("", plain[unit.start : unit.end]).split()) for unit in split_units(plain))
    return list(dict.fromkeys(statement for statement in found if _HAS_WORD.search(statement)))


def check_statements(
    statements: Sequence[str], ranked: Sequence[Sequence[Evidence]]
) -> tuple[tuple[Statement, ...], tuple[Citation, ...]]:
    """The statements with the citations that support them; one that nothing supports says so.

    Args:
        statements: What the reader wrote.
        ranked: For each, the units that may support it, best first.

    Returns:
        The statements, and the citations that they refer to by index.
    """
    checked: list[Statement] = []
    citations: list[Citation] = []
    for text, units in zip(statements, ranked, strict=True):
        found = [_cited(evidence) for evidence in _supports(text, units)]
        cited = [citation for citation in found if citation is not None]
        if not cited or len(cited) < len(found):
            checked.append(Statement(text, supported=False, citations=()))
            continue
        citations += [citation for citation in dict.fromkeys(cited) if citation not in citations]
        checked.append(Statement(text, supported=True, citations=tuple(dict.fromkeys(map(citations.index, cited)))))
    return tuple(checked), tuple(citations)


def _supports(statement: str, ranked: Sequence[Evidence]) -> list[Evidence]:
    """The unit that supports the statement, else a unit for each of its clauses, else none."""
    if len(stems(statement)) < 2:
        return []  # a word stands anywhere
    if whole := _support(statement, ranked):
        return [whole]
    clauses = _clauses(statement)
    found = [_support(clause, ranked) for clause in clauses] if len(clauses) > 1 else []
    return [evidence for evidence in found if evidence is not None] if all(found) else []


def _support(text: str, ranked: Sequence[Evidence]) -> Evidence | None:
    """What `find_support` finds, where it also holds the numbers that the text has as words.

    A summary names the document's subject in full where its pages say "the district": where nothing supports the text,
    it is looked for without the words of the document's title.
    """
    counted = _NUMBER_WORD.findall(text.casefold())
    holding = [e for e in ranked if all(_holds_number(e, word) for word in counted)] if counted else ranked
    found = find_support(text, holding)
    if found is None and holding:
        title = set(stems(holding[0].document.title))
        rest = " ".join(word for word in text.split() if not title.intersection(stems(word)))
        if rest != text and len(set(stems(rest))) >= 2:
            found = find_support(rest, holding)
    return found


def _holds_number(evidence: Evidence, word: str) -> bool:
    text = evidence.text_with_header
    return word in _NUMBER_WORD.findall(text.casefold()) or str(_NUMBER_WORDS.index(word) + 2) in numbers(text)


def _clauses(statement: str) -> list[str]:
    clauses: list[str] = []
    held = ""
    for piece in _CLAUSE.split(statement):
        held = f"{held} {piece}".strip()
        if len(set(stems(held))) >= MIN_CLAUSE_STEMS:
            clauses.append(held)
            held = ""
    if held and clauses:
        clauses[-1] = f"{clauses[-1]} {held}"
    return clauses


def _cited(evidence: Evidence) -> Citation | None:
    page = evidence.source.page
    return cite(evidence.document, page, evidence.text, near=evidence.unit.start, heading=evidence.heading)
