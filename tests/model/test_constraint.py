"""Constraints on real tokenizers, without weights: random logits may choose anything, and the answer still fits."""

import json
import re
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from longleaf.errors import ModelError
from longleaf.model.constraint import AnswerGuide, Constraint, TokenVocabulary
from longleaf.model.gguf_tokenizer import load_tokenizer
from longleaf.model.sampling import Sampler, SamplingOptions

ENDS = {0, 1}
CONTROL = ["<|end|>", "<|bos|>", "<|user|>"]
LETTERS = 'say yes or no, the year was 1998 and é北 is fine {}[]":,.-0123456789truefalsenull\n'


def byte_level(*more_control: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=[*CONTROL, *more_control], show_progress=False
    )
    tokenizer.train_from_iterator([LETTERS, '{"name": "x"}, {"name": "y"}'], trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As `gguf_tokenizer` builds Jamba's: pieces with ▁ for blanks, bytes for what has no piece."""
    pieces = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁yes", *sorted(set(LETTERS) - {" ", "\n"})]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], byte_fallback=True, fuse_unk=True)
    )
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


VOCABULARIES = {
    name: TokenVocabulary(make(), ENDS, vocab_size=make().get_vocab_size() + 7)  # as if the embedding were padded
    for name, make in (("byte-level", byte_level), ("sentencepiece", sentencepiece))
}


def write(guide: AnswerGuide, vocabulary: TokenVocabulary, seed: int, max_tokens: int = 3000) -> tuple[list[int], bool]:
    """Tokens of an answer by dice, and whether it came to its end."""
    generator = torch.Generator().manual_seed(seed)
    sampler, tokens = Sampler(SamplingOptions(temperature=1.0, seed=seed)), []
    for _ in range(max_tokens):
        forced = guide.forced()
        tokens += forced
        if guide.finished:
            return tokens, True
        token = sampler(guide.mask(3 * torch.randn(vocabulary.vocab_size, generator=generator)))
        if token in ENDS:
            return tokens, True
        guide.accept(token)
        tokens.append(token)
    return tokens, False


class Part(BaseModel):
    """A part, with parts of its own."""

    name: str = Field(max_length=5)
    kind: Literal["screw", "é北"]
    weight: float | None = Field(ge=-10, lt=10)
    fixed: bool
    ids: list[int] = Field(max_length=2)
    parts: list["Part"] = Field(max_length=1)


@pytest.mark.parametrize("name", VOCABULARIES)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_whatever_the_model_wants_the_json_fits_the_schema(name, seed):
    vocabulary = VOCABULARIES[name]
    tokens, ended = write(vocabulary.guide(Constraint.json_schema(Part.model_json_schema())), vocabulary, seed)
    text = vocabulary.tokenizer.decode(tokens)
    if ended:  # dice may open parts within parts for ever
        part = Part.model_validate_json(text)
        assert set(json.loads(text)) == set(Part.model_fields)
        assert part.weight is None or -10 <= part.weight < 10


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("pattern", [r"yes|no", r"[0-9]{4}/[0-9]{2}", r"\d+ (?:é|北)\n"])
def test_text_fits_the_pattern_as_a_whole(name, pattern):
    vocabulary = VOCABULARIES[name]
    for seed in range(5):
        tokens, ended = write(vocabulary.guide(Constraint.regex(pattern)), vocabulary, seed)
        assert ended
        assert re.fullmatch(pattern, vocabulary.tokenizer.decode(tokens))


def test_a_grammar_of_ones_own():
    vocabulary = VOCABULARIES["byte-level"]
    constraint = Constraint.lark('start: "page " number ("," number)*\nnumber: /[1-9]/')
    texts = {vocabulary.tokenizer.decode(write(vocabulary.guide(constraint), vocabulary, seed)[0]) for seed in range(6)}
    assert all(re.fullmatch(r"page [1-9](,[1-9])*", text) for text in texts)
    assert len(texts) > 1


def allowed(guide: AnswerGuide, vocabulary: TokenVocabulary) -> set[int]:
    return set(torch.isfinite(guide.mask(torch.zeros(vocabulary.vocab_size))).nonzero().flatten().tolist())


def feed(guide: AnswerGuide, vocabulary: TokenVocabulary, text: str) -> None:
    for token in vocabulary.tokenizer.encode(text, add_special_tokens=False).ids:
        logits = guide.mask(torch.zeros(vocabulary.vocab_size))
        assert torch.isfinite(logits[token]), (text, vocabulary.tokenizer.id_to_token(token))
        guide.accept(token)


def test_an_answer_may_end_where_it_is_complete_and_only_there():
    vocabulary = VOCABULARIES["byte-level"]
    guide = vocabulary.guide(Constraint.regex("[0-9]{2,3}"))
    for text, may_end, finished in (("1", False, False), ("9", True, False), ("8", None, True)):
        feed(guide, vocabulary, text)
        if may_end is not None:
            assert (allowed(guide, vocabulary) >= ENDS) is may_end
        assert guide.finished is finished


def test_forced_tokens_are_those_that_dice_would_give_and_no_end():
    vocabulary = VOCABULARIES["byte-level"]
    guide = vocabulary.guide(Constraint.lark('start: "say yes" /[0-9]/ " or no"'))
    assert vocabulary.tokenizer.decode(guide.forced()) == "say yes"
    feed(guide, vocabulary, "7")
    assert vocabulary.tokenizer.decode(guide.forced()) == " or no"
    assert guide.finished
    assert guide.forced() == []


def test_thinking_is_free_but_may_not_end_the_answer():
    tokenizer = byte_level("<think>", "</think>")
    vocabulary = TokenVocabulary(tokenizer, ENDS, tokenizer.get_vocab_size())
    think, close, user = (vocabulary.tokenizer.token_to_id(tag) for tag in ("<think>", "</think>", "<|user|>"))
    for prompt_opens in (True, False):
        guide = vocabulary.guide(Constraint.regex("yes|no"), in_reasoning=prompt_opens)
        if not prompt_opens:
            assert think in allowed(guide, vocabulary)
            assert user not in allowed(guide, vocabulary)
            guide.accept(think)
        assert guide.forced() == []
        free = allowed(guide, vocabulary)
        assert free == set(range(vocabulary.vocab_size)) - ENDS
        feed(guide, vocabulary, "the year")
        guide.accept(close)
        assert think not in allowed(guide, vocabulary)
        assert write(guide, vocabulary, 1)[1]


def test_a_closing_tag_of_several_tokens_ends_the_thinking_too():
    tokenizer = byte_level()
    vocabulary = TokenVocabulary(tokenizer, ENDS, tokenizer.get_vocab_size())
    guide = vocabulary.guide(Constraint.regex("[0-9]"), in_reasoning=True)
    feed(guide, vocabulary, "fine</think>")
    assert {tokenizer.decode([token]) for token in allowed(guide, vocabulary)} <= set("0123456789")


def test_control_tokens_are_no_text():
    vocabulary = VOCABULARIES["byte-level"]
    guide = vocabulary.guide(Constraint.json_schema({"type": "string"}))
    feed(guide, vocabulary, '"a')
    control = {vocabulary.tokenizer.token_to_id(tag) for tag in CONTROL}
    assert not allowed(guide, vocabulary) & control


JSON_CASES = [
    # schema, JSON that may be written, JSON that may not
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, ["{}", '{"a": 1}'], ['{"b": 1}', '{"a": "x"}']),
    (
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
        ['{"a": 1, "b": [true]}'],
        ['{"a": "x"}'],
    ),
    ({"type": "object"}, ["{}", '{"a": {"b": null}}'], ["1", '{"a":1}', '{ "a": 1}']),
    ({"enum": ["a", 2]}, ['"a"', "2", ' "a"', '\n\n"a"'], ['"b"', "\n\n\n2"]),
    ({"oneOf": [{"const": 1}, {"const": 2}]}, ["1", "2"], ["3"]),
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, ["[1, 1]"], ["[1,1]", "[true]"]),
    ({"type": "string", "pattern": "^(?!x)y*$"}, ['"yy"', '"x"'], ["1"]),
    (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
            ]
        },
        ['{"a": 1, "b": 2}'],
        ['{"b": 2}'],
    ),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}}, ["true"], ["null"]),
]


def may_be_written(constraint: Constraint, vocabulary: TokenVocabulary, text: str) -> bool:
    guide = vocabulary.guide(constraint)
    for token in vocabulary.tokenizer.encode(text, add_special_tokens=False).ids:
        if token not in allowed(guide, vocabulary):
            return False
        guide.accept(token)
    return guide.finished or allowed(guide, vocabulary) >= ENDS


@pytest.mark.parametrize(("schema", "fits", "does_not"), JSON_CASES)
def test_what_a_schema_lets_through(schema, fits, does_not):
    before = json.dumps(schema)
    constraint = Constraint.json_schema(schema)
    assert json.dumps(schema) == before
    vocabulary = VOCABULARIES["byte-level"]
    assert [may_be_written(constraint, vocabulary, text) for text in fits] == [True] * len(fits)
    assert [may_be_written(constraint, vocabulary, text) for text in does_not] == [False] * len(does_not)


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint.json_schema({"type": "strin"}), "strin"),
        (Constraint.json_schema({"$ref": "#/x"}), "/x"),
        (Constraint.json_schema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum"),
        (Constraint.regex("(?=a)b"), "look-around"),
        (Constraint.lark("start: other"), "other"),
    ],
)
def test_a_constraint_that_nothing_fits_or_nobody_understands(constraint, reason):
    with pytest.raises(ValueError, match=rf"(?s)held to this constraint.*{reason}") as caught:
        VOCABULARIES["byte-level"].guide(constraint)
    assert "<state>" not in str(caught.value)


def test_a_token_that_was_not_allowed_is_an_error():
    vocabulary = VOCABULARIES["byte-level"]
    guide = vocabulary.guide(Constraint.regex("yes"))
    with pytest.raises(ModelError, match="held to its constraint"):
        guide.accept(vocabulary.tokenizer.encode("no").ids[0])


@pytest.mark.parametrize("fixture", ["smollm2", "qwen"])
def test_the_embedded_models_tokens_spell_what_llguidance_thinks(fixture, request):
    tokenizer = load_tokenizer(request.getfixturevalue(fixture))
    end = tokenizer.token_to_id("<|im_end|>")
    vocabulary = TokenVocabulary(tokenizer, {end}, tokenizer.get_vocab_size())
    value = {"setup": 'Why did é北\U0001f600 cross "it"?\n', "n": -3, "tags": ["a", "ç北"], "none": None}
    schema = {
        "type": "object",
        "properties": {
            "setup": {"type": "string"},
            "n": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["a", "ç北"]}},
            "none": {"type": "null"},
        },
    }
    guide = vocabulary.guide(Constraint.json_schema(schema))
    feed(guide, vocabulary, json.dumps(value, ensure_ascii=False))
    assert guide.finished
