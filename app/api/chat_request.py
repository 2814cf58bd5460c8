"""A request for a chat completion, as OpenAI's clients send it, and what of it our reader is asked.

What is not known is refused, as OpenAI does; what is known and can't be done is refused in words; hints that change no
answer are taken and passed over.
"""

import json
import re
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, ConfigDict, Field

from longleaf.model.answer_form import answer_schema, tool_choice_of

from .errors import invalid
from .options import ApiOptions

__all__ = ["ChatMessage", "ChatRequest", "StreamOptions", "reader_options", "to_messages"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_TOOLS = 128
_MAX_STOPS = 4

Finite = Field(allow_inf_nan=False)


class ChatMessage(BaseModel):
    """One message; fields that clients send back from answers, such as `refusal`, are passed over."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "model": "qwen2.5-1.5b",
                "messages": [{"role": "user", "content": "Which month follows May?"}],
                "max_tokens": 32,
            }
        },
    )

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: Annotated[float, Finite] | None = Field(None, ge=0, le=2)
    top_p: Annotated[float, Finite] | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    # More of our own, which other servers of open models have as well.
    top_k: int | None = Field(None, ge=0)
    min_p: Annotated[float, Finite] | None = Field(None, ge=0, le=1)
    repetition_penalty: Annotated[float, Finite] | None = Field(None, gt=0)
    # Known, and refused unless they ask for nothing.
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    modalities: list[str] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    # Hints, passed over.
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prediction: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None


def reader_options(request: ChatRequest, limits: ApiOptions) -> dict[str, Any]:
    """The keyword arguments of ChatLongleaf for this request.

    Raises:
        ApiError: It asks for something that can't be done.
    """
    _refuse_what_we_lack(request)
    tools = _tools(request)
    wanted = request.max_completion_tokens or request.max_tokens
    if wanted is not None and wanted > limits.max_tokens:
        param = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
        raise invalid(
            f"{param} is {wanted:,}, and an answer of this server has at most {limits.max_tokens:,} tokens", param
        )
    options: dict[str, Any] = {"max_tokens": wanted or min(limits.default_tokens, limits.max_tokens)}
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if len(stops) > _MAX_STOPS or not all(stops):
        raise invalid(f"stop takes up to {_MAX_STOPS} strings, none of them empty", "stop")
    if stops:
        options["stop"] = stops
    for name in ("temperature", "top_p", "seed", "top_k", "min_p", "repetition_penalty", "response_format"):
        if (value := getattr(request, name)) is not None:
            options[name] = value
    try:
        answer_schema(request.response_format)
    except (ValueError, AttributeError) as exc:
        raise invalid(str(exc), "response_format") from exc
    if tools:
        try:
            options |= {"tools": tools, "tool_choice": tool_choice_of(request.tool_choice, tools)}
        except ValueError as exc:
            raise invalid(str(exc), "tool_choice") from exc
        if request.parallel_tool_calls is not None:
            options["parallel_tool_calls"] = request.parallel_tool_calls
    elif request.tool_choice not in (None, "none", "auto"):
        raise invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    return options


def _refuse_what_we_lack(request: ChatRequest) -> None:
    if request.n not in (None, 1):
        raise invalid("this server writes one answer for a request: n can be 1 only", "n")
    for name in ("logprobs", "top_logprobs", "logit_bias", "presence_penalty", "frequency_penalty"):
        if getattr(request, name):
            raise invalid(f"this server has no {name}: leave it out", name, "unsupported_parameter")
    if request.modalities not in (None, ["text"]):
        raise invalid("this server reads and writes text only", "modalities", "unsupported_parameter")
    for name in ("functions", "function_call"):
        if getattr(request, name):
            raise invalid(f"{name} is OpenAI's old form: use tools and tool_choice", name, "unsupported_parameter")


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    tools = request.tools or []
    if len(tools) > _MAX_TOOLS:
        raise invalid(f"a request may have up to {_MAX_TOOLS} tools, not {len(tools)}", "tools")
    for i, tool in enumerate(tools):
        function, param = tool.get("function"), f"tools[{i}]"
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise invalid(f"{param}: this server knows tools of the type function only", param)
        if not isinstance(function.get("name"), str) or not _NAME.fullmatch(function["name"]):
            raise invalid(f"{param}: a name has 1 to 64 letters, digits, _ and -", f"{param}.function.name")
        if not isinstance(function.get("parameters") or {}, dict):
            raise invalid(f"{param}: parameters are a JSON schema, which is an object", f"{param}.function.parameters")
    return tools


def to_messages(given: list[ChatMessage]) -> list[BaseMessage]:
    """The messages as LangChain has them.

    Raises:
        ApiError: One holds something that can't be read.
    """
    return [_message(message, f"messages[{i}]") for i, message in enumerate(given)]


def _message(message: ChatMessage, param: str) -> BaseMessage:
    text = _text(message, param)
    match message.role:
        case "system" | "developer":
            return SystemMessage(text)
        case "user":
            return HumanMessage(text)
        case "tool":
            if message.tool_call_id is None:
                raise invalid("a tool's message needs the tool_call_id that it answers", f"{param}.tool_call_id")
            return ToolMessage(text, tool_call_id=message.tool_call_id)
    calls = [_call(call, f"{param}.tool_calls[{i}]") for i, call in enumerate(message.tool_calls or [])]
    return AIMessage(text, tool_calls=calls)


def _text(message: ChatMessage, param: str) -> str:
    if message.content is None:
        if message.role == "assistant":
            return ""
        raise invalid(f"Invalid value for 'content': expected a string, got null (role {message.role}).", param)
    if isinstance(message.content, str):
        return message.content
    texts = []
    for i, part in enumerate(message.content):
        if part.get("type") not in ("text", "refusal"):
            raise invalid(
                f"this server reads text only, and a part has the type {part.get('type')!r}",
                f"{param}.content[{i}]",
                "unsupported_content",
            )
        text = part.get(part["type"])
        if not isinstance(text, str):
            raise invalid(f"a part of the type {part['type']} needs its text", f"{param}.content[{i}]")
        texts.append(text)
    return "".join(texts)


def _call(call: dict[str, Any], param: str) -> Any:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not call.get("id"):
        raise invalid("a call of a tool needs an id, and a function with a name", param)
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (ValueError, TypeError) as exc:
        raise invalid("the arguments of a call are JSON text", f"{param}.function.arguments") from exc
    if not isinstance(arguments, dict):
        raise invalid("the arguments of a call are a JSON object", f"{param}.function.arguments")
    return {"name": function["name"], "args": arguments, "id": str(call["id"]), "type": "tool_call"}
