"""Search over a real library with the real embedder where its weights are here, and with a counting one elsewhere."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from longleaf.ingestion import Document, Library
from longleaf.model import is_installed
from longleaf.retrieval import LongleafEmbeddings, PassageStore, Scope, search

PAGES = [
    "The harbour froze in February. Ships waited outside for nine days until tugs broke a channel.",
    "Wages of the crane drivers were raised by four percent after talks with their union.",
    "The invoice numbered 88-4172 was paid on 3 May to the Odense steel works.",
    "A new ferry to the islands calls twice a day and carries bicycles free of charge.",
]


class LetterEmbedder:
    """Counts letters: quick, deterministic and good enough to tell texts apart."""

    def __init__(self, name: str = "letters@1") -> None:
        self.name = name
        self.n_encoded = 0

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        self.n_encoded += len(texts)
        counts = np.array([[text.lower().count(letter) + 0.01 for letter in "abcdefghijklmnop"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)

    def encode_question(self, text: str) -> np.ndarray:
        return self.encode([text])[0]


@pytest.fixture
def document(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "harbour.txt"
    file.write_text("\f".join(PAGES))
    return library.add(file).document


@pytest.fixture
def store(library: Library, document: Document) -> PassageStore:
    store = PassageStore(library)
    store.cut(document)
    return store


def pages_found(question: str, document: Document, store: PassageStore, embedder: object = None) -> list[int]:
    return [hit.stored.passage.page for hit in search(question, Scope.of([document]), store, embedder).hits]  # type: ignore[arg-type]


def test_full_text_finds_a_number_as_written_and_words_by_their_stem(document: Document, store: PassageStore) -> None:
    assert pages_found("invoice 88-4172", document, store)[0] == 3
    assert pages_found("Which ships were waiting?", document, store)[0] == 1


def test_a_passage_without_any_word_of_the_question_is_not_found_by_full_text(
    document: Document, store: PassageStore
) -> None:
    assert pages_found("helicopter", document, store) == []


@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`")
def test_vectors_find_what_is_said_in_other_words(document: Document, store: PassageStore) -> None:
    embedder = LongleafEmbeddings()
    store.embed([document], embedder)
    assert pages_found("salary increase negotiated by labour", document, store, embedder)[0] == 2
    assert pages_found("ice winter", document, store, embedder)[0] == 1


def test_embedding_is_done_once_and_goes_on_where_it_stopped(
    document: Document, store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longleaf.retrieval.store.EMBED_BATCH", 2)
    embedder = LetterEmbedder()
    done: list[tuple[int, int]] = []

    def stop_after_the_first_batch(n_done: int, n_total: int) -> None:
        done.append((n_done, n_total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.embed([document], embedder, stop_after_the_first_batch)
    assert done == [(2, 4)]
    assert store.n_unembedded([document], embedder.name) == 2
    assert store.embed([document], embedder) == 2
    assert store.embed([document], embedder) == 0
    assert embedder.n_encoded == 4


def test_vectors_of_another_embedder_are_left_alone(document: Document, store: PassageStore) -> None:
    store.embed([document], LetterEmbedder("letters@1"))
    assert store.n_unembedded([document], "letters@2") == 4
    assert store.vectors(Scope.of([document]), "letters@2")[0].size == 0
    ids, vectors = store.vectors(Scope.of([document]), "letters@1")
    assert vectors.shape == (4, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)  # they are kept in float16
    assert len(set(ids.tolist())) == 4


def test_only_the_documents_asked_are_searched(
    library: Library, document: Document, store: PassageStore, tmp_path: Path
) -> None:
    other_file = tmp_path / "other.txt"
    other_file.write_text("Another harbour froze as well.")
    other = library.add(other_file).document
    store.cut(other)
    hits = search("harbour froze", Scope.of([other]), store, None).hits
    assert {hit.stored.document_id for hit in hits} == {other.id}
    both = search("harbour froze", Scope.of([document, other]), store, None).hits
    assert {hit.stored.document_id for hit in both} == {document.id, other.id}


def test_passages_are_cut_anew_when_more_of_the_document_has_been_read(
    library: Library, document: Document, store: PassageStore
) -> None:
    with library.transaction() as connection:
        connection.execute("UPDATE pages SET text = 'Now it is about herons.' WHERE number = 4")
        connection.execute("UPDATE documents SET revision = revision + 1")
    store.cut(library.find(document.sha256))
    assert pages_found("heron", document, store) == [4]
    assert pages_found("bicycles", document, store) == []
