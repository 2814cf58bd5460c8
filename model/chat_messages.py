"""LangChain's messages as the engine takes them, and what the engine writes as LangChain's messages have it."""

import json
import uuid
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk, invalid_tool_call, tool_call, tool_call_chunk

from .engine import Message, Usage
from .tool_calls import CallPiece

__all__ = ["CallsWritten", "engine_message", "reasoning_kwargs", "usage_metadata"]


def engine_message(message: BaseMessage) -> Message:
    """A LangChain message as the engine's."""
    if isinstance(message, ToolMessage):
        name = {} if message.name is None else {"name": message.name}
        return {"role": "tool", "content": _text(message), "tool_call_id": message.tool_call_id, **name}
    if isinstance(message, AIMessage):
        calls = [
            {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["args"]}}
            for call in message.tool_calls
        ]
        return {"role": "assistant", "content": _text(message)} | ({"tool_calls": calls} if calls else {})
    if isinstance(message, SystemMessage):
        role = "system"
    elif isinstance(message, HumanMessage):
        role = "user"
    elif isinstance(message, ChatMessage) and message.role in ("system", "user", "assistant"):
        role = message.role
    else:
        raise ValueError(f"a message of type {message.type!r} can't be given to this model")
    return {"role": role, "content": _text(message)}


_NO_TEXT_OF_AN_ANSWER = ("tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "reasoning", "thinking")
"""Blocks of an answer that are given back in another way, or not at all."""


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
        elif not (isinstance(message, AIMessage) and block.get("type") in _NO_TEXT_OF_AN_ANSWER):
            raise ValueError(f"this model reads text only; the message has a block of type {block.get('type')!r}")
    return "".join(texts)


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """The engine's counts in LangChain's words."""
    if usage is None:
        return None
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )


def reasoning_kwargs(text: str) -> dict[str, Any]:
    """Where LangChain looks for reasoning: `content_blocks` gives it as a block of its own."""
    return {"reasoning_content": text} if text else {}


class CallsWritten:
    """Calls of tools as LangChain has them, from the pieces of one answer."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._names: list[str | None] = []
        self._arguments: list[str] = []

    def add(self, piece: CallPiece) -> ToolCallChunk:
        """Take in a piece; returns it as LangChain streams it."""
        first = piece.index == len(self._ids)
        if first:
            self._ids.append(f"call_{uuid.uuid4().hex}")
            self._names.append(piece.name)
            self._arguments.append("")
        self._arguments[piece.index] += piece.arguments
        call_id = self._ids[piece.index] if first else None
        return tool_call_chunk(name=piece.name, args=piece.arguments, id=call_id, index=piece.index)

    def read(self) -> dict[str, Any]:
        """The message's `tool_calls` and `invalid_tool_calls`."""
        valid, invalid = [], []
        for call_id, name, arguments in zip(self._ids, self._names, self._arguments, strict=True):
            try:
                args = json.loads(arguments)
            except ValueError:
                args = None
            if name is not None and isinstance(args, dict):
                valid.append(tool_call(name=name, args=args, id=call_id))
            else:
                error = "the call is not complete, or not JSON"
                invalid.append(invalid_tool_call(name=name, args=arguments, id=call_id, error=error))
        return {"tool_calls": valid, "invalid_tool_calls": invalid}
