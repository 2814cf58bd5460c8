"""Configs as the hub has them, and the defaults of transformers' own configurations for what they leave out."""

import contextlib
import json
import re
from dataclasses import replace

import pytest

from longleaf.errors import ModelError
from longleaf.model.config import DecoderConfig

JAMBA_V01 = {
    "architectures": ["JambaForCausalLM"], "attention_dropout": 0.0, "attn_layer_offset": 4, "attn_layer_period": 8,
    "bos_token_id": 1, "eos_token_id": 2, "expert_layer_offset": 1, "expert_layer_period": 2, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_state": 16,
    "mamba_dt_rank": 256, "mamba_expand": 2, "mamba_inner_layernorms": True, "mamba_proj_bias": False,
    "max_position_embeddings": 262144, "model_type": "jamba", "num_attention_heads": 32, "num_experts": 16,
    "num_experts_per_tok": 2, "num_hidden_layers": 32, "num_key_value_heads": 8, "num_logits_to_keep": 1,
    "pad_token_id": 0, "rms_norm_eps": 1e-06, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_cache": True, "use_mamba_kernels": True, "vocab_size": 65536,
}  # fmt: skip
JAMBA_3B = JAMBA_V01 | {
    "attn_layer_offset": 7, "attn_layer_period": 14, "eos_token_id": [2, 519], "hidden_size": 2560,
    "intermediate_size": 8192, "mamba_dt_rank": 160, "num_attention_heads": 20, "num_experts": 1,
    "num_experts_per_tok": 1, "num_hidden_layers": 28, "num_key_value_heads": 1, "tie_word_embeddings": True,
}  # fmt: skip
JAMBA_TINY_DEV = {
    "model_type": "jamba", "vocab_size": 65536, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 8, "num_key_value_heads": 2, "num_experts": 8, "mamba_dt_rank": "auto",
}  # fmt: skip
LLAMA_31 = {
    "attention_bias": False, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False,
    "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 2, "num_key_value_heads": 8,
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "vocab_size": 128256,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}  # fmt: skip
QWEN25 = {
    "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
    "num_attention_heads": 14, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
MIXTRAL = {
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 32768, "model_type": "mixtral", "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 2, "num_key_value_heads": 8, "num_local_experts": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
MAMBA = {
    "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536, "eos_token_id": 0, "expand": 2, "hidden_act": "silu",
    "hidden_size": 768, "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "model_type": "mamba",
    "num_hidden_layers": 2, "residual_in_fp32": True, "state_size": 16, "time_step_floor": 0.0001,
    "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 48, "use_bias": False, "use_conv_bias": True,
    "vocab_size": 50280,
}  # fmt: skip


def kinds(n_layers: int, attention: set[int]) -> tuple[str, ...]:
    return tuple("attention" if i in attention else "mamba" for i in range(n_layers))


def test_jamba_v01():
    assert DecoderConfig.from_hf(JAMBA_V01) == DecoderConfig(
        family="jamba", vocab_size=65536, d_model=4096, n_layers=32, layer_kinds=kinds(32, {4, 12, 20, 28}),
        moe_layers=(False, True) * 16, d_ff=14336, n_experts=16, n_experts_per_token=2, n_heads=32, n_kv_heads=8,
        head_dim=128, d_inner=8192, d_state=16, d_conv=4, dt_rank=256, conv_bias=True, mamba_norms=True, norm_eps=1e-6,
        tie_embeddings=False, max_context_tokens=262144, eos_token_ids=(2,), bos_token_id=1,
    )  # fmt: skip


def test_jamba_3b_has_two_attention_layers_and_no_experts():
    assert DecoderConfig.from_hf(JAMBA_3B) == DecoderConfig(
        family="jamba", vocab_size=65536, d_model=2560, n_layers=28, layer_kinds=kinds(28, {7, 21}),
        moe_layers=(False,) * 28, d_ff=8192, n_heads=20, n_kv_heads=1, head_dim=128, d_inner=5120, d_state=16,
        d_conv=4, dt_rank=160, mamba_norms=True, norm_eps=1e-6, tie_embeddings=True, max_context_tokens=262144,
        eos_token_ids=(2, 519), bos_token_id=1,
    )  # fmt: skip


def test_jamba_tiny_dev():
    assert DecoderConfig.from_hf(JAMBA_TINY_DEV) == DecoderConfig(
        family="jamba", vocab_size=65536, d_model=512, n_layers=16, layer_kinds=kinds(16, {4, 12}),
        moe_layers=(False, True) * 8, d_ff=2048, n_experts=8, n_experts_per_token=2, n_heads=8, n_kv_heads=2,
        head_dim=64, d_inner=1024, d_state=16, d_conv=4, dt_rank=32, mamba_norms=True, norm_eps=1e-6,
        max_context_tokens=None, eos_token_ids=(2,), bos_token_id=1,
    )  # fmt: skip


def test_llama_31_in_the_form_of_transformers_4_and_5():
    config = DecoderConfig.from_hf(LLAMA_31)
    assert config == DecoderConfig(
        family="llama", vocab_size=128256, d_model=4096, n_layers=2, layer_kinds=("attention",) * 2,
        moe_layers=(False, False), d_ff=14336, normalize_expert_weights=True, n_heads=32, n_kv_heads=8, head_dim=128,
        rope_theta=500000.0,
        rope_scaling=(
            ("factor", 8.0), ("high_freq_factor", 4.0), ("low_freq_factor", 1.0),
            ("original_max_position_embeddings", 8192.0),
        ),
        norm_eps=1e-5, max_context_tokens=131072, eos_token_ids=(128001, 128008, 128009), bos_token_id=128000,
    )  # fmt: skip
    newer = LLAMA_31 | {"rope_parameters": LLAMA_31["rope_scaling"] | {"rope_theta": 500000.0}}
    del newer["rope_theta"], newer["rope_scaling"]
    assert DecoderConfig.from_hf(newer) == config
    assert DecoderConfig.from_hf(LLAMA_31 | {"head_dim": 64}).head_dim == 64


def test_qwen_has_biases_and_an_idle_sliding_window():
    assert DecoderConfig.from_hf(QWEN25) == DecoderConfig(
        family="llama", vocab_size=151936, d_model=896, n_layers=2, layer_kinds=("attention",) * 2,
        moe_layers=(False, False), d_ff=4864, normalize_expert_weights=True, n_heads=14, n_kv_heads=2, head_dim=64,
        qkv_bias=True, rope_theta=1e6, norm_eps=1e-6, tie_embeddings=True, max_context_tokens=32768,
        eos_token_ids=(151645,), bos_token_id=151643,
    )  # fmt: skip


def test_mixtral_and_mamba():
    assert DecoderConfig.from_hf(MIXTRAL) == DecoderConfig(
        family="llama", vocab_size=32000, d_model=4096, n_layers=2, layer_kinds=("attention",) * 2,
        moe_layers=(True, True), d_ff=14336, n_experts=8, n_experts_per_token=2, normalize_expert_weights=True,
        n_heads=32, n_kv_heads=8, head_dim=128, rope_theta=1e6, norm_eps=1e-5, max_context_tokens=32768,
        eos_token_ids=(2,), bos_token_id=1,
    )  # fmt: skip
    assert DecoderConfig.from_hf(MAMBA) == DecoderConfig(
        family="mamba", vocab_size=50280, d_model=768, n_layers=2, layer_kinds=("mamba",) * 2,
        moe_layers=(False, False), d_inner=1536, d_state=16, d_conv=4, dt_rank=48, norm_eps=1e-5, tie_embeddings=True,
        eos_token_ids=(0,), bos_token_id=0,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["jamba", "llama", "qwen2", "mistral", "mixtral", "mamba"])
def test_what_a_config_leaves_out_is_what_transformers_fills_in(kind):
    from transformers import AutoConfig

    few = {"vocab_size": 48, "hidden_size": 64, "num_hidden_layers": 9}
    if kind != "mamba":
        few |= {"num_attention_heads": 32, "intermediate_size": 24}
    if kind == "mistral":
        few["sliding_window"] = None
    filled = DecoderConfig.from_hf(AutoConfig.for_model(kind, **few).to_dict())
    # Theirs has a number for the context; a checkpoint that does not say has no limit here.
    assert DecoderConfig.from_hf(few | {"model_type": kind}) == replace(filled, max_context_tokens=None)


def test_null_key_and_value_heads_are_as_many_as_heads():
    assert DecoderConfig.from_hf(JAMBA_V01 | {"num_key_value_heads": None}).n_kv_heads == 32
    assert DecoderConfig.from_hf({key: JAMBA_V01[key] for key in JAMBA_V01 if key[:7] != "num_key"}).n_kv_heads == 8


@pytest.mark.parametrize(
    ("generation", "ends"),
    [(None, (2,)), ({}, (2,)), ({"eos_token_id": None}, (2,)), ({"eos_token_id": 518}, (518,))],
)
def test_generation_config_wins_where_it_names_an_end(tmp_path, generation, ends):
    (tmp_path / "config.json").write_text(json.dumps(JAMBA_V01))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert DecoderConfig.from_json_file(tmp_path / "config.json").eos_token_ids == ends


def test_no_end_and_no_beginning():
    config = DecoderConfig.from_hf(QWEN25 | {"eos_token_id": None, "bos_token_id": None})
    assert (config.eos_token_ids, config.bos_token_id) == ((), None)


MISTRAL = MIXTRAL | {"model_type": "mistral"}
WINDOWLESS = {key: value for key, value in MISTRAL.items() if key != "sliding_window"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (JAMBA_V01 | {"model_type": "falcon_mamba"}, "model_type is 'falcon_mamba'"),
        ({"d_model": 768, "n_layer": 24, "ssm_cfg": {}}, "model_type is None"),
        ({"model_type": "jamba"}, "vocab_size is missing"),
        (JAMBA_V01 | {"hidden_size": "4096"}, "hidden_size is '4096'"),
        (JAMBA_V01 | {"hidden_size": True}, "hidden_size is True"),
        (JAMBA_V01 | {"num_attention_heads": 0}, "num_attention_heads is 0"),
        (JAMBA_V01 | {"num_key_value_heads": 5}, "n_heads 32 is not divisible by n_kv_heads 5"),
        (JAMBA_V01 | {"num_hidden_layers": 2**40}, "num_hidden_layers is 1,099,511,627,776"),
        (JAMBA_V01 | {"num_experts_per_tok": 17}, "17 experts per token of 16"),
        (JAMBA_V01 | {"attn_layer_period": 0}, "attn_layer_period is 0"),
        (JAMBA_V01 | {"attn_layer_offset": 8}, "attn_layer_offset is 8; it must be less than attn_layer_period"),
        (JAMBA_V01 | {"mamba_dt_rank": "full"}, "mamba_dt_rank is 'full'"),
        (JAMBA_V01 | {"mamba_d_conv": 1}, "mamba_d_conv is 1"),
        (JAMBA_V01 | {"mamba_proj_bias": True}, "mamba_proj_bias is True; supported is False"),
        (JAMBA_V01 | {"mamba_inner_layernorms": False}, "mamba_inner_layernorms is False"),
        (JAMBA_V01 | {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (JAMBA_V01 | {"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        (JAMBA_V01 | {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
        (JAMBA_V01 | {"eos_token_id": "</s>"}, "eos_token_id is '</s>'"),
        (LLAMA_31 | {"attention_bias": True}, "attention_bias is True"),
        (LLAMA_31 | {"head_dim": 127}, "even head_dim, got 127"),
        (LLAMA_31 | {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        (LLAMA_31 | {"rope_scaling": {"rope_type": "longrope", "long_factor": [1.0]}}, "rope_type is 'longrope'"),
        (LLAMA_31 | {"rope_scaling": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        (LLAMA_31 | {"rope_scaling": {"rope_type": "llama3"}}, "factor is None"),
        (LLAMA_31 | {"rope_scaling": 2}, "is 2; it must be an object"),
        (LLAMA_31 | {"rope_theta": None, "rope_scaling": None}, "rope_theta is None"),
        (LLAMA_31 | {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        (LLAMA_31 | {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types is ['full_attention', 'sl"),
        (QWEN25 | {"use_sliding_window": True}, "use_sliding_window is True"),
        (WINDOWLESS, "sliding_window is 4096 and the context 32768 tokens"),
        (MISTRAL | {"sliding_window": 4096}, "sliding_window is 4096"),
        (MIXTRAL | {"sliding_window": 4096}, "sliding_window is 4096"),
        (MAMBA | {"use_bias": True}, "use_bias is True"),
        (MAMBA | {"state_size": 0}, "state_size is 0"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_with_its_value(raw, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        DecoderConfig.from_hf(raw)


def test_a_window_as_wide_as_the_context_hides_nothing():
    assert DecoderConfig.from_hf(MISTRAL | {"sliding_window": 32768}).max_context_tokens == 32768
    assert DecoderConfig.from_hf(MISTRAL | {"layer_types": ["full_attention"] * 2}).n_layers == 2


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\xff", '{"model_type": "jamba"}'])
def test_errors_name_the_file(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelError, match=re.escape(str(path))):
        DecoderConfig.from_json_file(path)
    path.write_text(json.dumps(JAMBA_V01))
    (tmp_path / "generation_config.json").write_text("[7]")
    with pytest.raises(ModelError, match=r"generation_config\.json: holds list"):
        DecoderConfig.from_json_file(path)
    with pytest.raises(ModelError, match="no such file"):
        DecoderConfig.from_json_file(tmp_path / "missing" / "config.json")


@pytest.mark.parametrize(
    "raw", [JAMBA_3B, LLAMA_31, QWEN25, MISTRAL, MIXTRAL, MAMBA], ids=lambda raw: raw["model_type"]
)
@pytest.mark.parametrize(
    "value", [None, -1, 0, 1.5, float("nan"), "x", [], ["x"], {}, {"rope_type": []}, True], ids=str
)
def test_any_value_anywhere_is_taken_or_refused(raw, value):
    for key in raw:
        with contextlib.suppress(ModelError):
            assert DecoderConfig.from_hf(raw | {key: value}, {key: value}).to_json()


def test_equal_configs_have_equal_text_and_every_field_counts():
    one, other = DecoderConfig.from_hf(LLAMA_31), DecoderConfig.from_hf(dict(reversed(LLAMA_31.items())))
    assert one.to_json() == other.to_json()
    assert replace(one, rope_factors=(1.0,) * 64).to_json() != one.to_json()
