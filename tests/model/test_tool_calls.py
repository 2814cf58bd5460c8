"""Tool calls in a model's text: read back from any pieces, held to the tools' schemas, told to models without tools."""

import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longleaf.model.constraint import TokenVocabulary
from longleaf.model.sampling import Sampler, SamplingOptions
from longleaf.model.tool_calls import CallPiece, ToolCallReader, ToolMarkup, messages_for, tool_constraint

HERMES = ToolMarkup()
JAMBA = ToolMarkup("<tool_calls>", "</tool_calls>", listed=True)
TAGS = ["<tool_call>", "</tool_call>", "<tool_calls>", "</tool_calls>"]


def tool(name: str, **properties) -> dict:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"To {name}.", "parameters": parameters}}


ADD = tool("add", a={"type": "integer", "minimum": -9, "maximum": 9}, b={"enum": [1, "</tool_call>"]})
NOW = tool("now_é")
TOOLS = [ADD, NOW]


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[start : start + size])
        start += size
    return pieces


def read(markup: ToolMarkup, pieces: list[str], names=()) -> tuple[str, list[list]]:
    """The text, and of each call its name and arguments."""
    reader, text, calls = ToolCallReader(markup, names), "", []
    parts = [part for piece in pieces for part in reader.feed(piece)] + reader.flush()
    for part in parts:
        assert part != ""
        if isinstance(part, str):
            text += part
        elif part.index == len(calls):
            calls.append([part.name, part.arguments])
        else:
            assert part.name is None
            calls[part.index][1] += part.arguments
    return text, calls


def hermes(*calls: tuple[str, str]) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": {json.dumps(n, ensure_ascii=False)}, "arguments": {arguments}}}\n</tool_call>'
        for n, arguments in calls
    )


def jamba(*calls: tuple[str, str]) -> str:
    written = ",\n ".join(
        f'{{"name": {json.dumps(n, ensure_ascii=False)}, "arguments": {arguments}}}' for n, arguments in calls
    )
    return f"<tool_calls>[\n {written}\n]</tool_calls>"


STRINGS = st.text(st.sampled_from('a"\\{}[],:\né<>/') | st.characters(codec="utf-8"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS | st.sampled_from(TAGS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(STRINGS, inner, max_size=2),
    max_leaves=5,
)
CALLS = st.lists(st.tuples(STRINGS, st.dictionaries(STRINGS, VALUES, max_size=3)), min_size=1, max_size=3)


@pytest.mark.parametrize(("markup", "write"), [(HERMES, hermes), (JAMBA, jamba)])
@settings(max_examples=60, deadline=None)
@given(
    calls=CALLS,
    before=st.sampled_from(["", "Let me see < that.", "a\n\nb <tool"]),
    sizes=st.lists(st.integers(1, 9), min_size=1),
)
def test_calls_are_read_back_from_any_pieces(markup, write, calls, before, sizes):
    written = write(*[(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls])
    text, found = read(markup, cut(f"{before}\n{written}", sizes))
    assert text == before
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("a<tol_c> \n{"), max_size=40), sizes=st.lists(st.integers(1, 5), min_size=1))
def test_text_without_calls_stays_as_it_is(text, sizes):
    assume("<tool_call>" not in text)  # Hypothesis takes words of the code under test for examples
    assert read(HERMES, cut(text, sizes)) == (text, [])
    assert read(HERMES, cut(text, sizes), names=["add"]) == (text, [])


def test_arguments_are_passed_on_as_they_come():
    reader = ToolCallReader(HERMES)
    assert reader.feed('Yes.\n\n<tool_call>\n{"name": "add", "arg') == ["Yes."]
    assert reader.feed('uments": {"a": ') == [CallPiece(0, "add", '{"a": ')]
    assert reader.feed("1") == [CallPiece(0, None, "1")]
    assert reader.feed("}}\n</tool") == [CallPiece(0, None, "}")]
    assert reader.feed("_call>") == []
    assert reader.flush() == []


@pytest.mark.parametrize(
    ("written", "calls"),
    [
        ('<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>', [["add", '{"a": 1}']]),
        ('<tool_call>{"name": "add", "parameters": {"a": 1}}</tool_call>', [["add", '{"a": 1}']]),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', [["add", '{"a": 1}']]),
        ("<tool_call>add(1)</tool_call>", [[None, "add(1)"]]),
        ('<tool_call>{"add": 1}</tool_call>', [[None, '{"add": 1}']]),
        ('<tool_call>{"name": "add", "arguments": {"a": ', [["add", '{"a": ']]),
        ('<tool_call>{"name": "ad', [[None, '{"name": "ad']]),
        ("<tool_call>\n", []),
        ('<tool_call>{"name": "add", "arguments": {}}</tool', [["add", "{}"]]),
    ],
)
def test_calls_in_other_orders_broken_ones_and_cut_ones(written, calls):
    for size in (1, 4, 200):
        assert read(HERMES, cut(written, [size])) == ("", calls)


@pytest.mark.parametrize(
    "written",
    [
        '{"name": "add", "arguments": {"a": 1}}',
        '\n {"arguments": {"a": 1}, "name": "add"}\n',
        '```json\n{\n  "name": "add",\n  "arguments": {\n    "a": 1\n  }\n}\n```',
        '```\n{"name": "add", "parameters": {"a": 1}}```\n',
    ],
)
def test_a_bare_call_counts_if_it_is_one_of_a_tool(written):
    assert read(HERMES, [*written], names=["add"]) == ("", [["add", '{"a": 1}']])
    assert read(HERMES, [*written], names=["other"]) == (written, [])
    assert read(HERMES, [*written]) == (written, [])


def test_only_what_may_be_a_bare_call_is_held_back():
    reader = ToolCallReader(HERMES, ["add"])
    assert reader.feed("```json\n{") == []
    assert reader.feed('"sum": 1') == ['```json\n{"sum": 1']
    assert reader.feed('}, {"name":') == ['}, {"name":']


# What the grammar lets through


def tokenizer(*, tags_are_tokens: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", *(TAGS if tags_are_tokens else [])],
        show_progress=False,
    )
    made.train_from_iterator(['{"name": "add", "arguments": {"a": 1}}', "<tool_call> tool_calls"], trainer)
    return made


def vocabulary_and_markup(markup: ToolMarkup, tags_are_tokens: bool) -> tuple[TokenVocabulary, ToolMarkup]:
    made = tokenizer(tags_are_tokens=tags_are_tokens)
    ids = {tag: made.token_to_id(tag) for tag in (markup.opening, markup.closing)} if tags_are_tokens else {}
    vocabulary = TokenVocabulary(made, {0}, made.get_vocab_size())
    return vocabulary, ToolMarkup(markup.opening, markup.closing, markup.listed, token_ids=ids)


def may_be_written(vocabulary: TokenVocabulary, constraint, text: str, plain: bool = False) -> bool:
    guide = vocabulary.guide(constraint)
    if plain:
        vocabulary.tokenizer.encode_special_tokens = True
    ids = vocabulary.tokenizer.encode(text, add_special_tokens=False).ids
    vocabulary.tokenizer.encode_special_tokens = False
    for token in ids:
        if not torch.isfinite(guide.mask(torch.zeros(vocabulary.vocab_size)))[token]:
            return False
        guide.accept(token)
    return guide.finished or bool(torch.isfinite(guide.mask(torch.zeros(vocabulary.vocab_size)))[0])


ONE = ("add", '{"a": -9, "b": "</tool_call>"}')
OTHER = ("now_é", "{}")
WRONG = [("add", '{"a": 10, "b": 1}'), ("add", '{"a": 1}'), ("now_é", '{"a": 1}'), ("sub", "{}")]


@pytest.mark.parametrize("tags_are_tokens", [True, False])
@pytest.mark.parametrize(("markup", "write"), [(HERMES, hermes), (JAMBA, jamba)])
def test_a_reply_may_have_right_calls_only(markup, write, tags_are_tokens):
    vocabulary, markup = vocabulary_and_markup(markup, tags_are_tokens)

    def fits(text, **options):
        options = {"required": False, "several": True} | options
        return may_be_written(vocabulary, tool_constraint(markup, TOOLS, **options), text)

    assert fits("Hello <there>,\n\n{}")
    assert fits("Let me see.\n" + write(OTHER))
    assert fits(write(OTHER, OTHER))
    assert not fits(write(OTHER, OTHER), several=False)
    assert fits(write(OTHER), several=False)
    assert not fits(write(OTHER) + " Done.")
    for call in WRONG:
        assert not fits(write(call))
        assert not fits(write(call), required=True)
    assert fits(write(OTHER), required=True, several=False)
    assert not fits("Hello", required=True)
    assert not fits("", required=True)
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    assert fits('{"x": 1}', answer_schema=schema)
    assert fits(write(OTHER), answer_schema=schema)
    assert not fits("Hello", answer_schema=schema)
    if not tags_are_tokens:
        assert fits(write(ONE), required=True)


def test_a_tag_can_not_be_spelled_past_the_grammar():
    vocabulary, markup = vocabulary_and_markup(HERMES, tags_are_tokens=True)
    constraint = tool_constraint(markup, TOOLS, required=False, several=True)
    assert may_be_written(vocabulary, constraint, "<tool_cal", plain=True)
    assert not may_be_written(vocabulary, constraint, "so <tool_call>\nx", plain=True)


@pytest.mark.parametrize("tags_are_tokens", [True, False])
@pytest.mark.parametrize("markup", [HERMES, JAMBA])
def test_dice_that_must_call_a_tool_make_a_call_that_can_be_read(markup, tags_are_tokens):
    vocabulary, markup = vocabulary_and_markup(markup, tags_are_tokens)
    constraint = tool_constraint(markup, [ADD], required=True, several=False)
    for seed in range(4):
        generator, sampler = torch.Generator().manual_seed(seed), Sampler(SamplingOptions(1.0, seed=seed))
        guide, tokens = vocabulary.guide(constraint), []
        while not guide.finished and len(tokens) < 500:
            tokens += guide.forced()
            if not guide.finished:
                token = sampler(guide.mask(torch.randn(vocabulary.vocab_size, generator=generator)))
                guide.accept(token)
                tokens.append(token)
        text, [(name, arguments)] = read(markup, [vocabulary.tokenizer.decode(tokens, skip_special_tokens=False)])
        assert (text.strip(), name) == ("", "add")
        assert -9 <= json.loads(arguments)["a"] <= 9


# What the model is given

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é"}}}
HISTORY = [
    {"role": "system", "content": "Page 1."},
    {"role": "user", "content": "Add."},
    {"role": "assistant", "content": "Well.", "tool_calls": [CALL, CALL]},
    {"role": "tool", "content": "2", "tool_call_id": "1"},
    {"role": "tool", "content": "3", "tool_call_id": "1"},
    {"role": "assistant", "content": "5"},
]


def test_a_model_without_tools_is_told_of_them_after_the_system_message():
    messages, tools = messages_for(HERMES, HISTORY, TOOLS)
    assert tools is None
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant"]
    system, _, calls, results, _ = (message["content"] for message in messages)
    assert system.startswith("Page 1.\n\n")
    assert all(json.dumps(tool["function"], ensure_ascii=False) in system for tool in TOOLS)
    assert "<tool_call>" in system
    assert calls == "Well.\n" + hermes(*[("add", '{"a": 1, "b": "é"}')] * 2)
    assert results == "<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>"
    assert all(set(message) == {"role", "content"} for message in messages)


def test_without_a_system_message_one_is_made_and_without_tools_none():
    messages, _ = messages_for(HERMES, HISTORY[1:2], TOOLS)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages_for(HERMES, HISTORY[:2], None)[0] == HISTORY[:2]


def test_a_model_with_tools_is_given_them_as_its_template_wants():
    assert messages_for(ToolMarkup(native=True), HISTORY, TOOLS) == (HISTORY, TOOLS)
    messages, tools = messages_for(ToolMarkup(native=True, arguments_as_text=True), HISTORY, TOOLS)
    assert tools == TOOLS
    assert json.loads(messages[2]["tool_calls"][0]["function"]["arguments"]) == {"a": 1, "b": "é"}
    assert HISTORY[2]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": "é"}
