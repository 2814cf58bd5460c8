"""Texts of other programs in the library, behind LangChain's `VectorStore`.

The texts, their metadata and their vectors are rows of the library's database; the index is derived from them and
catches up with them before each search. Knows nothing of documents and passages: texts that were added here are not
found by a question about PDFs, and pages of PDFs are not found here. Maximal marginal relevance is that of Carbonell
and Goldstein 1998 (The use of MMR), as LangChain's `InMemoryVectorStore` computes it, which the tests compare with.
"""

import json
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from longleaf.errors import ModelError
from longleaf.ingestion import Library, default_home

from .embeddings import Embedder, LongleafEmbeddings, as_embedder
from .faiss_index import FaissIndex
from .metadata_filter import filter_sql
from .vector_index import SqliteVectors, VectorIndex

__all__ = ["Filter", "LongleafVectorStore"]

logger = logging.getLogger(__name__)

EMBED_BATCH = 256
"""Texts embedded between two commits: what an interrupted run can lose (a few seconds' work)."""

Filter = Mapping[str, Any] | Callable[[Document], bool]
"""Which texts are searched: conditions on their metadata, or a function that says yes or no to each."""


class LongleafVectorStore(VectorStore):
    """A vector store in a Longleaf library.

        store = LongleafVectorStore(home="notes")
        store.add_texts(["The harbour froze in February."], [{"page": 1}], ids=["harbour"])
        store.similarity_search("ice in winter", k=1, filter={"page": {"$lte": 10}})

    A text is known by its id within its collection and embedder: adding the id again replaces text, metadata and
    vector. Several threads and processes may use the same store at once; a process that is killed leaves whole texts.

    Vectors of two embedders are never compared. A store that is opened with another embedding (another class or model
    name: see `as_embedder`) is empty at first, while what the former one embedded stays in the library; `reembed()`
    takes that over.

    A filter is a function of a document, or a dictionary whose conditions must all hold. `{"page": 3}` compares as
    `metadata.get("page") == 3` does; `{"page": {"$gte": 3, "$lt": 9}}` holds for numbers (or strings) only. The
    operators are $eq, $ne, $gt, $gte, $lt, $lte, $in and $nin. Dictionaries are answered by the database; a function
    is called for every text of the store.

    Args:
        embedding: Makes the vectors; `LongleafEmbeddings()` by default.
        library: Where the texts are kept.
        home: The folder of the library, in place of `library`; the user's own one by default.
        collection: Texts of different collections do not see each other.

    Raises:
        ValueError: Both `library` and `home` are given, or the collection has no name or a slash in it.
    """

    def __init__(
        self,
        embedding: Embeddings | Embedder | None = None,
        *,
        library: Library | None = None,
        home: Path | str | None = None,
        collection: str = "langchain",
    ) -> None:
        if library is not None and home is not None:
            raise ValueError(f"give the library ({library.home}) or its folder ({home}), not both")
        if not collection or "/" in collection:
            raise ValueError(f"a collection needs a name without a slash, not {collection!r}")
        self._embedding = embedding if embedding is not None else LongleafEmbeddings()
        self._embedder = as_embedder(self._embedding)
        self._owns_library = library is None
        self.library = library or Library(home or default_home())
        self.collection = collection
        source = SqliteVectors.of_texts(self.library, collection, self._embedder.name)
        self._index: VectorIndex = FaissIndex(source, self.library.home / "vectors")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Saves the index, so that the next process need not build it; closes the library if the store opened it."""
        self._index.save()
        if self._owns_library:
            self.library.close()

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedding it was made with."""
        return self._embedding if isinstance(self._embedding, Embeddings) else None

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = EMBED_BATCH,
        **kwargs: Any,
    ) -> list[str]:
        """Embeds texts and keeps them, committing after each batch.

        Args:
            texts: The texts.
            metadatas: One dictionary for each text, of anything that JSON has; tuples come back as lists.
            ids: One for each text. A text without one (None) gets a new UUID; an id that the store has is replaced;
                of texts with the same id in one call the last one stays.
            batch_size: Texts embedded between two commits.
            kwargs: None.

        Returns:
            The ids, one for each text.

        Raises:
            ValueError: Lists of different lengths, an id that is no string, or metadata that JSON does not have.
            ModelError: The embedder gave no usable vector, or one of another length than those of the store.
        """
        _refuse_options("add_texts", kwargs)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        texts = list(texts)
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"there are {len(texts)} texts, but {len(values)} {name}; give one for each text")
        known = [_checked_id(ids[i] if ids is not None else None, i) for i in range(len(texts))]
        rows: dict[str, tuple[str, str]] = {}  # the last one with an id wins
        for i, (id_, text) in enumerate(zip(known, texts, strict=True)):
            rows[id_] = (_checked_text(text, f"texts[{i}]"), _to_json(metadatas[i] if metadatas is not None else {}, i))
        pending = list(rows.items())
        for begin in range(0, len(pending), batch_size):
            batch = pending[begin : begin + batch_size]
            vectors = self._embedder.encode([text for _, (text, _) in batch])
            with self.library.transaction() as connection:
                self._check_size(vectors.shape[1])
                connection.executemany(
                    "INSERT INTO texts (collection, embedder, id, text, metadata, vector) VALUES (?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (collection, embedder, id)"
                    " DO UPDATE SET text = excluded.text, metadata = excluded.metadata, vector = excluded.vector",
                    (
                        (*self._space, id_, text, metadata, vector.astype(np.float16).tobytes())
                        for (id_, (text, metadata)), vector in zip(batch, vectors, strict=True)
                    ),
                )
            logger.info("%s: %d of %d texts embedded", self.collection, begin + len(batch), len(pending))
        return known

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Removes texts by their id, or all texts of this collection and embedder.

        Args:
            ids: Ids that the store does not have are passed over; None removes everything, as LangChain has it.
            kwargs: None.

        Returns:
            True: none of them is in the store any more.
        """
        _refuse_options("delete", kwargs)
        with self.library.transaction() as connection:
            if ids is None:
                connection.execute("DELETE FROM texts WHERE collection = ? AND embedder = ?", self._space)
            else:
                connection.executemany(
                    "DELETE FROM texts WHERE collection = ? AND embedder = ? AND id = ?",
                    ((*self._space, id_) for id_ in ids),
                )
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The texts with these ids, in the order asked and each once; ids that the store does not have are left out."""
        connection = self.library.connection()
        sql = "SELECT id, text, metadata FROM texts WHERE collection = ? AND embedder = ? AND id = ?"
        rows = (connection.execute(sql, (*self._space, id_)).fetchone() for id_ in dict.fromkeys(ids))
        return [_document(row) for row in rows if row is not None]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """The `k` texts that come nearest to the question, best first.

        Args:
            query: In plain words.
            k: How many texts to return at most.
            filter: Which texts to search.
            kwargs: None.
        """
        _refuse_options("similarity_search", kwargs)
        return [document for document, _ in self.similarity_search_with_score(query, k, filter=filter)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, each with its cosine to the question, in [-1, 1]: higher is nearer."""
        _refuse_options("similarity_search_with_score", kwargs)
        return self._with_score(self._embedder.encode_question(query), k, filter)

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """As `similarity_search`, from a vector of any length but zero."""
        _refuse_options("similarity_search_by_vector", kwargs)
        return [document for document, _ in self._with_score(_unit(embedding), k, filter)]

    def similarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`, from a vector of any length but zero."""
        return self._with_score(_unit(embedding), k, filter)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """Texts that are near the question and unlike each other, in the order they were chosen.

        Args:
            query: In plain words.
            k: How many texts to return at most.
            fetch_k: How many of the nearest texts to choose from.
            lambda_mult: In [0, 1]; 1 minds nearness alone, 0 difference alone.
            filter: Which texts to search.
            kwargs: None.
        """
        _refuse_options("max_marginal_relevance_search", kwargs)
        return self._marginal(self._embedder.encode_question(query), k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,  # noqa: A002  LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, from a vector of any length but zero."""
        _refuse_options("max_marginal_relevance_search_by_vector", kwargs)
        return self._marginal(_unit(embedding), k, fetch_k, lambda_mult, filter)

    def reembed(self) -> int:
        """Embeds what other embedders have left in this collection, and drops their vectors.

        A text whose id this store has already is dropped without being embedded: the store's own is taken as the
        newer one. Goes on where an interrupted run stopped.

        Returns:
            How many texts were embedded.
        """
        connection = self.library.connection()
        where = "collection = ? AND embedder <> ?"
        n_total = connection.execute(f"SELECT count(*) FROM texts WHERE {where}", self._space).fetchone()[0]
        n_seen, n_embedded = 0, 0
        while rows := connection.execute(
            f"SELECT key, id, text FROM texts WHERE {where} ORDER BY key DESC LIMIT ?", (*self._space, EMBED_BATCH)
        ).fetchall():
            newest: dict[str, Any] = {}
            for row in rows:  # of several embedders' texts with one id the one added last
                newest.setdefault(row["id"], row)
            own = "SELECT 1 FROM texts WHERE collection = ? AND embedder = ? AND id = ?"
            taken = [r for i, r in newest.items() if not connection.execute(own, (*self._space, i)).fetchone()]
            vectors = self._embedder.encode([row["text"] for row in taken])
            with self.library.transaction():
                if taken:
                    self._check_size(vectors.shape[1])
                # Text and key are asked again: somebody may have changed or removed a text while it was being embedded.
                for row, vector in zip(taken, vectors, strict=True):
                    n_embedded += connection.execute(
                        "INSERT INTO texts (collection, embedder, id, text, metadata, vector)"
                        " SELECT collection, ?, id, text, metadata, ? FROM texts WHERE key = ? AND text = ?"
                        " ON CONFLICT (collection, embedder, id) DO NOTHING",
                        (self._embedder.name, vector.astype(np.float16).tobytes(), row["key"], row["text"]),
                    ).rowcount
                connection.executemany(
                    "DELETE FROM texts WHERE key = ? AND text = ?", ((row["key"], row["text"]) for row in rows)
                )
            n_seen += len(rows)
            logger.info("%s: %d of %d texts embedded again", self.collection, n_seen, n_total)
        return n_embedded

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Opens a store and adds texts to it.

        Args:
            texts: As for `add_texts`.
            embedding: As for the class.
            metadatas: As for `add_texts`.
            ids: As for `add_texts`.
            kwargs: `library`, `home` and `collection`, as for the class.
        """
        store = cls(embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # A cosine below 0 says no more than 0 does; one above 1 is rounding.
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    @property
    def _space(self) -> tuple[str, str]:
        return self.collection, self._embedder.name

    def _size(self) -> int | None:
        """Length of the store's vectors; None when it is empty."""
        sql = "SELECT length(vector) / 2 AS size FROM texts WHERE collection = ? AND embedder = ? LIMIT 1"
        row = self.library.connection().execute(sql, self._space).fetchone()
        return None if row is None else int(row["size"])

    def _check_size(self, size: int) -> None:
        known = self._size()
        if known not in (None, size):
            raise ModelError(
                f"collection {self.collection!r} holds vectors of {known} numbers by {self._embedder.name}, and this "
                f"one has {size}; if the embedding is another one than before, give it a name of its own "
                "(as_embedder(embedding, name=...)), or use another collection"
            )

    def _nearest(self, vector: np.ndarray, k: int, filter: Filter | None) -> list[tuple[int, float]]:  # noqa: A002
        """Keys and cosines of the `k` nearest texts, best first."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if self._size() is None:
            return []
        self._check_size(len(vector))
        keys = self._keys(filter) if filter else None
        if keys is not None and not keys.size:
            return []
        found = self._index.search(vector, k, keys)
        return [(int(key), float(score)) for key, score in zip(found.keys, found.scores, strict=True)]

    def _with_score(
        self,
        vector: np.ndarray,
        k: int,
        filter: Filter | None,  # noqa: A002
    ) -> list[tuple[Document, float]]:
        nearest = self._nearest(vector, k, filter)
        rows = self._rows([key for key, _ in nearest])
        return [(_document(rows[key]), score) for key, score in nearest if key in rows]

    def _marginal(
        self,
        question: np.ndarray,
        k: int,
        fetch_k: int,
        lambda_mult: float,
        filter: Filter | None,  # noqa: A002
    ) -> list[Document]:
        if not 0.0 <= lambda_mult <= 1.0:
            raise ValueError(f"lambda_mult must be in [0, 1], not {lambda_mult}")
        if min(k, fetch_k) < 1:
            raise ValueError(f"k and fetch_k must be at least 1, not {k} and {fetch_k}")
        nearest = self._nearest(question, fetch_k, filter)
        by_key = self._rows([key for key, _ in nearest])
        rows = [by_key[key] for key, _ in nearest if key in by_key]
        if not rows:
            return []
        vectors = np.stack([_unit(np.frombuffer(row["vector"], np.float16)) for row in rows])  # [n, d] fp32
        return [_document(rows[i]) for i in _choose_marginal(question, vectors, k, lambda_mult)]

    def _rows(self, keys: list[int]) -> dict[int, sqlite3.Row]:
        """Texts by key, less those that were removed since they were found."""
        rows = self.library.connection().execute(
            "SELECT key, id, text, metadata, vector FROM texts WHERE key IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return {int(row["key"]): row for row in rows}

    def _keys(self, filter: Filter) -> np.ndarray:  # noqa: A002
        """Keys of the texts that a filter lets through, int64 [n]."""
        where = "collection = ? AND embedder = ?"
        if isinstance(filter, Mapping):
            condition, values = filter_sql(filter)
            sql = f"SELECT key FROM texts WHERE {where} AND {condition}"
            keys = [int(row["key"]) for row in self.library.connection().execute(sql, (*self._space, *values))]
        else:
            sql = f"SELECT key, id, text, metadata FROM texts WHERE {where}"
            rows = self.library.connection().execute(sql, self._space)
            keys = [int(row["key"]) for row in rows if filter(_document(row))]
        return np.array(keys, np.int64)


def _refuse_options(method: str, options: Mapping[str, Any]) -> None:
    # LangChain hands on every keyword it is given: a misspelt one must not change the result without a word.
    if options:
        raise TypeError(f"LongleafVectorStore.{method} has no option {', '.join(sorted(options))}")


def _checked_id(id_: object, index: int) -> str:
    if not id_:
        return str(uuid.uuid4())
    if isinstance(id_, str):
        return _checked_text(id_, f"ids[{index}]")
    raise ValueError(f"ids[{index}] is {id_!r}; an id must be a string")


def _checked_text(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(
            f"{name} has half a character ({text[exc.start]!r} at {exc.start}) and can't be kept; "
            'replace such characters, e.g. with text.encode(errors="replace").decode()'
        ) from exc
    return text


def _to_json(metadata: Mapping[str, Any], index: int) -> str:
    for key, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as exc:
            raise ValueError(
                f"metadatas[{index}][{key!r}] is {value!r:.60}, which JSON does not have ({exc}); "
                "make it a string or a number, or leave it out"
            ) from exc
    other = [key for key in metadata if not isinstance(key, str)]
    if other:
        raise ValueError(f"metadatas[{index}] has the key {other[0]!r}; keys must be strings")
    return json.dumps(metadata)


def _document(row: sqlite3.Row) -> Document:
    return Document(id=row["id"], page_content=row["text"], metadata=json.loads(row["metadata"]))


def _unit(vector: Sequence[float] | np.ndarray) -> np.ndarray:
    """The vector with length 1, fp32 [d]."""
    values = np.asarray(vector, np.float64)
    norm = float(np.linalg.norm(values))
    if values.ndim != 1 or not np.isfinite(norm) or norm == 0.0:
        raise ValueError(f"a vector of finite numbers that are not all zero is needed, not one of shape {values.shape}")
    return np.asarray(values / norm, np.float32)


def _choose_marginal(question: np.ndarray, vectors: np.ndarray, k: int, lambda_mult: float) -> list[int]:
    """Maximal marginal relevance: rows of `vectors` in the order chosen.

    Args:
        question: fp32 [d], length 1.
        vectors: fp32 [n, d], length 1; n at least 1.
        k: How many at most.
        lambda_mult: Weight of nearness to the question against difference from what is chosen.
    """
    relevance = vectors @ question  # [n]
    redundancy = np.full(len(vectors), -np.inf, np.float32)  # [n], cosine to the nearest one chosen
    is_free = np.ones(len(vectors), bool)  # [n]
    chosen = [int(relevance.argmax())]
    while len(chosen) < min(k, len(vectors)):
        is_free[chosen[-1]] = False
        redundancy = np.maximum(redundancy, vectors @ vectors[chosen[-1]])
        worth = lambda_mult * relevance - (1.0 - lambda_mult) * redundancy
        chosen.append(int(np.where(is_free, worth, -np.inf).argmax()))
    return chosen
