"""Turns chat messages into the token ids of a prompt, by the chat template that a checkpoint carries.

Rendering a template to text and tokenising that with control tokens on (transformers, llama.cpp) obeys a document that
contains `<|im_end|>` or `<|im_start|>system`. Here what spells a control token in a message is replaced by a
private-use character before rendering; the rendered text is cut at the control tokens, which only the template can
have written by then; the characters are put back and what lies between is tokenised as plain text. For ordinary text
the ids are those of transformers and llama.cpp (tests/model/test_chat_template.py).

The environment of the templates is that of transformers (utils/chat_template_utils.py): the same filters, functions
and whitespace rules, in Jinja's sandbox.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer
from tokenizers.pre_tokenizers import Metaspace

from longleaf.errors import ModelError

from .gguf_tokenizer import plain_ids
from .tool_calls import KNOWN_MARKUP, ToolMarkup

__all__ = ["ChatTemplate", "Prompt"]

_CHATML = """
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
_CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")

_SENTINELS = range(0xF0000, 0xFFFFE)  # Unicode's private plane 15; a text that uses it is treated like a control token
_REASONING_TAGS = ("<think>", "</think>")
_LOOKS_LIKE_CONTROL = re.compile(r"<\|.+\|>")

# Messages that may follow one, to find out what of a prompt they would change.
_OTHER_LATER_MESSAGES: tuple[list[dict[str, str]], ...] = (
    [],
    [{"role": "user", "content": "x"}],
    [{"role": "assistant", "content": "x"}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}],
    [{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}],
)
_OTHER_LATER_RESULTS: tuple[list[dict[str, str]], ...] = (
    [{"role": "tool", "content": "x", "name": "x", "tool_call_id": "x"}],
)


@dataclass(frozen=True)
class Prompt:
    """A prompt, up to where the assistant's reply begins.

    Attributes:
        token_ids: The prompt's tokens.
        boundaries: Token counts, rising, where a reading is worth keeping: the tokens before one stay the same
            whatever messages follow (see `ChatTemplate.prompt` for the exact promise).
        opens_reasoning: Whether the prompt ends inside `<think>`, so that the reply begins with reasoning.
    """

    token_ids: list[int]
    boundaries: tuple[int, ...]
    opens_reasoning: bool = False


class ChatTemplate:
    """A checkpoint's chat template.

        template = ChatTemplate.from_folder(folder)
        template.prompt([{"role": "user", "content": "Hello"}]).token_ids

    Args:
        source: The template, in Jinja.
        tokenizer: The model's. It is switched to take control tokens in a text as text.
        bos_token: What `bos_token` stands for in the template.
        eos_token: What `eos_token` stands for in the template.
        default_system: System message for conversations that have none.

    Raises:
        ModelError: The template is not valid Jinja.
    """

    def __init__(
        self, source: str, tokenizer: Tokenizer, *, bos_token: str = "", eos_token: str = "", default_system: str = ""
    ) -> None:
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as exc:
            raise ModelError(f"the model's chat template is not valid Jinja: line {exc.lineno}: {exc.message}") from exc
        self.tokenizer = tokenizer
        self._special = {"bos_token": bos_token, "eos_token": eos_token}
        self._default_system = default_system
        control = _make_control_tokens_plain(tokenizer)
        self._ids = {token.content: token_id for token_id, token in control.items()}
        self._later = _without_prefix_space(tokenizer)
        # As tokenizers does: the leftmost token, of those that begin there the longest, with the blanks it swallows.
        by_blanks: dict[tuple[str, str], list[str]] = {}
        for token in control.values():
            blanks = (r"\s*" if token.lstrip else "", r"\s*" if token.rstrip else "")
            by_blanks.setdefault(blanks, []).append(token.content)
        self._control = re.compile(
            "|".join(left + _any_of(contents) + right for (left, right), contents in by_blanks.items()) or r"(?!)"
        )
        self._risky = re.compile("|".join([_any_of(self._ids), f"[{chr(_SENTINELS[0])}-{chr(_SENTINELS[-1])}]"]))

    @classmethod
    def from_folder(cls, path: Path, *, default_system: str = "") -> "ChatTemplate":
        """The template and tokenizer of a Hugging Face checkpoint.

        Args:
            path: Folder with `tokenizer.json`, `tokenizer_config.json` and perhaps `chat_template.jinja`, which wins.
            default_system: As for the class.

        Raises:
            ModelError: A file is missing or can't be read, or there is no template and no ChatML vocabulary.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as exc:  # tokenizers raises plain Exception
            raise ModelError(f"{path / 'tokenizer.json'}: not a readable tokenizer ({exc})") from exc
        tokenizer.no_truncation()  # some checkpoints carry the settings of their training
        tokenizer.no_padding()
        file, own = path / "tokenizer_config.json", path / "chat_template.jinja"
        try:
            config = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            source = own.read_text(encoding="utf-8") if own.exists() else _default_of(config.get("chat_template"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            raise ModelError(f"{path}: its chat template can't be read ({exc})") from exc
        return cls._checked(
            source,
            tokenizer,
            where=own if own.exists() else file,
            bos_token=_text_of(config.get("bos_token")),
            eos_token=_text_of(config.get("eos_token")),
            default_system=default_system,
        )

    @classmethod
    def from_gguf_metadata(
        cls, metadata: Mapping[str, Any], tokenizer: Tokenizer, *, where: Path | str = "GGUF", default_system: str = ""
    ) -> "ChatTemplate":
        """The template that a GGUF file carries.

        Args:
            metadata: Key to value, as the file has them.
            tokenizer: The file's, from `load_tokenizer`.
            where: The file, for messages.
            default_system: As for the class.

        Raises:
            ModelError: There is no template and no ChatML vocabulary, or the template is not valid.
        """

        def token(name: str) -> str:
            token_id = metadata.get(f"tokenizer.ggml.{name}_token_id")
            return "" if token_id is None else tokenizer.id_to_token(int(token_id)) or ""

        return cls._checked(
            metadata.get("tokenizer.chat_template"),
            tokenizer,
            where=where,
            bos_token=token("bos"),
            eos_token=token("eos"),
            default_system=default_system,
        )

    @classmethod
    def _checked(cls, source: str | None, tokenizer: Tokenizer, *, where: Path | str, **options: str) -> "ChatTemplate":
        if not source:
            if any(tokenizer.token_to_id(marker) is None for marker in _CHATML_MARKERS):
                raise ModelError(
                    f"{where}: no chat template, and the vocabulary is not ChatML's; use an instruct or chat model"
                )
            source = _CHATML
        try:
            return cls(source, tokenizer, **options)
        except ModelError as exc:
            raise ModelError(f"{where}: {exc}") from exc

    @cached_property
    def tool_markup(self) -> ToolMarkup:
        """How the template has tools called; a way that is not native if it has none, or an unknown one."""
        for markup in KNOWN_MARKUP:
            try:
                text = self._render(markup.probe_messages(), {"tools": markup.probe_tools, "documents": None})
            except ValueError:
                continue
            if markup.is_spoken_by(text):
                break
        else:
            markup = ToolMarkup()
        ids = {tag: self.tokenizer.token_to_id(tag) for tag in (markup.opening, markup.closing)}
        return replace(markup, token_ids={tag: token_id for tag, token_id in ids.items() if token_id is not None})

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> Prompt:
        """The prompt that these messages make.

        For each message there is a boundary after the last control token up to which the prompt stays the same when
        the messages after it are left out or are others: in ChatML that is the marker that opens the next message.
        A message that is written differently when it is the last (with instructions, say) has none of its own, and
        shares that of the message before it. Jamba's templates put `documents` before the last user message and move
        them with it; with them there is one more boundary, which holds when another text takes the last message's
        place.

        Args:
            messages: Role and content, and whatever else the template reads.
            tools: Descriptions of tools, if the template takes them.
            documents: Texts to read, if the template takes them.

        Raises:
            ValueError: The template does not take these messages, say because roles must alternate.
        """
        if self._default_system and (not messages or messages[0].get("role") != "system"):
            messages = [{"role": "system", "content": self._default_system}, *messages]
        literals: dict[int, str] = {}  # code point of a sentinel -> what it stands for
        # Templates look for the tags of reasoning in earlier replies, to leave the reasoning out.
        safe = [
            self._hide(message, literals, but=_REASONING_TAGS if message.get("role") == "assistant" else ())
            for message in messages
        ]
        context = self._hide({"tools": tools, "documents": documents}, literals)
        text = self._render(safe, context)
        ids, ends = self._tokens(text, literals)  # ends: position in the text -> tokens up to there
        stable = [self._stable(text, safe, n, context) for n in range(1, len(safe) + 1)]
        if documents and safe:
            stable.append(_common([text, self._render([*safe[:-1], safe[-1] | {"content": "x"}], context)]))
        before = [[n_tokens for end, n_tokens in ends.items() if end <= position] for position in stable]
        boundaries = {counts[-1] for counts in before if counts}
        return Prompt(ids, tuple(sorted(boundaries)), text.rstrip().endswith(_REASONING_TAGS[0]))

    def _hide(self, value: Any, literals: dict[int, str], but: Sequence[str] = ()) -> Any:
        """The same value, in which what spells a control token (`but` for some) is a sentinel."""
        if isinstance(value, str):
            sentinels = {literal: chr(code) for code, literal in literals.items()} | {tag: tag for tag in but}

            def sentinel(match: re.Match[str]) -> str:
                if match[0] not in sentinels:
                    code = _SENTINELS[len(literals)]
                    literals[code], sentinels[match[0]] = match[0], chr(code)
                return sentinels[match[0]]

            return self._risky.sub(sentinel, value)
        if isinstance(value, Mapping):
            return {self._hide(key, literals): self._hide(item, literals, but) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self._hide(item, literals, but) for item in value]
        return value

    def _render(self, messages: list[dict[str, Any]], context: dict[str, Any]) -> str:
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **context, **self._special)
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            raise ValueError(f"the model's chat template does not take these messages: {exc}") from exc

    def _tokens(self, text: str, literals: Mapping[int, str]) -> tuple[list[int], dict[int, int]]:
        """Tokens of a rendered text, and for each end of a control token how many there are up to it."""
        ids: list[int] = []
        ends: dict[int, int] = {}
        start = 0
        for match in self._control.finditer(text):
            ids += self._plain(text[start : match.start()], literals, first=not ids)
            ids.append(self._ids[match[0] if match[0] in self._ids else match[0].strip()])
            start = match.end()
            ends[start] = len(ids)
        return ids + self._plain(text[start:], literals, first=not ids), ends

    def _plain(self, text: str, literals: Mapping[int, str], first: bool) -> list[int]:
        if not text:
            return []
        if literals:
            text = text.translate(literals)
        return plain_ids(self.tokenizer if first else self._later, text)

    def _stable(self, text: str, messages: list[dict[str, Any]], n: int, context: dict[str, Any]) -> int:
        """How much of the text does not depend on what follows the first `n` messages."""
        texts = [text]
        for later in (*_OTHER_LATER_MESSAGES, *(_OTHER_LATER_RESULTS if context["tools"] else ())):
            try:
                texts.append(self._render([*messages[:n], *later], context))
            except ValueError:  # a turn that this template forbids here
                continue
        return _common(texts)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`, which marks replies for training: just its content."""

    tags = {"generation"}  # noqa: RUF012  as in Jinja's own class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _environment() -> ImmutableSandboxedEnvironment:
    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # Jinja's own escapes HTML

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)  # noqa: DTZ005  the user's own clock is meant

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    return environment


def _make_control_tokens_plain(tokenizer: Tokenizer) -> dict[int, AddedToken]:
    """Have control tokens in a text taken as text; returns them by id.

    Some checkpoints mark `<|im_end|>` and its like as ordinary added tokens, which text can spell: they become special.
    """
    looks = [
        AddedToken(token.content, lstrip=token.lstrip, rstrip=token.rstrip, normalized=False, special=True)
        for token in tokenizer.get_added_tokens_decoder().values()
        if not token.special and _LOOKS_LIKE_CONTROL.fullmatch(token.content)
    ]
    tokenizer.add_special_tokens(looks)
    tokenizer.encode_special_tokens = True
    return {token_id: token for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def _without_prefix_space(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer for what follows a control token: some put a space before the beginning of a text only."""
    pre = tokenizer.pre_tokenizer
    if not isinstance(pre, Metaspace) or pre.prepend_scheme != "first":
        return tokenizer
    later = Tokenizer.from_str(tokenizer.to_str())
    later.pre_tokenizer = Metaspace(replacement=pre.replacement, prepend_scheme="never", split=pre.split)
    later.encode_special_tokens = True
    return later


def _any_of(strings: Iterable[str]) -> str:
    """A pattern for the longest of the strings that fits; as a tree, for there may be a thousand control tokens."""
    strings = list(strings)
    if len(strings) == 1:
        return f"(?:{re.escape(strings[0])})"
    tails: dict[str, list[str]] = {}
    for string in strings:
        tails.setdefault(string[0], []).append(string[1:])
    branches = []
    for first, rest in tails.items():
        longer = [tail for tail in rest if tail]
        may_end = "?" if len(longer) < len(rest) else ""
        branches.append(re.escape(first) + (_any_of(longer) + may_end if longer else ""))
    return f"(?:{'|'.join(branches) or '(?!)'})"


def _common(texts: list[str]) -> int:
    """Length of the beginning that all texts share."""
    first, low, high = texts[0], 0, min(map(len, texts))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if all(t[low:middle] == first[low:middle] for t in texts) else (low, middle - 1)
    return low


def _default_of(chat_template: Any) -> str | None:
    """A config's template; of several by name, the one called default."""
    if isinstance(chat_template, list):
        return {entry["name"]: entry["template"] for entry in chat_template}.get("default")
    return None if chat_template is None else str(chat_template)


def _text_of(token: Any) -> str:
    """A special token of a config: its text, or a record with its content."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")
