"""Finds passages: full text (SQLite FTS5, BM25) and vectors, added up as z-scores, the best of them ranked again.

A question is searched as it is, and once more for each place that it names without saying so (`glossary.py`). Among
several documents those that a question names or dates come first. The best passages are ranked again by the sentence or
table row in them that comes nearest to the question; the same similarities pick the evidence afterwards. Vectors that
are not made yet are made here for what full text finds: a question never waits for a whole document.

On 240 XQuAD paragraphs the sum of z-scores reached recall@1 .949, reciprocal rank fusion .931 and either ranker alone
.885-.929 (with this embedder and BM25); `python -m benchmarks.retrieval --ablation` shows what each part adds.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
from langchain_core.cross_encoders import BaseCrossEncoder

from .embeddings import Embedder, stoppable
from .question import Question, understand
from .scope import Scope
from .sentences import split_units
from .store import Matches, PassageStore, StoredPassage
from .words import content_words

__all__ = ["Found", "Hit", "SearchOptions", "search"]

_WEIGHT_LEXICAL = 0.5
_WEIGHT_PLACE = 1.0
_WEIGHT_PLACE_DENSE = 0.5
"""Against a weight of 1 for the question's vector; by page recall over XQuAD and FinanceBench, where weights between a
half and twice as much change it by one question in a hundred."""
_WEIGHT_DOCUMENT = 10.0
"""Of a document that holds all names and years of the question, in z-scores: what it names, it means."""
_RERANKED = 20
_EMBEDDED_AT_ONCE = 48
"""Passages embedded while a question waits, where vectors are missing: about half a second on two cores."""
_EMBED_STEP = 16
"""Of these, what is kept at once, and told."""
_SCORE_STEP = 4
"""Pairs that a cross-encoder reads between two looks at whether to stop."""
_HEAD_CHARS = 3_000
_MAX_HEADS = 5_000
"""Of more documents only names and titles are looked at."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Which parts of the search to use; all by default, and fewer to see what each adds.

    Attributes:
        lexical: Full text.
        dense: Vectors, where there is an embedder.
        places: Search once more for each place that the question names.
        documents: Prefer documents that the question names, where several are asked.
        rerank: Rank the best passages again by their nearest sentence or row; needs an embedder.
    """

    lexical: bool = True
    dense: bool = True
    places: bool = True
    documents: bool = True
    rerank: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found.

    Attributes:
        stored: The passage.
        score: Sum of z-scores; only the order means something.
        dense: Cosine of question and passage; NaN where it has no vector.
        lexical: BM25, higher is better; 0 where no word matches, or thousands of passages match better.
    """

    stored: StoredPassage
    score: float
    dense: float
    lexical: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found, and how.

    Attributes:
        hits: Passages, best first.
        method: How it was searched, for the receipt: "full text and vectors (exact, 512 vectors)", "full text", …
        n_passages: Passages in the scope.
        n_embedded: Of these, the ones with a vector by this embedder.
        similarities: Cosine of the question with sentences and rows, by (document id, page, first character).
    """

    hits: list[Hit]
    method: str
    n_passages: int
    n_embedded: int
    similarities: Mapping[tuple[int, int, int], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Dense:
    """Cosines by passage id, and how they stand among all vectors in scope."""

    scores: Mapping[int, float]
    mean: float
    spread: float
    method: str
    n_embedded: int


def search(
    question: str,
    scope: Scope,
    store: PassageStore,
    embedder: Embedder | None,
    top_k: int = 12,
    options: SearchOptions | None = None,
    cross_encoder: BaseCrossEncoder | None = None,
    *,
    stop_if_asked: Callable[[], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """The `top_k` best passages in scope.

    Args:
        question: In plain words.
        scope: Where to look; the passages of its documents must have been cut.
        store: The passages.
        embedder: Embeds the question; None searches by full text alone.
        top_k: How many passages to return at most.
        options: To leave parts out.
        cross_encoder: Reads the question together with each of the best passages, and orders these; slow on a CPU.
        stop_if_asked: Called between small pieces of the work; what it raises ends the search, and vectors that were
            made for it stay.
        progress: Called with (passages done, passages in all) while those that lack a vector are embedded.
    """
    options = options or SearchOptions()
    if embedder and stop_if_asked:
        embedder = stoppable(embedder, stop_if_asked)
    asked = understand(question)
    n_passages = store.count(scope)
    lexical = store.full_text(asked.terms, scope) if options.lexical else Matches({}, 0.0, 0.0)
    places = [store.full_text(content_words(text), scope) for text in asked.places] if options.places else []
    vector = embedder.encode_question(question) if embedder and (options.dense or options.rerank) else None
    near: list[_Dense] = []
    if embedder and vector is not None and options.dense:
        queries = np.vstack([vector, *(embedder.encode(asked.places) if places else ())])  # [1 + places, d]
        near = _search_vectors(queries, scope, store, embedder, _leading((lexical, *places)), n_passages, progress)
    dense = near[0] if near else _Dense({}, 0.0, 0.0, "", 0)
    found = dense.scores.keys() | lexical.scores.keys() | set().union(*(place.scores for place in places))
    ids = np.array(sorted(found), np.int64)
    if not len(ids):
        return Found([], _method(options, dense, n_passages), n_passages, dense.n_embedded)
    score = _WEIGHT_LEXICAL * _z_of_matches(ids, lexical, n_passages) + _z_of_cosines(ids, dense)
    for matches in places:
        score += _WEIGHT_PLACE * _z_of_matches(ids, matches, n_passages)
    for cosines in near[1:]:
        score += _WEIGHT_PLACE_DENSE * _z_of_cosines(ids, cosines)
    if options.documents and asked.names and len(scope.documents) > 1:
        score += _WEIGHT_DOCUMENT * _meant(asked, scope, store, store.documents_of(ids))
    best = np.argsort(-score, kind="stable")[: max(top_k, _RERANKED)]
    stored = {passage.id: passage for passage in store.get(ids[best].tolist())}
    hits = [
        Hit(stored[key], float(score[i]), dense.scores.get(key, math.nan), lexical.scores.get(key, 0.0))
        for i in best
        if (key := int(ids[i])) in stored
    ]
    similarities: dict[tuple[int, int, int], float] = {}
    if options.rerank and embedder and vector is not None:
        hits, similarities = _reranked(hits, vector, embedder, 1 / (1 + len(places)))
    if cross_encoder:
        hits = _ordered(question, hits, cross_encoder, stop_if_asked)
    return Found(hits[:top_k], _method(options, dense, n_passages), n_passages, dense.n_embedded, similarities)


def _search_vectors(
    queries: np.ndarray,
    scope: Scope,
    store: PassageStore,
    embedder: Embedder,
    leading: Sequence[int],
    n_passages: int,
    progress: Callable[[int, int], None] | None,
) -> list[_Dense]:
    """For each query the cosines of the nearest passages and the leading ones; all of them where the scope is small."""
    n_embedded = store.n_embedded(scope, embedder.name)
    if n_embedded < n_passages:
        # What full text puts first; of a short document all of it, as full text may find nothing.
        others = store.unembedded(scope, embedder.name, _EMBEDDED_AT_ONCE)
        wanted = list(dict.fromkeys([*leading, *others]))[:_EMBEDDED_AT_ONCE]
        for begin in range(0, len(wanted), _EMBED_STEP):
            if progress:
                progress(begin, len(wanted))
            store.embed_passages(wanted[begin : begin + _EMBED_STEP], embedder)
        n_embedded = store.n_embedded(scope, embedder.name)
    return [
        _Dense(
            dict(zip(near.keys.tolist(), near.scores.tolist(), strict=True)),
            near.mean,
            near.spread,
            near.method,
            n_embedded,
        )
        for near in store.nearest(queries, scope, embedder.name, leading)
    ]


def _leading(rankings: Sequence[Matches]) -> list[int]:
    """The best of each ranking in turn, each once: first the first of all, then the second."""
    ordered = [list(matches.scores)[:_EMBEDDED_AT_ONCE] for matches in rankings]
    return list(dict.fromkeys(key for row in zip_longest(*ordered) for key in row if key is not None))


def _method(options: SearchOptions, dense: _Dense, n_passages: int) -> str:
    if not dense.n_embedded:
        return "full text"
    vectors = f"vectors ({dense.method})"
    if dense.n_embedded < n_passages:
        vectors = f"vectors of {dense.n_embedded:,} of {n_passages:,} passages, the others not being embedded yet"
    return f"full text and {vectors}" if options.lexical else vectors


def _column(ids: np.ndarray, scores: Mapping[int, float], missing: float) -> np.ndarray:
    return np.array([scores.get(key, missing) for key in ids.tolist()])


def _z_of_matches(ids: np.ndarray, matches: Matches, n_passages: int) -> np.ndarray:
    """z-scores of BM25 over all passages in scope, of which those without a matching word have 0."""
    mean = matches.total / n_passages
    spread = math.sqrt(max(matches.squares / n_passages - mean * mean, 0.0))
    return (_column(ids, matches.scores, 0.0) - mean) / spread if spread > 0 else np.zeros(len(ids))


def _z_of_cosines(ids: np.ndarray, dense: _Dense) -> np.ndarray:
    """z-scores of cosines over all vectors in scope; a passage without a vector stands at the mean."""
    if dense.spread <= 0:
        return np.zeros(len(ids))
    return np.nan_to_num((_column(ids, dense.scores, math.nan) - dense.mean) / dense.spread)


def _meant(asked: Question, scope: Scope, store: PassageStore, document_ids: np.ndarray) -> np.ndarray:
    """For each passage, how far its document is one that the question names, in [0, 1].

    A name counts by its rarity among the documents, half for standing in the document's name or title and half for
    standing at the beginning of its text. A question that names none of them favours none.
    """
    own = {d.id: _squeezed(f"{d.name} {d.title}") for d in scope.documents}
    heads = store.heads(scope.documents, _HEAD_CHARS) if len(own) <= _MAX_HEADS else {}
    n = len(scope.documents)
    total = 0.0
    held = dict.fromkeys(own, 0.0)
    for name in asked.names:
        # At the beginning of a word: Ford is in no Oxford, but American in AMERICANWATERWORKS_2021.pdf.
        begins = re.compile(rf"(?<![^\W\d_]){re.escape(name)}")
        in_own = {key for key, text in own.items() if begins.search(text)}
        in_either = in_own | {key for key, text in heads.items() if begins.search(text)}
        weight = math.log(n / len(in_either)) if in_either else 0.0
        total += weight
        for key in in_either:
            held[key] += weight * (1.0 if key in in_own else 0.5)
    share = {key: value / total if total else 0.0 for key, value in held.items()}
    return np.array([share.get(key, 0.0) for key in document_ids.tolist()])


def _squeezed(text: str) -> str:
    return text.casefold().replace("_", " ")


def _ordered(
    question: str, hits: Sequence[Hit], cross_encoder: BaseCrossEncoder, stop_if_asked: Callable[[], None] | None
) -> list[Hit]:
    """The best hits in the order of a cross-encoder, the others after them; the scores are those of the new order."""
    first = hits[:_RERANKED]
    pairs = [(question, hit.stored.passage.text) for hit in first]
    step = _SCORE_STEP if stop_if_asked else len(pairs)
    scores: list[float] = []
    for begin in range(0, len(pairs), step):
        if stop_if_asked:
            stop_if_asked()
        scores += map(float, cross_encoder.score(pairs[begin : begin + step]))
    order = sorted(range(len(first)), key=lambda i: -scores[i])
    ranked = [replace(first[i], score=old.score) for i, old in zip(order, first, strict=True)]
    return [*ranked, *hits[_RERANKED:]]


def _reranked(
    hits: Sequence[Hit], vector: np.ndarray, embedder: Embedder, weight: float
) -> tuple[list[Hit], dict[tuple[int, int, int], float]]:
    """The hits by their score and that of their nearest sentence or row, and the cosines of all of these.

    The question is one of several things that were looked for where it names places: `weight` is its share.
    """
    keys: list[tuple[int, int, int]] = []
    texts: list[str] = []
    of_hit: list[list[int]] = []
    for hit in hits[:_RERANKED]:
        passage = hit.stored.passage
        units = split_units(passage.text)
        of_hit.append(list(range(len(keys), len(keys) + len(units))))
        keys += [(hit.stored.document_id, passage.page, passage.start + unit.start) for unit in units]
        texts += [passage.text[unit.start : unit.end] for unit in units]
    if not texts:
        return list(hits), {}
    cosines = embedder.encode(texts) @ vector  # [n units]
    nearest = np.array([cosines[rows].max() if rows else cosines.min() for rows in of_hit])  # [n hits]
    spread = float(nearest.std())
    gain = (nearest - nearest.min()) / spread if spread > 0 else np.zeros(len(nearest))  # never below the others
    scored = [
        Hit(hit.stored, hit.score + weight * float(more), hit.dense, hit.lexical)
        for hit, more in zip(hits[:_RERANKED], gain, strict=True)
    ]
    ranked = [*sorted(scored, key=lambda hit: -hit.score), *hits[_RERANKED:]]
    return ranked, dict(zip(keys, cosines.tolist(), strict=True))
