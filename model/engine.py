"""The seam between the chat model and whatever runs the weights.

`decoder_engine.py` is ours; an engine of another kind can take its place without a change above this line.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .constraint import Constraint
from .sampling import SamplingOptions
from .tool_calls import ToolMarkup

__all__ = [
    "READING_LABEL",
    "READING_SOURCES",
    "Engine",
    "FinishReason",
    "Message",
    "Piece",
    "ReadProgress",
    "ShouldStop",
    "Tool",
    "Usage",
]

Message = dict[str, Any]
"""`{"role": "system" | "user" | "assistant" | "tool", "content": text}`.

An assistant's may have `tool_calls` in OpenAI's form, with arguments as objects; a tool's has the `tool_call_id` and
perhaps the `name` of its call.
"""

Tool = dict[str, Any]
"""`{"type": "function", "function": {"name": …, "description": …, "parameters": JSON schema}}`."""

READING_LABEL = "reading_label"
"""Key in a LangChain message's `additional_kwargs`: the name under which its text is listed among the readings."""

READING_SOURCES = "reading_sources"
"""Likewise, a list: where the message's words are from. Who removes a source finds the readings of it by these."""

FinishReason = Literal["stop", "length", "cancelled"]
"""`stop`: the model ended or met a stop string; `length`: out of tokens; `cancelled`: `should_stop` said so."""

ShouldStop = Callable[[], bool]
ReadProgress = Callable[[int, int, float], None]
"""Called while the prompt is read with (tokens read so far, tokens of the prompt, seconds left)."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; `cached_tokens` of the input were not read again, which saved `seconds_saved`."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds_saved: float = 0.0


@dataclass(frozen=True)
class Piece:
    """A piece of an answer as it is written; the last one carries the finish reason and the usage.

    Attributes:
        text: Of the answer.
        reasoning: Of what the model thinks before it answers, where it does.
        finish_reason: On the last piece.
        usage: On the last piece.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    reasoning: str = ""


class Engine(Protocol):
    """Runs one reader. Safe to call from several threads; how they share it is the engine's matter."""

    @property
    def name(self) -> str:
        """Name of the model that runs."""
        ...

    @property
    def context_tokens(self) -> int:
        """Most tokens that prompt and answer may have together."""
        ...

    @property
    def tool_markup(self) -> ToolMarkup:
        """How tool calls stand in the answer's text."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a text; text that looks like a control token is taken as text."""
        ...

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> int:
        """How many tokens the prompt has that these messages and tools make, control tokens included."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: SamplingOptions,
        stop: Sequence[str] = (),
        label: str = "",
        sources: Sequence[str] = (),
        should_stop: ShouldStop | None = None,
        on_read: ReadProgress | None = None,
        tools: Sequence[Tool] | None = None,
        constraint: Constraint | None = None,
    ) -> Iterator[Piece]:
        """Write the answer piece by piece; closing the iterator stops the work.

        Args:
            messages: The conversation.
            max_tokens: Most tokens of the answer.
            sampling: How the next token is chosen.
            stop: Strings that end the answer.
            label: What is being read, such as names of documents: readings are listed under it.
            sources: Where its words are from: kept with the readings.
            should_stop: Asked while reading and writing.
            on_read: Told while reading.
            tools: What the model is told that it may call; its calls come as text, in the `tool_markup`.
            constraint: What the answer must look like; what the model thinks before it is free. The answer ends where
                nothing may follow. Out of tokens it is cut, with the finish reason `length`.

        Raises:
            ContextOverflowError: The prompt leaves no room in the context. Nothing is ever cut.
            ValueError: The constraint is wrong, or no answer fits it.
        """
        ...

    def choose(
        self, messages: Sequence[Message], options: Sequence[str], *, label: str = "", sources: Sequence[str] = ()
    ) -> dict[str, float]:
        """How likely each option is as the reply, by its first token; the probabilities add up to 1.

        Args:
            messages: The conversation.
            options: What may be replied.
            label: As for `stream`.
            sources: As for `stream`.

        Raises:
            ValueError: Fewer than two options, or two that begin with the same token.
            ContextOverflowError: The prompt leaves no room in the context.
        """
        ...

    def close(self) -> None:
        """Free the memory; the engine can't be used afterwards."""
        ...
