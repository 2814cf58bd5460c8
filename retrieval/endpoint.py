"""Any server with OpenAI's chat interface as a reader: vLLM, llama.cpp, `longleaf serve`, a provider.

The prompts are those of every reader: instructions and document first, what is asked last, so that a server that keeps
prefixes reads a document once for many questions. How the server is asked about itself stands in `endpoint_server.py`.
"""

import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, cast

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import RunnableConfig

from longleaf.errors import ContextOverflowError, MissingExtraError, ReaderError

from .async_stream import read_stream
from .endpoint_server import OPENAI_URL, EndpointServer
from .reader import WORD_TOKENS, ChatModelReader, OnRead, ShouldStop

__all__ = ["OPENAI_URL", "EndpointReader", "open_endpoint"]

_N_LIKELIEST = 20
"""What OpenAI and vLLM tell at most."""


def open_endpoint(
    name: str,
    base_url: str = OPENAI_URL,
    api_key: str | None = None,
    *,
    context_tokens: int | None = None,
    timeout_s: float = 600.0,
    max_retries: int = 4,
) -> "EndpointReader":
    """The reader of that name on a server, which is asked about it here.

        reader = open_endpoint("ai21labs/AI21-Jamba2-3B", "http://127.0.0.1:8000/v1")

    Args:
        name: As the server has it; "" is its only one.
        base_url: The server's address, mostly ending in /v1.
        api_key: Sent with each request; None where it asks for none.
        context_tokens: Most tokens of prompt and reply, where that is to be less than what the server takes, or the
            server does not tell.
        timeout_s: Seconds that the server may send nothing, such as while it reads a long document.
        max_retries: How often a request is sent again; see `EndpointServer`.

    Raises:
        MissingExtraError: langchain-openai is not installed.
        UnknownModelError: The server has no such model.
        ReaderError: The server can't be reached, or refuses.
        ContextOverflowError: `context_tokens` is more than the server takes.
    """
    try:
        from langchain_openai import ChatOpenAI
        from langchain_openai.chat_models.base import BaseChatOpenAI
    except ImportError as exc:
        raise MissingExtraError(
            "a reader on a server needs langchain-openai: pip install 'longleaf[endpoints]'"
        ) from exc
    server = EndpointServer(base_url, api_key, timeout_s=timeout_s, max_retries=max_retries)
    model = server.find_model(name)
    stated = server.context_tokens(model)
    if context_tokens and stated and context_tokens > stated:
        raise ContextOverflowError(
            f"{server.url} runs {model['id']} with a context of {stated:,} tokens, and {context_tokens:,} are asked "
            "for: leave --context-tokens out, or run the server with a longer context"
        )
    # OpenAI has its own name for the limit of a reply, which servers like its own do not all know.
    kind: type[Any] = ChatOpenAI if server.base_url == OPENAI_URL else BaseChatOpenAI
    options: dict[str, Any] = {}
    if "stream_chunk_timeout" in kind.model_fields:  # two minutes by default, in which no long document is read
        options["stream_chunk_timeout"] = timeout_s
    chat = kind(
        model=model["id"],
        base_url=server.base_url,
        api_key=api_key or "none",
        temperature=0,
        http_client=server.http,
        timeout=server.timeout,
        max_retries=max_retries,
        stream_usage=True,
        use_responses_api=False,
        **options,
    )
    return EndpointReader(server, chat, context_tokens or stated)


class EndpointReader(ChatModelReader):
    """A model on a server with OpenAI's interface, as a `Reader`. Several threads may ask it.

    Args:
        server: Where it is.
        chat: Asks it; of langchain-openai.
        context_tokens: Most tokens of prompt and reply; by default what the model's profile says, else an assumption.
    """

    def __init__(self, server: EndpointServer, chat: BaseChatModel, context_tokens: int | None = None) -> None:
        self.server = server
        self._tells_probabilities = True  # until it refuses
        super().__init__(chat, context_tokens)

    @property
    def tokenizer_name(self) -> str:
        """Token counts are kept under it: another server may have another model of that name."""
        return f"{super().tokenizer_name} at {self.server.url}"

    def invoke(
        self,
        input: Sequence[BaseMessage],  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        max_tokens: int,
        on_read: OnRead | None = None,
        should_stop: ShouldStop | None = None,
    ) -> AIMessage:
        """The reply. It is streamed, so that it can be stopped, and no proxy takes a long silence for the end.

        Raises:
            ReaderError: The server can't be reached, refuses, or breaks off.
            ContextOverflowError: The prompt is too long for it.
        """
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
        on_read: OnRead | None = None,  # noqa: ARG002  a server does not tell how far it has read
        should_stop: ShouldStop | None = None,
    ) -> Iterator[AIMessageChunk]:
        """The reply piece by piece; to stop it, also before its first piece, closes the connection.

        Raises:
            ReaderError: The server can't be reached, refuses, or breaks off.
            ContextOverflowError: The prompt is too long for it.
        """
        try:
            yield from self._pieces(input, config, max_tokens, should_stop)
        except _TemperatureError:  # before the first piece
            yield from self._pieces(input, config, max_tokens, should_stop)

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        """Probability of each option as the first word of the reply; 1 or 0 by that word where the server tells none.

        Raises:
            ReaderError: The server can't be reached, or refuses.
            ContextOverflowError: The prompt is too long for it.
        """
        try:
            return self._choose(messages, options)
        except _TemperatureError:
            return self._choose(messages, options)

    def _choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        if not self._tells_probabilities:
            return super().choose(messages, options)
        asked = self._limited(WORD_TOKENS).bind(logprobs=True, top_logprobs=_N_LIKELIEST)
        try:
            with self.errors():
                said = asked.invoke(list(messages))
        except _TemperatureError:
            raise
        except ReaderError as exc:
            if getattr(exc.__cause__, "status_code", None) not in (400, 422):
                raise
            self._tells_probabilities = False  # it takes no such wish
            return super().choose(messages, options)
        return _by_probability(said, options) or self._by_word(str(said.text), options)

    def _pieces(
        self, messages: Sequence[BaseMessage], config: RunnableConfig | None, max_tokens: int, stop: ShouldStop | None
    ) -> Iterator[AIMessageChunk]:
        chat = self._limited(max_tokens)
        finished = stopped = False

        def should_stop() -> bool:
            nonlocal stopped
            stopped = stopped or (stop is not None and stop())
            return stopped

        stream = read_stream(lambda: _stream(chat, list(messages), config), should_stop if stop else None)
        with self.errors(), contextlib.closing(stream):
            for chunk in stream:
                finished = finished or bool(chunk.response_metadata.get("finish_reason"))
                yield chunk
        if stopped and not finished:
            yield AIMessageChunk(content="", response_metadata={"finish_reason": "cancelled"})
        elif not finished:
            raise ReaderError(
                f"{self.server.url} ended its reply in the middle: see in the server's log why, then ask again"
            )

    def _own_count(self) -> Callable[[str], int] | None:
        if self.server.base_url == OPENAI_URL:
            return super()._own_count()
        return self.server.counter(self.model_name)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """As `ChatModelReader` has it, in the words for a server with OpenAI's interface."""
        try:
            with self.server.errors(self.model_name):
                yield
        except ReaderError as exc:
            status = getattr(exc.__cause__, "status_code", None)
            if status == 400 and "temperature" in str(exc) and getattr(self.chat, "temperature", None) is not None:
                self.chat = self.chat.model_copy(update={"temperature": None})
                raise _TemperatureError(str(exc)) from exc
            raise


def _by_probability(said: AIMessage, options: Sequence[str]) -> dict[str, float] | None:
    """The options' shares of what the first word might have been; None where that is not told, or none is among it."""
    tokens = (said.response_metadata.get("logprobs") or {}).get("content") or []
    first: dict[str, Any] = next((token for token in tokens if str(token.get("token")).strip()), {})
    shares = dict.fromkeys(options, 0.0)
    for likely in first.get("top_logprobs") or []:
        for option in options:
            if str(likely["token"]).strip().casefold() == option.casefold():
                shares[option] += math.exp(likely["logprob"])
    total = sum(shares.values())
    return {option: share / total for option, share in shares.items()} if total else None


class _TemperatureError(ReaderError):
    """The model takes no temperature; the reader leaves it out from now on."""


async def _stream(
    chat: BaseChatModel, messages: list[BaseMessage], config: RunnableConfig | None
) -> AsyncGenerator[AIMessageChunk, None]:
    """The model's own stream, over a connection of its own: connections can't be shared by event loops."""
    from openai import DefaultAsyncHttpxClient

    async with DefaultAsyncHttpxClient() as http:
        client = chat.root_async_client.with_options(http_client=http)  # type: ignore[attr-defined]
        own = chat.model_copy(update={"root_async_client": client, "async_client": client.chat.completions})
        stream = cast("AsyncGenerator[AIMessageChunk, None]", own.astream(messages, config))
        async with contextlib.aclosing(stream):
            async for chunk in stream:
                yield chunk
