import ctypes
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model import load_bert, native
from longleaf.model.bert import BertConfig, DenseEncoder, best_dtype
from longleaf.model.bert_kernels import Int8Encoder, _parts, is_supported

from .test_native import builds, use

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
def int8(minilm):
    if not is_supported(BertConfig.from_json(minilm / "config.json")):
        pytest.skip("the native kernels were not built")
    return load_bert(minilm, torch.int8)


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
    ours = bert.encoder.forward(ids, mask)
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


def test_int8_points_the_same_way_and_ranks_alike(bert, int8):
    dots = "Note 11. Transactions with related parties " + "." * 300 + " 29"  # a table of contents, hardest to round
    texts = [*TEXTS, dots, "Note 12. Events after the year " + "." * 200 + " 31"]
    exact, rounded = bert.encode(texts), int8.encode(texts)
    cosines = (exact * rounded).sum(1)
    assert cosines.min() >= 0.998, f"smallest cosine {cosines.min():.5f}"
    np.testing.assert_array_equal(
        np.argmax(exact @ exact.T - 2 * np.eye(9), 1), np.argmax(rounded @ exact.T - 2 * np.eye(9), 1)
    )


@pytest.mark.parametrize("kind", ["bert", "int8"])
def test_vectors_have_length_one_and_the_order_of_the_texts(kind, request):
    model, told = request.getfixturevalue(kind), []
    vectors = model.encode(TEXTS, batch_size=2, progress=lambda done, total: told.append((done, total)))
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.abs(model.encode([text])[0] - vector).max() <= 2e-6  # padding and neighbours change nothing


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


def test_another_dtype_is_refused(minilm):
    with pytest.raises(ValueError, match=r"torch\.float16"):
        load_bert(minilm, torch.float16)


def test_without_kernels_the_default_is_torch_and_int8_says_what_is_missing(minilm, monkeypatch):
    monkeypatch.setattr(native, "_library", lambda: None)
    assert best_dtype() in (torch.bfloat16, torch.float32)
    assert load_bert(minilm).dtype == best_dtype()
    with pytest.raises(ModelError, match="C compiler"):
        load_bert(minilm, torch.int8)


# The kernels of csrc/bert.c, in every build that this processor runs.

SHAPES = [(32, 2), (96, 2), (64, 2)]  # (D, H): heads of 16, 48 and 32 values


@pytest.fixture(params=builds())
def build(request, monkeypatch):
    use(request.param, monkeypatch)
    if not hasattr(native._lib(), "ll_bert_encode"):
        pytest.skip("this build is older than the sources; run: make install")


@pytest.fixture(params=[1, 3], ids=["1 thread", "3 threads"])
def threads(request) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def tiny(D: int, H: int) -> tuple[BertConfig, dict[str, Tensor]]:
    """A random encoder whose products are exact in int8, so that only activations are rounded."""
    config = BertConfig(
        d_model=D, n_layers=2, n_heads=H, d_ff=2 * D, vocab_size=50, max_positions=300, layer_norm_eps=1e-6
    )
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "embeddings.word_embeddings.weight": random(50, D),
        "embeddings.position_embeddings.weight": random(300, D),
        "embeddings.token_type_embeddings.weight": random(2, D),
    }
    norms = ["embeddings"]
    for layer in range(2):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output", f"{name}.output"]
        products = {"qkv": (3 * D, D), "attention.output.dense": (D, D), "intermediate.dense": (2 * D, D),
                    "output.dense": (D, 2 * D)}  # fmt: skip
        for part, shape in products.items():
            values = torch.randint(-127, 128, shape, generator=generator).float()
            values[:, ::32] = 127  # the largest of each group of 32: the scale is 1/512, exactly
            weights[f"{name}.{part}.weight"] = values / 512
            weights[f"{name}.{part}.bias"] = random(shape[0])
    for name in norms:
        weights[f"{name}.LayerNorm.weight"] = 1 + random(D) / 10
        weights[f"{name}.LayerNorm.bias"] = random(D) / 10
    return config, weights


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


@pytest.mark.parametrize(("D", "H"), SHAPES)
@pytest.mark.usefixtures("build", "threads")
def test_int8_equals_the_plain_encoder_but_for_rounded_activations(D, H):
    config, weights = tiny(D, H)
    generator = torch.Generator().manual_seed(1)
    tokens = [torch.randint(50, (length,), generator=generator).tolist() for length in (300, 65, 64, 7, 6, 2, 1, 1)]
    ours, plain = Int8Encoder(config, weights).vectors(tokens), DenseEncoder(config, weights).vectors(tokens)
    cosines = (ours * plain).sum(1)
    assert cosines.min() >= 0.9995, f"smallest cosine {cosines.min():.6f}"


@pytest.mark.parametrize("length", [1, 5, 6, 16, 64, 65, 130])
@pytest.mark.parametrize("head_dim", [16, 32, 48])
@pytest.mark.usefixtures("build")
def test_attention_kernel_equals_torch_in_fp64(length, head_dim):
    qkv = 2 * torch.randn(length, 3, 2, head_dim, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    ours = torch.full((length, 2, head_dim), torch.nan)
    sizes = (ctypes.c_int64(size) for size in (length, 2, head_dim))
    assert native._lib().ll_attend_text(pointer(qkv), pointer(ours), *sizes) == 0
    q, k, v = qkv.double().permute(1, 2, 0, 3)
    difference = (ours.transpose(0, 1) - F.scaled_dot_product_attention(q, k, v)).abs().max().item()
    tolerance = 3e-2 if native.instruction_set() == "avx512" else 2e-5  # weights in bf16 or fp32; values reach 8
    assert difference <= tolerance, f"largest difference {difference:.2e}"


@pytest.mark.usefixtures("build")
def test_gelu_kernel_equals_torch_in_fp64():
    x = torch.cat([torch.linspace(-12, 12, 4000), torch.tensor([0.0, -0.0, 1e-30, -1e-30, 80, -80, 1e4, -1e4] * 2)])
    ours = x.clone()
    native._lib().ll_gelu(pointer(ours), ctypes.c_int64(len(x)))
    torch.testing.assert_close(ours, F.gelu(x.double()).float(), rtol=1e-6, atol=1e-6)  # torch's own fp32 is no nearer


@pytest.mark.usefixtures("build")
def test_norm_kernel_equals_torch():
    x, delta = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(0)) * 3 + 100
    weight, bias = torch.randn(2, 48, generator=torch.Generator().manual_seed(1))
    expected = F.layer_norm(x + delta, (48,), weight, bias, 1e-6)
    native._lib().ll_add_layer_norm(
        pointer(x), pointer(delta), pointer(weight), pointer(bias), ctypes.c_int64(5), ctypes.c_int64(48),
        ctypes.c_float(1e-6),
    )  # fmt: skip
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-4)  # a mean of 200 costs digits in both


@pytest.mark.parametrize(
    ("tokens", "message"), [([[1], []], "0 to 1"), ([[1] * 301], "301"), ([[50]], "0 to 49"), ([[-1]], "-1")]
)
@pytest.mark.usefixtures("build")
def test_the_int8_encoder_refuses_what_would_read_beyond_its_tables(tokens, message):
    encoder = Int8Encoder(*tiny(32, 2))
    with pytest.raises(ValueError, match=message):
        encoder.vectors(tokens)


@pytest.mark.usefixtures("build")
def test_weights_of_another_shape_than_the_config_are_refused():
    config, weights = tiny(32, 2)
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:49]
    with pytest.raises(ModelError, match=r"\(49, 32\).*\(50, 32\)"):
        Int8Encoder(config, weights)


def test_parts_hold_every_text_once_and_no_more_tokens_than_one_thread_should_take():
    lengths = [256, 200, 100, 90, 60, 3, 2, 1]  # 712 tokens, in four parts or more: at most 178 in one with neighbours
    parts = _parts(lengths, 1).tolist()
    assert parts == [0, 1, 2, 3, 8]
    assert _parts([10] * 20, 16).tolist() == [0, 3, 6, 9, 12, 15, 18, 20]
    assert _parts([5], 2).tolist() == [0, 1]
