"""Answers that are written together: each as if it were alone, in fewer passes, and none held up by another."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longleaf.model import DecoderEngine, SamplingOptions
from longleaf.model.arithmetic import compute
from longleaf.model.decoder import Decoder
from longleaf.model.decoder_engine import load_chat_template
from longleaf.model.loading import load_model
from longleaf.model.state import DecoderState
from longleaf.model.step_batch import StepBatch

from .tiny_models import prompt

HYBRID = "jamba-attention-last"
WAIT_S = 60


@pytest.fixture(scope="module")
def model(tiny: Callable[[str], Path]) -> Decoder:
    return load_model(tiny(HYBRID), dtype=torch.float32)


class Counted:
    """A decoder that notes how many answers each pass had."""

    def __init__(self, model: Decoder, before_pass: Callable[[], object] = lambda: None) -> None:
        self.model, self.before_pass, self.sizes = model, before_pass, []

    def forward_batch(self, tokens: list[list[int]], states: list[DecoderState]) -> Tensor:
        self.before_pass()
        self.sizes.append(len(tokens))
        return self.model.forward_batch(tokens, states)


def likeliest(logits: Tensor) -> int:
    return int(logits.argmax())


def together(*work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def begun(model: Decoder, seed: int) -> tuple[int, DecoderState]:
    """What is likeliest after a prompt, and the state there."""
    state = model.new_state()
    logits = compute(lambda _: model.prefill(prompt(5 + seed, seed), state))
    return likeliest(logits), state


def test_each_answer_is_what_it_is_alone_and_passes_are_shared(model: Decoder):
    n_answers, n_tokens = 12, 25
    alone = [list(model.generate(prompt(5 + seed, seed), model.new_state(), max_tokens=n_tokens, stop_tokens=[]))
             for seed in range(n_answers)]  # fmt: skip
    counted = Counted(model)
    steps = StepBatch(counted)
    answers: dict[int, list[int]] = {}
    all_there = threading.Barrier(n_answers)

    def write(seed: int) -> None:
        token, state = begun(model, seed)
        all_there.wait(WAIT_S)
        written, writer = [token], object()
        while len(written) < n_tokens:
            written.append(steps.next(writer, [written[-1]], state, likeliest))
        steps.leave(writer)
        answers[seed] = written

    together(*(lambda seed=seed: write(seed) for seed in range(n_answers)))
    assert [answers[seed] for seed in range(n_answers)] == alone
    assert sum(counted.sizes) == n_answers * (n_tokens - 1)
    assert max(counted.sizes) == 8  # no more go through at once
    assert len(counted.sizes) < sum(counted.sizes) / 2


def test_an_answer_that_nobody_pulls_holds_up_no_other(model: Decoder):
    steps = StepBatch(Counted(model))
    (slow_token, slow), (token, state) = begun(model, 1), begun(model, 2)
    steps.next("slow", [slow_token], slow, likeliest)  # and never again, without leaving
    for _ in range(5):
        token = steps.next("other", [token], state, likeliest)
    assert slow.n_tokens == 5 + 1 + 1
    assert state.n_tokens == 5 + 2 + 5


def test_what_goes_wrong_with_one_answer_leaves_the_others_of_its_pass(model: Decoder):
    both_wait = threading.Barrier(2)
    counted = Counted(model)
    steps = StepBatch(counted)
    found: dict[str, object] = {}

    def fail(_: Tensor) -> int:
        raise LookupError("no such token")

    def write(name: str, seed: int, then: Callable[[Tensor], int]) -> None:
        token, state = begun(model, seed)
        steps.next(name, [token], state, likeliest)
        both_wait.wait(WAIT_S)
        try:
            found[name] = steps.next(name, [token], state, then)
        except LookupError as exc:
            found[name] = str(exc)

    together(lambda: write("good", 1, likeliest), lambda: write("bad", 2, fail))
    assert found["bad"] == "no such token"
    assert isinstance(found["good"], int)


def test_an_error_of_the_pass_reaches_all_that_were_in_it(model: Decoder):
    steps = StepBatch(Counted(model))
    _, state = begun(model, 1)
    with pytest.raises(ValueError, match="token ids must be in"):
        steps.next("writer", [10**6], state, likeliest)


def test_others_write_on_while_a_long_text_is_read(smollm2: Path):
    engine = DecoderEngine.load(smollm2, load_chat_template(smollm2), name="reader", context_tokens=4096)
    events: list[str] = []
    writing, read = threading.Event(), threading.Event()

    def write() -> None:
        pieces = engine.stream(
            [{"role": "user", "content": "Tell a long story about a ship and its crew."}],
            max_tokens=400, sampling=SamplingOptions(), should_stop=read.is_set,
        )  # fmt: skip
        for _ in pieces:
            events.append("wrote")
            writing.set()

    def read_long() -> None:
        assert writing.wait(WAIT_S)
        long = [{"role": "user", "content": "The water of the river is cold. " * 400}]
        list(engine.stream(long, max_tokens=1, sampling=SamplingOptions(), on_read=lambda *_: events.append("read")))
        read.set()

    together(write, read_long)
    engine.close()
    n_chunks = events.count("read")
    first, last = events.index("read"), len(events) - 1 - events[::-1].index("read")
    assert n_chunks > 2
    assert events[first:last].count("wrote") >= n_chunks - 1
