"""The whole walk of a question as one LangChain runnable: `LongDocumentChain`.

It finds the documents that a question names, asks, and hands out what `longleaf ask --json` prints; how an answer comes
about stands in `answer.py`. Asynchronous calls run in threads.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import AddableDict, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from longleaf.errors import QuestionError
from longleaf.ingestion import Document, Library

from .answer import Answerer, Progress
from .reader import ShouldStop, as_reader
from .receipt import Answer
from .retriever import close_answerer, find_documents, open_answerer
from .steps import RouteAsked

__all__ = ["LongDocumentChain", "LongDocumentInput", "LongDocumentOutput"]

_Reference = str | Path | int | SkipJsonSchema[Document]


class LongDocumentInput(BaseModel):
    """A question to `LongDocumentChain`: documents, a collection or a retriever; all documents without any of them."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    question: str
    """In plain words."""
    documents: _Reference | list[_Reference] | None = None
    """Files, names, sha256s or ids of documents; files that are not in the library yet are added."""
    collection: str | None = None
    """Name of a collection."""
    retriever: SkipJsonSchema[BaseRetriever | None] = None
    """Brings the evidence in place of our search."""
    pages: tuple[int, int] | None = None
    """First and last page (1-based, both included) that are asked of each document; all if not given."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("documents", "collection", "retriever") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of documents, collection and retriever, not {' and '.join(given)}")
        return self


class LongDocumentOutput(RootModel[Answer]):
    """What `LongDocumentChain` gives: `Answer.to_dict`."""


class LongDocumentChain(RunnableSerializable[dict[str, Any], dict[str, Any]]):
    """Answers questions about long documents, as a step of a LangChain program.

        chain = LongDocumentChain(ChatLongleaf(), embedding=LongleafEmbeddings())
        result = chain.invoke({"question": "What were net sales in 2024?", "documents": ["report.pdf"]})
        print(result["answer"], [citation["page"] for citation in result["citations"]])

    The input is a dict as `LongDocumentInput` describes it, the output the dict of `Answer.to_dict`: `answer`, `found`,
    `citations`, `statements`, `nearest`, `route`, `receipt` and the rest. A stream gives pieces `{"draft": text}` while
    the reader writes, of which nothing is checked yet, then the output; the pieces add up to the output and the whole
    draft. Show the draft as provisional: the answer may be that nothing was found.

    Index, route, search, pick, read and check are runs of their own to callbacks, with the calls of models and
    retrievers inside. Calls take `should_stop` and `progress` as `Answerer.ask` does. One chain may be called from
    several threads at once.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    reader: BaseChatModel | None = None
    """Writes the answers; without one they are the sentences found."""
    library: Library | None = Field(default=None, exclude=True, repr=False)
    """Where the documents are."""
    home: Path | None = None
    """The folder of the library, in its place; the user's own one if neither is given."""
    embedding: Any = None
    """An `Embeddings` of LangChain or an `Embedder`; search is by full text alone if not given."""
    route: RouteAsked = "auto"
    """"auto" reads whole documents where they fit the reader's context."""
    top_k: int = Field(default=12, ge=1)
    """Passages searched for evidence."""
    context_tokens: int | None = Field(default=None, ge=1)
    """What the reader takes, where it does not say so itself; a `ChatLongleaf` does."""

    cross_encoder: BaseCrossEncoder | None = None
    """Orders the best passages by reading each together with the question; slow on a CPU."""
    vector_store: str | None = None
    """`postgresql://…` to search vectors in a PostgreSQL with pgvector; in an index beside the library if not given."""

    _answerer: Answerer | None = PrivateAttr(default=None)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, reader: BaseChatModel | None = None, **fields: Any) -> None:
        super().__init__(reader=reader, **fields)  # type: ignore[call-arg]  # mypy sees the base's own fields only

    @model_validator(mode="after")
    def _one_library(self) -> Self:
        if self.library is not None and self.home is not None:
            raise ValueError(f"give the library ({self.library.home}) or its folder ({self.home}), not both")
        return self

    @property
    def answerer(self) -> Answerer:
        """What answers the questions; opens the library at the first use."""
        with self._lock:
            if self._answerer is None:
                reader = as_reader(self.reader, self.context_tokens) if self.reader else None
                self._answerer = open_answerer(self, reader)
            return self._answerer

    def close(self) -> None:
        """Close the library if the chain opened it; the next question opens it again."""
        with self._lock:
            if self._answerer is not None:
                close_answerer(self, self._answerer)
            self._answerer = None

    # LangChain's side

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """`LongDocumentInput`."""
        return LongDocumentInput

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """`LongDocumentOutput`."""
        return LongDocumentOutput

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002 (LangChain's name)
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The answer to one question.

        Args:
            input: As `LongDocumentInput`.
            config: Callbacks, tags, metadata.
            kwargs: `should_stop` and `progress`, as for `Answerer.ask`.

        Raises:
            QuestionError: The input has another form, or can't be asked.
            LongleafError: As `Answerer.ask` and `find_documents` do.
        """
        return self._call_with_config(self._invoke, input, config, **kwargs)

    def stream(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[dict[str, Any]]:
        """Pieces `{"draft": text}`, then the answer; the arguments are those of `invoke`."""
        yield from self._transform_stream_with_config(iter([input]), self._transform, config, **kwargs)

    async def astream(
        self,
        input: dict[str, Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """As `stream`; whoever stops listening stops the reader within one piece."""

        async def inputs() -> AsyncIterator[dict[str, Any]]:
            yield input

        pieces = self._atransform_stream_with_config(inputs(), self._atransform, config, **kwargs)
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]  # LangChain calls its generator an iterator
            async for piece in pieces:
                yield piece

    def _invoke(
        self,
        input: dict[str, Any],  # noqa: A002
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002  `config` has its children
        config: RunnableConfig,
        *,
        should_stop: ShouldStop | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        asking = self._asking(input, should_stop, progress)
        return self.answerer.ask(**asking, config=config).to_dict()

    def _transform(
        self,
        inputs: Iterator[dict[str, Any]],
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002  `config` has its children
        config: RunnableConfig,
        *,
        should_stop: ShouldStop | None = None,
        progress: Progress | None = None,
    ) -> Iterator[AddableDict]:
        for given in inputs:
            yield from self._pieces(given, config, should_stop, progress)

    async def _atransform(
        self,
        inputs: AsyncIterator[dict[str, Any]],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002  `config` has its children
        config: RunnableConfig,
        *,
        should_stop: ShouldStop | None = None,
        progress: Progress | None = None,
    ) -> AsyncIterator[AddableDict]:
        left = threading.Event()

        def over() -> bool:
            return left.is_set() or (should_stop is not None and should_stop())

        async for given in inputs:
            pieces = self._pieces(given, config, over, progress)
            pending: asyncio.Future[AddableDict | None] | None = None
            try:
                while True:
                    pending = asyncio.ensure_future(run_in_executor(None, next, pieces, None))
                    # Shielded: a thread can't be cancelled, so it is told to stop and waited for.
                    piece = await asyncio.shield(pending)
                    if piece is None:
                        break
                    yield piece
            finally:
                left.set()
                if pending is not None and not pending.done():
                    await asyncio.wait([pending])
                    with contextlib.suppress(Exception):
                        pending.result()
                await run_in_executor(None, pieces.close)

    def _pieces(
        self,
        given: dict[str, Any],
        config: RunnableConfig,
        should_stop: ShouldStop | None,
        progress: Progress | None,
    ) -> Generator[AddableDict, None, None]:
        asking = self._asking(given, should_stop, progress)
        for event in self.answerer.stream(**asking, config=config):
            yield AddableDict(event.to_dict() if isinstance(event, Answer) else {"draft": event})

    def _asking(
        self, given: dict[str, Any], should_stop: ShouldStop | None, progress: Progress | None
    ) -> dict[str, Any]:
        """The arguments of `Answerer.ask` for an input."""
        try:
            asked = LongDocumentInput.model_validate(given)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            known = ", ".join(LongDocumentInput.model_fields)
            message = first["msg"].removeprefix("Value error, ")
            raise QuestionError(f"{place or 'input'}: {message}; the chain takes a dict with {known}") from exc
        documents: list[Document] = []
        if asked.retriever is None:
            references = asked.documents
            if references is not None and not isinstance(references, list):
                references = [references]
            documents = find_documents(self.answerer.library, references, asked.collection)
        return {
            "question": asked.question,
            "documents": documents,
            "route": self.route,
            "top_k": self.top_k,
            "pages": asked.pages,
            "retriever": asked.retriever,
            "should_stop": should_stop,
            "progress": progress,
        }
