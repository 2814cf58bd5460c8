"""Search over a real library with the real embedder where its weights are here, and with a counting one elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from langchain_core.cross_encoders import BaseCrossEncoder

from longleaf.errors import DocumentError, DocumentNotFoundError
from longleaf.ingestion import Document, Library
from longleaf.model import is_installed
from longleaf.retrieval import LongleafEmbeddings, PassageStore, Scope, SearchOptions, search

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


def add_text(library: Library, folder: Path, name: str, *pages: str) -> Document:
    file = folder / name
    file.write_text("\f".join(pages))
    document = library.add(file).document
    PassageStore(library).cut(document)
    return document


def test_of_several_documents_the_one_that_the_question_names_comes_first(library: Library, tmp_path: Path) -> None:
    documents = [
        add_text(
            library, tmp_path, f"{company}_{year}_report.txt", f"{company.title()} reports sales of {n} in {year}."
        )
        for n, (company, year) in enumerate((c, y) for c in ("harbour", "ferry") for y in (2021, 2022))
    ]
    store, scope = PassageStore(library), Scope.of(documents)
    for question, name in (
        ("What were the sales of Ferry in FY2021?", "ferry_2021_report.txt"),
        ("What were the sales of Harbour in 2022?", "harbour_2022_report.txt"),
    ):
        best = search(question, scope, store, None).hits[0]
        assert next(d.name for d in documents if d.id == best.stored.document_id) == name
    plain = search("sales of Ferry in FY2021", scope, store, None, options=SearchOptions(documents=False)).hits
    assert len({round(hit.score, 6) for hit in plain}) < len(plain)  # nothing else tells the years of a company apart


def test_a_term_leads_to_the_lines_that_it_stands_for(library: Library, tmp_path: Path) -> None:
    document = add_text(
        library,
        tmp_path,
        "report.txt",
        "The board speaks of its capital, and of people at work, on every page of this letter to you.",
        "Balance sheet\nTotal current assets  120  110\nTotal current liabilities  80  90\nTotal equity  40  20",
        "Cranes were painted in May.",
    )
    store, scope = PassageStore(library), Scope.of([document])
    question = "What is the working capital?"
    assert search(question, scope, store, None).hits[0].stored.passage.page == 2
    without = search(question, scope, store, None, options=SearchOptions(places=False)).hits
    assert without[0].stored.passage.page == 1


def test_a_question_does_not_wait_for_vectors_and_says_how_many_there_were(library: Library, tmp_path: Path) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
    document = add_text(library, tmp_path, "long.txt", *(f"{w} {w[::-1]} {w * 2} and the anchor." for w in words))
    store, embedder = PassageStore(library), LetterEmbedder()
    found = search(f"{words[77]} anchor", Scope.of([document]), store, embedder)
    assert found.hits[0].stored.passage.page == 78
    assert (found.n_passages, found.n_embedded) == (125, 48)
    assert found.method == "full text and vectors of 48 of 125 passages, the others not being embedded yet"
    store.embed([document], embedder)
    found = search(f"{words[77]} anchor", Scope.of([document]), store, embedder)
    assert found.method == "full text and vectors (exact, 125 vectors)"


def test_pages_outside_the_range_are_not_found(document: Document, store: PassageStore) -> None:
    for embedder in (None, LetterEmbedder()):
        found = search("ships ferry invoice wages", Scope.of([document], (2, 3)), store, embedder)
        assert {hit.stored.passage.page for hit in found.hits} == {2, 3}
        assert found.n_passages == 2


def test_in_a_large_library_common_words_are_left_out(
    document: Document, store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longleaf.retrieval.store.MAX_POSTINGS", 1)
    scope = Scope.of([document])
    # "of" stands in two passages, the others in one each: the two rarest are kept whatever they find.
    assert store.full_text(["of", "tugs", "odense"], scope) == store.full_text(["tugs", "odense"], scope)
    assert len(store.full_text(["of"], scope).scores) == 2


def test_many_vectors_are_searched_through_the_index_with_the_same_result(
    document: Document, store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = LetterEmbedder()
    store.embed([document], embedder)
    direct = search("a new ferry", Scope.of([document]), store, embedder)
    monkeypatch.setattr("longleaf.retrieval.store.EXACT_FROM_SQLITE", 1)
    through_index = search("a new ferry", Scope.of([document]), store, embedder)
    assert [hit.stored.id for hit in through_index.hits] == [hit.stored.id for hit in direct.hits]
    assert [hit.score for hit in through_index.hits] == pytest.approx([hit.score for hit in direct.hits], abs=1e-4)
    part = search("a new ferry", Scope.of([document], (1, 2)), store, embedder)
    assert {hit.stored.passage.page for hit in part.hits} == {1, 2}


def test_a_passage_that_takes_the_id_of_another_waits_for_its_own_vector(library: Library, tmp_path: Path) -> None:
    first = add_text(library, tmp_path, "first.txt", "The anchor was painted red.")
    store = PassageStore(library)

    class SlowEmbedder(LetterEmbedder):
        def encode(self, texts, progress=None):
            if len(library.documents()) == 1 and library.documents()[0].id == first.id:
                library.remove(first)  # meanwhile
                add_text(library, tmp_path, "second.txt", "Berths cost more in May.")
            return super().encode(texts, progress)

    embedder = SlowEmbedder()
    store.embed([first], embedder)
    (second,) = library.documents()
    assert store.n_unembedded([second], embedder.name) == 1
    store.embed([second], embedder)
    _, vectors = store.vectors(Scope.of([second]), embedder.name)
    text = store.get(row["id"] for row in library.connection().execute("SELECT id FROM passages"))[0].passage.text
    expected = LetterEmbedder().encode([f"{second.title}\n{text}"])
    assert np.allclose(vectors, expected, atol=1e-3)


def test_vectors_are_made_for_the_pages_asked(library: Library, tmp_path: Path) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
    document = add_text(library, tmp_path, "long.txt", *(f"{w} {w[::-1]} {w * 2} and the anchor." for w in words))
    found = search("quite other terms", Scope.of([document], (100, 104)), PassageStore(library), LetterEmbedder())
    assert {hit.stored.passage.page for hit in found.hits} == set(range(100, 105))
    assert (found.n_passages, found.n_embedded) == (5, 5)


def test_a_document_that_is_half_added_or_gone_is_not_cut(library: Library, document: Document) -> None:
    store = PassageStore(library)
    with pytest.raises(DocumentError, match="was not read to its end"):
        store.cut(replace(document, state="adding", revision=9))
    library.remove(document)
    with pytest.raises(DocumentNotFoundError, match="no longer in the library"):
        store.cut(document)


def test_a_range_of_pages_is_asked_of_those_that_have_it_in_any_number_of_documents(
    library: Library, document: Document, store: PassageStore
) -> None:
    many = [replace(document, id=key, sha256=f"{key:064x}", n_pages=4) for key in range(2, 3000)]
    short = replace(document, id=5000, n_pages=1)
    scope = Scope.of([document, *many, short], (2, 3))
    assert short not in scope.documents
    assert scope.n_pages == 2 * 2999
    assert {hit.stored.passage.page for hit in search("wages invoice", scope, store, None).hits} == {2, 3}


def test_scores_fall_from_the_first_to_the_last(library: Library, tmp_path: Path) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
    document = add_text(library, tmp_path, "long.txt", *(f"{w} {w[::-1]} {w * 2} and the anchor." for w in words))
    store, embedder = PassageStore(library), LetterEmbedder()
    store.embed([document], embedder)
    scores = [hit.score for hit in search("anchor bal kem", Scope.of([document]), store, embedder, top_k=80).hits]
    assert scores == sorted(scores, reverse=True)


def test_z_scores_are_those_of_all_matches_also_where_only_the_best_are_fetched(
    document: Document, store: PassageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Scope.of([document])
    everything = store.full_text(["ferry", "ships", "invoice"], scope)
    monkeypatch.setattr("longleaf.retrieval.store.MAX_MATCHES", 1)
    best = store.full_text(["ferry", "ships", "invoice"], scope)
    assert len(everything.scores) == 3
    assert list(best.scores) == list(everything.scores)[:1]
    assert (best.total, best.squares) == pytest.approx((everything.total, everything.squares))
    part = store.full_text(["ferry", "ships", "invoice"], Scope.of([document], (1, 4)))
    assert (part.total, part.squares) == pytest.approx((everything.total, everything.squares))


def test_a_cross_encoder_orders_the_best_passages(document: Document, store: PassageStore) -> None:
    class Shortest(BaseCrossEncoder):
        def score(self, text_pairs):
            assert all(question == "ships wages invoice ferry" for question, _ in text_pairs)
            return [-float(len(text)) for _, text in text_pairs]

    found = search("ships wages invoice ferry", Scope.of([document]), store, None, cross_encoder=Shortest()).hits
    lengths = [len(hit.stored.passage.text) for hit in found]
    assert len(lengths) == 4
    assert lengths == sorted(lengths)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
