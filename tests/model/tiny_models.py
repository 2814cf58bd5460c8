"""Tiny models with random weights, made and saved by transformers: the checkpoints that the decoder reads in tests, and
the oracle that it is held to.

Weights are drawn so that everything matters: matrices keep the size of what passes through them, scores of attention
are far from even, and Mamba's states fade over tens of tokens.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    JambaConfig,
    JambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils import logging as transformers_logging

__all__ = ["VARIANTS", "VOCAB_SIZE", "oracle_logits", "prompt", "relative_error", "tiny_checkpoint", "tiny_model"]

VOCAB_SIZE = 300
_CLASSES = {
    "jamba": (JambaConfig, JambaForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mamba": (MambaConfig, MambaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "mixtral": (MixtralConfig, MixtralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
}
_SIZES: dict[str, dict[str, Any]] = {
    "all": {"vocab_size": VOCAB_SIZE, "hidden_size": 64},
    "attention": {
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "max_position_embeddings": 512,
    },
    "jamba": {
        "mamba_dt_rank": 4,
        "num_experts": 4,
        "num_hidden_layers": 4,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
    },
    "mamba": {"num_hidden_layers": 3, "state_size": 16},
    "mixtral": {"num_local_experts": 4},
}
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "jamba-3b": (
        "jamba",
        {
            "num_hidden_layers": 14, "attn_layer_period": 14, "attn_layer_offset": 7, "num_experts": 1,
            "num_key_value_heads": 1, "tie_word_embeddings": True,
        },
    ),
    "jamba-mini": (
        "jamba", {"num_hidden_layers": 8, "attn_layer_period": 8, "attn_layer_offset": 4, "num_experts": 16}
    ),
    "jamba-stacked-experts": ("jamba", {}),
    "jamba-attention-first": ("jamba", {"attn_layer_offset": 0}),
    "jamba-attention-last": ("jamba", {"attn_layer_offset": 3}),
    "jamba-one-attention-layer": ("jamba", {"num_hidden_layers": 1, "attn_layer_period": 1, "attn_layer_offset": 0}),
    "jamba-d-conv-3": ("jamba", {"mamba_d_conv": 3, "mamba_conv_bias": False}),
    "jamba-d-state-8": ("jamba", {"mamba_d_state": 8}),
    "jamba-odd-widths": ("jamba", {"hidden_size": 36, "intermediate_size": 50, "mamba_d_state": 5, "mamba_dt_rank": 3}),
    "jamba-sharded": ("jamba", {}),
    "jamba-tied-with-lm-head": ("jamba", {"tie_word_embeddings": True}),
    "llama": ("llama", {}),
    "llama-rope-scaling": ("llama", {"rope_parameters": _LLAMA3}),
    "qwen2": ("qwen2", {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "mistral": ("mistral", {"sliding_window": None, "head_dim": 32, "tie_word_embeddings": True}),
    "mixtral": ("mixtral", {}),
    "mixtral-stacked-experts": ("mixtral", {}),
    "mamba": ("mamba", {}),
    "mamba-untied": ("mamba", {"tie_word_embeddings": False, "conv_kernel": 3, "state_size": 8}),
}  # fmt: skip
"""Name to model type and what differs from the sizes above."""
_OWN_LM_HEAD = "jamba-tied-with-lm-head"  # says that it is tied and carries another lm_head, which wins


def tiny_model(variant: str, **changes: Any) -> PreTrainedModel:
    """The transformers model of a variant, in fp32; the same weights every time.

    Args:
        variant: A key of `VARIANTS`.
        changes: Config values that differ from the variant's.
    """
    kind, own = VARIANTS[variant]
    sizes: Mapping[str, Any] = _SIZES["all"] | ({} if kind == "mamba" else _SIZES["attention"]) | _SIZES.get(kind, {})
    values = {**sizes, **own, **changes}
    if variant == _OWN_LM_HEAD:
        values["tie_word_embeddings"] = False
    config_class, model_class = _CLASSES[kind]
    model = model_class(config_class(**values)).eval()
    model.set_experts_implementation("eager")  # the plain loop; grouped products do not take any width
    _draw(model, torch.Generator().manual_seed(sum(variant.encode())))
    return model


def tiny_checkpoint(variant: str, folder: Path) -> Path:
    """Save a variant as safetensors.

    Args:
        variant: A key of `VARIANTS`.
        folder: Made, with config.json and the weights.

    Returns:
        The folder.
    """
    transformers_logging.disable_progress_bar()
    options = {"max_shard_size": "100KB"} if variant == "jamba-sharded" else {}
    # transformers keeps experts stacked in memory, and by default takes them apart to save them.
    apart = not variant.endswith("-stacked-experts")
    tiny_model(variant).save_pretrained(folder, save_original_format=apart, **options)
    if variant == _OWN_LM_HEAD:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    return folder


def prompt(n_tokens: int = 150, seed: int = 0) -> list[int]:
    """Random token ids, none of them a special one."""
    return torch.randint(3, VOCAB_SIZE, (n_tokens,), generator=torch.Generator().manual_seed(seed)).tolist()


@torch.inference_mode()
def oracle_logits(model: PreTrainedModel, token_ids: list[int]) -> Tensor:
    """Logits of every position, from one pass over the whole. (L, vocab) fp32"""
    return model(torch.tensor([token_ids]), use_cache=False).logits[0].float()


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """||ours - reference|| / ||reference||"""
    return float((ours.float() - reference).norm() / reference.norm())


@torch.no_grad()
def _draw(model: PreTrainedModel, rng: torch.Generator) -> None:
    for name, weight in model.named_parameters():
        if name.endswith("dt_proj.bias"):  # steps of 0.003 to 0.1, through the inverse of softplus
            dt = 0.003 * (0.1 / 0.003) ** torch.rand(weight.shape, generator=rng)
            weight.copy_(dt + torch.log(-torch.expm1(-dt)))
        elif name.endswith("A_log"):
            weight.add_(0.2 * torch.randn(weight.shape, generator=rng))
        elif name.endswith(".bias"):
            weight.normal_(0, 0.3, generator=rng)
        elif weight.dim() == 1:  # norms, and Mamba's D
            weight.uniform_(0.5, 1.5, generator=rng)
        else:
            weight.normal_(0, weight.shape[-1] ** -0.5, generator=rng)
