"""Holds an answer to a form, a JSON schema, a regular expression or a grammar, by ruling out tokens as it is written.

`Constraint` says what is wanted, `TokenVocabulary` compiles it for one tokenizer, `AnswerGuide` follows one answer. The
work is llguidance's, a Rust library that parses with derivatives of regular expressions and Earley's method; nothing of
it is seen outside this file. Knows neither the model nor what the answer means.

Measured with Qwen2.5's 151,665 tokens and a schema with a string of at most 200 characters, one thread of a busy
machine, November 2026: llguidance 1.9 builds its token trie in 1.4 s, once a model, a grammar in 0.02 s and a mask in
0.1 ms, and imports in 0.08 s, without torch or transformers. xgrammar 0.2 imports transformers (2.5 s) and takes 8 s
for the grammar; outlines-core 0.2 takes 21 s and knows no recursion.
"""

import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from longleaf.errors import ModelError

if TYPE_CHECKING:
    from llguidance import LLMatcher

__all__ = ["AnswerGuide", "Constraint", "TokenVocabulary", "json_rule"]

logger = logging.getLogger(__name__)

_OPEN, _CLOSE = "<think>", "</think>"
_CLOSE_WINDOW = 16  # tokens in which the closing tag is looked for; a tokenizer may have no token for it

# One way to write JSON, that of Python's json.dumps: where any blanks are allowed a small model may write nothing else.
_JSON_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": True,  # keywords that it does not know (uniqueItems, not) are left to whoever checks the answer
    "coerce_one_of": True,  # oneOf as anyOf: the grammar can't say "exactly one"
}
_LOOK_AROUND = re.compile(r"\(\?<?[=!]")
_SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "unevaluatedProperties", "contains", "not", "if", "then", "else")


@dataclass(frozen=True)
class Constraint:
    r"""What an answer must look like, from its first character to its last.

        Constraint.json_schema({"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]})
        Constraint.regex(r"yes|no|[0-9]{4}")
        Constraint.lark('start: "page " /[0-9]+/')

    Attributes:
        grammar: In llguidance's dialect of Lark.
    """

    grammar: str

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any]) -> "Constraint":
        """JSON that fits a schema, on one line.

        An object that lists its properties has no others unless the schema says so, and they come in the listed order.
        What the grammar can't express (uniqueItems, not, patterns with look-around) is not enforced.
        """
        # Some models open every reply with a blank, and with line breaks after their reasoning.
        return cls(f"start: /[ \\n]{{1,2}}/? {json_rule(schema)}")

    @classmethod
    def json_object(cls) -> "Constraint":
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def regex(cls, pattern: str) -> "Constraint":
        """Text that a regular expression matches as a whole: Rust's syntax, without look-around."""
        from llguidance import regex_to_lark

        return cls(f"start: /{regex_to_lark(pattern, 'd')}/")

    @classmethod
    def lark(cls, grammar: str) -> "Constraint":
        """Text of a Lark grammar that begins with the rule `start`."""
        return cls(grammar)


def json_rule(schema: Mapping[str, Any]) -> str:
    """The right side of a Lark rule for JSON that fits the schema; see `Constraint.json_schema`."""
    return f"%json {json.dumps(_prepared(schema) | {'x-guidance': _JSON_OPTIONS})}"


class TokenVocabulary:
    """A model's tokens, arranged for constraints; making it takes a second for 150,000 tokens.

        vocabulary = TokenVocabulary(tokenizer, end_token_ids={2}, vocab_size=49152)
        guide = vocabulary.guide(Constraint.regex("yes|no"))

    Args:
        tokenizer: The model's.
        end_token_ids: Tokens that end an answer.
        vocab_size: Length of the rows of logits; may differ from the number of the tokenizer's tokens.
    """

    def __init__(self, tokenizer: Tokenizer, end_token_ids: Collection[int], vocab_size: int) -> None:
        from llguidance import LLTokenizer

        self.tokenizer = tokenizer
        self.end_token_ids = sorted(end_token_ids)
        self.vocab_size = vocab_size
        n_tokens = max(vocab_size, tokenizer.get_vocab_size())
        try:
            self._tokens = LLTokenizer(_unspeakable(tokenizer), n_vocab=n_tokens, eos_token=self.end_token_ids)
        except ValueError as exc:
            raise ModelError(
                f"answers of this model can't be constrained: its tokenizer is not covered ({exc})"
            ) from exc

    def guide(self, constraint: Constraint, *, in_reasoning: bool = False) -> "AnswerGuide":
        """Start an answer.

        Args:
            constraint: What it must look like.
            in_reasoning: Whether the prompt ends inside `<think>`.

        Raises:
            ValueError: The grammar or schema is wrong, or nothing fits it.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokens, constraint.grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(f"no answer can be held to this constraint: {_first_lines(matcher.get_error())}")
        for warning in matcher.get_grammar_warnings():
            logger.info("not enforced while writing: %s", warning)
        return AnswerGuide(matcher, self, in_reasoning)


class AnswerGuide:
    """Which tokens may come next in one answer. What a model thinks before it, in `<think>` tags, stays free.

        token = sampler(guide.mask(logits))
        guide.accept(token)

    Made by `TokenVocabulary.guide`. The end tokens are allowed where the answer is complete, and only there.
    """

    def __init__(self, matcher: "LLMatcher", vocabulary: TokenVocabulary, in_reasoning: bool) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._reasoning: list[int] | None = [] if in_reasoning else None  # its last tokens, while it goes on
        self._think = None if in_reasoning else vocabulary.tokenizer.token_to_id(_OPEN)  # allowed as the first token

    def mask(self, logits: Tensor) -> Tensor:
        """The logits, (vocab_size,) fp32, with -inf for tokens that may not come next.

        Raises:
            ModelError: No token may.
        """
        if self._reasoning is not None:
            return logits.index_fill(0, torch.tensor(self._vocabulary.end_token_ids, device=logits.device), -torch.inf)
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: logits.numel()]).bool()
        if self._think is not None:
            allowed[self._think] = True
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def accept(self, token_id: int) -> None:
        """Move on by a token that `mask` allowed.

        Raises:
            ModelError: It did not.
        """
        if self._reasoning is not None:
            self._reasoning = [*self._reasoning[1 - _CLOSE_WINDOW :], token_id]
            if _CLOSE in self._vocabulary.tokenizer.decode(self._reasoning, skip_special_tokens=False):
                self._reasoning = None
        elif token_id == self._think:
            self._reasoning = []
        else:
            self._matcher.consume_token(token_id)
            self._check()
        self._think = None

    def forced(self) -> list[int]:
        """The tokens that must come next, accepted already: read at once they cost less than one by one."""
        if self._reasoning is not None or self._think is not None:
            return []
        ends = self._vocabulary.end_token_ids
        tokens = self._matcher.compute_ff_tokens()
        tokens = tokens[: self._matcher.validate_tokens(tokens)]
        tokens = tokens[: next((i for i, token in enumerate(tokens) if token in ends), len(tokens))]
        if tokens:
            self._matcher.consume_tokens(tokens)
            self._check()
        return tokens

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and nothing may follow."""
        return self._reasoning is None and self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ModelError(
                f"the answer can't be held to its constraint any longer: {_first_lines(self._matcher.get_error())}; "
                "simplify the schema or grammar"
            )


def _unspeakable(tokenizer: Tokenizer) -> str:
    """The tokenizer's JSON with control tokens under names that no text has.

    llguidance (1.9.1) tokenises text that must come next with control tokens on, so that a value which spells one, such
    as the only choice of an enum, could not be written; tests/model/test_tool_calls.py has one. Grammars name them by
    their ids.
    """
    text: str = tokenizer.to_str()
    for token_id, token in tokenizer.get_added_tokens_decoder().items():
        if token.special or (token.content.startswith("<") and token.content.endswith(">")):
            text = text.replace(json.dumps(token.content, ensure_ascii=False), f'"<\U000ffffd{token_id}>"')
    return text


def _prepared(schema: Any) -> Any:
    """The schema with its objects closed and without the patterns that the grammar can't express."""
    if not isinstance(schema, Mapping):  # true and false are schemas
        return schema
    ready = dict(schema)
    for key in _SCHEMA_MAPS:
        if isinstance(ready.get(key), Mapping):
            ready[key] = {name: _prepared(value) for name, value in ready[key].items()}
    for key in _SCHEMA_LISTS:
        # The parts of allOf describe one object together: closed, each would forbid what the others ask for.
        if isinstance(ready.get(key), list) and key != "allOf":
            ready[key] = [_prepared(value) for value in ready[key]]
    for key in _SCHEMAS:
        if isinstance(ready.get(key), Mapping):
            ready[key] = _prepared(ready[key])
    if "properties" in ready and not {"allOf", "$ref", "anyOf", "oneOf", "patternProperties"} & ready.keys():
        ready.setdefault("additionalProperties", False)
    if isinstance(ready.get("pattern"), str) and _LOOK_AROUND.search(ready["pattern"]):
        logger.info("not enforced while writing: the pattern %s looks around", ready.pop("pattern"))
    return ready


def _first_lines(message: str) -> str:
    """The library's message without its dump of the parser's state."""
    return message.split("\n<state>")[0].strip()
