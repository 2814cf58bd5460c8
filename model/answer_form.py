"""What a caller asks of an answer's form: which tool is called, and the JSON schema that the answer fits.

Understands the forms of LangChain, OpenAI and Anthropic; knows nothing of how an answer is held to them.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

from longleaf.errors import ModelError

from .engine import Message, Tool

__all__ = ["ANY_OBJECT", "answer_schema", "awhole", "json_schema_of", "tool_choice_of", "whole", "with_schema"]

ANY_OBJECT: dict[str, Any] = {"type": "object"}


def tool_choice_of(choice: str | bool | dict[str, Any] | None, tools: Sequence[Tool]) -> str:
    """The choice as "auto", "any", "none" or the name of a tool."""
    names = [tool["function"]["name"] for tool in tools]
    if isinstance(choice, dict):  # OpenAI's form, or Anthropic's
        choice = choice.get("function", choice).get("name") or choice.get("type")
    if choice in (None, False, "auto"):
        return "auto"
    if choice in (True, "any", "required"):
        return "any"
    if choice == "none" or choice in names:
        return str(choice)
    raise ValueError(f"tool_choice is {choice!r}; it can be auto, any, none or one of {', '.join(names) or 'no tools'}")


def answer_schema(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The JSON schema of OpenAI's `response_format`."""
    kind = None if response_format is None else response_format.get("type")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return ANY_OBJECT
    if kind == "json_schema" and isinstance(schema := response_format.get("json_schema", {}).get("schema"), dict):
        return schema
    raise ValueError(
        f"response_format is {response_format!r}; it can be {{'type': 'json_object'}} or "
        "{'type': 'json_schema', 'json_schema': {'schema': …}}"
    )


def json_schema_of(schema: dict[str, Any] | type) -> dict[str, Any]:
    """The JSON schema of whatever LangChain takes for one."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return schema.model_json_schema()  # LangChain's conversion writes references out, and so loses recursion
    is_openai = isinstance(schema, dict) and ("function" in schema or {"name", "parameters"} <= schema.keys())
    if isinstance(schema, dict) and not is_openai:
        return schema
    return convert_to_json_schema(schema)


def with_schema(messages: list[Message], schema: Mapping[str, Any]) -> list[Message]:
    """The messages, the user's last one asking for the schema: what stands before is read once for all schemas."""
    told = f"Answer with nothing but JSON that fits this schema:\n{json.dumps(_untitled(schema), ensure_ascii=False)}"
    at = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    if at is None:
        return [*messages, {"role": "user", "content": told}]
    asking = messages[at] | {"content": f"{messages[at]['content']}\n\n{told}"}
    return [*messages[:at], asking, *messages[at + 1 :]]


def _untitled(schema: Any) -> Any:
    """The schema without its titles, which repeat the names in other letters; a property named so is no title."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}


def _check_whole(message: Any) -> Any:
    metadata = getattr(message, "response_metadata", {})
    if metadata.get("finish_reason") == "length":
        raise ModelError(
            f"{metadata.get('model_name', 'the model')}: the answer was cut before it was complete; raise max_tokens, "
            "or ask for less"
        )
    return message


def whole(messages: Iterator[Any]) -> Iterator[Any]:
    """Passes answers on, unless they were cut."""
    for message in messages:
        yield _check_whole(message)


async def awhole(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """As `whole`."""
    async for message in messages:
        yield _check_whole(message)
