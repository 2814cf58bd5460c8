"""`LongleafRetriever`: what it finds, where it says that stands, and LangChain's own tests of a retriever."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import RetrieversIntegrationTests

from longleaf.errors import DocumentNotFoundError, QuestionError
from longleaf.ingestion import Document, Library
from longleaf.model import is_installed
from longleaf.retrieval.embeddings import LongleafEmbeddings
from longleaf.retrieval.retriever import LongleafRetriever

HARBOUR = """\
The board owns four cranes. The largest crane lifts 120 tonnes.
\f\
Ice closed the harbour for nine days in February.
\f\
The quay was built in Odense, and the crane of the quay is rented.
"""
SHIPYARD = "The shipyard has one crane, which was painted green in 2019."


@pytest.fixture
def harbour(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "harbour.txt"
    file.write_text(HARBOUR)
    return library.add(file).document


@pytest.fixture
def shipyard(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "shipyard.txt"
    file.write_text(SHIPYARD)
    return library.add(file).document


def pages(found: list[Any]) -> list[tuple[str, int]]:
    return sorted((document.metadata["document"], document.metadata["page"]) for document in found)


def test_each_passage_says_where_it_stands(library: Library, harbour: Document) -> None:
    found = LongleafRetriever(library=library).invoke("How many days did ice close the harbour?")
    best = found[0]
    assert best.metadata["page"] == 2
    for passage in found:
        place = passage.metadata
        page = library.page(harbour, place["page"])
        assert page.text[place["start"] : place["end"]] == passage.page_content
        assert (place["document"], place["sha256"]) == (harbour.name, harbour.sha256)
        assert place["page_label"] == page.label
    scores = [passage.metadata["score"] for passage in found]
    assert scores == sorted(scores, reverse=True)
    assert len({passage.id for passage in found}) == len(found)


def test_a_search_stays_in_its_documents_pages_or_collection(
    library: Library, harbour: Document, shipyard: Document
) -> None:
    everywhere = [("harbour.txt", 1), ("harbour.txt", 3), ("shipyard.txt", 1)]
    library.collections.put("yards", [shipyard])
    assert pages(LongleafRetriever(library=library).invoke("crane")) == everywhere
    for references in (["shipyard.txt"], [shipyard], [shipyard.id], [shipyard.sha256[:12]]):
        assert pages(LongleafRetriever(library=library, documents=references).invoke("crane")) == everywhere[2:]
    assert pages(LongleafRetriever(library=library, collection="yards").invoke("crane")) == everywhere[2:]
    ranged = LongleafRetriever(library=library, documents=[harbour], pages=(2, 3))
    assert pages(ranged.invoke("crane")) == [("harbour.txt", 3)]


def test_a_file_that_is_not_in_the_library_is_added_once(tmp_path: Path) -> None:
    file = tmp_path / "shipyard.txt"
    file.write_text(SHIPYARD)
    retriever = LongleafRetriever(home=tmp_path / "home", documents=[file])
    assert pages(retriever.invoke("crane")) == pages(retriever.invoke("green crane")) == [("shipyard.txt", 1)]
    retriever.close()
    with Library(tmp_path / "home") as library:
        assert [document.name for document in library.documents()] == ["shipyard.txt"]


def test_a_library_that_was_given_stays_open(library: Library, harbour: Document) -> None:
    LongleafRetriever(library=library).close()
    assert library.documents()


def test_what_is_not_there_is_an_error_and_an_empty_library_finds_nothing(library: Library) -> None:
    assert LongleafRetriever(library=library).invoke("crane") == []
    for wrong in ({"documents": ["nowhere.pdf"]}, {"documents": [77]}, {"collection": "nowhere"}):
        with pytest.raises(DocumentNotFoundError):
            LongleafRetriever(library=library, **wrong).invoke("crane")  # type: ignore[arg-type]
    with pytest.raises(QuestionError):
        LongleafRetriever(library=library).invoke("  ")


@pytest.mark.parametrize(
    "fields", [{"home": Path("elsewhere")}, {"documents": [], "collection": "c"}, {"k": 0}, {"top": 3}]
)
def test_fields_that_contradict_each_other_or_are_misspelt_are_refused(library: Library, fields: Any) -> None:
    with pytest.raises(ValueError):
        LongleafRetriever(library=library, **fields)


@pytest.mark.usefixtures("harbour", "shipyard")
def test_threads_and_coroutines_find_the_same(library: Library) -> None:
    retriever = LongleafRetriever(library=library)
    expected = [document.id for document in retriever.invoke("crane of the quay", k=2)]
    assert len(expected) == 2
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: retriever.invoke("crane of the quay", k=2), range(8)):
            assert [document.id for document in found] == expected

    async def together() -> list[Any]:
        return await asyncio.gather(*(retriever.ainvoke("crane of the quay", k=2) for _ in range(4)))

    for found in asyncio.run(together()):
        assert [document.id for document in found] == expected


class _Conformance(RetrieversIntegrationTests):
    embedding: Any = None

    @pytest.fixture(autouse=True)
    def _documents(self, library: Library, harbour: Document, shipyard: Document) -> None:
        self.library = library

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return LongleafRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"library": self.library, "embedding": self.embedding}

    @property
    def retriever_query_example(self) -> str:
        return "Which crane was built in Odense?"


class TestByFullText(_Conformance):
    """Three passages hold one of its words."""


@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull embedded`")
class TestWithVectors(_Conformance):
    embedding = LongleafEmbeddings()

    def test_another_word_for_the_same_thing_is_found(self, retriever: BaseRetriever) -> None:
        found = retriever.invoke("frozen port in winter", k=1)
        assert [document.metadata["page"] for document in found] == [2]
