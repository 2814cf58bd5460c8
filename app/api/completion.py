"""Puts what the reader writes into the form of OpenAI's chat completions, whole or chunk by chunk."""

import time
import uuid
from typing import Any

from langchain_core.messages import AIMessageChunk

__all__ = ["Completion"]

_REASONS = {"stop": "stop", "length": "length"}


class Completion:
    """One answer.

        completion = Completion("qwen2.5-1.5b")
        for chunk in chat.stream(messages): delta = completion.add(chunk)
        completion.whole()

    Args:
        model: The name of the model.
    """

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._places: dict[int, int] = {}  # of a call of the reader's among ours
        self._finish = ""
        self.tokens_prompt = self.tokens_reused = self.tokens_written = 0

    def add(self, chunk: AIMessageChunk) -> dict[str, Any]:
        """Takes in a piece; returns what of it a stream shows, which may be nothing."""
        delta: dict[str, Any] = {}
        text = str(chunk.text)
        calls = []
        for call in chunk.tool_call_chunks:
            if (shown := self._call(call)) is None:
                text += call["args"] or ""  # between a call's tags, and no call
            else:
                calls.append(shown)
        if reasoning := chunk.additional_kwargs.get("reasoning_content"):
            self._reasoning.append(reasoning)
            delta["reasoning_content"] = reasoning
        if text:
            self._text.append(text)
            delta["content"] = text
        if calls:
            delta["tool_calls"] = calls
        if chunk.response_metadata.get("finish_reason"):
            self._finish = chunk.response_metadata["finish_reason"]
        if usage := chunk.usage_metadata:
            self.tokens_prompt, self.tokens_written = usage["input_tokens"], usage["output_tokens"]
            self.tokens_reused = (usage.get("input_token_details") or {}).get("cache_read") or 0
        return delta

    def _call(self, call: Any) -> dict[str, Any] | None:
        index = call["index"] or 0
        if index not in self._places:
            if call["name"] is None:
                return None
            self._places[index] = len(self._calls)
            function = {"name": call["name"], "arguments": call["args"] or ""}
            self._calls.append({"id": call["id"], "type": "function", "function": function})
            return {"index": self._places[index], **self._calls[-1], "function": dict(function)}
        place = self._places[index]
        self._calls[place]["function"]["arguments"] += call["args"] or ""
        return {"index": place, "function": {"arguments": call["args"] or ""}}

    @property
    def finish_reason(self) -> str:
        """Why it ended, in OpenAI's words."""
        reason = _REASONS.get(self._finish, "stop")
        return "tool_calls" if self._calls and reason == "stop" else reason

    @property
    def usage(self) -> dict[str, Any]:
        """What it took, in tokens."""
        return {
            "prompt_tokens": self.tokens_prompt,
            "completion_tokens": self.tokens_written,
            "total_tokens": self.tokens_prompt + self.tokens_written,
            "prompt_tokens_details": {"cached_tokens": self.tokens_reused},
        }

    def whole(self) -> dict[str, Any]:
        """The object of an answer that is not streamed."""
        text = "".join(self._text)
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._calls:
            message |= {"content": text or None, "tool_calls": self._calls}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": self.usage}

    def chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, *, counted: bool = False
    ) -> dict[str, Any]:
        """The object of a chunk; `counted` says that the stream ends with the usage, which it has not yet."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if counted else {}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice], **usage}

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream that tells the usage."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self.usage}
