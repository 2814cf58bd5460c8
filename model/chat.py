"""LangChain's view of the reader: `ChatLongleaf`, a `BaseChatModel` over an `Engine`.

It turns LangChain messages into the engine's and the engine's pieces into LangChain's; it knows neither the weights
nor how they run.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from longleaf.errors import ModelError

from .engine import READING_LABEL, Engine, Message, Piece, ReadProgress, ShouldStop, Usage
from .registry import MODELS, ModelSpec, get_spec
from .sampling import SamplingOptions

__all__ = ["ChatLongleaf"]

logger = logging.getLogger(__name__)

_LOAD_LOCK = threading.Lock()
_LARGEST_DEFAULT_CONTEXT_TOKENS = 32_768
"""A model named by its path is run with what it was trained for, and no more than this unless told otherwise."""


class ChatLongleaf(BaseChatModel):
    """Longleaf's reader as a LangChain chat model.

        chat = ChatLongleaf(model="qwen2.5-1.5b", max_tokens=128)
        print(chat.invoke("Which month follows May?").content)
        for chunk in chat.stream("Count to five."): ...

    The weights are loaded at the first use and stay loaded until `close()`. A prompt that begins like an earlier one is
    read from where they part, also in a later process if `readings_dir` is given; the answer's
    `usage_metadata["input_token_details"]["cache_read"]` says how much was not read again, and its
    `response_metadata["seconds_saved"]` what that saved. What a model thinks in `<think>` tags is the message's
    reasoning content, not part of its text.

    Keyword arguments of a call win over the fields; besides those of sampling, `max_tokens` and `stop` a call takes
    `should_stop` (asked while reading and writing; True ends the answer with the finish reason `cancelled`) and
    `on_read` (told tokens read, tokens of the prompt, seconds left).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), extra="forbid")

    model: str = "qwen2.5-1.5b"
    """A model's name (`longleaf model list`), a pulled hub id, a model folder or the path of a .gguf file."""
    models_dir: Path | None = None
    """Where installed models lie; the user's data folder if not given."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the likeliest token each time."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Sample from the likeliest tokens that have this probability together."""
    top_k: int = Field(default=0, ge=0)
    """Sample from so many of the likeliest tokens; 0 for all."""
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    """Leave out tokens less likely than this share of the likeliest."""
    repetition_penalty: float = Field(default=1.0, gt=0.0)
    """Above 1 makes tokens that were read or written less likely."""
    seed: int | None = None
    """Same seed, same answer; only matters with a temperature."""
    max_tokens: int = Field(default=256, ge=1)
    """Most tokens of an answer."""
    stop: list[str] | None = None
    """Strings that end the answer; they are not part of it."""
    n_threads: int | None = Field(default=None, ge=1)
    """Threads for the arithmetic of the whole process; the physical cores if not given."""
    device: str = "cpu"
    """"cpu" or "cuda"."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of activations and unquantised weights; chosen for the device if not given."""
    quantize: Literal["int8", "int8-experts", "w8a8"] | None = None
    """Round weights to int8 as they are loaded; GGUF files are quantised as they come."""
    readings_dir: Path | None = None
    """Where readings are kept; in memory alone if not given."""
    readings_budget_bytes: int = Field(default=20_000_000_000, ge=0)
    """Room for readings on disk."""
    context_tokens_limit: int | None = Field(default=None, ge=16, alias="context_tokens")
    """Most tokens of prompt and answer; the model's default if not given. Read it from `context_tokens`."""
    streaming: bool = False
    """Have `invoke` stream too, so that callbacks hear of each token."""
    timeout: float | None = Field(default=None, gt=0)
    """Seconds after which a call is given up with a ModelError."""
    max_retries: int = 0
    """Accepted for LangChain's sake: a local model has nothing to retry."""
    api_key: SecretStr | None = Field(default=None, exclude=True)
    """Accepted for LangChain's sake: a local model needs none."""
    engine: Any = Field(default=None, exclude=True, repr=False)
    """An `Engine` to use instead of loading one."""

    _engine: Engine | None = PrivateAttr(default=None)
    _template: Any = PrivateAttr(default=None)

    # The engine

    def load(self) -> Engine:
        """The engine, loaded if it was not yet.

        Raises:
            UnknownModelError: `model` is neither a known name nor a .gguf file.
            ModelNotInstalledError: Its weights are not on this machine.
            ModelError: They can't be loaded.
        """
        if self.engine is not None:
            given: Engine = self.engine
            return given
        with _LOAD_LOCK:
            if self._engine is None:
                self._engine = self._load()
            return self._engine

    def close(self) -> None:
        """Free the weights; the next call loads them again."""
        with _LOAD_LOCK:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def _load(self) -> Engine:
        import torch

        from .decoder_engine import DecoderEngine
        from .readings import ReadingStore

        begun, template = time.monotonic(), self._chat_template()
        store = None
        if self.readings_dir is not None:
            store = ReadingStore(self.readings_dir, budget_bytes=self.readings_budget_bytes)
        engine = DecoderEngine.load(
            self._path(),
            template,
            name=self.model_name,
            context_tokens=self.context_tokens,
            device=self.device,
            dtype=None if self.dtype is None else getattr(torch, self.dtype),
            quantize=self.quantize,
            n_threads=self.n_threads,
            store=store,
        )
        logger.info("loaded %s in %.1f s", self.model_name, time.monotonic() - begun)
        return engine

    def _path(self) -> Path:
        from .loading import find_weights

        return find_weights(self.model, self.models_dir)

    def _is_path(self) -> bool:
        return self.model.endswith(".gguf") or Path(self.model).expanduser().is_dir()

    def _spec(self) -> ModelSpec | None:
        if self._is_path():
            name = Path(self.model).name
            return next((spec for spec in MODELS.values() if spec.files[0].name == name), None)
        spec = get_spec(self.model)
        if spec.role != "reader":
            raise ModelError(f"{spec.name} makes embeddings and can't answer; choose a reader")
        return spec

    @property
    def model_name(self) -> str:
        """The model's name, or its file's or folder's without its ending."""
        return Path(self.model).stem if self._is_path() else self.model

    # What the retrieval side asks for

    @property
    def context_tokens(self) -> int:
        """Most tokens that prompt and answer may have together."""
        if self.engine is not None:
            return int(self.engine.context_tokens)
        spec = self._spec()
        if spec is not None:
            trained, default = spec.context_tokens, spec.default_context_tokens
        else:
            from .loading import read_config

            trained = read_config(self._path()).max_context_tokens or _LARGEST_DEFAULT_CONTEXT_TOKENS
            default = min(trained, _LARGEST_DEFAULT_CONTEXT_TOKENS)
        wanted = self.context_tokens_limit or default
        if wanted > trained:
            raise ModelError(f"{self.model_name} was trained for {trained} tokens of context; {wanted} is too many")
        return wanted

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        """How likely each option is as the reply, by its first token; the probabilities add up to 1."""
        return self.load().choose([_message(message) for message in messages], options)

    def get_token_ids(self, text: str) -> list[int]:
        """The model's own tokens of a text; needs its tokenizer, not its weights."""
        if self.engine is not None:
            return list(self.engine.token_ids(text))
        from .gguf_tokenizer import plain_ids

        return plain_ids(self._chat_template().tokenizer, text)

    def _chat_template(self) -> Any:
        """The model's chat template and tokenizer, which are there before its weights are."""
        if self._template is None:
            from .decoder_engine import load_chat_template

            spec = self._spec()
            self._template = load_chat_template(self._path(), spec.default_system if spec else "")
        return self._template

    def get_num_tokens(self, text: str) -> int:
        """How many of the model's own tokens a text has."""
        return len(self.get_token_ids(text))

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """How many tokens the prompt of these messages has, control tokens included."""
        if tools:
            raise ValueError(f"{self.model_name} does not call tools")
        return self.load().count_prompt_tokens([_message(message) for message in messages])

    # LangChain's side

    @property
    def _llm_type(self) -> str:
        return "longleaf"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "stop": self.stop,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(
            ls_provider="longleaf",
            ls_model_name=kwargs.get("model", self.model_name),
            ls_model_type="chat",
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get("max_tokens", self.max_tokens),
        )
        if stop or self.stop:
            params["ls_stop"] = stop or self.stop
        return params

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  tells of tokens only when streaming
        **kwargs: Any,
    ) -> ChatResult:
        text, reasoning, last = [], [], Piece("")
        for last in self._pieces(messages, stop, **kwargs):
            text.append(last.text)
            reasoning.append(last.reasoning)
        message = AIMessage(
            content="".join(text),
            additional_kwargs=_reasoning("".join(reasoning)),
            usage_metadata=_usage_metadata(last.usage),
            response_metadata=self._response_metadata(last),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self._pieces(messages, stop, **kwargs):
            last = piece.finish_reason is not None
            message = AIMessageChunk(
                content=piece.text,
                additional_kwargs=_reasoning(piece.reasoning),
                usage_metadata=_usage_metadata(piece.usage),
                response_metadata=self._response_metadata(piece) if last else {},
                chunk_position="last" if last else None,
            )
            chunk = ChatGenerationChunk(message=message)
            if run_manager is not None:
                run_manager.on_llm_new_token(piece.text, chunk=chunk)
            yield chunk

    def _pieces(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        *,
        should_stop: ShouldStop | None = None,
        on_read: ReadProgress | None = None,
        **options: Any,
    ) -> Iterator[Piece]:
        sampling = SamplingOptions(**{name: options.pop(name, getattr(self, name)) for name in _SAMPLING})
        max_tokens = options.pop("max_tokens", self.max_tokens)
        options.pop("ls_structured_output_format", None)  # LangChain's own, for tracing
        if options.pop("model", self.model) != self.model:
            raise ValueError(f"this ChatLongleaf runs {self.model}; make another one for another model")
        if options:
            raise ValueError(f"{self.model_name} does not take {', '.join(sorted(options))}")
        deadline = None if self.timeout is None else time.monotonic() + self.timeout

        def over() -> bool:
            return (deadline is not None and time.monotonic() > deadline) or (should_stop is not None and should_stop())

        pieces = self.load().stream(
            [_message(message) for message in messages],
            stop=[*(stop if stop is not None else self.stop or [])],
            should_stop=over if deadline is not None or should_stop is not None else None,
            on_read=on_read,
            max_tokens=max_tokens,
            sampling=sampling,
            label=next((str(label) for m in messages if (label := m.additional_kwargs.get(READING_LABEL))), ""),
        )
        for piece in pieces:
            if piece.finish_reason == "cancelled" and deadline is not None and time.monotonic() > deadline:
                raise ModelError(
                    f"{self.model_name}: no answer within {self.timeout:g} s; raise timeout or shorten the prompt"
                )
            yield piece

    def _response_metadata(self, last: Piece) -> dict[str, Any]:
        return {
            "model_name": self.model_name,
            "model_provider": "longleaf",
            "finish_reason": last.finish_reason,
            "seconds_saved": round(last.usage.seconds_saved, 3) if last.usage else 0.0,
        }


_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


def _reasoning(text: str) -> dict[str, Any]:
    """Where LangChain looks for reasoning: `content_blocks` gives it as a block of its own."""
    return {"reasoning_content": text} if text else {}


def _message(message: BaseMessage) -> Message:
    """A LangChain message as the engine's."""
    if isinstance(message, SystemMessage):
        role = "system"
    elif isinstance(message, HumanMessage):
        role = "user"
    elif isinstance(message, AIMessage):
        role = "assistant"
    elif isinstance(message, ChatMessage) and message.role in ("system", "user", "assistant"):
        role = message.role
    else:
        raise ValueError(f"a message of type {message.type!r} can't be given to this model: it does not call tools")
    return {"role": role, "content": _text(message)}


def _text(message: BaseMessage) -> str:
    """The text of a message's content, its text blocks joined."""
    if isinstance(message.content, str):
        return message.content
    texts = []
    for block in message.content:
        if isinstance(block, str):
            texts.append(block)
        elif block.get("type") == "text":
            texts.append(str(block["text"]))
        else:
            raise ValueError(f"this model reads text only; the message has a block of type {block.get('type')!r}")
    return "".join(texts)


def _usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )
