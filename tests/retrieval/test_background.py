"""Embedding behind the scenes, on a real library."""

import threading
from pathlib import Path

import pytest

from longleaf.ingestion import Document, Library
from longleaf.retrieval import PassageStore
from longleaf.retrieval.background import BackgroundEmbedding

from .test_search import LetterEmbedder


@pytest.fixture
def store(library: Library) -> PassageStore:
    return PassageStore(library)


@pytest.fixture
def document(library: Library, store: PassageStore, tmp_path: Path) -> Document:
    file = tmp_path / "long.txt"
    names = [f"{a}{b}" for a in ("ber", "mol", "tar", "vin") for b in "abcdefghijklmnopqrstuvwxyzåäöæøüéèêëîïôûçñáíóúà"]
    file.write_text("\f".join(f"{name} {name[::-1]} {name * 2}." for name in (names * 2)[:200]))
    document = library.add(file).document
    store.cut(document)
    return document


class GatedEmbedder(LetterEmbedder):
    """Embeds when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.gate = threading.Event(), threading.Event()

    def encode(self, texts, progress=None):
        self.began.set()
        assert self.gate.wait(20)
        return super().encode(texts, progress)


def test_everything_is_embedded_once_and_progress_ends_at_the_whole(store: PassageStore, document: Document) -> None:
    embedder = LetterEmbedder()
    background = BackgroundEmbedding(store, embedder)
    seen: list[tuple[int, int]] = []
    background.add([document])
    background.add([document])
    background.finish(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (200, 200)
    assert embedder.n_encoded == 200
    assert store.n_unembedded([document], embedder.name) == 0


def test_no_batch_begins_while_paused_and_a_stopped_one_goes_on_another_time(
    store: PassageStore, document: Document
) -> None:
    embedder = GatedEmbedder()
    background = BackgroundEmbedding(store, embedder)
    background.add([document])
    assert embedder.began.wait(20)
    with background.paused():
        embedder.gate.set()
        while background.progress()[0] == 0:
            pass
        done = background.progress()[0]
        assert 0 < done < 200
        threading.Event().wait(0.1)
        assert background.progress()[0] == done
        background.stop()
    assert 0 < store.n_unembedded([document], embedder.name) < 200
    background.add([document])
    background.finish()
    assert store.n_unembedded([document], embedder.name) == 0
    assert embedder.n_encoded == 200


def test_a_document_that_is_removed_meanwhile_is_no_error(
    library: Library, store: PassageStore, document: Document
) -> None:
    embedder = GatedEmbedder()
    background = BackgroundEmbedding(store, embedder)
    background.add([document])
    assert embedder.began.wait(20)
    library.remove(document)
    embedder.gate.set()
    background.finish()
    assert library.connection().execute("SELECT count(*) FROM embeddings").fetchone()[0] == 0


def test_an_embedder_that_fails_ends_the_work_until_it_is_asked_for_again(
    store: PassageStore, document: Document
) -> None:
    class Failing(LetterEmbedder):
        fails = True

        def encode(self, texts, progress=None):
            if self.fails:
                raise OSError("no route to host")
            return super().encode(texts, progress)

    embedder = Failing()
    background = BackgroundEmbedding(store, embedder)
    background.add([document])
    background.finish()
    assert store.n_unembedded([document], embedder.name) == 200
    embedder.fails = False
    background.add([document])
    background.finish()
    assert store.n_unembedded([document], embedder.name) == 0


def test_closing_the_library_ends_the_thread_first(library: Library, store: PassageStore, document: Document) -> None:
    embedder = LetterEmbedder()
    background = BackgroundEmbedding(store, embedder)
    background.add([document])
    library.close()
    assert background.progress()[0] <= 200
