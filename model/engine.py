"""The seam between the chat model and whatever runs the weights.

`llama_cpp.py` is one engine; a decoder of our own can take its place without a change above this line.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = ["Engine", "FinishReason", "Message", "Piece", "ReadProgress", "ShouldStop", "Usage"]

Message = dict[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""

FinishReason = Literal["stop", "length", "cancelled"]
"""`stop`: the model ended or met a stop string; `length`: out of tokens; `cancelled`: `should_stop` said so."""

ShouldStop = Callable[[], bool]
ReadProgress = Callable[[int, int], None]
"""Called while the prompt is read with (tokens read so far, tokens of the prompt)."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer; `cached_tokens` of the input were not read again."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Piece:
    """A piece of an answer as it is written; the last one carries the finish reason and the usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Engine(Protocol):
    """Runs one reader. Safe to call from several threads; requests wait for each other."""

    @property
    def name(self) -> str:
        """Name of the model that runs."""
        ...

    @property
    def context_tokens(self) -> int:
        """Most tokens that prompt and answer may have together."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a text; text that looks like a control token is taken as text."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has."""
        ...

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens the prompt has that these messages make, control tokens included."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        should_stop: ShouldStop | None = None,
        on_read: ReadProgress | None = None,
    ) -> Iterator[Piece]:
        """Write the answer piece by piece; closing the iterator stops the work.

        Raises:
            ContextOverflowError: The prompt leaves no room in the context. Nothing is ever cut.
        """
        ...

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """How likely each option is as the reply, by its first token; the probabilities add up to 1.

        Raises:
            ValueError: Fewer than two options, or two that begin with the same token.
            ContextOverflowError: The prompt leaves no room in the context.
        """
        ...

    def close(self) -> None:
        """Free the memory; the engine can't be used afterwards."""
        ...
