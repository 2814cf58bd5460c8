"""What the walk of a question needs of a model, and any LangChain chat model made into that.

`ChatLongleaf` has all of it. Another chat model may say neither how many tokens it takes nor how many a text has; what
is then assumed stands in `notes` and is shown with the route.
"""

import contextlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from langchain_core.language_models.base import BaseLanguageModel
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableConfig

from longleaf.errors import LongleafError, ReaderError
from longleaf.model import ChatLongleaf

__all__ = ["DEFAULT_CONTEXT_TOKENS", "ChatModelReader", "Reader", "as_reader"]

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT_TOKENS = 8_192
"""Assumed of a model that does not say: what even small hosted models take."""
BYTES_PER_TOKEN = 2.5
"""For estimates. English prose has four to five bytes a token; the sample report with its tables has three, by a
tokenizer that takes figures digit by digit. An estimate that is too high sends a document through retrieval; one that
is too low sends the model more than it takes."""
_LIMITS = ("max_tokens", "max_output_tokens", "max_completion_tokens", "num_predict")
"""Fields that chat models have for the most tokens of a reply."""

OnRead = Callable[[int, int, float], None]
ShouldStop = Callable[[], bool]


class Reader(Protocol):
    """What the walk needs of a model: LangChain's chat interface and a few figures about itself."""

    @property
    def model_name(self) -> str:
        """Shown with the answer; token counts are kept under it."""

    @property
    def context_tokens(self) -> int:
        """Tokens of prompt and answer together."""

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a text, without a chat template."""

    def invoke(
        self,
        input: Sequence[BaseMessage],  # noqa: A002 (LangChain's name)
        config: RunnableConfig | None = None,
        *,
        max_tokens: int,
        on_read: OnRead | None,
        should_stop: ShouldStop | None,
    ) -> AIMessage:
        """The reply, of at most `max_tokens` tokens.

        Args:
            input: The prompt.
            config: The run that the call belongs to.
            max_tokens: Most tokens of the reply.
            on_read: Told (tokens read, tokens in all, seconds left) by readers that know.
            should_stop: True ends the reply, with the finish reason "cancelled".
        """

    def stream(
        self,
        input: Sequence[BaseMessage],  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        max_tokens: int,
        on_read: OnRead | None,
        should_stop: ShouldStop | None,
    ) -> Iterator[AIMessageChunk]:
        """The reply piece by piece; the pieces add up to it."""

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        """Probability of each option as the reply, adding up to 1."""


def as_reader(chat: BaseChatModel, context_tokens: int | None = None) -> Reader:
    """The model as a reader: a `ChatLongleaf` as it is, any other chat model with what it lacks.

    Args:
        chat: The model.
        context_tokens: Most tokens of prompt and reply; by default what the model's profile says, else
            `DEFAULT_CONTEXT_TOKENS`. A ChatLongleaf has a field of its own for it.

    Raises:
        ValueError: `context_tokens` is given for a ChatLongleaf, or below 1.
    """
    if isinstance(chat, ChatLongleaf):
        if context_tokens is not None:
            raise ValueError("give a ChatLongleaf its context itself: ChatLongleaf(context_tokens=...)")
        return chat
    return ChatModelReader(chat, context_tokens)


WORD_TOKENS = 16
"""Room for a reply of one word, be it in a sentence."""


class ChatModelReader:
    """A chat model of any provider as a `Reader`.

    Args:
        chat: The model.
        context_tokens: Most tokens of prompt and reply.

    Raises:
        ValueError: `context_tokens` is below 1.
    """

    def __init__(self, chat: BaseChatModel, context_tokens: int | None = None) -> None:
        if context_tokens is not None and context_tokens < 1:
            raise ValueError(f"context_tokens must be at least 1, not {context_tokens}")
        self.chat = chat
        self.model_name = _name_of(chat)
        stated = context_tokens or (getattr(chat, "profile", None) or {}).get("max_input_tokens")
        self.context_tokens: int = stated or DEFAULT_CONTEXT_TOKENS
        self._count = self._own_count()
        self.notes = tuple(
            note
            for note, holds in (
                (f"its context is not known and taken as {DEFAULT_CONTEXT_TOKENS:,} tokens", not stated),
                (f"its tokens are estimated, one for each {BYTES_PER_TOKEN} bytes", not self._count),
            )
            if holds
        )
        """What was assumed of the model, each a clause."""

    @property
    def tokenizer_name(self) -> str:
        """Token counts are kept under it: an estimate never passes for a count."""
        return self.model_name if self._count else f"{self.model_name}, estimated by {BYTES_PER_TOKEN} bytes"

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a text by the model's own count where that needs no network, else an estimate."""
        if self._count:
            return self._count(text)
        return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)

    def invoke(
        self,
        input: Sequence[BaseMessage],  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        max_tokens: int,
        on_read: OnRead | None = None,
        should_stop: ShouldStop | None = None,
    ) -> AIMessage:
        """The reply; with `should_stop` it is streamed, so that it can be stopped between two pieces.

        Raises:
            ReaderError: The model can't be reached, or refuses.
        """
        if should_stop is None:
            with self.errors():
                return self._limited(max_tokens).invoke(list(input), config)
        whole: AIMessageChunk | None = None
        for chunk in self.stream(input, config, max_tokens=max_tokens, on_read=on_read, should_stop=should_stop):
            whole = chunk if whole is None else whole + chunk
        return whole or AIMessageChunk(content="")

    def stream(
        self,
        input: Sequence[BaseMessage],  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        max_tokens: int,
        on_read: OnRead | None = None,  # noqa: ARG002  only a reader that runs here knows
        should_stop: ShouldStop | None = None,
    ) -> Iterator[AIMessageChunk]:
        """The reply piece by piece; stopped by closing the model's own stream.

        Raises:
            ReaderError: The model can't be reached, or refuses.
        """
        with self.errors(), contextlib.closing(self._open(input, config, max_tokens)) as chunks:
            for chunk in chunks:
                yield chunk
                if should_stop is not None and should_stop():
                    yield AIMessageChunk(content="", response_metadata={"finish_reason": "cancelled"})
                    return

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        """1 for the option that the model replies with, 0 for the others; all alike where it replies with none.

        The prompt has to ask for one of the options; chat models that are only called tell no probabilities.

        Raises:
            ReaderError: The model can't be reached, or refuses.
        """
        with self.errors():
            text = str(self._limited(WORD_TOKENS).invoke(list(messages)).text)
        return self._by_word(text, options)

    @staticmethod
    def _by_word(text: str, options: Sequence[str]) -> dict[str, float]:
        words = re.findall(r"\w+", text.casefold())
        chosen = next((option for word in words for option in options if word == option.casefold()), None)
        return {option: float(option == chosen) if chosen else 1 / len(options) for option in options}

    def _own_count(self) -> Callable[[str], int] | None:
        """What counts the tokens of a text as the model does; None where they are to be estimated."""
        return self.chat.get_num_tokens if _counts_offline(self.chat) else None

    def _open(self, messages: Sequence[BaseMessage], config: RunnableConfig | None, max_tokens: int) -> Any:
        return self._limited(max_tokens).stream(list(messages), config)

    def _limited(self, max_tokens: int) -> BaseChatModel:
        """The model with a limit on its reply, where it has such a field, the user left it and it does not reason.

        A model that reasons counts its thoughts among the tokens of its reply: cut off there, it says nothing.
        """
        chat = self.chat
        if (getattr(chat, "profile", None) or {}).get("reasoning_output"):
            return chat
        fields = type(chat).model_fields
        limit = next((name for name in _LIMITS if name in fields), None)
        if limit is None or limit in chat.model_fields_set:
            return chat
        return chat.model_copy(update={limit: max_tokens})

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turns what the provider's client raises in the block into a `ReaderError` in our words."""
        try:
            yield
        except LongleafError:
            raise
        except Exception as exc:
            said = " ".join(str(exc).split())[:300] or "no message"
            raise ReaderError(f"{self.model_name}: {type(exc).__name__}: {said}; {_way_out(exc)}") from exc


def _name_of(chat: BaseChatModel) -> str:
    for attribute in ("model_name", "model", "model_id", "deployment_name"):
        if isinstance(value := getattr(chat, attribute, None), str) and value:
            return value
    return chat.get_name()


def _counts_offline(chat: BaseChatModel) -> bool:
    """Whether the model counts tokens itself, here and now.

    LangChain's own default fetches GPT-2's tokenizer from the model hub, to count another model's tokens with it.
    """
    kind = type(chat)
    inherited = (
        kind.get_num_tokens is BaseLanguageModel.get_num_tokens
        and kind.get_token_ids is BaseLanguageModel.get_token_ids
        and chat.custom_get_token_ids is None
    )
    if inherited:
        return False
    try:
        chat.get_num_tokens("one two three")
    except Exception as exc:  # a provider's own kinds, such as one whose tokenizer is on the network
        logger.info("%s does not count tokens here: %s", _name_of(chat), exc)
        return False
    return True


def _way_out(exc: Exception) -> str:
    """What to do about an error of a provider, whose classes are not known here: by its status code, then its name."""
    response = getattr(exc, "response", None)
    status = getattr(exc, "status_code", None) or getattr(response, "status_code", None)
    name = type(exc).__name__.casefold()
    if status in (401, 403) or "auth" in name or "permission" in name:
        return "check the key that the model was given"
    if status == 429 or "ratelimit" in name:
        return "its provider limits how often it may be asked: wait and ask again, or lower max_concurrency"
    if status in (400, 413) or "context" in str(exc).casefold():
        return "if the prompt is too long for it, say how much it takes: as_reader(chat, context_tokens=...)"
    if isinstance(exc, OSError) or "connect" in name or "timeout" in name:
        return "check the network and the model's address, then ask again"
    if status is not None and status >= 500:
        return "its provider has a failure: ask again later"
    return "see its provider's documentation"
