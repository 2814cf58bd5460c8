"""Finds passages: dense (FAISS) and full text (SQLite FTS5), fused by the sum of their z-scores.

On 240 XQuAD paragraphs the sum of z-scores reached recall@1 .949, reciprocal rank fusion .931 and either ranker alone
.885-.929 (measured with this embedder and BM25).
"""

from dataclasses import dataclass

import faiss
import numpy as np

from .embeddings import Embedder
from .scope import Scope
from .store import PassageStore, StoredPassage

__all__ = ["Found", "Hit", "search"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found.

    Attributes:
        stored: The passage.
        score: Sum of the two z-scores; only the order means something.
        dense: Cosine of question and passage; NaN where it has no vector.
        lexical: BM25, higher is better; 0 where no word matches.
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
        method: How it was searched, for the receipt: "full text and vectors", "full text", …
        n_passages: Passages in the scope.
        n_embedded: Of these, the ones with a vector by this embedder.
    """

    hits: list[Hit]
    method: str
    n_passages: int
    n_embedded: int


def search(question: str, scope: Scope, store: PassageStore, embedder: Embedder | None, top_k: int = 12) -> Found:
    """The `top_k` best passages of these documents.

    Args:
        question: In plain words.
        scope: Where to look; the passages of its documents must have been cut.
        store: The passages.
        embedder: Embeds the question; None searches by full text alone.
        top_k: How many passages to return at most.
    """
    lexical = store.full_text(question, scope)
    dense = _dense(question, scope, store, embedder) if embedder else {}
    n_passages = store.n_passages(scope.documents)
    method = "full text and vectors" if dense else "full text"
    ids = sorted(lexical.keys() | dense.keys())
    if not ids:
        return Found([], method, n_passages, len(dense))
    # A passage without a matching word has a BM25 of 0; one without a vector stands at the mean of the others.
    lexical_scores = np.array([lexical.get(i, 0.0) for i in ids])
    dense_scores = np.array([dense.get(i, np.nan) for i in ids])
    unmatched = np.zeros(n_passages - len(ids)) if n_passages > len(ids) else np.empty(0)
    score = _z(lexical_scores, np.concatenate([lexical_scores, unmatched])) + np.nan_to_num(
        _z(dense_scores, dense_scores)
    )
    best = np.argsort(-score, kind="stable")[:top_k]
    stored = {passage.id: passage for passage in store.get(ids[i] for i in best)}
    hits = [
        Hit(stored[ids[i]], float(score[i]), float(dense_scores[i]), float(lexical_scores[i]))
        for i in best
        if ids[i] in stored
    ]
    return Found(hits, method, n_passages, len(dense))


def _dense(question: str, scope: Scope, store: PassageStore, embedder: Embedder) -> dict[int, float]:
    ids, vectors = store.vectors(scope, embedder.name)
    if not len(ids):
        return {}
    # Exact search over the vectors just read: building it takes milliseconds for thousands of passages, and an index
    # that is made from the truth can't be out of date.
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    scores, rows = index.search(embedder.encode([question]), len(ids))
    return {int(ids[row]): float(score) for row, score in zip(rows[0], scores[0], strict=True)}


def _z(values: np.ndarray, population: np.ndarray) -> np.ndarray:
    known = population[~np.isnan(population)]
    spread = float(known.std()) if known.size else 0.0
    if spread == 0.0:
        return np.zeros_like(values)
    return np.asarray((values - known.mean()) / spread)
