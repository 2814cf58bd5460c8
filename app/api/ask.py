"""POST /v1/ask: a question about documents, answered with citations that were looked up on their pages."""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from longleaf.app.work_queue import Control
from longleaf.errors import ReaderError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answer
from longleaf.retrieval.retriever import find_documents
from longleaf.retrieval.steps import RouteAsked

from .documents import find_document
from .errors import invalid, json_response
from .event_stream import COMMENT, EventStream, sse
from .state import ApiState, record_of, state_of
from .turns import Turn

__all__ = ["AskRequest", "router"]

router = APIRouter()

_PAGES = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?")


class AskRequest(BaseModel):
    """The body of POST /v1/ask."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"question": "What was total revenue in 2024?", "documents": ["report.pdf"], "pages": "10-20"}
        },
    )

    question: str = Field(description="In plain words.")
    documents: list[str] | None = Field(
        None, description="Ids or names; all documents if neither these nor a collection."
    )
    collection: str | None = Field(None, description="Name of a collection.")
    route: RouteAsked = Field("auto", description="auto reads the whole document where it fits.")
    top_k: int | None = Field(None, ge=1, le=200, description="Passages searched for evidence.")
    pages: str | None = Field(None, description="These pages only, as 12 or 10-20.")
    stream: bool = Field(False, description="Events draft, progress and answer.")


@dataclass(frozen=True, slots=True)
class _Progress:
    stage: str
    done: int
    total: int


Event = _Progress | str | Answer


@router.post("/v1/ask", summary="Ask documents")
async def ask(body: AskRequest, request: Request) -> Response:
    """Answers with the object that `longleaf ask --json` prints."""
    state, record = state_of(request), record_of(request)
    state.reading.check()
    pages = _page_range(body.pages)
    documents = await run_in_threadpool(_documents, state.service.library, body)
    top_k = body.top_k or state.service.settings.top_k
    # What can't be asked is refused before it waits.
    state.service.answerer.pose(body.question, documents, route=body.route, top_k=top_k, pages=pages)

    def work(control: Control, put: Callable[[Event], None]) -> None:
        events = state.service.answerer.stream(
            body.question,
            [find_document(state.service.library, document.sha256) for document in documents],
            route=body.route,
            top_k=top_k,
            pages=pages,
            progress=lambda stage, done, total: put(_Progress(stage, done, total)),
            should_stop=control.should_stop,
        )
        for event in events:
            put(event)

    turn: Turn[Event] = state.reading.take("question", record.owner, work)
    events = turn.events(request.receive)
    if body.stream:
        first = await anext(events, None)
        return EventStream(_blocks(state, request, turn, first, events), error_event="error")
    answer = [event async for event in events if isinstance(event, Answer)][-1]
    _count(state, request, turn, answer)
    return json_response(answer.to_dict())


def _documents(library: Library, body: AskRequest) -> list[Document]:
    """The documents that are meant, each once.

    Raises:
        ApiError: One of them is not there.
        DocumentNotFoundError: No such collection.
    """
    found = [find_document(library, ref) for ref in body.documents or []]
    if body.collection is not None or body.documents is None:
        found += find_documents(library, None, body.collection)
    if not found:
        raise invalid("there is no document to ask: add one with POST /v1/documents", "documents")
    return list({document.id: document for document in found}.values())


def _page_range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _PAGES.fullmatch(text.strip())
    if match is None:
        raise invalid(f"pages is {text!r}; it is a page or a range of them, as 12 or 10-20", "pages")
    return int(match.group(1)), int(match.group(2) or match.group(1))


async def _blocks(
    state: ApiState,
    request: Request,
    turn: Turn[Event],
    first: Event | None,
    events: AsyncGenerator[Event | None, None],
) -> AsyncGenerator[bytes, None]:
    """The events of a stream: progress and draft, in between and before a last one with the answer."""
    try:
        yield _block(turn, first)
        async for event in events:
            if isinstance(event, Answer):
                _count(state, request, turn, event)
            yield _block(turn, event)
    finally:
        await events.aclose()


def _block(turn: Turn[Event], event: Event | None) -> bytes:
    if event is None:
        place = turn.place
        return COMMENT if place is None else sse({"stage": "waiting", "place": place}, "progress")
    if isinstance(event, str):
        return sse({"text": event}, "draft")
    if isinstance(event, Answer):
        return sse(event.to_dict(), "answer")
    shown: dict[str, Any] = {"stage": event.stage, "done": event.done, "total": event.total}
    return sse(shown, "progress")


def _count(state: ApiState, request: Request, turn: Turn[Event], answer: Answer) -> None:
    record, receipt, reader = record_of(request), answer.receipt, state.service.answerer.reader
    record.waited_s = turn.waited_s
    record.tokens_prompt, record.tokens_reused = receipt.tokens_prompt, receipt.tokens_reused
    with suppress(ReaderError):  # a server that can't be asked just now: the answer goes out all the same
        record.tokens_written = reader.get_num_tokens(answer.reply) if reader else 0
    state.metrics.count_tokens(record.tokens_prompt, record.tokens_reused, record.tokens_written)
