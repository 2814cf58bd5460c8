"""Turns the tokens of an answer into text that may be shown at once: `TextStream`, then `ReasoningSplitter`.

A token may end inside a character, and a piece may end inside a stop string or a tag; what could still become one is
held back. Knows nothing of the model that makes the tokens.
"""

from collections.abc import Sequence
from typing import Literal

from tokenizers import Tokenizer

__all__ = ["ReasoningSplitter", "TextStream"]

_OPEN, _CLOSE = "<think>", "</think>"
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """Text of an answer, token by token, up to the first stop string.

        stream = TextStream(tokenizer, ["Question:"])
        for token_id in tokens:
            print(stream.feed(token_id), end="")
            if stream.stopped:
                break
        print(stream.flush(), end="")

    Control tokens give no text, except for the tags of reasoning. The stop string that is complete first ends the text.

    Args:
        tokenizer: The model's.
        stop: Strings that end the text; they are not part of it. Empty ones are ignored.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = [string for string in stop if string]
        self._silent = {
            token_id
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content not in (_OPEN, _CLOSE)
        }
        self._ids: list[int] = []  # the tokens shown last and those since
        self._n_shown = 0  # of these, the tokens whose text is out
        self._held = ""  # text that may begin a stop string

    def feed(self, token_id: int) -> str:
        """The text that may be shown once this token is there."""
        if self.stopped or token_id in self._silent:
            return ""
        self._ids.append(token_id)
        text = self._new_text()
        if not text or text.endswith(_INCOMPLETE):
            return ""
        self._ids = self._ids[self._n_shown :]
        self._n_shown = len(self._ids)
        return self._cut(text)

    def flush(self) -> str:
        """The rest, when no token follows."""
        if self.stopped:
            return ""
        text = self._cut(self._new_text()) + self._held
        self._ids, self._n_shown, self._held = [], 0, ""
        return text

    def _new_text(self) -> str:
        # The tokens shown last are decoded again, for a decoder may treat the first token of a text in its own way.
        shown: str = self._tokenizer.decode(self._ids[: self._n_shown], skip_special_tokens=False)
        text: str = self._tokenizer.decode(self._ids, skip_special_tokens=False)
        return text[len(shown) :]

    def _cut(self, text: str) -> str:
        text = self._held + text
        self._held = ""
        ends = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return text[: min(ends)[1]]
        keep = _may_begin(text, self._stop)
        self._held = text[keep:]
        return text[:keep]


class ReasoningSplitter:
    """Parts what a model thinks, `<think>…</think>`, from what it answers. The tags themselves are dropped.

        splitter = ReasoningSplitter()
        for piece in pieces:
            for kind, text in splitter.feed(piece): ...
        for kind, text in splitter.flush(): ...

    Args:
        starts_in_reasoning: Whether the prompt has opened the tag already (`Prompt.opens_reasoning`).
    """

    def __init__(self, starts_in_reasoning: bool = False) -> None:
        self._reasoning = starts_in_reasoning
        self._held = ""

    def feed(self, text: str) -> list[tuple[Literal["reasoning", "text"], str]]:
        """What this piece adds, in order: pairs of kind and text, never an empty text."""
        text, self._held = self._held + text, ""
        pieces = []
        while True:
            before, tag, after = text.partition(self._tag)
            if not tag:
                break
            pieces.append((self._kind, before))
            self._reasoning = not self._reasoning
            text = after
        keep = _may_begin(text, [self._tag])
        self._held = text[keep:]
        pieces.append((self._kind, text[:keep]))
        return [piece for piece in pieces if piece[1]]

    def flush(self) -> list[tuple[Literal["reasoning", "text"], str]]:
        """What was held back, when nothing follows."""
        held, self._held = self._held, ""
        return [(self._kind, held)] if held else []

    @property
    def _kind(self) -> Literal["reasoning", "text"]:
        return "reasoning" if self._reasoning else "text"

    @property
    def _tag(self) -> str:
        return _CLOSE if self._reasoning else _OPEN


def _may_begin(text: str, strings: Sequence[str]) -> int:
    """Where the longest end of `text` starts that one of the strings starts with; the text's length if none does."""
    longest = max(map(len, strings), default=1) - 1
    for start in range(max(0, len(text) - longest), len(text)):
        if any(string.startswith(text[start:]) for string in strings):
            return start
    return len(text)
