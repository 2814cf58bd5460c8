"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import APIRouter, Request
from langchain_core.messages import AIMessageChunk, BaseMessage
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from longleaf.app.work_queue import Control
from longleaf.errors import ContextOverflowError, LongleafError
from longleaf.model import ChatLongleaf

from .chat_request import ChatRequest, reader_options, to_messages
from .completion import Completion
from .errors import as_api_error, invalid, json_response
from .event_stream import COMMENT, DONE, EventStream, sse
from .state import ApiState, record_of, state_of
from .turns import Turn

__all__ = ["router"]

router = APIRouter()

Event = AIMessageChunk | None
"""None says that the prompt was taken and is being read."""


@router.post("/v1/chat/completions", summary="Chat completion")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Writes the next message of a conversation; see docs/serve.md for what is known of OpenAI's fields."""
    state, record = state_of(request), record_of(request)
    reader = state.reader
    state.check_model(body.model, reader.model_name)
    options, messages = reader_options(body, state.options), to_messages(body.messages)
    state.reading.check()
    await run_in_threadpool(_check_room, reader, messages, options)
    turn: Turn[Event] = state.reading.take("chat", record.owner, _work(state, reader, messages, options))
    completion = Completion(reader.model_name)
    events = turn.events(request.receive)
    if body.stream:
        # The status waits until the prompt is taken, or for one tick of a long line.
        first = await anext(events, None)
        counted = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(_blocks(state, request, turn, first, events, completion, counted=counted))
    async for event in events:
        if event is not None:
            completion.add(event)
    _count(state, request, turn, completion)
    return json_response(completion.whole())


def _check_room(reader: ChatLongleaf, messages: list[BaseMessage], options: dict[str, Any]) -> None:
    """Refuses before it waits what the reader would refuse at its turn.

    Raises:
        ApiError: The prompt leaves no room in the context, or the chat template does not take these messages.
    """
    try:
        n_tokens = reader.get_num_tokens_from_messages(messages, options.get("tools"))
    except ValueError as exc:
        raise invalid(str(exc), "messages") from exc
    except LongleafError as exc:
        raise as_api_error(exc, "chat") from exc
    if n_tokens >= reader.context_tokens:
        raise as_api_error(
            ContextOverflowError(
                f"This model's maximum context length is {reader.context_tokens} tokens. However, your messages have "
                f"{n_tokens} tokens. Please reduce the length of the messages."
            ),
            "chat",
        )


def _work(
    state: ApiState, reader: ChatLongleaf, messages: list[BaseMessage], options: dict[str, Any]
) -> Callable[[Control, Callable[[Event], None]], None]:
    def work(control: Control, put: Callable[[Event], None]) -> None:
        try:
            with state.quiet():
                for chunk in reader.stream(
                    messages, **options, should_stop=control.should_stop, on_read=lambda *_: put(None)
                ):
                    put(chunk)
        except LongleafError:
            raise
        except ValueError as exc:  # of a schema that nothing fits, above all
            raise invalid(str(exc)) from exc

    return work


async def _blocks(
    state: ApiState,
    request: Request,
    turn: Turn[Event],
    first: Event,
    events: AsyncGenerator[Event, None],
    completion: Completion,
    *,
    counted: bool,
) -> AsyncGenerator[bytes, None]:
    """The events of a stream."""
    try:
        yield sse(completion.chunk({"role": "assistant", "content": ""}, counted=counted))
        if first is not None and (delta := completion.add(first)):
            yield sse(completion.chunk(delta, counted=counted))
        async for event in events:
            if event is None:
                yield COMMENT
            elif delta := completion.add(event):
                yield sse(completion.chunk(delta, counted=counted))
        yield sse(completion.chunk({}, completion.finish_reason, counted=counted))
        if counted:
            yield sse(completion.usage_chunk())
        yield DONE
    finally:
        await events.aclose()
        _count(state, request, turn, completion)


def _count(state: ApiState, request: Request, turn: Turn[Event], completion: Completion) -> None:
    record = record_of(request)
    record.waited_s = turn.waited_s
    record.tokens_prompt, record.tokens_reused = completion.tokens_prompt, completion.tokens_reused
    record.tokens_written = completion.tokens_written
    state.metrics.count_tokens(completion.tokens_prompt, completion.tokens_reused, completion.tokens_written)
