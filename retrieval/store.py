"""Passages, their full text and their vectors in the library's database.

The tables stand in `longleaf.ingestion.schema` beside those of the documents they belong to and go when those go.
Vectors are kept under the name of the embedder that made them, so that a change of embedder never mixes two spaces.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from longleaf.errors import DocumentError, DocumentNotFoundError, LongleafError
from longleaf.ingestion import Document, Library, OutlineEntry, Page

from .embeddings import Embedder
from .faiss_index import FaissIndex, index_path
from .passages import CUTTER_VERSION, Passage, cut_passages
from .pgvector_index import PgVectorIndex
from .question import match_expression
from .scope import Scope
from .vector_index import Neighbours, SqliteVectors, VectorIndex

__all__ = ["Matches", "Nearest", "PassageStore", "StoredPassage", "VectorIndexFor", "vector_index_for"]

EMBED_BATCH = 256
"""Passages embedded between two commits: what an interrupted run can lose (a few seconds' work)."""
MAX_MATCHES = 2_000
"""Passages that full text hands out, the best of all that match."""
MAX_NEAREST = 400
"""Passages that a vector index is asked for."""
EXACT_FROM_SQLITE = 20_000
"""Up to so many vectors are read for a question and compared directly (some 60 ms); more go through the index."""

Cutter = Callable[[Iterable[Page], Sequence[OutlineEntry]], list[Passage]]
MAX_POSTINGS = 20_000
"""Full text scores no more passages for a question (some 30 ms): in a large library common words are left out."""

_WEIGHTS = "1.0, 0.6, 0.3, 0.1"  # of words in text, header, section, title
_BM25 = f"bm25(passages_text, {_WEIGHTS})"  # the lower the better
_WITHOUT_VECTOR = "NOT EXISTS (SELECT 1 FROM embeddings WHERE passage_id = passages.id AND embedder = ?)"

VectorIndexFor = Callable[[Library, str], VectorIndex]
"""Makes the index of the passages' vectors by the embedder of this name."""


def vector_index_for(vector_store: str | None) -> VectorIndexFor | None:
    """The kind of index that a setting asks for.

    Args:
        vector_store: `postgresql://…` for a PostgreSQL with pgvector; None for the embedded index.

    Raises:
        LongleafError: Something else.
    """
    if vector_store is None:
        return None
    if not vector_store.startswith(("postgresql://", "postgres://")):
        raise LongleafError(f"{vector_store!r} is no vector store that Longleaf knows; it takes postgresql://…")

    def made(library: Library, embedder_name: str) -> VectorIndex:
        return PgVectorIndex(SqliteVectors.of_passages(library, embedder_name), vector_store)

    return made


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage with its row in the database and its document."""

    id: int
    document_id: int
    passage: Passage


@dataclass(frozen=True, slots=True)
class Nearest:
    """Passages near a vector.

    Attributes:
        keys: Their ids, int64 [n], in no order.
        scores: Their cosines, fp32 [n].
        mean: Of the cosines of all vectors in scope, as near as the index knows it.
        spread: Their standard deviation, likewise.
        method: How they were found, for receipts.
    """

    keys: np.ndarray
    scores: np.ndarray
    mean: float
    spread: float
    method: str


@dataclass(frozen=True, slots=True)
class Matches:
    """Passages that full text found.

    Attributes:
        scores: BM25 by id, higher is better: of the best `MAX_MATCHES`, best first.
        total: Sum of the scores of all that match.
        squares: Sum of their squares.
    """

    scores: Mapping[int, float]
    total: float
    squares: float


class PassageStore:
    """Reads and writes the passages of one library.

        store = PassageStore(library)
        store.cut(document)
        store.embed([document], embedder)

    Args:
        library: Where documents and passages are.
        vector_index: Makes the index for vectors; faiss beside the library by default, which small scopes pass by.
        cutter: Cuts pages into passages; another one than the default is for comparing them, in a library of its own.
    """

    def __init__(
        self, library: Library, vector_index: VectorIndexFor | None = None, *, cutter: Cutter = cut_passages
    ) -> None:
        self.library = library
        self._cutter = cutter
        self._vector_index = vector_index
        self._indexes: dict[str, VectorIndex] = {}
        self._frequencies: dict[str, int] = {}
        self._heads: dict[int, str] = {}
        self._embedded: set[tuple[int, int, str]] = set()  # documents known to have all their vectors

    def cut(self, document: Document) -> int:
        """Cuts the document into passages unless that is done; returns how many there are.

        Safe when two processes do it at once: the second finds the first one's work.

        Raises:
            DocumentError: It was not read to its end.
            DocumentNotFoundError: It was removed meanwhile.
        """
        if document.state != "ready":
            raise DocumentError(document.name, "was not read to its end: add it again, and it goes on there")
        if (known := self._n_passages(document)) is not None:
            return known
        passages = self._cutter(self.library.pages(document, boxes=True), document.outline)
        with self.library.transaction() as connection:
            if (known := self._n_passages(document)) is not None:
                return known
            if not connection.execute("SELECT 1 FROM documents WHERE id = ?", (document.id,)).fetchone():
                raise DocumentNotFoundError(f"{document.name}: no longer in the library")
            connection.execute("DELETE FROM passages WHERE document_id = ?", (document.id,))
            connection.executemany(
                "INSERT INTO passages (document_id, page, start, end, title, section, text, header, kind)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (document.id, p.page, p.start, p.end, document.title, p.section, p.text, p.header, p.kind)
                    for p in passages
                ),
            )
            connection.execute(
                "INSERT OR REPLACE INTO passage_sets (document_id, cutter_version, revision, n_passages)"
                " VALUES (?, ?, ?, ?)",
                (document.id, CUTTER_VERSION, document.revision, len(passages)),
            )
        return len(passages)

    def uncut(self, documents: Sequence[Document]) -> list[Document]:
        """Those of these documents that have to be cut (again)."""
        rows = self.library.connection().execute(
            "SELECT document_id, revision FROM passage_sets WHERE cutter_version = ?", (CUTTER_VERSION,)
        )
        known = {(row["document_id"], row["revision"]) for row in rows}
        return [document for document in documents if (document.id, document.revision) not in known]

    def _n_passages(self, document: Document) -> int | None:
        """How many passages are stored; None where they have to be cut (again), as after OCR has read more pages."""
        row = (
            self.library.connection()
            .execute(
                "SELECT n_passages FROM passage_sets WHERE document_id = ? AND cutter_version = ? AND revision = ?",
                (document.id, CUTTER_VERSION, document.revision),
            )
            .fetchone()
        )
        return None if row is None else int(row["n_passages"])

    def n_unembedded(self, documents: Sequence[Document], embedder_name: str) -> int:
        """How many passages of these documents have no vector by this embedder yet."""
        return len(self.unembedded(Scope.of(documents), embedder_name))

    def unembedded(self, scope: Scope, embedder_name: str, limit: int = -1) -> list[int]:
        """Ids of the passages in scope that have no vector by this embedder yet, in order; the first `limit` of them.

        Args:
            scope: Where to look.
            embedder_name: Whose vectors.
            limit: Negative for all.
        """
        inside, values = _inside(self._not_embedded(scope, embedder_name))
        rows = self.library.connection().execute(
            f"SELECT id FROM passages WHERE {inside} AND {_WITHOUT_VECTOR} ORDER BY id LIMIT ?",
            (*values, embedder_name, limit),
        )
        return [int(row["id"]) for row in rows]

    def _not_embedded(self, scope: Scope, embedder_name: str) -> Scope:
        """The scope without documents that are known to have all their vectors."""
        left = tuple(d for d in scope.documents if (d.id, d.revision, embedder_name) not in self._embedded)
        return Scope(left, scope.page_ranges)

    def embed(
        self, documents: Sequence[Document], embedder: Embedder, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embeds the passages that have no vector yet, committing as it goes; returns how many it embedded.

        What is embedded is the passage under its document's title and section path: "Net sales" alone says neither
        whose nor where.

        Args:
            documents: Documents whose passages are cut.
            embedder: Makes the vectors; its `name` is stored with them.
            progress: Called with (passages done, passages in all).
        """
        missing = self.unembedded(Scope.of(documents), embedder.name)
        for begin in range(0, len(missing), EMBED_BATCH):
            batch = missing[begin : begin + EMBED_BATCH]
            self.embed_passages(batch, embedder)
            if progress:
                progress(begin + len(batch), len(missing))
        return len(missing)

    def embed_passages(self, ids: Sequence[int], embedder: Embedder) -> None:
        """Embeds those of these passages that have no vector yet."""
        rows = (
            self.library.connection()
            .execute(
                "SELECT id, title, section, header, text FROM passages"
                f" WHERE id IN (SELECT value FROM json_each(?)) AND {_WITHOUT_VECTOR}",
                (json.dumps(list(ids)), embedder.name),
            )
            .fetchall()
        )
        if not rows:
            return
        vectors = embedder.encode([_embedded_text(r["title"], r["section"], r["header"], r["text"]) for r in rows])
        with self.library.transaction() as connection:
            # A passage may have gone meanwhile, and another one have been given its id: that one waits for its own.
            connection.executemany(
                "INSERT OR REPLACE INTO embeddings (passage_id, embedder, vector) SELECT id, ?, ? FROM passages"
                " WHERE id = ? AND title = ? AND section = ? AND header = ? AND text = ?",
                ((embedder.name, v.astype(np.float16).tobytes(), *row) for row, v in zip(rows, vectors, strict=True)),
            )

    def count(self, scope: Scope) -> int:
        """How many passages are in scope."""
        whole = [document for document in scope.documents if document.id not in scope.page_ranges]
        n = self.n_passages(whole)
        if scope.page_ranges:
            ranged = tuple(document for document in scope.documents if document.id in scope.page_ranges)
            inside, values = _inside(Scope(ranged, scope.page_ranges))
            sql = f"SELECT count(*) FROM passages WHERE {inside}"
            n += int(self.library.connection().execute(sql, values).fetchone()[0])
        return n

    def n_embedded(self, scope: Scope, embedder_name: str) -> int:
        """How many passages in scope have a vector by this embedder."""
        waiting = self._not_embedded(scope, embedder_name)
        inside, values = _inside(waiting)
        rows = self.library.connection().execute(
            "SELECT document_id, count(*) AS n FROM passages"
            f" WHERE {inside} AND {_WITHOUT_VECTOR} GROUP BY document_id",
            (*values, embedder_name),
        )
        missing = {row["document_id"]: int(row["n"]) for row in rows}
        uncut = {document.id for document in self.uncut(waiting.documents)}
        self._embedded.update(
            (d.id, d.revision, embedder_name)
            for d in waiting.documents
            if d.id not in missing and d.id not in scope.page_ranges and d.id not in uncut
        )
        return self.count(scope) - sum(missing.values())

    def index(self, embedder_name: str) -> VectorIndex:
        """The index of all passages' vectors by this embedder."""
        if embedder_name not in self._indexes:
            if self._vector_index:
                made = self._vector_index(self.library, embedder_name)
            else:
                source = SqliteVectors.of_passages(self.library, embedder_name)
                made = FaissIndex(source, self.library.home / "vectors")
            self._indexes.setdefault(embedder_name, made)
        return self._indexes[embedder_name]

    def nearest(self, queries: np.ndarray, scope: Scope, embedder_name: str, also: Sequence[int] = ()) -> list[Nearest]:
        """For each query the passages in scope that are nearest to it.

        Args:
            queries: fp32 [m, d], L2-normalised.
            scope: Where to look.
            embedder_name: Whose vectors.
            also: Ids whose cosines are wanted in any case.
        """
        if self._vector_index is None and self.n_embedded(scope, embedder_name) <= EXACT_FROM_SQLITE:
            keys, vectors = self.vectors(scope, embedder_name)
            if not len(keys):
                return [Nearest(keys, np.empty(0, np.float32), 0.0, 0.0, "none made yet")] * len(queries)
            method = f"exact, {len(keys):,} vectors"
            cosines = queries @ vectors.T  # [m, n]
            return [Nearest(keys, scores, float(scores.mean()), float(scores.std()), method) for scores in cosines]
        index, within = self.index(embedder_name), self._keys(scope)
        found = [index.search(query, MAX_NEAREST, within) for query in queries]
        method = index.describe()
        return [_with_these(index, query, near, also, method) for query, near in zip(queries, found, strict=True)]

    def close(self) -> None:
        """Let go of the indexes; they are opened again when they are needed."""
        indexes, self._indexes = list(self._indexes.values()), {}
        for index in indexes:
            index.close()

    def save_indexes(self) -> None:
        """Bring saved indexes up to date, so that nothing of a removed document stays in them."""
        folder = self.library.home / "vectors"
        sql = "SELECT DISTINCT space FROM vector_changes WHERE space NOT GLOB 'texts/*'"
        rows = self.library.connection().execute(sql).fetchall()
        for space in (row["space"] for row in rows):
            if self._vector_index is not None or index_path(folder, space).exists():
                self.index(space).save()
            else:  # a small library needs no index: nobody will read this log
                source = SqliteVectors.of_passages(self.library, space)
                source.forget_changes(source.last_seq())

    def _keys(self, scope: Scope) -> np.ndarray | None:
        """Ids of all passages in scope; None where that is every passage of the library."""
        if self._is_whole(scope):
            return None
        inside, values = _inside(scope)
        rows = self.library.connection().execute(f"SELECT id FROM passages WHERE {inside}", values).fetchall()
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def vectors(self, scope: Scope, embedder_name: str) -> tuple[np.ndarray, np.ndarray]:
        """All vectors in the scope: passage ids int64 [n], vectors fp32 [n, d]; [0, 0] where there are none."""
        inside, values = _inside(scope)
        rows = (
            self.library.connection()
            .execute(
                "SELECT passage_id, vector FROM embeddings JOIN passages ON passages.id = passage_id"
                f" WHERE {inside} AND embedder = ?",
                (*values, embedder_name),
            )
            .fetchall()
        )
        if not rows:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        ids = np.fromiter((row["passage_id"] for row in rows), np.int64, len(rows))
        matrix = np.frombuffer(b"".join(row["vector"] for row in rows), np.float16).reshape(len(rows), -1)
        return ids, matrix.astype(np.float32)  # [n], [n, d]

    def full_text(self, terms: Sequence[str], scope: Scope) -> Matches:
        """The passages in scope that hold one of the terms, stemmed: BM25 of the best, and of all in sum.

        Where the terms are common in a large library, only the rarest of them are looked for.
        """
        if self.count(scope) > MAX_POSTINGS:
            terms = self._rarest(terms)
        if not terms:
            return Matches({}, 0.0, 0.0)
        connection = self.library.connection()
        values: list[object] = [match_expression(terms)]
        if self._is_whole(scope):
            source = "passages_text WHERE passages_text MATCH ?"
            weighted = f"{source} AND rank MATCH 'bm25({_WEIGHTS})'"
            best = f"SELECT rowid AS id, rank AS score FROM {weighted} ORDER BY rank LIMIT ?"
        else:
            inside, ids = _inside(scope)
            # Passages of a document lie side by side: within these bounds FTS5 passes over the others, which it does
            # not when it orders by its own `rank`.
            low, high = connection.execute(f"SELECT min(id), max(id) FROM passages WHERE {inside}", ids).fetchone()
            source = (
                "passages_text JOIN passages ON passages.id = passages_text.rowid WHERE passages_text MATCH ?"
                f" AND passages_text.rowid BETWEEN ? AND ? AND {inside}"
            )
            values += [low, high, *ids]
            best = f"SELECT passages.id AS id, {_BM25} AS score FROM {source} ORDER BY score LIMIT ?"
        scores = {int(row["id"]): -float(row["score"]) for row in connection.execute(best, (*values, MAX_MATCHES))}
        total, squares = sum(scores.values()), sum(score * score for score in scores.values())
        if len(scores) == MAX_MATCHES:
            scored = f"WITH scored AS MATERIALIZED (SELECT {_BM25} AS score FROM {source})"
            sql = f"{scored} SELECT total(score), total(score * score) FROM scored"
            total, squares = connection.execute(sql, values).fetchone()
        return Matches(scores, abs(total), squares)

    def _rarest(self, terms: Sequence[str]) -> list[str]:
        """The terms that the fewest passages hold, so many that these passages are not too many; at least two."""
        sql = "SELECT count(*) FROM passages_text WHERE passages_text MATCH ?"
        connection = self.library.connection()
        for term in terms:
            if term not in self._frequencies:
                count = connection.execute(sql, (match_expression([term]),)).fetchone()[0]
                self._frequencies[term] = int(count)  # as it was when the term was first asked for: near enough
        kept: list[str] = []
        total = 0
        for term in sorted(terms, key=lambda t: self._frequencies[t]):
            total += self._frequencies[term]
            if len(kept) >= 2 and total > MAX_POSTINGS:
                break
            kept.append(term)
        return kept

    def documents_of(self, ids: np.ndarray) -> np.ndarray:
        """The document ids of these passages, int64 [n]."""
        keys = ids.tolist()
        rows = self.library.connection().execute(
            "SELECT id, document_id FROM passages WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(keys),)
        )
        owner = {row["id"]: row["document_id"] for row in rows}
        return np.array([owner.get(key, -1) for key in keys], np.int64)

    def heads(self, documents: Sequence[Document], n_chars: int) -> Mapping[int, str]:
        """The beginning of each document's first page, in lower case, by its id."""
        missing = [document.id for document in documents if document.id not in self._heads]
        if missing:
            rows = self.library.connection().execute(
                "SELECT document_id, substr(text, 1, ?) AS head FROM pages WHERE number = 1 AND document_id IN"
                " (SELECT value FROM json_each(?))",
                (n_chars, json.dumps(missing)),
            )
            self._heads |= {row["document_id"]: row["head"].casefold() for row in rows}
        return {document.id: self._heads.get(document.id, "") for document in documents}

    def n_passages(self, documents: Sequence[Document]) -> int:
        """How many passages these documents have in all."""
        row = (
            self.library.connection()
            .execute(
                "SELECT sum(n_passages) AS n FROM passage_sets WHERE document_id IN (SELECT value FROM json_each(?))",
                (json.dumps([d.id for d in documents]),),
            )
            .fetchone()
        )
        return int(row["n"] or 0)

    def _is_whole(self, scope: Scope) -> bool:
        """Whether every passage of the library is in scope."""
        whole = {d.id for d in scope.documents if d.id not in scope.page_ranges}
        rows = self.library.connection().execute("SELECT document_id FROM passage_sets")
        return whole.issuperset(row["document_id"] for row in rows)

    def token_count(self, document: Document, tokenizer_name: str) -> int | None:
        """The document's tokens as counted before; None where they have not been, or more pages were read since."""
        row = (
            self.library.connection()
            .execute(
                "SELECT n_tokens FROM token_counts WHERE document_id = ? AND tokenizer = ? AND revision = ?",
                (document.id, tokenizer_name, document.revision),
            )
            .fetchone()
        )
        return None if row is None else int(row["n_tokens"])

    def token_counts(self, tokenizer_name: str) -> dict[int, int]:
        """The tokens of all documents whose tokens are known, as `token_count` gives them, by the document's id."""
        rows = self.library.connection().execute(
            "SELECT document_id, n_tokens FROM token_counts JOIN documents ON documents.id = document_id"
            " WHERE tokenizer = ? AND token_counts.revision = documents.revision",
            (tokenizer_name,),
        )
        return {int(row["document_id"]): int(row["n_tokens"]) for row in rows.fetchall()}

    def keep_token_count(self, document: Document, tokenizer_name: str, n_tokens: int) -> None:
        """Keeps the count for `token_count`."""
        with self.library.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO token_counts (document_id, tokenizer, revision, n_tokens) VALUES (?, ?, ?, ?)",
                (document.id, tokenizer_name, document.revision, n_tokens),
            )

    def spans(self, document: Document, page_number: int) -> list[tuple[int, int]]:
        """The spans (start, end) of the passages on a page, in order; neighbours may overlap by a sentence."""
        rows = self.library.connection().execute(
            "SELECT start, end FROM passages WHERE document_id = ? AND page = ? ORDER BY start",
            (document.id, page_number),
        )
        return [(int(row["start"]), int(row["end"])) for row in rows]

    def section_around(self, stored: StoredPassage, n_each_way: int = 40) -> list[StoredPassage]:
        """The passages around one that belong to the same section, itself among them, in order.

        Args:
            stored: The passage.
            n_each_way: Most passages before and after it.
        """
        first, last = stored.id - n_each_way, stored.id + n_each_way
        rows = self.library.connection().execute(
            "SELECT id, section FROM passages WHERE document_id = ? AND id BETWEEN ? AND ? ORDER BY id",
            (stored.document_id, first, last),
        )
        around = [(int(row["id"]), row["section"] == stored.passage.section) for row in rows]
        at = next((i for i, (key, _) in enumerate(around) if key == stored.id), None)
        if at is None:  # removed meanwhile
            return [stored]
        begin, end = at, at
        while begin > 0 and around[begin - 1][1]:
            begin -= 1
        while end + 1 < len(around) and around[end + 1][1]:
            end += 1
        return self.get(key for key, _ in around[begin : end + 1])

    def get(self, ids: Iterable[int]) -> list[StoredPassage]:
        """The passages with these ids, in the order asked."""
        ids = list(ids)
        rows = self.library.connection().execute(
            "SELECT id, document_id, page, start, end, section, text, header, kind FROM passages"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(ids),),
        )
        found = {
            row["id"]: StoredPassage(
                row["id"],
                row["document_id"],
                Passage(row["page"], row["start"], row["end"], row["section"], row["text"], row["header"], row["kind"]),
            )
            for row in rows
        }
        return [found[i] for i in ids if i in found]


def _with_these(index: VectorIndex, query: np.ndarray, near: Neighbours, also: Sequence[int], method: str) -> Nearest:
    """What the index found, and the cosines of the passages that are wanted besides."""
    keys, scores = near.keys, near.scores
    if missing := sorted(set(also) - set(keys.tolist())):
        more = index.search(query, len(missing), np.array(missing, np.int64))
        keys, scores = np.concatenate([keys, more.keys]), np.concatenate([scores, more.scores])
    return Nearest(keys, scores, near.mean, near.spread, method)


def _inside(scope: Scope) -> tuple[str, list[str]]:
    """SQL that holds for the passages of a scope, and its values."""
    by_range: dict[tuple[int, int] | None, list[int]] = {None: []}
    for document in scope.documents:
        by_range.setdefault(scope.page_ranges.get(document.id), []).append(document.id)
    parts = [
        "document_id IN (SELECT value FROM json_each(?))"
        + (f" AND page BETWEEN {pages[0]} AND {pages[1]}" if pages else "")
        for pages in by_range
    ]
    return f"({' OR '.join(parts)})", [json.dumps(ids) for ids in by_range.values()]


def _embedded_text(title: str, section: str, header: str, text: str) -> str:
    heading = " · ".join(part for part in (title, section) if part)
    return "\n".join(part for part in (heading, header, text) if part)
