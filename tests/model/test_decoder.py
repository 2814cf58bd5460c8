"""What the decoder promises of its states: saved, forked, batched and interrupted ones go on as if nothing had been."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longleaf.errors import ContextOverflowError, DamagedStateError, StateError, StateMismatchError
from longleaf.model import state as state_module
from longleaf.model.decoder import Decoder, ReadingStopped
from longleaf.model.loading import load_model
from longleaf.model.sampling import SamplingOptions
from longleaf.model.state import DecoderState

from .test_state_file import assert_same, content
from .tiny_models import VOCAB_SIZE, prompt, relative_error

TOLERANCE = 1e-4
BLOCK = 8
HYBRID = "jamba-attention-last"  # three Mamba layers and one attention layer, experts in every other one

pytestmark = pytest.mark.usefixtures("one_thread")
every_family = pytest.mark.parametrize("name", [HYBRID, "llama", "mixtral", "mamba"])


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "block_tokens_for", lambda device: BLOCK)
        yield


@pytest.fixture(scope="module")
def models(tiny: Callable[[str], Path]) -> Callable[[str], Decoder]:
    return cache(lambda name: load_model(tiny(name), dtype=torch.float32))


@pytest.fixture
def model(models: Callable[[str], Decoder]) -> Decoder:
    return models(HYBRID)


def read(model: Decoder, *texts: list[int], chunk_tokens: int = BLOCK) -> tuple[DecoderState, Tensor]:
    """A fresh state after these texts, read one by one, and its last logits."""
    state = model.new_state()
    for text in texts:
        logits = model.prefill(text, state, chunk_tokens)
    return state, logits


# Saving, forking


@every_family
@pytest.mark.parametrize("n_tokens", [1, 7, 8, 9, 24])
def test_a_saved_state_goes_on_bit_for_bit(
    models: Callable[[str], Decoder], name: str, n_tokens: int, tmp_path: Path
) -> None:
    model, document, question = models(name), prompt(n_tokens), prompt(13, seed=1)
    unbroken, expected = read(model, document, question)
    read(model, document)[0].save(tmp_path / "state")
    loaded = model.load_state(tmp_path / "state")
    assert loaded.n_tokens == n_tokens
    assert torch.equal(model.prefill(question, loaded, BLOCK), expected)
    assert torch.equal(model.decode(5, loaded), model.decode(5, unbroken))
    assert_same(loaded, unbroken)


@every_family
@pytest.mark.parametrize("n_tokens", [1, 7, 8, 9, 16])
def test_forks_touch_neither_each_other_nor_the_origin(
    models: Callable[[str], Decoder], name: str, n_tokens: int
) -> None:
    model, document = models(name), prompt(n_tokens)
    origin, _ = read(model, document)
    before = [tensor.clone() for tensor in content(origin)]
    texts = [prompt(n, seed=n) for n in (11, 6)]
    forks = [origin.fork() for _ in texts]
    for fork, text in zip(forks, texts, strict=True):
        model.prefill(text, fork, BLOCK)
    grandchild = forks[0].fork()
    for token in (7, 8, 9):  # in turns, each writing beside what the others share
        for fork in forks:
            model.decode(token, fork)
    model.decode(3, grandchild)
    assert all(torch.equal(now, then) for now, then in zip(content(origin), before, strict=True))
    for fork, text in zip(forks, texts, strict=True):
        assert_same(fork, read(model, document, text, [7], [8], [9])[0])
    assert_same(grandchild, read(model, document, texts[0], [3])[0])
    model.prefill(texts[1], origin, BLOCK)
    assert_same(origin, read(model, document, texts[1])[0])
    assert_same(forks[0], read(model, document, texts[0], [7], [8], [9])[0])


# Batches


@every_family
def test_a_batch_of_ragged_sequences_equals_one_by_one(models: Callable[[str], Decoder], name: str) -> None:
    model = models(name)
    pasts = [read(model, prompt(n, seed=n))[0] if n else model.new_state() for n in (0, 3, 8, 20)]
    texts = [prompt(n, seed=50 + n) for n in (5, 1, 17, 2)]
    alone = [past.fork() for past in pasts]
    expected = torch.stack([model.prefill(text, state) for text, state in zip(texts, alone, strict=True)])
    logits = model.forward_batch(texts, pasts)
    assert logits.shape == (4, VOCAB_SIZE)
    assert relative_error(logits, expected) <= TOLERANCE
    for state, other in zip(pasts, alone, strict=True):
        assert state.token_ids == other.token_ids
        for ours, theirs in zip(content(state), content(other), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@every_family
def test_one_reading_answers_many_questions_at_once(models: Callable[[str], Decoder], name: str) -> None:
    model, document = models(name), prompt(30)
    origin, _ = read(model, document)
    questions = [prompt(n, seed=n) for n in (4, 9, 1, 6)]
    states = [origin.fork() for _ in questions]
    logits = model.forward_batch(questions, states)
    for _ in range(3):
        tokens = logits.argmax(-1).tolist()
        logits = model.forward_batch([[token] for token in tokens], states)
    for question, state, row in zip(questions, states, logits, strict=True):
        assert state.token_ids[:-3] == document + question
        assert relative_error(row, read(model, state.token_ids)[1]) <= TOLERANCE
    assert origin.n_tokens == 30
    assert torch.equal(model.decode(1, origin), read(model, document, [1])[1])


def test_a_batch_needs_a_state_for_each_sequence(model: Decoder) -> None:
    state, other = model.new_state(), model.new_state()
    for sequences, states in (([[1], [2]], [state]), ([[1], [2]], [state, state])):
        with pytest.raises(ValueError, match="2 sequences need as many states"):
            model.forward_batch(sequences, states)
    with pytest.raises(ValueError, match="token ids must be"):
        model.forward_batch([[1], [VOCAB_SIZE]], [state, other])
    assert state.n_tokens == other.n_tokens == 0  # none moves on where one can't
    model.forward_batch([[1], [2]], [state, other])


# Chunks


@pytest.mark.parametrize("name", [HYBRID, "llama", "mamba"])
@settings(max_examples=25, deadline=None)
@given(cuts=st.sets(st.integers(1, 39)), chunk_tokens=st.integers(1, 41))
def test_any_split_of_a_prompt_reads_the_same(
    models: Callable[[str], Decoder], name: str, cuts: set[int], chunk_tokens: int
) -> None:
    model, text = models(name), prompt(40)
    ends = [0, *sorted(cuts), 40]
    parts = [text[begin:end] for begin, end in pairwise(ends)]
    state, logits = read(model, *parts, chunk_tokens=chunk_tokens)
    assert state.token_ids == text
    assert relative_error(logits, read(model, text, chunk_tokens=40)[1]) <= TOLERANCE


def test_progress_counts_chunks_that_end_on_one_grid(model: Decoder) -> None:
    told: list[tuple[int, int, float]] = []
    state = model.new_state()
    model.prefill(prompt(20), state, 8, progress=lambda *numbers: told.append(numbers))
    assert [(done, total) for done, total, _ in told] == [(8, 20), (16, 20), (20, 20)]
    assert told[-1][2] == 0
    assert all(seconds > 0 for _, _, seconds in told[:-1])
    told.clear()
    model.prefill(prompt(14), state, 8, progress=lambda *numbers: told.append(numbers))  # from 20 on
    assert [(done, total) for done, total, _ in told] == [(4, 14), (12, 14), (14, 14)]


def test_a_reading_stopped_anywhere_goes_on_to_the_same_bits(model: Decoder) -> None:
    text, asked = prompt(21), []
    unbroken, expected = read(model, text)
    model.prefill(text, model.new_state(), BLOCK, should_stop=lambda: bool(asked.append(1)))
    for when in range(len(asked)):
        state, answers = model.new_state(), iter([False] * when + [True])
        with pytest.raises(ReadingStopped):
            model.prefill(text, state, BLOCK, should_stop=lambda answers=answers: next(answers))
        assert state.n_tokens == when // (len(asked) // 3) * BLOCK  # as after the last whole one of 3 chunks
        assert torch.equal(model.prefill(text[state.n_tokens :], state, BLOCK), expected)
        assert_same(state, unbroken)


@pytest.mark.parametrize("done", [3, 21])
def test_a_reading_broken_off_in_a_chunk_goes_on_to_the_same_bits(model: Decoder, done: int) -> None:
    """A state that was fed by another grid comes back to this one at the next multiple."""
    text = prompt(37)
    state, _ = read(model, text[:done], chunk_tokens=5)
    told: list[int] = []
    model.prefill(text[done:], state, 8, progress=lambda read_so_far, *_: told.append(done + read_so_far))
    assert told == [n for n in (8, 16, 24, 32, 37) if n > done]


# Sizes


@pytest.mark.parametrize("n_tokens", [0, 1, 8, 13])
def test_bytes_of_a_state(tiny: Callable[[str], Path], n_tokens: int) -> None:
    folder = tiny(HYBRID)
    for kv_dtype, kv_bytes in ((torch.float32, 4), (torch.bfloat16, 2)):
        model = load_model(folder, dtype=torch.float32, kv_dtype=kv_dtype)
        state = read(model, prompt(n_tokens))[0] if n_tokens else model.new_state()
        keys_and_values = 2 * n_tokens * 2 * 16 * kv_bytes  # 2 kv heads of 16
        taps, ssm = 3 * 128 * 4, 16 * 128 * 4  # d_inner 128, d_conv 4, d_state 16
        assert state.nbytes == keys_and_values + 3 * (taps + ssm)
        assert state.n_tokens == n_tokens
    bf16 = load_model(folder, dtype=torch.bfloat16)
    assert bf16.new_state().nbytes == 3 * (taps // 2 + ssm)  # the states of scans stay fp32


# What is refused


@every_family
def test_an_error_inside_a_layer_spoils_the_state(
    models: Callable[[str], Decoder], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = models(name)
    state, _ = read(model, prompt(10))
    before, other = state.fork(), model.new_state()

    def fail(*_: object) -> Tensor:
        raise MemoryError("no room for the chunk")

    with monkeypatch.context() as patch:
        patch.setattr(model.layers[2], "mixer", fail)
        with pytest.raises(MemoryError):
            model.forward_batch([[1, 2], [3]], [state, other])
    for spoiled in (state, other, state.fork()):
        with pytest.raises(DamagedStateError):
            model.prefill([1], spoiled)
        with pytest.raises(StateError):
            spoiled.save(tmp_path / "state")
    assert not (tmp_path / "state").exists()
    assert torch.equal(model.prefill([1, 2], before), read(model, prompt(10), [1, 2])[1])


@every_family
def test_answers_side_by_side_are_those_one_by_one(models: Callable[[str], Decoder], name: str) -> None:
    """Questions of several lengths about one reading; an answer that ends early leaves the others going."""
    model = models(name)
    reading, _ = read(model, prompt(30))
    questions = [prompt(3), prompt(9)[4:], prompt(20)[13:]]
    alone = [list(model.generate(ids, reading.fork(), max_tokens=6, stop_tokens=[])) for ids in questions]
    end = alone[1][2]  # a stop token for all, which one of them is known to meet
    expected = [answer[: answer.index(end)] if end in answer else answer for answer in alone]
    states = [reading.fork() for _ in questions]
    assert model.generate_batch(questions, states, max_tokens=6, stop_tokens=[end]) == expected
    assert reading.n_tokens == 30
    for ids, state, answer in zip(questions, states, expected, strict=True):
        assert state.token_ids[30 + len(ids) :] == answer[: state.n_tokens - 30 - len(ids)]
    with pytest.raises(ValueError, match="3 prompts need as many states, got 1"):
        model.generate_batch(questions, states[:1], max_tokens=1)


@every_family
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_prompt_broken_off_in_a_layer_leaves_the_state_after_the_last_whole_chunk(
    models: Callable[[str], Decoder], name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, text = models(name), prompt(37)
    unbroken, expected = read(model, text[:20], text[20:])
    state, _ = read(model, text[:20])
    mixer = model.layers[2].mixer

    def fail_in_the_second_chunk(*arguments: object) -> Tensor:
        if state.n_tokens >= 24:
            raise error
        return mixer(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(model.layers[2], "mixer", fail_in_the_second_chunk)
        with pytest.raises(error):
            model.prefill(text[20:], state, BLOCK)
    assert state.token_ids == text[:24]
    assert torch.equal(model.prefill(text[24:], state, BLOCK), expected)
    assert_same(state, unbroken)


def test_a_state_of_another_model_is_refused(models: Callable[[str], Decoder], tmp_path: Path) -> None:
    model, other = models(HYBRID), models("jamba-attention-first")
    state, _ = read(other, [1, 2])
    state.save(tmp_path / "state")
    for call in (
        lambda: model.prefill([1], state),
        lambda: model.decode(1, state),
        lambda: model.logits_of_all([1], state),
        lambda: model.forward_batch([[1], [1]], [model.new_state(), state]),
        lambda: next(model.generate([1], state, max_tokens=1)),
        lambda: model.load_state(tmp_path / "state"),
    ):
        with pytest.raises(StateMismatchError):
            call()
    assert state.n_tokens == 2
    other.decode(3, state)


def test_more_tokens_than_the_context_are_refused(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "config", replace(model.config, max_context_tokens=20))
    state, _ = read(model, prompt(12))
    with pytest.raises(ContextOverflowError, match=r"21 tokens are more than the 20"):
        model.prefill(prompt(9), state)
    assert state.n_tokens == 12
    model.prefill(prompt(8), state)
    with pytest.raises(ContextOverflowError):
        model.decode(1, state)


@pytest.mark.parametrize("token_ids", [[], [3, -1], [VOCAB_SIZE, 3]])
def test_bad_token_ids_are_refused_before_anything_is_read(model: Decoder, token_ids: list[int]) -> None:
    state, _ = read(model, prompt(5))
    before = [tensor.clone() for tensor in content(state)]
    for call in (model.prefill, model.logits_of_all):
        with pytest.raises(ValueError):
            call(token_ids, state)
    assert state.token_ids == prompt(5)
    assert all(torch.equal(now, then) for now, then in zip(content(state), before, strict=True))
    model.decode(1, state)


def test_a_chunk_of_less_than_one_token_is_refused(model: Decoder) -> None:
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1, got -1"):
        model.prefill([1], model.new_state(), chunk_tokens=-1)


# Writing


def answer(model: Decoder, **options: object) -> tuple[list[int], DecoderState]:
    state = model.new_state()
    return list(model.generate(prompt(15), state, **{"max_tokens": 6, "stop_tokens": (), **options})), state


@pytest.mark.parametrize("max_tokens", [0, 1, 6])
def test_an_answers_last_token_is_not_read(model: Decoder, max_tokens: int) -> None:
    tokens, state = answer(model, max_tokens=max_tokens)
    assert len(tokens) == max_tokens
    assert state.token_ids == prompt(15) + tokens[:-1]


def test_an_answer_ends_before_a_stop_token(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, _ = answer(model)
    assert len(set(tokens[:4])) == 4
    stopped, state = answer(model, stop_tokens=(tokens[3], 1))
    assert stopped == tokens[:3]
    assert state.token_ids == prompt(15) + stopped  # all were read: the stop token came after the last
    monkeypatch.setattr(model, "config", replace(model.config, eos_token_ids=(tokens[2],)))
    assert answer(model, stop_tokens=None)[0] == tokens[:2]
    assert answer(model)[0] == tokens


def test_a_seed_repeats_its_answer(model: Decoder) -> None:
    answers = {
        seed: answer(model, max_tokens=12, sampling=SamplingOptions(temperature=1.0, seed=seed))[0] for seed in (1, 2)
    }
    assert answer(model, max_tokens=12, sampling=SamplingOptions(temperature=1.0, seed=1))[0] == answers[1]
    assert answers[1] != answers[2]
    assert answer(model, max_tokens=12, sampling=SamplingOptions(seed=1))[0] == answer(model, max_tokens=12)[0]


def test_a_repetition_penalty_counts_prompt_and_answer(model: Decoder) -> None:
    never_again = SamplingOptions(repetition_penalty=1e6)
    tokens, _ = answer(model, max_tokens=20, sampling=never_again)
    assert len({*tokens, *prompt(15)}) == 20 + len(set(prompt(15)))


@pytest.mark.parametrize("n_written", [1, 3])
def test_an_answer_can_be_stopped_after_any_token(model: Decoder, n_written: int) -> None:
    state, tokens = model.new_state(), []
    writing = model.generate(
        prompt(15), state, max_tokens=6, stop_tokens=(), should_stop=lambda: len(tokens) == n_written
    )
    for token in writing:
        tokens.append(token)
    assert tokens == answer(model)[0][:n_written]
    assert state.token_ids == prompt(15) + tokens[:-1]


def test_an_answer_stopped_while_its_prompt_is_read_has_no_tokens(model: Decoder) -> None:
    state = model.new_state()
    writing = model.generate(prompt(15), state, max_tokens=6, chunk_tokens=8, should_stop=lambda: state.n_tokens > 0)
    assert list(writing) == []
    assert state.token_ids == prompt(15)[:8]
