"""Text as it is written: whole characters only, nothing of a stop string, reasoning apart from the answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from longleaf.model.text_stream import ReasoningSplitter, TextStream

CORPUS = ["the end of the text, then the next. naïve 北京 👍🏽", "<stop> stops here; the stopper", "a aa aaa"]
STOPS = st.lists(
    st.sampled_from(["", "the", "stop", "<stop>", "e e", "aa", "aab", "t t", "👍", "ï", "\ufffd"]), max_size=3
)


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>", "<think>", "</think>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """With "▁", bytes for what is no token, and a space in front that decoding takes away again."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)}
    for token in ["▁", "t", "h", "e", "th", "the", "▁the", "n", "d", "s", "o", "p", "▁s", "a", "aa", "<", ">"]:
        vocab[token] = len(vocab)
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("▁", "s"), ("a", "a")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


BYTE_LEVEL, SENTENCEPIECE = byte_level(), sentencepiece()


def pieces(tokenizer: Tokenizer, ids: list[int], stop: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(tokenizer, stop)
    texts = [stream.feed(token_id) for token_id in ids]
    return [*texts, stream.flush()], stream.stopped


def first_stop(text: str, stop: list[str]) -> str | None:
    """The text before the stop string that is complete first; of two that end together, the longer."""
    for end in range(len(text) + 1):
        found = [string for string in stop if string and text[:end].endswith(string)]
        if found:
            return text[: end - max(map(len, found))]
    return None


def check(tokenizer: Tokenizer, ids: list[int], stop: list[str]) -> None:
    """Equality with the whole says too that nothing of a later stop string was ever shown."""
    whole = tokenizer.decode(ids)
    expected = first_stop(whole, stop)
    texts, stopped = pieces(tokenizer, ids, stop)
    assert "".join(texts) == (whole if expected is None else expected)
    assert stopped == (expected is not None)


@given(st.lists(st.integers(3, 299) | st.just(0), max_size=30), STOPS)
def test_pieces_make_the_whole_text_up_to_the_first_stop_string_for_any_tokens(ids, stop):
    check(BYTE_LEVEL, ids, stop)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCEPIECE])
@given(st.text(st.sampled_from("thesopnda <>ï北👍\ufffd"), max_size=30), STOPS)
def test_pieces_make_the_whole_text_up_to_the_first_stop_string_for_any_text(tokenizer, text, stop):
    check(tokenizer, tokenizer.encode(text).ids, stop)


def test_text_is_shown_as_soon_as_it_is_whole():
    ids = BYTE_LEVEL.encode("éß").ids
    assert len(ids) == 4
    assert pieces(BYTE_LEVEL, ids, [])[0] == ["", "é", "", "ß", ""]


def test_a_character_cut_off_by_the_end_is_marked():
    ids = BYTE_LEVEL.encode("a👍").ids[:-1]
    assert "".join(pieces(BYTE_LEVEL, ids, [])[0]) == "a\ufffd"


def test_a_stop_string_is_held_back_across_tokens_and_given_out_when_it_is_none():
    stream = TextStream(BYTE_LEVEL, ["zqz"])
    z, q, a = (BYTE_LEVEL.token_to_id(letter) for letter in "zqa")
    assert [stream.feed(token_id) for token_id in (z, q, a)] == ["", "", "zqa"]
    assert [stream.feed(token_id) for token_id in (a, z, q, z, a)] == ["a", "", "", "", ""]
    assert stream.stopped
    assert stream.flush() == ""


def test_control_tokens_are_silent_but_the_tags_of_reasoning_are_not():
    ids = [BYTE_LEVEL.token_to_id(token) for token in ("<think>", "a", "</think>", "<|end|>", "e")]
    assert "".join(pieces(BYTE_LEVEL, ids, [])[0]) == "<think>a</think>e"


def test_a_token_without_text_does_not_swallow_the_space_after_it():
    the, unused = SENTENCEPIECE.token_to_id("▁the"), 5000
    assert "".join(pieces(SENTENCEPIECE, [the, unused, the], [])[0]) == "the the"


def split(texts: list[str], starts_in_reasoning: bool = False) -> dict[str, str]:
    splitter = ReasoningSplitter(starts_in_reasoning)
    found = {"reasoning": "", "text": ""}
    for kind, text in [pair for piece in texts for pair in splitter.feed(piece)] + splitter.flush():
        assert text
        found[kind] += text
    return found


@given(st.data())
def test_reasoning_is_split_the_same_however_the_text_is_cut(data):
    reply = "a<b<think>x</thin>y<think</think>c</think>d<think>z"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    texts = [reply[start:end] for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert split(texts) == {"reasoning": "x</thin>y<thinkz", "text": "a<bc</think>d"}


def test_the_prompt_may_have_opened_the_reasoning():
    assert split(["why", "</th", "ink>\n\nbecause"], starts_in_reasoning=True) == {
        "reasoning": "why",
        "text": "\n\nbecause",
    }


def test_a_tag_that_never_ends_is_given_out_at_the_end():
    assert split(["a <thi"]) == {"reasoning": "", "text": "a <thi"}
    assert split(["a </thi"], starts_in_reasoning=True) == {"reasoning": "a </thi", "text": ""}
