"""Public checkpoints by short name: their shapes, for planning before anything is fetched; where they are; licences.

The shapes are those of the checkpoints' `config.json`, cut down to what gives a size. Nothing is fetched here, and a
checkpoint that is on this machine is described by its own files, not by this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .config import DecoderConfig

__all__ = ["PUBLIC_MODELS", "PublicModel"]


@dataclass(frozen=True)
class PublicModel:
    """A checkpoint on the model hub.

    Args:
        name: What the user types.
        title: What the user reads.
        repo: Repository on the hub.
        licence: SPDX identifier, or the licence's own name.
        gated: Whether its terms have to be accepted on the hub before it can be fetched.
        source: Where the numbers come from.
        raw: The keys of its `config.json` that give its shape.
    """

    name: str
    title: str
    repo: str
    licence: str
    gated: bool
    source: str
    raw: Mapping[str, Any] = field(repr=False, hash=False)

    @cached_property
    def config(self) -> DecoderConfig:
        """The shape."""
        return DecoderConfig.from_hf(self.raw)


_JAMBA = {"model_type": "jamba", "vocab_size": 65536, "max_position_embeddings": 262144, "mamba_dt_rank": "auto"}

# The 3B's config.json is said to tie the embeddings, but its file has an output matrix of its own, which is what is
# loaded: 6,394,271,296 bytes at commit 525c6c8e are 3,197,109,632 parameters in bf16 and the file's headers.
_JAMBA_3B = _JAMBA | {
    "hidden_size": 2560,
    "intermediate_size": 8192,
    "num_hidden_layers": 28,
    "num_attention_heads": 20,
    "num_key_value_heads": 1,
    "attn_layer_period": 14,
    "attn_layer_offset": 7,
    "num_experts": 1,
    "tie_word_embeddings": False,
}
_JAMBA_MINI = _JAMBA | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
    "num_experts": 16,
    "num_experts_per_tok": 2,
}
_JAMBA_LARGE = _JAMBA_MINI | {
    "hidden_size": 8192,
    "intermediate_size": 24576,
    "num_hidden_layers": 72,
    "num_attention_heads": 64,
}
_JAMBA_TINY = _JAMBA_MINI | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "num_experts": 8,
}
_LLAMA_2_7B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
}
_MISTRAL_7B = _LLAMA_2_7B | {
    "model_type": "mistral",
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "rope_theta": 1e6,
}
_MIXTRAL_8X7B = _MISTRAL_7B | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
_MAMBA_130M = {
    "model_type": "mamba",
    "vocab_size": 50280,
    "hidden_size": 768,
    "intermediate_size": 1536,
    "num_hidden_layers": 24,
    "state_size": 16,
    "conv_kernel": 4,
    "time_step_rank": 48,
}
_QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}
_QWEN_1_5B = _QWEN | {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
}
_QWEN_0_5B = _QWEN | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
}
_SMOLLM2_135M = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rope_theta": 1e5,
    "tie_word_embeddings": True,
}

_OPEN, _JAMBA_OPEN = "Apache-2.0", "Jamba Open Model License"
_OWN = "its config.json"
_AS_MINI = "config.json of Jamba-v0.1, whose shape it has (arXiv:2408.12570, section 2)"
_AS_LARGE = "arXiv:2408.12570, section 2; d_ff from the published 398B/94B parameters"
_AS_3B = "config.json as quoted by ports of Jamba-Reasoning-3B; untied as the size of its weight files says"

_MODELS = (
    PublicModel("jamba2-3b", "Jamba2 3B", "ai21labs/AI21-Jamba2-3B", _OPEN, False, _AS_3B, _JAMBA_3B),
    PublicModel(
        "jamba-reasoning-3b", "Jamba Reasoning 3B", "ai21labs/AI21-Jamba-Reasoning-3B", _OPEN, False, _AS_3B, _JAMBA_3B
    ),
    PublicModel("jamba2-mini", "Jamba2 Mini", "ai21labs/AI21-Jamba2-Mini", _OPEN, False, _OWN, _JAMBA_MINI),
    *(
        PublicModel(
            f"jamba-{version}-{size}",
            f"Jamba {version} {size.title()}",
            f"ai21labs/AI21-Jamba-{size.title()}-{version}",
            _JAMBA_OPEN,
            True,
            source,
            raw,
        )
        for size, source, raw in (("mini", _AS_MINI, _JAMBA_MINI), ("large", _AS_LARGE, _JAMBA_LARGE))
        for version in ("1.7", "1.6", "1.5")
    ),
    PublicModel("jamba-v0.1", "Jamba v0.1", "ai21labs/Jamba-v0.1", _OPEN, False, _OWN, _JAMBA_MINI),
    PublicModel(
        "jamba-tiny-dev", "Jamba tiny, for development", "ai21labs/Jamba-tiny-dev", _OPEN, False,
        "worked out from its 318,688,640 parameters", _JAMBA_TINY,
    ),
    PublicModel("mamba-130m", "Mamba 130M", "state-spaces/mamba-130m-hf", _OPEN, False, _OWN, _MAMBA_130M),
    PublicModel(
        "mistral-7b", "Mistral 7B Instruct v0.2", "mistralai/Mistral-7B-Instruct-v0.2", _OPEN, False, _OWN, _MISTRAL_7B
    ),
    PublicModel(
        "mixtral-8x7b", "Mixtral 8x7B Instruct v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1", _OPEN, False, _OWN,
        _MIXTRAL_8X7B,
    ),
    PublicModel(
        "llama-2-7b", "Llama 2 7B", "meta-llama/Llama-2-7b-hf", "Llama 2 Community License", True, _OWN, _LLAMA_2_7B
    ),
    PublicModel(
        "qwen2.5-1.5b", "Qwen2.5-Coder 1.5B Instruct", "Qwen/Qwen2.5-Coder-1.5B-Instruct", _OPEN, False, _OWN,
        _QWEN_1_5B,
    ),
    PublicModel(
        "qwen2.5-0.5b", "Qwen2.5-Coder 0.5B Instruct", "Qwen/Qwen2.5-Coder-0.5B-Instruct", _OPEN, False, _OWN,
        _QWEN_0_5B,
    ),
    PublicModel(
        "smollm2-135m", "SmolLM2 135M Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", _OPEN, False, _OWN,
        _SMOLLM2_135M,
    ),
)  # fmt: skip

PUBLIC_MODELS: dict[str, PublicModel] = {model.name: model for model in _MODELS}
