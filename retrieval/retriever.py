"""LangChain's view of the search: `LongleafRetriever`, a `BaseRetriever` over documents of a library.

It finds and hands out passages with their places; it writes no answer and knows no reader.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document as LangChainDocument
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from longleaf.errors import DocumentNotFoundError, QuestionError
from longleaf.ingestion import Document, Library, default_home

from .answer import Answerer
from .embeddings import as_embedder
from .langchain_documents import to_langchain
from .reader import Reader
from .scope import Scope
from .search import search
from .store import PassageStore, vector_index_for

__all__ = ["DocumentReference", "LongleafRetriever", "Parts", "close_answerer", "find_documents", "open_answerer"]

DocumentReference = str | Path | int | Document
"""A file, a document's name, its sha256 or the first characters of that, its id in the library, or the document."""


class LongleafRetriever(BaseRetriever):
    """Passages of PDFs in a Longleaf library, each with its page and where on it it stands.

        retriever = LongleafRetriever(documents=["report.pdf"], embedding=LongleafEmbeddings())
        for passage in retriever.invoke("What were net sales?"):
            print(passage.metadata["page"], passage.page_content)

    A file that is not in the library yet is added at the first search. The metadata of what is found are `document`,
    `sha256`, `page` (1-based), `page_label`, `section`, `start` and `end` (characters of the page's text) and `score`
    (only its order means something). Searches may run in several threads at once.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    library: Library | None = Field(default=None, exclude=True, repr=False)
    """Where the documents are."""
    home: Path | None = None
    """The folder of the library, in its place; the user's own one if neither is given."""
    documents: list[DocumentReference] | None = None
    """What is searched; all documents of the library if neither these nor a collection are given."""
    collection: str | None = None
    """Name of the collection that is searched, in place of `documents`."""
    pages: tuple[int, int] | None = None
    """First and last page (1-based, both included) that are searched of each document; all if not given."""
    embedding: Any = None
    """An `Embeddings` of LangChain or an `Embedder`; search is by full text alone if not given."""
    k: int = Field(default=5, ge=1)
    """How many passages are returned at most; a call may give its own."""

    cross_encoder: BaseCrossEncoder | None = None
    """Orders the best passages by reading each together with the query; slow on a CPU."""
    vector_store: str | None = None
    """`postgresql://…` to search vectors in a PostgreSQL with pgvector; in an index beside the library if not given."""

    _answerer: Answerer | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.library is not None and self.home is not None:
            raise ValueError(f"give the library ({self.library.home}) or its folder ({self.home}), not both")
        if self.documents is not None and self.collection is not None:
            raise ValueError("give documents or a collection, not both")
        return self

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002  the search calls nothing that has runs of its own
        k: int | None = None,
    ) -> list[LangChainDocument]:
        if not query.strip():
            raise QuestionError("the query is empty")
        if k is not None and k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        answerer = self._open()
        documents = find_documents(answerer.library, self.documents, self.collection)
        if not documents:
            return []
        answerer.begin(documents)
        found = search(
            query,
            Scope.of(documents, self.pages),
            answerer.store,
            answerer.embedder,
            k or self.k,
            cross_encoder=answerer.cross_encoder,
        )
        by_id = {document.id: document for document in documents}
        results = []
        for hit in found.hits:
            document = by_id[hit.stored.document_id]
            results.append(to_langchain(hit, document, answerer.library.page(document, hit.stored.passage.page).label))
        return results

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[LangChainDocument]:
        return await run_in_executor(None, self._get_relevant_documents, query, run_manager=run_manager.get_sync(), k=k)

    def _open(self) -> Answerer:
        with self._lock:
            if self._answerer is None:
                self._answerer = open_answerer(self)
            return self._answerer

    def close(self) -> None:
        """Close the library if the retriever opened it; the next search opens it again."""
        with self._lock:
            if self._answerer is not None:
                close_answerer(self, self._answerer)
            self._answerer = None


class Parts(Protocol):
    """The fields by which a retriever or a chain says what it works with."""

    library: Library | None
    home: Path | None
    embedding: Any
    cross_encoder: BaseCrossEncoder | None
    vector_store: str | None


def open_answerer(parts: Parts, reader: Reader | None = None) -> Answerer:
    """An answerer over the parts' library, which is opened where only its folder is given."""
    library = parts.library or Library(parts.home or default_home())
    return Answerer(
        library,
        reader,
        as_embedder(parts.embedding) if parts.embedding else None,
        store=PassageStore(library, vector_index_for(parts.vector_store)),
        cross_encoder=parts.cross_encoder,
    )


def close_answerer(parts: Parts, answerer: Answerer) -> None:
    """Close what `open_answerer` opened; a library that was given stays open."""
    answerer.close()
    if parts.library is None:
        answerer.library.close()


def find_documents(
    library: Library, references: Sequence[DocumentReference] | None, collection: str | None = None
) -> list[Document]:
    """Documents of a library, each once; files that it does not have yet are added.

    Args:
        library: Where they are looked for.
        references: Which ones; None for all that are ready, or for those of the collection.
        collection: Name of a collection.

    Raises:
        DocumentNotFoundError: No such document or collection.
        DocumentError: A file that can't be taken in.
    """
    if references is None:
        ready = [document for document in library.documents() if document.state == "ready"]
        if collection is None:
            return ready
        wanted = set(library.collections.find(collection).document_ids)
        return [document for document in ready if document.id in wanted]
    found = [_find(library, reference) for reference in references]
    return list({document.id: document for document in found}.values())


def _find(library: Library, reference: DocumentReference) -> Document:
    if isinstance(reference, Document):
        return reference
    if isinstance(reference, int):
        found = next((document for document in library.documents() if document.id == reference), None)
        if found is None:
            raise DocumentNotFoundError(f"{reference}: no document of the library has this id")
        return found
    with suppress(OSError, ValueError):  # a name may be no possible path
        if Path(reference).is_file():
            return library.add(reference).document
    return library.find(reference)
