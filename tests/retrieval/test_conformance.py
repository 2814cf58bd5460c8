"""LangChain's own suites for embeddings and vector stores, sync and async, as they come."""

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from longleaf.ingestion import Library
from longleaf.model import is_installed
from longleaf.retrieval import LongleafEmbeddings
from longleaf.retrieval.vector_store import LongleafVectorStore

needs_weights = pytest.mark.skipif(
    not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`"
)


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, library: Library) -> VectorStore:
        return LongleafVectorStore(self.get_embeddings(), library=library)


@pytest.fixture(scope="module")
def embeddings() -> LongleafEmbeddings:
    return LongleafEmbeddings()  # its weights are loaded once


@needs_weights
class TestVectorStoreWithOurEmbeddings(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, library: Library, embeddings: LongleafEmbeddings) -> VectorStore:
        return LongleafVectorStore(embeddings, library=library)


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[LongleafEmbeddings]:
        return LongleafEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, str]:
        return {"model": "minilm"}


@needs_weights
class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[LongleafEmbeddings]:
        return LongleafEmbeddings
