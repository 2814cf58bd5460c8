"""The tokenizer derived from a GGUF against llama.cpp's own (over a Unix socket) and transformers' conversion."""

import json
import os
from pathlib import Path

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
@given(st.text(st.characters(max_codepoint=0x17F) | st.sampled_from(" \n\t\r'0123456789,.$%|-"), max_size=60))
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


@pytest.mark.parametrize(("pre", "model"), [("deepseek-llm", "gpt2"), ("default", "llama")])
def test_another_kind_is_refused_by_name(tmp_path, pre, model):
    with pytest.raises(ModelError, match=f"{model}/{pre}"):
        build_tokenizer(tiny_gguf(tmp_path / "tiny.gguf", pre, model))


def test_a_file_that_is_no_gguf_is_a_model_error(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match="not a readable GGUF"):
        build_tokenizer(tmp_path / "x.gguf")
