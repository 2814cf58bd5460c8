"""Passages widened to their sections, on a real library."""

from pathlib import Path

import pytest

from longleaf.ingestion import Document, Library
from longleaf.retrieval import PassageStore, Scope, search
from longleaf.retrieval.widen import widened

SENTENCE = "The board met in {} and spoke of {} for a long time, as its minutes say in full. "


@pytest.fixture
def document(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "minutes.md"
    parts = []
    for chapter in ("Cranes", "Ferries", "Quays"):
        parts.append(f"# {chapter}\n\n")
        parts += [SENTENCE.format(f"room {i} of {chapter}", f"item {chapter[0]}{i}") + "\n\n" for i in range(40)]
    file.write_text("".join(parts))
    return library.add(file).document


@pytest.fixture
def store(library: Library, document: Document) -> PassageStore:
    store = PassageStore(library)
    store.cut(document)
    return store


def n_words(text: str) -> int:
    return len(text.split())


def shown(store: PassageStore, document: Document, max_tokens: int) -> str:
    hits = search("item F20", Scope.of([document]), store, None, top_k=1).hits
    return "\n".join(e.text for e in widened(hits, {document.id: document}, store, max_tokens, n_words))


def test_a_whole_section_is_shown_in_order_where_it_fits_and_nothing_of_the_others(store, document) -> None:
    text = shown(store, document, 10_000)
    places = [text.index(f"item F{i} ") for i in range(40)]
    assert places == sorted(places)
    assert "item C" not in text
    assert "item Q" not in text


def test_neighbours_are_shown_where_the_section_does_not_fit(store, document) -> None:
    text = shown(store, document, 400)
    assert "item F20 " in text
    assert not all(f"item F{i} " in text for i in range(40))
    assert n_words(text) <= 400
    alone = shown(store, document, 1)
    assert "item F20 " in alone
    assert n_words(alone) < n_words(text)


def test_no_word_is_shown_twice(store, document) -> None:
    text = shown(store, document, 10_000)
    assert all(text.count(f"item F{i} ") == 1 for i in range(40))
