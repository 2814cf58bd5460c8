import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model import load_bert

TEXTS = [
    "Net sales rose by 16% to $192,052 million.",
    "Hello",
    "",
    "Ünïcödé, 北京, 👍 and\ttabs\nand lines",
    "The quick brown fox jumps over the lazy dog. " * 20,
    "word " * 1000,
    "a much longer sentence about the weather in a small town by the sea, where it rains in every month of the year",
]


@pytest.fixture(scope="module")
def bert(minilm):
    return load_bert(minilm, torch.float32)


@pytest.fixture(scope="module")
def reference(minilm):
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**json.loads((minilm / "config.json").read_text())), add_pooling_layer=False)
    weights = {k: v for k, v in load_file(minilm / "model.safetensors").items() if "pooler" not in k}
    missing = model.load_state_dict(weights, strict=False)
    assert not [key for key in missing.missing_keys if "position_ids" not in key]
    return model.eval()


@torch.inference_mode()
def test_hidden_states_equal_transformers_in_fp32(bert, reference):
    torch.manual_seed(0)
    ids = torch.randint(1000, 30000, (4, 37))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 20:] = False
    mask[2, 1:] = False
    ours = bert.forward(ids, mask)
    theirs = reference(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    difference = (ours - theirs)[mask].abs().max().item()
    assert difference <= 1e-5, f"largest difference {difference:.2e}"


@torch.inference_mode()
def test_vectors_equal_transformers_one_text_at_a_time(bert, reference, minilm):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    vectors = bert.encode(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        hidden = reference(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
        wanted = torch.nn.functional.normalize(hidden.mean(1), dim=-1)[0].numpy()
        assert np.abs(vector - wanted).max() <= 1e-5


def test_bf16_points_the_same_way(bert, minilm):
    if not torch.cpu._is_avx512_bf16_supported():
        pytest.skip("this CPU has no bf16 arithmetic")
    cosines = (bert.encode(TEXTS) * load_bert(minilm, torch.bfloat16).encode(TEXTS)).sum(1)
    assert cosines.min() >= 0.999, f"smallest cosine {cosines.min():.5f}"


def test_vectors_have_length_one_and_the_order_of_the_texts(bert):
    told = []
    vectors = bert.encode(TEXTS, batch_size=2, progress=lambda done, total: told.append((done, total)))
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert told[-1] == (len(TEXTS), len(TEXTS))
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.abs(bert.encode([text])[0] - vector).max() <= 2e-6  # padding and neighbours change nothing


def test_texts_are_cut_at_256_tokens(bert):
    np.testing.assert_allclose(bert.encode(["word " * 254]), bert.encode(["word " * 1000]), atol=1e-6)


def test_no_texts_make_no_vectors(bert):
    assert bert.encode([]).shape == (0, 384)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(ModelNotInstalledError, match="longleaf model pull minilm"):
        load_bert(tmp_path)


def test_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="roberta"):
        load_bert(tmp_path)
