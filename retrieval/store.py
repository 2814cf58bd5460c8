"""Passages, their full text and their vectors in the library's database.

The tables stand in `longleaf.ingestion.schema` beside those of the documents they belong to and go when those go.
Vectors are kept under the name of the embedder that made them, so that a change of embedder never mixes two spaces.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from longleaf.ingestion import Document, Library

from .embeddings import Embedder
from .passages import CUTTER_VERSION, Passage, cut_passages
from .scope import Scope
from .words import content_words

__all__ = ["PassageStore", "StoredPassage"]

EMBED_BATCH = 256
"""Passages embedded between two commits: what an interrupted run can lose (a few seconds' work)."""


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage with its row in the database and its document."""

    id: int
    document_id: int
    passage: Passage


class PassageStore:
    """Reads and writes the passages of one library.

    store = PassageStore(library)
    store.cut(document)
    store.embed([document], embedder)
    """

    def __init__(self, library: Library) -> None:
        self.library = library

    def cut(self, document: Document) -> int:
        """Cuts the document into passages unless that is done; returns how many there are.

        Safe when two processes do it at once: the second finds the first one's work.
        """
        if (known := self._n_passages(document)) is not None:
            return known
        texts = [(page.number, page.text) for page in self.library.pages(document)]
        passages = cut_passages(texts, document.outline)
        with self.library.transaction() as connection:
            if (known := self._n_passages(document)) is not None:
                return known
            connection.execute("DELETE FROM passages WHERE document_id = ?", (document.id,))
            connection.executemany(
                "INSERT INTO passages (document_id, page, start, end, title, section, text)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((document.id, p.page, p.start, p.end, document.title, p.section, p.text) for p in passages),
            )
            connection.execute(
                "INSERT OR REPLACE INTO passage_sets (document_id, cutter_version, revision, n_passages)"
                " VALUES (?, ?, ?, ?)",
                (document.id, CUTTER_VERSION, document.revision, len(passages)),
            )
        return len(passages)

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
        return len(self._unembedded(documents, embedder_name))

    def _unembedded(self, documents: Sequence[Document], embedder_name: str) -> list[int]:
        rows = self.library.connection().execute(
            f"SELECT id FROM passages WHERE document_id IN ({_marks(documents)}) AND NOT EXISTS"
            " (SELECT 1 FROM embeddings WHERE passage_id = passages.id AND embedder = ?) ORDER BY id",
            (*(d.id for d in documents), embedder_name),
        )
        return [int(row["id"]) for row in rows]

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
        missing = self._unembedded(documents, embedder.name)
        for begin in range(0, len(missing), EMBED_BATCH):
            batch = missing[begin : begin + EMBED_BATCH]
            rows = (
                self.library.connection()
                .execute(f"SELECT id, title, section, text FROM passages WHERE id IN ({_marks(batch)})", batch)
                .fetchall()
            )
            vectors = embedder.encode([_embedded_text(row["title"], row["section"], row["text"]) for row in rows])
            with self.library.transaction() as connection:
                # A document removed meanwhile takes its passages along: insert only for those that still stand.
                connection.executemany(
                    "INSERT OR REPLACE INTO embeddings (passage_id, embedder, vector)"
                    " SELECT id, ?, ? FROM passages WHERE id = ?",
                    (
                        (embedder.name, vector.astype(np.float16).tobytes(), row["id"])
                        for row, vector in zip(rows, vectors, strict=True)
                    ),
                )
            if progress:
                progress(begin + len(batch), len(missing))
        return len(missing)

    def vectors(self, scope: Scope, embedder_name: str) -> tuple[np.ndarray, np.ndarray]:
        """All vectors in the scope: passage ids int64 [n], vectors fp32 [n, d]; [0, 0] where there are none."""
        rows = (
            self.library.connection()
            .execute(
                f"SELECT passage_id, vector FROM embeddings JOIN passages ON passages.id = passage_id"
                f" WHERE {_inside(scope)} AND embedder = ?",
                (embedder_name,),
            )
            .fetchall()
        )
        if not rows:
            return np.empty(0, np.int64), np.empty((0, 0), np.float32)
        ids = np.fromiter((row["passage_id"] for row in rows), np.int64, len(rows))
        matrix = np.frombuffer(b"".join(row["vector"] for row in rows), np.float16).reshape(len(rows), -1)
        return ids, matrix.astype(np.float32)  # [n], [n, d]

    def full_text(self, question: str, scope: Scope) -> dict[int, float]:
        """BM25 score (higher is better) of every passage that holds a content word of the question, stemmed."""
        words = dict.fromkeys(content_words(question))
        if not words:
            return {}
        match = " OR ".join(f'"{word}"' for word in words)
        rows = self.library.connection().execute(
            "SELECT passages.id AS id, bm25(passages_text, 1.0, 0.6, 0.3, 0.1) AS score FROM passages_text"
            " JOIN passages ON passages.id = passages_text.rowid"
            f" WHERE passages_text MATCH ? AND {_inside(scope)}",
            (match,),
        )
        return {int(row["id"]): -float(row["score"]) for row in rows}

    def n_passages(self, documents: Sequence[Document]) -> int:
        """How many passages these documents have in all."""
        row = (
            self.library.connection()
            .execute(
                f"SELECT count(*) AS n FROM passages WHERE document_id IN ({_marks(documents)})",
                [d.id for d in documents],
            )
            .fetchone()
        )
        return int(row["n"])

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

    def get(self, ids: Iterable[int]) -> list[StoredPassage]:
        """The passages with these ids, in the order asked."""
        ids = list(ids)
        rows = self.library.connection().execute(
            f"SELECT id, document_id, page, start, end, section, text FROM passages WHERE id IN ({_marks(ids)})", ids
        )
        found = {
            row["id"]: StoredPassage(
                row["id"],
                row["document_id"],
                Passage(row["page"], row["start"], row["end"], row["section"], row["text"]),
            )
            for row in rows
        }
        return [found[i] for i in ids if i in found]


def _inside(scope: Scope) -> str:
    """SQL that holds for the passages of a scope; all of it numbers of our own."""
    whole = ",".join(str(d.id) for d in scope.documents if d.id not in scope.page_ranges)
    parts = [f"document_id IN ({whole})"]
    parts += [
        f"(document_id = {key} AND page BETWEEN {first} AND {last})" for key, (first, last) in scope.page_ranges.items()
    ]
    return f"({' OR '.join(parts)})"


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _embedded_text(title: str, section: str, text: str) -> str:
    heading = " · ".join(part for part in (title, section) if part)
    return f"{heading}\n{text}" if heading else text
