"""The engine on real weights (SmolLM2 135M): streaming, reuse, stopping, limits."""

import threading
import time

import pytest

from longleaf.errors import ContextOverflowError, ModelError, ModelNotInstalledError
from longleaf.model import DecoderEngine, SamplingOptions
from longleaf.model.decoder_engine import load_chat_template

GREEDY = SamplingOptions()
HELLO = [{"role": "user", "content": "Count from one to five."}]
LONG = [{"role": "user", "content": "The water of the river is cold. " * 200}]


def open_engine(path, context_tokens):
    return DecoderEngine.load(path, load_chat_template(path), name="reader", context_tokens=context_tokens)


@pytest.fixture(scope="module")
def engine(smollm2):
    engine = open_engine(smollm2, 2048)
    yield engine
    engine.close()


def text_of(pieces):
    return "".join(piece.text for piece in pieces)


def test_the_last_piece_carries_reason_and_usage(engine):
    *pieces, last = engine.stream(HELLO, sampling=GREEDY, max_tokens=3)
    assert all(piece.finish_reason is None and piece.usage is None for piece in pieces)
    assert last.finish_reason == "length"
    assert last.usage.input_tokens == engine.count_prompt_tokens(HELLO)
    assert last.usage.output_tokens == 3


def test_greedy_answers_repeat_and_seeds_repeat(engine):
    assert text_of(engine.stream(HELLO, sampling=GREEDY, max_tokens=12)) == text_of(
        engine.stream(HELLO, sampling=GREEDY, max_tokens=12)
    )
    sampled = [
        text_of(engine.stream(HELLO, max_tokens=12, sampling=SamplingOptions(1.5, seed=seed))) for seed in (1, 1, 2, 3)
    ]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1


def test_a_common_prefix_is_not_read_again(engine):
    document = "Page 1. The dam is forty metres high. " * 20
    for question in ("How high is the dam?", "What is on page 1?"):
        *_, last = engine.stream(
            [{"role": "system", "content": document}, {"role": "user", "content": question}],
            max_tokens=1,
            sampling=GREEDY,
        )
    assert last.usage.cached_tokens > 0.9 * last.usage.input_tokens
    assert last.usage.seconds_saved > 0


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(engine):
    whole = text_of(engine.stream(HELLO, sampling=GREEDY, max_tokens=24))
    stop = whole[6:9]
    *_, last = pieces = list(engine.stream(HELLO, sampling=GREEDY, max_tokens=24, stop=[stop]))
    assert text_of(pieces) == whole[: whole.index(stop)]
    assert last.finish_reason == "stop"


def test_a_prompt_longer_than_the_context_is_an_error_with_numbers(engine):
    messages = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(ContextOverflowError, match=rf"{engine.count_prompt_tokens(messages):,} tokens .* 2,048"):
        engine.stream(messages, sampling=GREEDY, max_tokens=1)
    with pytest.raises(ContextOverflowError):
        engine.choose(messages, ["yes", "no"])


def test_an_answer_ends_where_the_context_does(smollm2):
    engine = open_engine(smollm2, 256)
    messages = [{"role": "user", "content": "Count from one to a thousand. " + "word " * 190}]
    *_, last = engine.stream(messages, max_tokens=500, sampling=SamplingOptions(2.0, seed=1))
    engine.close()
    assert last.finish_reason == "length"
    assert last.usage.input_tokens == engine.count_prompt_tokens(messages)  # nothing was cut
    assert last.usage.input_tokens + last.usage.output_tokens == 256


def test_stopping_while_reading_returns_at_once_and_the_engine_goes_on(engine):
    read = []
    begun = time.monotonic()
    *_, last = engine.stream(
        LONG,
        sampling=GREEDY,
        max_tokens=5,
        should_stop=lambda: len(read) > 1,
        on_read=lambda done, total, left: read.append((done, total)),
    )
    assert last.finish_reason == "cancelled"
    assert last.usage.output_tokens == 0
    assert read[-1][0] < read[-1][1]
    assert text_of(engine.stream(HELLO, sampling=GREEDY, max_tokens=2))
    assert time.monotonic() - begun < 60


def test_stopping_while_writing(engine):
    pieces = []
    for piece in engine.stream(HELLO, sampling=GREEDY, max_tokens=500, should_stop=lambda: len(pieces) >= 3):
        pieces.append(piece)
    assert pieces[-1].finish_reason == "cancelled"
    assert len(pieces) <= 6


def test_closing_the_iterator_stops_the_work(engine):
    pieces = engine.stream(HELLO, sampling=GREEDY, max_tokens=1500)
    next(pieces)
    pieces.close()
    assert text_of(engine.stream(HELLO, sampling=GREEDY, max_tokens=2))


def test_several_threads_may_ask(engine):
    answers = {}

    def ask(number):
        answers[number] = text_of(engine.stream(HELLO, sampling=GREEDY, max_tokens=4))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 3
    assert len(set(answers.values())) == 1


def test_choose_gives_probabilities_that_add_up(engine):
    chosen = engine.choose(HELLO, ["Yes", "No", "Zebra"])
    assert set(chosen) == {"Yes", "No", "Zebra"}
    assert sum(chosen.values()) == pytest.approx(1)
    assert all(value > 0 for value in chosen.values())
    assert engine.choose(HELLO, ["No", "Yes", "Zebra"]) == pytest.approx(chosen, rel=1e-2)


def test_choose_follows_the_question(qwen):
    engine = open_engine(qwen, 512)
    try:
        for city, likely in (("Paris", "Yes"), ("Rome", "No")):
            question = f"Is {city} the capital of France? Answer yes or no."
            chosen = engine.choose([{"role": "user", "content": question}], ["Yes", "No"])
            assert chosen[likely] > 0.8
    finally:
        engine.close()


@pytest.mark.parametrize("options", [["yes"], [], ["yes", "yes"], ["yes", ""], ["yes sir", "yes madam"]])
def test_options_must_differ_in_their_first_token(engine, options):
    with pytest.raises(ValueError, match="different tokens"):
        engine.choose(HELLO, options)


def test_a_closed_engine_says_so(smollm2):
    engine = open_engine(smollm2, 128)
    engine.close()
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        list(engine.stream(HELLO, sampling=GREEDY, max_tokens=1))


def test_a_missing_and_a_damaged_file(tmp_path, smollm2):
    with pytest.raises(ModelNotInstalledError, match="no such file"):
        open_engine(tmp_path / "x.gguf", 64)
    damaged = tmp_path / "damaged.gguf"
    with smollm2.open("rb") as whole:
        damaged.write_bytes(whole.read(5_000_000))
    with pytest.raises(ModelError, match=r"damaged\.gguf"):
        open_engine(damaged, 64)
