"""Plans against published numbers, transformers' own modules, and what a state really holds."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longleaf.model.config import DecoderConfig
from longleaf.model.loading import load_model
from longleaf.model.plan import DTYPE_BYTES, count_parameters, kv_bytes_per_token, largest_context, plan_memory
from longleaf.model.public_models import PUBLIC_MODELS
from longleaf.model.state import DecoderState

GIB, MIB = 2**30, 2**20
K = 1024

TINY = {
    "jamba": {
        "model_type": "jamba", "vocab_size": 48, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "attn_layer_period": 3, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "num_experts_per_tok": 2,
        "mamba_dt_rank": 5, "pad_token_id": 0,
    },
    "dense jamba": {
        "model_type": "jamba", "vocab_size": 48, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 1, "attn_layer_period": 4, "attn_layer_offset": 2,
        "num_experts": 1, "tie_word_embeddings": True, "pad_token_id": 0,
    },
    "mamba": {
        "model_type": "mamba", "vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 8,
        "conv_kernel": 3,
    },
    "qwen2": {
        "model_type": "qwen2", "vocab_size": 48, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "mixtral": {
        "model_type": "mixtral", "vocab_size": 48, "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2,
    },
}  # fmt: skip


def config(name: str) -> DecoderConfig:
    return PUBLIC_MODELS[name].config


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("jamba-v0.1", 51_570_323_328, 12_110_311_296),
        ("jamba2-mini", 51_570_323_328, 12_110_311_296),
        ("jamba-1.5-large", 398_555_145_696, 94_149_338_592),
        ("jamba2-3b", 3_197_109_632, 3_197_109_632),
        ("jamba-tiny-dev", 318_688_640, 167_693_696),
        ("mamba-130m", 129_135_360, 129_135_360),
        ("llama-2-7b", 6_738_415_616, 6_738_415_616),
        ("mistral-7b", 7_241_732_096, 7_241_732_096),
        ("mixtral-8x7b", 46_702_792_704, 12_879_925_248),
        ("qwen2.5-1.5b", 1_543_714_304, 1_543_714_304),
        ("qwen2.5-0.5b", 494_032_768, 494_032_768),
        ("smollm2-135m", 134_515_008, 134_515_008),
    ],
)
def test_public_models_have_their_published_parameters(name, total, active):
    counts = count_parameters(config(name))
    assert (counts.total, counts.active) == (total, active)


def test_the_split_of_mini_and_the_tied_3b():
    mini = count_parameters(config("jamba2-mini"))
    assert (round(mini.experts / 1e9, 2), round(mini.dense / 1e9, 2), round(mini.mamba / 1e9, 2)) == (45.10, 2.82, 2.95)
    tied = count_parameters(replace(config("jamba2-3b"), tie_embeddings=True))
    assert (tied.total, tied.output) == (3_029_337_472, 0)


@pytest.mark.parametrize("name", TINY)
def test_parameters_are_those_of_transformers_modules(name):
    from transformers import AutoConfig, AutoModelForCausalLM

    theirs = AutoConfig.for_model(**TINY[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(theirs)
    counts = count_parameters(DecoderConfig.from_hf(theirs.to_dict() | {"model_type": theirs.model_type}))
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    norms = [parameter for part, parameter in model.named_parameters() if "norm" in part]
    assert counts.norms == sum(parameter.numel() for parameter in norms)


@pytest.mark.parametrize(
    ("name", "gib"), [("llama-2-7b", 128), ("mistral-7b", 32), ("mixtral-8x7b", 32), ("jamba-v0.1", 4)]
)
def test_keys_and_values_at_256k_are_the_jamba_papers(name, gib):
    assert plan_memory(config(name), 256 * K).kv_bytes == gib * GIB


@pytest.mark.parametrize(
    ("name", "kv_per_token", "ssm_mib", "conv_mib"),
    [
        ("jamba2-mini", 16_384, 14.0, 1.3125),
        ("jamba-1.7-large", 36_864, 63.0, 5.90625),
        ("jamba2-3b", 1_024, 8.125, 0.76171875),
        ("jamba-tiny-dev", 1_024, 0.875, 0.08203125),
    ],
)
@pytest.mark.parametrize("tokens", [4 * K, 64 * K, 256 * K])
def test_a_reading_has_its_known_size(name, kv_per_token, ssm_mib, conv_mib, tokens):
    plan = plan_memory(config(name), tokens)
    assert (plan.ssm_bytes / MIB, plan.conv_bytes / MIB) == (ssm_mib, conv_mib)
    assert plan.state_bytes == kv_per_token * tokens + plan.ssm_bytes + plan.conv_bytes


def test_readings_of_256k_tokens_are_265_mib_and_4_gib():
    assert plan_memory(config("jamba2-3b"), 256 * K).state_bytes / MIB == pytest.approx(264.887, abs=1e-3)
    assert plan_memory(config("jamba2-mini"), 256 * K).state_bytes / GIB == pytest.approx(4.015, abs=1e-3)
    assert plan_memory(config("jamba-1.7-large"), 256 * K).state_bytes / GIB == pytest.approx(9.067, abs=1e-3)


def test_a_plan_agrees_with_the_state_that_a_decoder_makes():
    shape = DecoderConfig.from_hf(TINY["jamba"])
    state = DecoderState.empty(shape, "", torch.bfloat16, torch.bfloat16, torch.device("cpu"))
    for layer in shape.attention_layers:
        keys = torch.zeros(7, shape.n_kv_heads, shape.head_dim, dtype=torch.bfloat16)
        state.layers[layer].append(keys, keys)
    assert state.nbytes == plan_memory(shape, 7).state_bytes


@pytest.mark.parametrize("quantize", [None, "int8", "int8-experts"])
@pytest.mark.parametrize("name", TINY)
def test_weights_are_what_a_loaded_decoder_holds(name, quantize, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.for_model(**TINY[name])).save_pretrained(tmp_path)
    for dtype in ("bf16", "fp32"):
        model = load_model(tmp_path, dtype=torch.bfloat16 if dtype == "bf16" else torch.float32, quantize=quantize)
        shape = model.config
        embedding = 0 if shape.tie_embeddings else shape.vocab_size * shape.d_model * DTYPE_BYTES[dtype]
        assert plan_memory(shape, 1, dtype, quantize).weights_bytes == model.nbytes + embedding


def test_weights_of_the_checkpoints_are_their_files_sizes():
    # 6,394,271,296 bytes in two files: the weights in bf16 and headers of some KB. We hold five tensors in fp32.
    counted = 2 * count_parameters(config("jamba2-3b")).total
    assert 0 < 6_394_271_296 - counted < 100_000
    held_in_fp32 = 26 * 5120 * (16 + 2 + 4 + 1)
    assert plan_memory(config("jamba2-3b"), 1).weights_bytes == counted + 2 * held_in_fp32


@pytest.mark.parametrize(
    ("name", "quantize", "gb"),
    [
        ("jamba2-mini", None, 103.1),
        ("jamba2-mini", "int8-experts", 58.0),
        ("jamba2-mini", "int8", 51.6),
        ("jamba-1.7-large", "int8-experts", 449),
        ("jamba-1.7-large", "int8", 399),
        ("jamba-tiny-dev", "int8-experts", 0.44),
    ],
)
def test_quantised_weights_are_near_the_rounded_figures(name, quantize, gb):
    # The figures are without scales, and "int8" there includes the embedding and the small products.
    assert plan_memory(config(name), 1, quantize=quantize).weights_bytes / 1e9 == pytest.approx(gb, rel=0.01)


def test_int8_is_a_byte_per_weight_and_a_scale_per_row():
    shape = DecoderConfig.from_hf(TINY["qwen2"])  # d_model 32, d_ff 24, 2 kv heads of 8
    plain, int8 = (plan_memory(shape, 1, quantize=kind).weights_bytes for kind in (None, "int8"))
    matrices = [(32, 32), (16, 32), (16, 32), (32, 32), (24, 32), (24, 32), (32, 24)] * 2
    matrices += [(48, 32)]  # the output matrix
    assert plain - int8 == sum(rows * columns - 4 * rows for rows, columns in matrices)
    assert plan_memory(shape, 1, quantize="int8-experts").weights_bytes == plain


@given(
    name=st.sampled_from(list(TINY)),
    memory=st.integers(0, 3_000_000),
    chunk_tokens=st.integers(1, 600),
    quantize=st.sampled_from([None, "int8", "int8-experts"]),
    most=st.sampled_from([None, 1, 100, 5000]),
)
def test_the_largest_context_fits_and_one_token_more_does_not(name, memory, chunk_tokens, quantize, most):
    shape = replace(DecoderConfig.from_hf(TINY[name]), max_context_tokens=most)
    options = {"chunk_tokens": chunk_tokens, "quantize": quantize}
    tokens, limited_by = largest_context(shape, memory, **options)
    if tokens is None:
        assert (name, most) == ("mamba", None)
        assert plan_memory(shape, 10**9, **options).total_bytes <= memory
        return
    if tokens:
        assert plan_memory(shape, tokens, **options).total_bytes <= memory
    if limited_by == "model":
        assert tokens == most
    else:
        assert plan_memory(shape, tokens + 1, **options).total_bytes > memory


def test_the_workspace_follows_the_chunk_and_not_the_context():
    mamba = config("mamba-130m")
    assert plan_memory(mamba, 4 * K).workspace_bytes == plan_memory(mamba, 256 * K).workspace_bytes
    assert plan_memory(mamba, 4 * K, chunk_tokens=128).workspace_bytes < plan_memory(mamba, 4 * K).workspace_bytes
    # With attention, fused kernels read one layer's keys and values joined: a share of the cache, not a multiple.
    mini = plan_memory(config("jamba2-mini"), 256 * K)
    assert mini.kv_bytes / 4 <= mini.workspace_bytes < mini.kv_bytes / 3


def test_dtypes_count():
    shape = config("jamba2-3b")
    assert kv_bytes_per_token(shape, "fp32") == 2 * kv_bytes_per_token(shape)
    wide, narrow = plan_memory(shape, 100, "fp32", kv_dtype="fp32"), plan_memory(shape, 100)
    assert wide.weights_bytes == 4 * count_parameters(shape).total
    assert (wide.conv_bytes, wide.ssm_bytes) == (2 * narrow.conv_bytes, narrow.ssm_bytes)
    assert plan_memory(shape, 100, weights_bytes=5).weights_bytes == 5


@pytest.mark.parametrize(
    "options",
    [{"dtype": "fp16"}, {"kv_dtype": "int4"}, {"quantize": "int4"}, {"chunk_tokens": 0}, {"context_tokens": 0}],
)
def test_what_can_not_be_planned_is_refused(options):
    with pytest.raises(ValueError, match=r"fp16|int4|at least 1"):
        plan_memory(config("jamba2-3b"), **{"context_tokens": 1} | options)


def test_public_models_are_complete():
    assert next(iter(PUBLIC_MODELS)) == "jamba2-3b"
    for name, model in PUBLIC_MODELS.items():
        assert model.name == name
        assert model.repo.count("/") == 1
        assert model.gated is (model.licence != "Apache-2.0")
        assert model.config.max_context_tokens or name == "mamba-130m"
