r"""How tool calls stand in a model's text: the tags around them, a grammar for them, and how they are read back.

Two ways are known, and found in the checkpoint's own chat template (`ChatTemplate.tool_markup`): a pair of tags around
each call (Hermes, Qwen, Jamba2: `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`) and one pair around a list of
them (Jamba 1.5 to 1.7: `<tool_calls>[{"name": …, "arguments": …}]</tool_calls>`). A model whose template knows neither
is told the first in the system message. Knows nothing of LangChain and runs no tool.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .constraint import Constraint, json_rule

__all__ = ["KNOWN_MARKUP", "CallPiece", "ToolCallReader", "ToolMarkup", "messages_for", "tool_constraint"]

_PROBE_NAME, _PROBE_PURPOSE = "probe_tool", "probe_purpose"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE_NAME,
        "description": _PROBE_PURPOSE,
        "parameters": {"type": "object", "properties": {}},
    },
}
_BARE_STARTS = [f'{fence}{{"{key}":' for fence in ("", "```", "```json") for key in ("name", "arguments", "parameters")]
_FENCED = re.compile(r"\s*```(?:json)?(.*)```\s*", re.DOTALL)
_CALL_HEAD = re.compile(r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


@dataclass(frozen=True)
class ToolMarkup:
    """How one model writes tool calls.

    Attributes:
        opening: Tag before a call, or before the list of calls.
        closing: Tag after it.
        listed: Whether one pair of tags holds a JSON list of calls.
        native: Whether the chat template takes tools and writes calls like this; if not, the model has to be told.
        arguments_as_text: Whether the template wants a call's arguments as JSON text rather than as an object.
        token_ids: The tags that are one token each.
    """

    opening: str = "<tool_call>"
    closing: str = "</tool_call>"
    listed: bool = False
    native: bool = False
    arguments_as_text: bool = False
    token_ids: Mapping[str, int] = field(default_factory=dict)

    def is_spoken_by(self, text: str) -> bool:
        """Whether a rendering of `probe_messages` with `probe_tools` shows that the template writes calls like this."""
        before = re.escape(self.opening) + r"\s*" + (r"\[\s*" if self.listed else "")
        call = rf'\{{\s*"name":\s*"{_PROBE_NAME}",\s*"arguments":\s*\{{"x":\s*"y"\}}\s*\}}'
        return _PROBE_PURPOSE in text and re.search(before + call, text) is not None

    def probe_messages(self) -> list[dict[str, Any]]:
        """A conversation with a call and its result."""
        call = {"id": "1", "type": "function", "function": {"name": _PROBE_NAME, "arguments": {"x": "y"}}}
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": _PROBE_NAME, "tool_call_id": "1", "content": "x"},
        ]
        return [_with_arguments_as_text(message) for message in messages] if self.arguments_as_text else messages

    @property
    def probe_tools(self) -> list[dict[str, Any]]:
        """The tool that `probe_messages` calls."""
        return [_PROBE_TOOL]


KNOWN_MARKUP = (
    ToolMarkup(native=True),
    ToolMarkup(native=True, arguments_as_text=True),
    ToolMarkup("<tool_calls>", "</tool_calls>", listed=True, native=True),
    ToolMarkup("<tool_calls>", "</tool_calls>", listed=True, native=True, arguments_as_text=True),
)


# What the model is given


def messages_for(
    markup: ToolMarkup, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None
) -> tuple[list[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None]:
    """Messages and tools as the model's chat template takes them.

    Args:
        markup: The model's.
        messages: As in `engine.Message`.
        tools: Descriptions in OpenAI's form.

    Returns:
        Messages for the template, and the tools that it is to write itself.
    """
    if markup.native:
        if markup.arguments_as_text:
            messages = [_with_arguments_as_text(message) for message in messages]
        return list(messages), tools
    plain: list[Mapping[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if plain and plain[-1].get("results"):  # one turn for the results of one reply
                plain[-1] = {**plain[-1], "content": f"{plain[-1]['content']}\n{result}"}
            else:
                plain.append({"role": "user", "content": result, "results": True})
        elif message.get("tool_calls"):
            calls = [_written(markup, call["function"]) for call in message["tool_calls"]]
            plain.append({"role": "assistant", "content": "\n".join([*filter(None, [message["content"]]), *calls])})
        else:
            plain.append(message)
    plain = [{key: value for key, value in message.items() if key != "results"} for message in plain]
    if tools:
        told = _instructions(markup, tools)
        if (
            plain and plain[0]["role"] == "system"
        ):  # after the text, so that a document there is read once for all tools
            plain[0] = {**plain[0], "content": f"{plain[0]['content']}\n\n{told}".lstrip()}
        else:
            plain.insert(0, {"role": "system", "content": told})
    return plain, None


def _instructions(markup: ToolMarkup, tools: Sequence[Mapping[str, Any]]) -> str:
    described = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    form = _written(markup, {"name": "NAME", "arguments": {"ARGUMENT": "VALUE"}})
    return (
        f"These tools are there for you, one on each line:\n{described}\n\n"
        f"When a tool helps, call it by replying with nothing but:\n{form}\n"
        "You are then told its result. When no tool helps, answer without one."
    )


def _written(markup: ToolMarkup, function: Mapping[str, Any]) -> str:
    call = json.dumps({"name": function["name"], "arguments": function["arguments"]}, ensure_ascii=False)
    return f"{markup.opening}\n{call}\n{markup.closing}"


def _with_arguments_as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return dict(message)
    calls = [
        call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


# What the model may write


def tool_constraint(
    markup: ToolMarkup,
    tools: Sequence[Mapping[str, Any]],
    *,
    required: bool,
    several: bool,
    answer_schema: Mapping[str, Any] | None = None,
) -> Constraint:
    """A reply that may call tools, with arguments that fit their schemas.

    Args:
        markup: The model's.
        tools: What may be called, in OpenAI's form.
        required: Whether it must call one; if not, any text may come before the call or in its place.
        several: Whether it may call more than one.
        answer_schema: The JSON that takes the place of any text.
    """
    opening, closing = _symbol(markup, markup.opening), _symbol(markup, markup.closing)
    if markup.listed:
        more = '("," gap? call)*' if several else ""
        inside = f'"[" gap? call {more} gap? "]" {closing}'
        again = ""
    else:
        inside = f'"\\n" call "\\n" {closing}'
        again = f'("\\n" {opening} inside)*' if several else ""
    text = "TEXT?"
    if required:
        start = f'" "? {opening} inside {again}' if markup.listed else f"{opening} inside {again}"
    elif answer_schema is not None:
        start = f"/[ \\n]{{1,2}}/? (answer | {opening} inside {again})"
    elif markup.opening in markup.token_ids:
        start = f"{text} ({opening} inside {again})?"
    else:
        start = f"{text} | head inside {again}"
    rules = [f"start: {start}", f"inside: {inside}"]
    if markup.listed:
        rules.append("gap: /[ \\n]{1,6}/")
    if not required and answer_schema is None:
        if markup.opening not in markup.token_ids:
            rules.append(f"head[lazy]: /(.|\\n)*/ {opening}")
        # Text that spells the tag with other tokens would open a call past the grammar.
        tag = re.escape(markup.opening).replace("/", r"\/")
        rules.append(f"TEXT: /(.|\\n)+/ & ~/(.|\\n)*{tag}(.|\\n)*/")
    if answer_schema is not None:
        rules.append(f"answer: {json_rule(answer_schema)}")
    rules.append(f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}")
    for i, tool in enumerate(tools):
        function = tool["function"]
        head = f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "arguments": '
        schema = {"type": "object", "properties": {}} | (function.get("parameters") or {})
        rules += [f'call_{i}: {_quoted(head)} arguments_{i} "}}"', f"arguments_{i}: {json_rule(schema)}"]
    return Constraint.lark("\n".join(rules))


def _symbol(markup: ToolMarkup, tag: str) -> str:
    return f"<[{markup.token_ids[tag]}]>" if tag in markup.token_ids else _quoted(tag)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# What the model wrote


@dataclass(frozen=True)
class CallPiece:
    """A piece of a tool call as it is written.

    Attributes:
        index: Which call of the reply, from 0.
        name: The tool's, on the first piece; None where what stands between the tags is not a call.
        arguments: The next characters of the JSON of its arguments; of everything, where that is not a call.
    """

    index: int
    name: str | None
    arguments: str


class ToolCallReader:
    """Parts tool calls from text as both are written.

        reader = ToolCallReader(markup, names=["search"])
        for piece in pieces:
            for part in reader.feed(piece): ...  # a str of text, or a CallPiece
        for part in reader.flush(): ...

    Args:
        markup: The model's.
        names: Of the tools. A reply that is nothing but a JSON call of one of them, perhaps in a code fence, counts as
            a call without tags, which small models write; one that begins so is held back to its end. Empty for none.
    """

    def __init__(self, markup: ToolMarkup, names: Collection[str] = ()) -> None:
        self._markup = markup
        self._names = names
        self._n_calls = 0
        self._buffer = ""
        self._in_tags = False
        self._at_start = True
        self._call: _OpenCall | None = None

    def feed(self, text: str) -> list[str | CallPiece]:
        """What this piece adds, in order; never an empty text."""
        self._buffer += text
        parts: list[str | CallPiece] = []
        while (part := self._next()) is not None:
            if part != "":
                parts.append(part)
        return parts

    def flush(self) -> list[str | CallPiece]:
        """What was held back, when nothing follows."""
        rest, self._buffer = self._buffer, ""
        if self._call is not None:
            piece = self._call.end()
            self._call = None
            return [piece] if piece else []
        if self._in_tags:
            rest = rest.strip()
            return [self._not_a_call(rest)] if rest and not self._markup.closing.startswith(rest) else []
        if (
            self._at_start
            and self._names
            and (bare := _call_of(_unfenced(rest))) is not None
            and bare[0] in self._names
        ):
            return [CallPiece(self._n_calls, *bare)]
        return [rest] if rest and not (self._n_calls and rest.isspace()) else []

    def _next(self) -> str | CallPiece | None:
        """The next part of the buffer, an empty string for something that shows nowhere, None to wait for more."""
        if self._call is not None:
            return self._next_of_call(self._call)
        if self._in_tags:
            return self._next_in_tags()
        opening = self._markup.opening
        before, tag, after = self._buffer.partition(opening)
        if tag:
            self._buffer, self._in_tags, self._at_start = after, True, False
            return before.rstrip()
        if self._at_start and self._names:
            if _may_be_bare_call(before):
                return None
            self._at_start = False
        # Blanks before a tag are no text, and the tag may be there in part.
        keep = re.search(
            rf"\s*(?:{'|'.join(re.escape(opening[:n]) for n in range(len(opening) - 1, 0, -1))})?$", before
        )
        end = keep.start() if keep else len(before)
        if not end:
            return None
        text, self._buffer = before[:end], before[end:]
        return text.lstrip() if self._n_calls else text

    def _next_in_tags(self) -> str | CallPiece | None:
        markup = self._markup
        self._buffer = self._buffer.lstrip(" \r\n\t[],") if markup.listed else self._buffer.lstrip()
        if self._buffer.startswith(markup.closing):
            self._buffer, self._in_tags = self._buffer[len(markup.closing) :], False
            return ""
        if self._buffer.startswith("{"):
            self._call = _OpenCall(self._n_calls)
            self._n_calls += 1
            return ""
        rest, tag, after = self._buffer.partition(markup.closing)
        if not tag:
            return None
        self._buffer, self._in_tags = after, False
        return self._not_a_call(rest.strip())

    def _next_of_call(self, call: "_OpenCall") -> str | CallPiece | None:
        if not self._buffer:
            return None
        piece, self._buffer = call.feed(self._buffer)
        if call.closed:
            self._call = None
        return piece or ""

    def _not_a_call(self, text: str) -> CallPiece:
        self._n_calls += 1
        return CallPiece(self._n_calls - 1, None, text)


class _OpenCall:
    """One JSON object that is being written; its arguments are passed on as soon as it is clear that they are."""

    def __init__(self, index: int) -> None:
        self.closed = False
        self._index = index
        self._text = ""
        self._depth = 0
        self._in_string = self._escaped = False
        self._named = False
        self._shown = 0  # of the text, once it is named
        self._arguments_end: int | None = None

    def feed(self, text: str) -> tuple[CallPiece | None, str]:
        """A piece of the call, if there is one, and what of the text stands behind the call."""
        used = 0
        while used < len(text) and not self.closed:
            self._text += text[used]
            self._step(text[used])
            used += 1
        return self._piece(), text[used:]

    def end(self) -> CallPiece | None:
        """The rest of a call that was cut."""
        return None if self._named else CallPiece(self._index, None, self._text)

    def _step(self, character: str) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            if self._depth == 1 and self._arguments_end is None:
                self._arguments_end = len(self._text)
            self.closed = self._depth == 0

    def _piece(self) -> CallPiece | None:
        name = None
        if not self._named:
            head = _CALL_HEAD.match(self._text)
            if head is None:
                if not self.closed:
                    return None
                name, arguments = _call_of(self._text) or (None, self._text)
                return CallPiece(self._index, name, arguments)
            name, self._named, self._shown = json.loads(head[1], strict=False), True, head.end()
        end = len(self._text) if self._arguments_end is None else self._arguments_end
        arguments, self._shown = self._text[self._shown : end], max(end, self._shown)
        return CallPiece(self._index, name, arguments) if name is not None or arguments else None


def _may_be_bare_call(text: str) -> bool:
    """Whether a reply that begins so may turn out to be nothing but a call."""
    compact = "".join(text[:200].split())
    return any(start.startswith(compact) or compact.startswith(start) for start in _BARE_STARTS)


def _unfenced(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def _call_of(text: str) -> tuple[str, str] | None:
    """Name and arguments of a call as JSON, in whichever order; None if it is none."""
    try:
        call = json.loads(text)
        name, arguments = call["name"], call["arguments"] if "arguments" in call else call["parameters"]
    except (ValueError, LookupError, TypeError):
        return None
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        return None
    return name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
