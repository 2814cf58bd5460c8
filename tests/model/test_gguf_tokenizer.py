"""The tokenizer derived from a GGUF against llama.cpp's own (over a Unix socket) and transformers' conversion."""

import json
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from longleaf.errors import ModelError
from longleaf.model.gguf_tokenizer import build_tokenizer, load_tokenizer, tokenizer_path

TEXTS = [
    "Hello world",
    "In fiscal 2021, net sales were $192,052 million (16.1%).",
    "| Year | Net sales |\n|------|----------:|\n| 2021 |   192,052 |\n| 2020 |   163,220 |\n",
    "  leading and trailing  \n\n\n  blank lines \t tabs \r\n windows ",
    "def f(x):\n    return x ** 2  # don't, we'll, I'M\n",
    "Ünïcödé naïve café – “quotes” … 北京市 東京 한국어 العربية हिन्दी 👍🏽👨‍👩‍👧",
    "x" * 300,
    "1234567890 3.14159 1e-10 ² ½ Ⅷ ٣",
    "<|im_start|>system\nobey<|im_end|> <tool_call> [PAD151665]",
    "\u00a0\u2003\u3000 \ufeff \u200b",
    "",
]


@pytest.fixture(scope="module", params=["smollm2", "qwen"])
def both(request, llama_cpp_server):
    path = request.getfixturevalue(request.param)
    return load_tokenizer(path), llama_cpp_server(path).tokenize


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_those_of_llama_cpp(both, text):
    tokenizer, llama_cpp = both
    assert tokenizer.encode(text).ids == llama_cpp(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(  # without control characters: SmolLM2 lacks some, and llama.cpp does not join what a missing one parts
        st.characters(max_codepoint=0x17F, exclude_categories=["Cc"]) | st.sampled_from(" \n\t\r'0123456789,.$%|-"),
        max_size=60,
    )
)
def test_ids_equal_those_of_llama_cpp_on_any_text(both, text):
    tokenizer, llama_cpp = both
    assert tokenizer.encode(text).ids == llama_cpp(text)


def test_decoding_gives_the_text_back(both):
    tokenizer, _ = both
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_control_tokens_are_read_as_such_only_on_demand(both):
    tokenizer, llama_cpp = both
    text = "<|im_start|>user\nHello<|im_end|>"
    assert tokenizer.token_to_id("<|im_end|>") not in tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = False
    try:
        assert tokenizer.encode(text).ids == llama_cpp(text, parse_special=True)
    finally:
        tokenizer.encode_special_tokens = True


def test_decomposed_text_is_composed_first_as_the_model_was_trained(qwen):
    tokenizer = load_tokenizer(qwen)
    assert tokenizer.encode("cafe\u0301").ids == tokenizer.encode("café").ids


def tiny_gguf(path: Path, pre: str = "qwen2", model: str = "gpt2") -> Path:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["a", "b", "ab", "<|im_start|>", "<|im_end|>", "[PAD5]"])
    writer.add_token_types([1, 1, 1, 3, 3, 5])
    writer.add_token_merges(["a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_it_is_kept_beside_the_gguf_and_made_again_when_missing_damaged_or_old(tmp_path):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    kept = tokenizer_path(path)
    assert load_tokenizer(path).encode("ab").ids == [2]
    assert kept.is_file()
    kept.write_text("{")
    assert load_tokenizer(path).encode("ab").ids == [2]
    json.loads(kept.read_text())
    os.utime(kept, (1, 1))
    load_tokenizer(path)
    assert kept.stat().st_mtime > 1
    assert list(tmp_path.glob("*.part")) == []


def test_unused_slots_are_no_tokens(tmp_path):
    assert load_tokenizer(tiny_gguf(tmp_path / "tiny.gguf")).token_to_id("[PAD5]") is None


@pytest.mark.parametrize(("pre", "model"), [("deepseek-llm", "gpt2"), ("default", "t5"), ("default", "llama")])
def test_another_kind_is_refused_by_name(tmp_path, pre, model):
    with pytest.raises(ModelError, match=f"{model}/{pre}"):
        build_tokenizer(tiny_gguf(tmp_path / "tiny.gguf", pre, model))


CORPUS = [*TEXTS[:6], "the cat sat on the mat; the other cats sat and sang. In 2021 sales rose, then fell. Aaa aaaa"]
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]


def write_sentencepiece(path: Path, scores: str = "falling", space_prefix: bool = False) -> Path:
    """A GGUF with a small SentencePiece vocabulary and the weights of a model of one layer, for llama.cpp to load."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    learner.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=300, show_progress=False))
    learned = [token for token in sorted(learner.get_vocab(), key=learner.token_to_id) if not set(token) & set("½Ⅷ한")]
    merged = [token for token in learned if len(token) > 1]
    single = [token for token in learned if len(token) == 1]  # what is in neither is left to bytes
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *merged, *single, "<tool_call>", "[PAD]"]
    types = [2, 3, 3, 3, *[6] * 256, *[1] * len(merged + single), 4, 5]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([-1000.0 if scores == "equal" else -float(token_id) for token_id in range(len(tokens))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(space_prefix)
    for key in ("context_length", "embedding_length", "feed_forward_length"):
        writer.add_uint32(f"llama.{key}", 32)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(16)
    for name, rows in {"token_embd": len(tokens), "output": len(tokens)}.items():
        writer.add_tensor(f"{name}.weight", np.zeros((rows, 32), np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((32, 32), np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=[False, True], ids=["no space prefix", "space prefix"])
def sentencepiece(request, tmp_path_factory, llama_cpp_server):
    folder = tmp_path_factory.mktemp("sentencepiece")
    path = write_sentencepiece(folder / "tiny.gguf", space_prefix=request.param)
    return load_tokenizer(path), llama_cpp_server(path).tokenize


@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_ids_equal_those_of_llama_cpp(sentencepiece, text):
    tokenizer, llama_cpp = sentencepiece
    assert tokenizer.encode(text).ids == llama_cpp(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("aht ecs.\n2½👍<>"), max_size=40))
def test_sentencepiece_ids_equal_those_of_llama_cpp_on_any_text(sentencepiece, text):
    tokenizer, llama_cpp = sentencepiece
    assert tokenizer.encode(text).ids == llama_cpp(text)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_sentencepiece_ids_equal_those_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    path = write_sentencepiece(tmp_path / "tiny.gguf", space_prefix=True)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    ours = load_tokenizer(path)
    for text in TEXTS:
        if not text.startswith(" ") and "<" not in text:  # they add no second space, and read control tokens
            assert ours.encode(text).ids == theirs.encode(text, add_special_tokens=False), text


def test_where_all_scores_are_equal_the_order_of_learning_decides(tmp_path):
    scored = load_tokenizer(write_sentencepiece(tmp_path / "scored.gguf"))
    equal = load_tokenizer(write_sentencepiece(tmp_path / "equal.gguf", scores="equal"))
    for text in TEXTS:
        assert equal.encode(text).ids == scored.encode(text).ids


def test_sentencepiece_control_bytes_and_unused_slots_are_not_spelled_by_text(tmp_path):
    tokenizer = load_tokenizer(write_sentencepiece(tmp_path / "tiny.gguf"))
    ids = tokenizer.encode("<s></s><unk><|im_end|><0x41>[PAD]").ids
    assert not {0, 1, 2, 3, tokenizer.token_to_id("<0x41>")} & set(ids)
    assert tokenizer.token_to_id("[PAD]") is None
    assert tokenizer.encode("<tool_call>").ids == [tokenizer.token_to_id("<tool_call>")]


def test_llama_3_numbers_go_by_three_digits_and_whole_words_come_first(tmp_path):
    writer = gguf.GGUFWriter(str(tmp_path / "tiny.gguf"), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(["1", "2", "12", "21", "121", "a", "b", "aba"])
    writer.add_token_types([1] * 8)
    writer.add_token_merges(["1 2", "2 1", "12 1", "1 21"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = load_tokenizer(tmp_path / "tiny.gguf")
    assert tokenizer.encode("12112").tokens == ["121", "12"]
    assert tokenizer.encode("aba").tokens == ["aba"]  # though no merge leads there


def test_a_file_that_is_no_gguf_is_a_model_error(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a readable GGUF"):
        build_tokenizer(tmp_path / "x.gguf")
