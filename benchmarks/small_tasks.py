"""Small tasks that show what a decoder can remember: recall, induction, needles, and the next character of a text.

Each makes batches of token ids with the answers wanted at some positions; a model is trained on the loss there, and its
accuracy is counted there. The first three are made up, so that a score says one thing only and chance is known:

recall      pairs of key and value, then every key again in another order, and its value is asked for. That is
            multi-query associative recall (MQAR; Arora et al. 2023, arXiv:2312.04927), with all pairs before all
            queries. Size: pairs
induction   random tokens, and the same ones again: the second time each can be foretold from what followed the last
            ones before (Olsson et al. 2022, arXiv:2209.11895). Size: tokens that are repeated
needle      a few keys, each followed by a value, lie anywhere between other tokens, and are asked for at the end.
            Values look like all other tokens: only the key before says that they matter. Size: tokens of the text
characters  Python's language reference as it comes with Python itself (`pydoc_data.topics`, what `help()` shows), so
            that it is there wherever this runs; the text differs a little with Python's version, which is said.
            Size: characters
"""

import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor

__all__ = ["TASKS", "Batch", "Task", "task"]

NOT_ASKED = -100
"""In place of an answer; what PyTorch's cross entropy leaves out."""

N_KEYS = 64
N_VALUES = 64
N_TOKENS = 64
N_NEEDLES = 4
N_NEEDLE_KEYS = 16
_RARE = 20
"""Characters that come less often than this in the text are one and the same token."""
_TESTED = 10
"""Every so manieth topic is kept for testing."""


@dataclass(frozen=True)
class Batch:
    """Texts and what is asked of them.

    Attributes:
        token_ids: (batch, L) int64
        answers: The token that should follow, or `NOT_ASKED`. (batch, L) int64
    """

    token_ids: Tensor
    answers: Tensor


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: Of the task.
        vocab_size: Token ids are below it.
        make: A batch of so many texts of a size.
        make_test: The same from texts that are not trained on; made-up texts are new each time anyway.
        test_sizes: The largest ones are beyond what models are trained for.
        source: Of a text that is not made up: its sha256, shortened.
    """

    name: str
    vocab_size: int
    make: Callable[[Generator, int, int], Batch]
    make_test: Callable[[Generator, int, int], Batch]
    test_sizes: tuple[int, ...]
    source: str = ""


def recall(rng: Generator, count: int, pairs: int) -> Batch:
    """Keys are tokens below `N_KEYS`, values those above. (count, 4·pairs)."""
    keys = torch.rand(count, N_KEYS, generator=rng).argsort(-1)[:, :pairs]  # (count, pairs), all different
    values = torch.randint(N_KEYS, N_KEYS + N_VALUES, (count, pairs), generator=rng)
    order = torch.rand(count, pairs, generator=rng).argsort(-1)
    asked, wanted = keys.gather(1, order), values.gather(1, order)
    token_ids = torch.cat([torch.stack(side, dim=-1).flatten(1) for side in ((keys, values), (asked, wanted))], dim=1)
    answers = torch.full_like(token_ids, NOT_ASKED)
    answers[:, 2 * pairs :: 2] = wanted
    return Batch(token_ids, answers)


def induction(rng: Generator, count: int, repeated: int) -> Batch:
    """A mark begins both times. (count, 2·repeated + 1)."""
    once = torch.randint(N_TOKENS, (count, repeated), generator=rng)
    mark = torch.full((count, 1), N_TOKENS)
    token_ids = torch.cat([mark, once, mark, once[:, :-1]], dim=1)
    answers = torch.full_like(token_ids, NOT_ASKED)
    answers[:, repeated + 1 :] = once
    return Batch(token_ids, answers)


def needle(rng: Generator, count: int, length: int) -> Batch:
    """Keys are the tokens from `N_TOKENS` on. (count, length), of which the last 2·N_NEEDLES are the questions."""
    text = length - 2 * N_NEEDLES
    token_ids = torch.randint(N_TOKENS, (count, length), generator=rng)
    # Places of two tokens each, so that needles do not overlap.
    places = 2 * torch.rand(count, text // 2, generator=rng).argsort(-1)[:, :N_NEEDLES]  # (count, needles)
    keys = N_TOKENS + torch.rand(count, N_NEEDLE_KEYS, generator=rng).argsort(-1)[:, :N_NEEDLES]
    token_ids.scatter_(1, places, keys)
    values = token_ids.gather(1, places + 1)
    answers = torch.full_like(token_ids, NOT_ASKED)
    token_ids[:, text::2], token_ids[:, text + 1 :: 2] = keys, values  # in random order: so were the places
    answers[:, text::2] = values
    return Batch(token_ids, answers)


def _characters(text: Tensor) -> Callable[[Generator, int, int], Batch]:
    """Pieces of a text, from anywhere: (count, length)."""

    def make(rng: Generator, count: int, length: int) -> Batch:
        starts = torch.randint(len(text) - length, (count, 1), generator=rng)
        pieces = text[starts + torch.arange(length + 1)]  # (count, length + 1)
        return Batch(pieces[:, :-1], pieces[:, 1:])

    return make


@cache
def python_reference() -> tuple[Tensor, Tensor, int]:
    """Python's language reference as token ids: for training, for testing, and how many different ones there are."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    parts = (
        "".join(topics[name] for i, name in enumerate(names) if (i % _TESTED == 0) is test) for test in (False, True)
    )
    train, test = parts
    common = sorted(character for character in set(train) if train.count(character) >= _RARE)
    number = {character: i for i, character in enumerate(common)}
    ids = [torch.tensor([number.get(character, len(common)) for character in part]) for part in (train, test)]
    return ids[0], ids[1], len(common) + 1


def text_source() -> str:
    """Which text `characters` is about."""
    train, test, _ = python_reference()
    return (
        f"pydoc_data.topics of Python {platform.python_version()}: {len(train):,} characters to train on, "
        f"{len(test):,} of other topics to test on"
    )


@cache
def task(name: str) -> Task:
    """A task by its name.

    Raises:
        KeyError: No such task.
    """
    return TASKS[name]()


def _characters_task() -> Task:
    train, test, vocab_size = python_reference()
    source = hashlib.sha256(torch.cat([train, test]).numpy().tobytes()).hexdigest()[:12]
    return Task("characters", vocab_size, _characters(train), _characters(test), (256, 1024), source)


TASKS: dict[str, Callable[[], Task]] = {
    "recall": lambda: Task("recall", N_KEYS + N_VALUES, recall, recall, (4, 8, 16, 24, 32, 48)),
    "induction": lambda: Task("induction", N_TOKENS + 1, induction, induction, (8, 16, 32, 64, 128)),
    "needle": lambda: Task("needle", N_TOKENS + N_NEEDLE_KEYS, needle, needle, (64, 128, 256, 512)),
    "characters": _characters_task,
}
