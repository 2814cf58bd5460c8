"""Turns chat messages into the token ids of a ChatML prompt.

The roles' markers are put in as ids and everything between them is tokenised as plain text, so that a document that
contains `<|im_end|>` or `<|im_start|>system` stays a document: the models' own Jinja templates, rendered to text and
tokenised with control tokens on (transformers, llama.cpp), would obey it. For ordinary text the ids are the same as
theirs (tests/model/test_chatml.py).
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

from longleaf.errors import ModelError

from .engine import Message

__all__ = ["chatml_prompt", "is_chatml", "plain_ids"]

_START, _END = "<|im_start|>", "<|im_end|>"


def is_chatml(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has ChatML's two markers."""
    return tokenizer.token_to_id(_START) is not None and tokenizer.token_to_id(_END) is not None


def plain_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which nothing counts as a control token (`tokenizer.encode_special_tokens` is on)."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def chatml_prompt(tokenizer: Tokenizer, messages: Sequence[Message], default_system: str = "") -> list[int]:
    """Token ids of the prompt that these messages make, up to where the assistant's reply begins.

    Args:
        tokenizer: With `encode_special_tokens` on.
        messages: Roles `system`, `user`, `assistant`.
        default_system: Put first when the first message is not a system message; none if empty.
    """
    start, end = tokenizer.token_to_id(_START), tokenizer.token_to_id(_END)
    if start is None or end is None:
        raise ModelError(f"the model's vocabulary has no {_START} and {_END}: only ChatML models are supported")
    if default_system and (not messages or messages[0]["role"] != "system"):
        messages = [{"role": "system", "content": default_system}, *messages]
    newline = plain_ids(tokenizer, "\n")
    ids: list[int] = []
    for message in messages:
        ids += [start, *plain_ids(tokenizer, f"{message['role']}\n{message['content']}"), end, *newline]
    return [*ids, start, *plain_ids(tokenizer, "assistant\n")]
