"""The engine on real weights (SmolLM2 135M): streaming, reuse, stopping, limits."""

import gc
import json
import threading
import time
import weakref

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longleaf.errors import ContextOverflowError, ModelError, ModelNotInstalledError
from longleaf.model import DecoderEngine, SamplingOptions, load_model
from longleaf.model.chat_template import ChatTemplate
from longleaf.model.constraint import Constraint
from longleaf.model.decoder_engine import load_chat_template
from longleaf.model.tool_calls import tool_constraint

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


def test_a_closed_engine_lets_its_weights_go(smollm2):
    engine = open_engine(smollm2, 64)
    decoder = weakref.ref(engine._opened()[0].decoder)
    assert decoder() is not None
    engine.close()
    gc.collect()
    assert decoder() is None


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


# Constraints and tools

YEAR = [{"role": "user", "content": "In which year did the First World War end?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "numbers": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "unit": {"enum": ["one"]},
    },
    "required": ["numbers", "unit"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "count",
        "description": "Count up to a number.",
        "parameters": {"type": "object", "properties": {"to": {"type": "integer", "maximum": 99}}, "required": ["to"]},
    },
}


@pytest.mark.parametrize("sampling", [GREEDY, SamplingOptions(2.0, seed=1), SamplingOptions(repetition_penalty=1.5)])
def test_an_answer_keeps_to_its_constraint_and_ends_when_it_is_complete(engine, sampling):
    *_, last = pieces = list(
        engine.stream(HELLO, sampling=sampling, max_tokens=200, constraint=Constraint.json_schema(SCHEMA))
    )
    value = json.loads(text_of(pieces))
    assert value["unit"] == "one"
    assert all(isinstance(number, int) for number in value["numbers"])
    assert last.finish_reason == "stop"


def test_forced_tokens_are_counted_and_read_like_others(engine):
    free = engine.stream(
        YEAR, sampling=GREEDY, max_tokens=30, constraint=Constraint.lark('start: "It was " /[0-9]{4}/')
    )
    *_, last = pieces = list(free)
    year = text_of(pieces).removeprefix("It was ")
    assert len(year) == 4
    assert last.usage.output_tokens == len(engine.token_ids(text_of(pieces)))
    # A model that has read "It was " by itself goes on in the same way.
    history = [*YEAR, {"role": "assistant", "content": text_of(pieces)}]
    n_history = engine.count_prompt_tokens(history)
    *_, after = engine.stream([*history, {"role": "user", "content": "Why?"}], sampling=GREEDY, max_tokens=1)
    assert after.usage.cached_tokens >= last.usage.input_tokens + last.usage.output_tokens - 1
    assert n_history > after.usage.cached_tokens


def test_an_answer_that_is_cut_says_so_and_a_stop_string_still_ends_it(engine):
    constraint = Constraint.regex("(ab){40}")
    *_, last = pieces = list(engine.stream(HELLO, sampling=GREEDY, max_tokens=5, constraint=constraint))
    assert last.finish_reason == "length"
    assert last.usage.output_tokens == 5
    assert ("ab" * 40).startswith(text_of(pieces))
    *_, last = pieces = list(engine.stream(HELLO, sampling=GREEDY, max_tokens=99, constraint=constraint, stop=["bab"]))
    assert (text_of(pieces), last.finish_reason) == ("a", "stop")


def test_should_stop_is_asked_of_constrained_answers_too(engine):
    pieces = []
    constraint = Constraint.regex("[a-z]{400}")
    for piece in engine.stream(
        HELLO, sampling=GREEDY, max_tokens=500, constraint=constraint, should_stop=lambda: len(pieces) >= 3
    ):
        pieces.append(piece)
    assert pieces[-1].finish_reason == "cancelled"
    assert len(pieces) <= 6


def test_a_wrong_constraint_is_an_error_of_the_call(engine):
    with pytest.raises(ValueError, match="held to this constraint"):
        engine.stream(HELLO, sampling=GREEDY, max_tokens=1, constraint=Constraint.lark("start: other"))


def test_tools_are_part_of_the_prompt_and_their_calls_of_the_text(engine):
    assert engine.count_prompt_tokens(HELLO, [TOOL]) > engine.count_prompt_tokens(HELLO) + 20
    constraint = tool_constraint(engine.tool_markup, [TOOL], required=True, several=False)
    *_, last = pieces = list(engine.stream(HELLO, sampling=GREEDY, max_tokens=60, tools=[TOOL], constraint=constraint))
    assert last.usage.input_tokens == engine.count_prompt_tokens(HELLO, [TOOL])
    assert last.finish_reason == "stop"
    head, arguments, _ = text_of(pieces).replace("}}", "}|}").replace('s": ', 's": |').split("|")
    assert head == '<tool_call>\n{"name": "count", "arguments": '
    assert json.loads(arguments)["to"] <= 99


THINKER = """
{%- for tool in tools %}{{ tool.function.description }}{% endfor %}
{%- for message in messages %}<|user|>{{ message.content }}
    {%- for call in message.tool_calls %}
        {{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
        {{- '}\n</tool_call>' }}
    {%- endfor %}
{%- endfor %}<think>"""


def tiny_thinker(folder) -> DecoderEngine:
    """A tiny random model whose prompt opens `<think>`, and whose tags are control tokens."""
    tokens = ["<|end|>", "<|user|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=tokens, show_progress=False
    )
    tokenizer.train_from_iterator(["a b"], trainer)
    engine = DecoderEngine(load_model(folder), ChatTemplate(THINKER, tokenizer), name="tiny", context_tokens=512)
    engine._ends = {0}
    return engine


def test_what_is_thought_first_is_free_and_tags_that_are_tokens_show(tiny, one_thread):
    engine = tiny_thinker(tiny("llama"))
    constraint = tool_constraint(engine.tool_markup, [TOOL], required=True, several=False)
    thought = False
    for seed in range(12):
        *_, last = pieces = list(
            engine.stream(
                HELLO, sampling=SamplingOptions(3.0, seed=seed), max_tokens=150, tools=[TOOL], constraint=constraint
            )
        )
        text, reasoning = text_of(pieces), "".join(piece.reasoning for piece in pieces)
        if last.finish_reason == "stop":
            assert text.startswith('<tool_call>\n{"name": "count", "arguments": {"to": ')
            assert text.endswith("}}\n</tool_call>")
            thought = thought or bool(reasoning)
        else:
            assert last.finish_reason == "length"
    assert thought
