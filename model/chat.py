"""LangChain's view of the reader: `ChatLongleaf`, a `BaseChatModel` over an `Engine`.

It turns LangChain messages into the engine's and the engine's pieces into LangChain's; it knows neither the weights
nor how they run.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, cast

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
)
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from longleaf.errors import ModelError

from .answer_form import ANY_OBJECT, answer_schema, awhole, json_schema_of, tool_choice_of, whole, with_schema
from .chat_messages import CallsWritten, engine_message, reasoning_kwargs, usage_metadata
from .constraint import Constraint
from .engine import READING_LABEL, READING_SOURCES, Engine, Message, Piece, ReadProgress, ShouldStop, Tool
from .registry import MODELS, ModelSpec, get_spec
from .sampling import SamplingOptions
from .tool_calls import CallPiece, ToolCallReader, tool_constraint

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

    Answers in the form of a schema, and calls of tools, are held to it while they are written, so that a small model
    can't get the form wrong:

        chat.with_structured_output(Invoice).invoke("Who is billed, and how much? " + page)  # an Invoice
        chat.bind_tools([search]).invoke("Look up the net sales.").tool_calls  # [{"name": "search", "args": {…}, …}]
        chat.invoke("Which year?", constraint=Constraint.regex("[0-9]{4}")).content  # constraint.py: JSON, regex, Lark

    The weights are loaded at the first use and stay loaded until `close()`. A prompt that begins like an earlier one is
    read from where they part, also in a later process if `readings_dir` is given; the answer's
    `usage_metadata["input_token_details"]["cache_read"]` says how much was not read again, and its
    `response_metadata["seconds_saved"]` what that saved. What a model thinks in `<think>` tags is the message's
    reasoning content, not part of its text.

    Keyword arguments of a call win over the fields; besides those of sampling, `max_tokens` and `stop` a call takes
    `should_stop` (asked while reading and writing; True ends the answer with the finish reason `cancelled`), `on_read`
    (told tokens read, tokens of the prompt, seconds left), `constraint` (what the answer must look like), and
    `response_format`, `tools`, `tool_choice` and `parallel_tool_calls` in OpenAI's form.
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
        label, sources = _what_is_read(messages)
        given = [engine_message(message) for message in messages]
        return self.load().choose(given, options, label=label, sources=sources)

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
        return self.load().count_prompt_tokens(
            [engine_message(message) for message in messages],
            *([[convert_to_openai_tool(tool) for tool in tools]] if tools else []),
        )

    # Tools and forms

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,  # noqa: ARG002  arguments always fit their schema
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model, with tools that it may call.

        The calls are in the answer's `tool_calls`, with arguments that fit the tool's schema; one that was cut, because
        `max_tokens` were used up, is among its `invalid_tool_calls`. Give the results back as `ToolMessage`s. Only a
        call that the model writes without the tags it was taught, where it need not call, is taken as it comes.

        Args:
            tools: Tools, functions, pydantic classes, TypedDicts or OpenAI's descriptions.
            tool_choice: "auto" or None lets the model decide, "any" (or "required" or True) makes it call one, the name
                of a tool (also as OpenAI writes it, in a dict) that one, and "none" keeps the tools from it.
            parallel_tool_calls: Whether one answer may have several calls; if not given, only one that need have none.
            strict: Accepted for LangChain's sake.
            kwargs: For each call, as in `invoke`.

        Raises:
            ValueError: `tool_choice` names none of the tools.
        """
        described = [convert_to_openai_tool(tool) for tool in tools]
        choice = tool_choice_of(tool_choice, described)
        return self.bind(tools=described, tool_choice=choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema",
        strict: bool | None = None,  # noqa: ARG002  answers always fit their schema
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """This model, answering in the form of a schema.

        Args:
            schema: A pydantic class, for answers that are its instances; a TypedDict, a JSON schema or OpenAI's
                description of a function, for answers that are dicts.
            include_raw: Answer with a dict of `raw`, the message; `parsed`, None if that failed; and `parsing_error`.
            method: "json_schema" tells the model the schema and holds its answer to it. "function_calling" does so with
                a tool that it must call. "json_mode" makes it answer with any JSON object; say in the prompt which.
            strict: Accepted for LangChain's sake.
            kwargs: For each call, as in `invoke`.

        Raises:
            ValueError: Another method, or a schema that is none. Calls of the result raise it too, for a schema that
                nothing fits, and ModelError for an answer that `max_tokens` cut.
        """
        is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
        tracing = {"kwargs": {"method": method}, "schema": schema}
        parser: Runnable[Any, Any]
        if method == "function_calling":
            name = convert_to_openai_tool(schema)["function"]["name"]
            model = self.bind_tools([schema], tool_choice=name, ls_structured_output_format=tracing, **kwargs)
            if is_class:
                parser = PydanticToolsParser(tools=[cast("type[BaseModel]", schema)], first_tool_only=True)
            else:
                parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        elif method in ("json_schema", "json_mode"):
            form: dict[str, Any] = {"type": "json_object"}
            if method == "json_schema":
                form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": json_schema_of(schema)}}
            model = self.bind(response_format=form, ls_structured_output_format=tracing, **kwargs)
            parser = (
                PydanticOutputParser(pydantic_object=cast("type[BaseModel]", schema))
                if is_class
                else JsonOutputParser()
            )
        else:
            raise ValueError(f"method must be json_schema, json_mode or function_calling, got {method!r}")
        parser = RunnableGenerator(whole, awhole) | parser
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")

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
        text, reasoning, calls, last = [], [], CallsWritten(), Piece("")
        for last, parts in self._parts(messages, stop, **kwargs):
            reasoning.append(last.reasoning)
            for part in parts:
                if isinstance(part, CallPiece):
                    calls.add(part)
                else:
                    text.append(part)
        message = AIMessage(
            content="".join(text),
            additional_kwargs=reasoning_kwargs("".join(reasoning)),
            usage_metadata=usage_metadata(last.usage),
            response_metadata=self._response_metadata(last),
            **calls.read(),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        calls = CallsWritten()
        for piece, parts in self._parts(messages, stop, **kwargs):
            last = piece.finish_reason is not None
            message = AIMessageChunk(
                content="".join(part for part in parts if isinstance(part, str)),
                additional_kwargs=reasoning_kwargs(piece.reasoning),
                tool_call_chunks=[calls.add(part) for part in parts if isinstance(part, CallPiece)],
                usage_metadata=usage_metadata(piece.usage),
                response_metadata=self._response_metadata(piece) if last else {},
                chunk_position="last" if last else None,
            )
            chunk = ChatGenerationChunk(message=message)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(message.content), chunk=chunk)
            yield chunk

    def _parts(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        *,
        tools: Sequence[Tool] | None = None,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | None = None,
        constraint: Constraint | None = None,
        **options: Any,
    ) -> Iterator[tuple[Piece, list[str | CallPiece]]]:
        """The pieces of the answer, and of each what is text and what are calls of tools."""
        given, schema = [engine_message(message) for message in messages], answer_schema(response_format)
        choice = tool_choice_of(tool_choice, tools or [])
        if choice == "none":
            tools = None
        if constraint is not None and (tools or schema is not None):
            raise ValueError(
                "a constraint can't be joined with tools or a response_format; put all of it in one grammar"
            )
        reader = None
        if tools:
            markup, required = self.load().tool_markup, choice != "auto"
            callable_tools = [tool for tool in tools if choice in ("auto", "any", tool["function"]["name"])]
            several = not required if parallel_tool_calls is None else parallel_tool_calls
            names = [tool["function"]["name"] for tool in tools] if schema is None else []
            reader = ToolCallReader(markup, names)
            constraint = tool_constraint(
                markup, callable_tools, required=required, several=several, answer_schema=schema
            )
        elif schema is not None:
            constraint = Constraint.json_schema(schema)
        if schema not in (None, ANY_OBJECT):
            given = with_schema(given, schema)
        label, sources = _what_is_read(messages)
        for piece in self._pieces(
            given, stop, label=label, sources=sources, tools=tools, constraint=constraint, **options
        ):
            parts: list[str | CallPiece] = [piece.text] if piece.text else []
            if reader is not None:
                parts = reader.feed(piece.text)
                if piece.finish_reason is not None:
                    parts += reader.flush()
            yield piece, parts

    def _pieces(
        self,
        messages: list[Message],
        stop: list[str] | None,
        *,
        label: str,
        sources: Sequence[str],
        tools: Sequence[Tool] | None,
        constraint: Constraint | None,
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
            messages,
            stop=[*(stop if stop is not None else self.stop or [])],
            should_stop=over if deadline is not None or should_stop is not None else None,
            on_read=on_read,
            max_tokens=max_tokens,
            sampling=sampling,
            label=label,
            sources=sources,
            tools=tools,
            constraint=constraint,
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


def _what_is_read(messages: Sequence[BaseMessage]) -> tuple[str, tuple[str, ...]]:
    """The label of the first message that has one, and the sources of all."""
    label = next((str(label) for m in messages if (label := m.additional_kwargs.get(READING_LABEL))), "")
    sources = (str(source) for m in messages for source in m.additional_kwargs.get(READING_SOURCES) or ())
    return label, tuple(dict.fromkeys(sources))


_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
