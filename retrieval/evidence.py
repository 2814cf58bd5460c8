"""Picks the few sentences and table rows that bear on a question, with what is needed to understand them.

A small reader answers better from four sentences than from whole paragraphs (on 40 XQuAD questions over five
paragraphs: F1 77.9 against 58.6, same model). A table row means nothing without the line that names its columns, so a
row carries its header; a sentence carries its neighbours.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from longleaf.ingestion import Document, Page

from .columns import named_cells
from .embeddings import Embedder
from .search import Hit
from .sentences import Unit, is_table_row
from .words import stems

__all__ = ["Evidence", "Excerpt", "SearchedPage", "coverage", "excerpts", "rank_evidence", "table_header"]

NEIGHBOUR_CHARS = 160
"""A neighbouring sentence is shown when it is no longer than this."""
MAX_HEADER_CHARS = 200
"""Of the lines above a table row, the nearest that are no longer than this together."""

_MONTH = "january|february|march|april|may|june|july|august|september|october|november|december"
_COLUMN_NAME = re.compile(
    rf"\b(?:19|20)\d\d\b|\b(?:{_MONTH}|total|change|fiscal|years?|quarter|months|ended|amount|percent|budget|actual)\b"
    r"|\b(?:in|dollars in) (?:millions|thousands|billions)",
    re.IGNORECASE,
)
_NOT_YEARS = re.compile(r"\b(?:19|20)\d\d\b|\b[0-3]?\d,")
_WIDE_GAP = re.compile(r" {2,}")
_WORD = re.compile(r"\w{2}")
# Weights of the ranking, by hand on the project's own questions about its sample document: of 58 of the 60 that it
# answers, text of a right page is then among what the reader is shown.
_WEIGHT_SIMILARITY = 0.5
_WEIGHT_OWN_COVERAGE = 0.4
_WEIGHT_COVERAGE = 0.4
_WEIGHT_PASSAGE = 0.01
_HEADING_PENALTY = 0.3
_HEADING_CHARS = 60
"""A line of prose shorter than this that ends like no sentence names something and says nothing of it."""
_CONTENTS_LINE = re.compile(r"(?:\.\s?){6,}[\divx]{1,4}\s*$")


@dataclass(frozen=True, slots=True)
class SearchedPage:
    """A page that holds passages found, with the units of all its passages in order."""

    document: Document
    page: Page
    units: tuple[Unit, ...]

    def text_of(self, unit: Unit) -> str:
        """The unit's characters."""
        return self.page.text[unit.start : unit.end]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A unit of a page that may answer the question.

    Attributes:
        source: The page.
        unit: The sentence or row.
        header: Units above that name a row's columns; none for a sentence.
        context: Units on the same page to show with it, in order, the unit and its header among them.
        section: Section path.
        passage_score: Of the passage it was found in.
        score: For ranking.
        similarity: Cosine of question and unit; NaN without an embedder.
        coverage: Share of the question's words, weighted by rarity, in its context, title or section.
        own_coverage: The same for the unit and its header alone.
    """

    source: SearchedPage
    unit: Unit
    header: tuple[Unit, ...]
    context: tuple[Unit, ...]
    section: str
    passage_score: float
    score: float = 0.0
    similarity: float = math.nan
    coverage: float = 0.0
    own_coverage: float = 0.0

    @property
    def document(self) -> Document:
        """The document."""
        return self.source.document

    @property
    def page_number(self) -> int:
        """1-based."""
        return self.source.page.number

    @property
    def text(self) -> str:
        """The unit's characters."""
        return self.source.text_of(self.unit)

    @property
    def heading(self) -> str:
        """The header's lines, one below the other."""
        return "\n".join(self.source.text_of(unit) for unit in self.header)

    @property
    def text_with_header(self) -> str:
        """A row under the names of its columns."""
        return f"{self.heading}\n{self.text}".strip()


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What of one page is shown to the reader."""

    document: Document
    page_number: int
    section: str
    text: str


def coverage(question: Sequence[str], text: Sequence[str], rarity: dict[str, float]) -> float:
    """Share of the question's stems that the text holds, each weighted by its rarity; 0 for an empty question.

    A stem that no text holds counts as the rarest: a question about a name that is nowhere has no answer here.
    """
    wanted = set(question)
    rarest = max(rarity.values(), default=1.0)
    total = sum(rarity.get(stem, rarest) for stem in wanted)
    return sum(rarity.get(stem, rarest) for stem in wanted.intersection(text)) / total if total else 0.0


def rank_evidence(
    question: str,
    hits: Sequence[Hit],
    pages: Mapping[tuple[int, int], SearchedPage],
    embedder: Embedder | None,
    known: Mapping[tuple[int, int, int], float] | None = None,
) -> list[Evidence]:
    """All units of the passages found, best first.

    Args:
        question: In plain words.
        hits: Passages, best first.
        pages: Every page that holds a hit, by (document id, page number).
        embedder: None ranks by words alone.
        known: Cosines of question and units, by (document id, page number, first character), where the search has
            them.
    """
    found = _units_of(hits, pages)
    if not found:
        return []
    wanted = stems(question)
    around = [
        stems(" ".join((e.document.title, e.section, *(e.source.text_of(unit) for unit in e.context)))) for e in found
    ]
    rarity = _rarity([set(words) for words in around])
    similarities = _similarities(question, found, embedder, known or {}) if embedder else np.full(len(found), math.nan)
    best_passage = max(e.passage_score for e in found)
    weighed = []
    for e, words, similarity in zip(found, around, similarities, strict=True):
        own = coverage(wanted, stems(e.text_with_header), rarity)
        whole = coverage(wanted, words, rarity)
        score = (
            _WEIGHT_SIMILARITY * float(np.nan_to_num(similarity))
            + _WEIGHT_OWN_COVERAGE * own
            + _WEIGHT_COVERAGE * whole
            - _WEIGHT_PASSAGE * (best_passage - e.passage_score)
            - (_HEADING_PENALTY if _is_heading(e) else 0.0)
        )
        weighed.append(replace(e, score=score, similarity=float(similarity), coverage=whole, own_coverage=own))
    return sorted(weighed, key=lambda e: -e.score)


def _similarities(
    question: str, found: Sequence[Evidence], embedder: Embedder, known: Mapping[tuple[int, int, int], float]
) -> np.ndarray:
    """Cosine of the question with each unit, fp32 [n]."""
    keys = [(e.document.id, e.page_number, e.unit.start) for e in found]
    values = np.array([known.get(key, math.nan) for key in keys], np.float32)
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        vector = embedder.encode_question(question)  # [d]
        values[missing] = embedder.encode([found[int(i)].text for i in missing]) @ vector
    return values


def _units_of(hits: Sequence[Hit], pages: Mapping[tuple[int, int], SearchedPage]) -> list[Evidence]:
    """Every unit of the passages once, with its header and its neighbours."""
    seen: set[tuple[int, int, int]] = set()
    found = []
    for hit in hits:
        passage = hit.stored.passage
        source = pages[hit.stored.document_id, passage.page]
        for index, unit in enumerate(source.units):
            key = (source.document.id, passage.page, unit.start)
            inside = passage.start <= unit.start and unit.end <= passage.end
            text = source.text_of(unit)
            if not inside or key in seen or not _WORD.search(text) or _CONTENTS_LINE.search(text):
                continue  # a line of a table of contents says where something is, not what
            seen.add(key)
            header = table_header(source.page.text, source.units, index) if unit.is_row else []
            context = sorted({*header, unit, *_neighbours(source.units, index)}, key=lambda u: u.start)
            found.append(Evidence(source, unit, tuple(header), tuple(context), passage.section, hit.score))
    return found


def _is_heading(e: Evidence) -> bool:
    return not e.unit.is_row and len(e.text) < _HEADING_CHARS and e.text[-1] not in ".!?"


def _neighbours(units: Sequence[Unit], index: int) -> list[Unit]:
    if units[index].is_row:
        return []  # a row's neighbours are other figures: many tokens, and wrong answers
    near = [units[i] for i in (index - 1, index + 1) if 0 <= i < len(units)]
    return [u for u in near if u.end - u.start <= NEIGHBOUR_CHARS and not u.is_row]


def table_header(text: str, units: Sequence[Unit], index: int) -> list[Unit]:
    """The lines above a table row that name its columns, its table and its group, in order; at most six.

    Walks up from the row: the nearest line of column names (years, dates, units of money, no other figures), the short
    lines right above it (the table's title), and the nearest line without figures (the group that the row is in).
    """
    header: list[Unit] = []
    group: Unit | None = None
    for i in range(index - 1, max(index - 60, -1), -1):
        line = text[units[i].start : units[i].end]
        short = len(line) <= 160
        if not units[i].is_row and not short:
            break
        if _names_columns(line):
            header = [units[i]]
            for above in range(i - 1, max(i - 4, -1), -1):
                caption = text[units[above].start : units[above].end]
                if len(caption) > 120 or (units[above].is_row and not _names_columns(caption)):
                    break
                header.insert(0, units[above])
            break
        if group is None and not units[i].is_row and not line.rstrip().endswith("."):
            group = units[i]
    if group is not None and group not in header:
        header.append(group)
    while sum(unit.end - unit.start for unit in header) > MAX_HEADER_CHARS:
        del header[0]
    return header


def _names_columns(line: str) -> bool:
    if not _COLUMN_NAME.search(line):
        return False
    without = _NOT_YEARS.sub(" ", line)
    return not re.search(r"\d", without) or not is_table_row(without)


def _rarity(texts: Sequence[set[str]]) -> dict[str, float]:
    counts = Counter(stem for text in texts for stem in text)
    return {stem: math.log((len(texts) + 1) / (count + 0.5)) for stem, count in counts.items()}


def excerpts(evidence: Sequence[Evidence], max_chars: int) -> list[Excerpt]:
    """What the reader is shown: the picked units with their context, page by page in document order.

    Units are taken best first until `max_chars` are used, with their context while that fits; the first is always
    taken. A row is shown with each figure under its column's name where the two pair off. Where two spans of a page do
    not touch, "…" stands between them; wide gaps become one space.
    """
    shown: dict[tuple[int, int], dict[Unit, str]] = {}
    best: dict[tuple[int, int], Evidence] = {}
    used = 0
    for e in evidence:
        key = (e.document.id, e.page_number)
        texts = _shown_texts(e)
        for units in (texts, {e.unit: texts[e.unit]}):
            new = {unit: text for unit, text in units.items() if unit not in shown.get(key, {}) or unit == e.unit}
            size = sum(len(text) for text in new.values())
            if not used or used + size <= max_chars:
                shown.setdefault(key, {}).update(new)
                best.setdefault(key, e)
                used += size
                break
    return [
        Excerpt(best[key].document, key[1], best[key].section, _joined(best[key].source, shown[key]))
        for key in sorted(shown)
    ]


def _shown_texts(e: Evidence) -> dict[Unit, str]:
    """The unit and its context as the reader sees them; a line of column names that went into the row is left out."""
    texts = {unit: _WIDE_GAP.sub(" ", e.source.text_of(unit)) for unit in e.context}
    for names in reversed(e.header):
        named = named_cells(e.text, e.source.text_of(names))
        if named:
            texts[e.unit] = named
            del texts[names]
            break
    return texts


def _joined(source: SearchedPage, texts: dict[Unit, str]) -> str:
    pieces: list[str] = []
    last_end: int | None = None
    for unit in sorted(texts, key=lambda u: u.start):
        if last_end is not None:
            pieces.append("\n" if not source.page.text[last_end : unit.start].strip() else "\n…\n")
        pieces.append(texts[unit])
        last_end = unit.end
    return "".join(pieces)
