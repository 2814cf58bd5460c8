"""A trainable decoder's weights from a model's files, and back into a folder that Hugging Face's library reads too.

Between the module's names and the checkpoint's stand those of `weights.py`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError

from .config import DecoderConfig
from .gguf_file import GGUFFile, gguf_config
from .gguf_weights import GGUFWeights
from .linear import DenseLinear
from .safetensors_weights import SafetensorsWeights, hf_name

__all__ = ["hf_config", "open_weights", "save_model", "weight_name"]

TensorByName = Callable[[str, torch.dtype], Tensor]
"""A tensor by its name in `weights.py`, in a dtype."""


def weight_name(parameter: str) -> str:
    """The name in `weights.py` of a parameter of `TrainableDecoder`: layers.3.mixer.q_proj.bias -> layers.3.q_bias."""
    name = re.sub(r"\.(mixer|network)\.", ".", parameter).removesuffix(".weight")
    return re.sub(r"\b(q|k|v|o|gate|up|down)_proj", r"\1", name).replace(".bias", "_bias")


def open_weights(path: Path) -> tuple[DecoderConfig, TensorByName]:
    """The shape of a model and what gives its tensors, in full.

    Args:
        path: A folder with config.json and .safetensors files, or a .gguf file.

    Raises:
        ModelNotInstalledError: Nothing there.
        ModelError: Not a model that this decoder runs, or its files are damaged or do not fit each other.
    """
    cpu, fp32 = torch.device("cpu"), torch.float32
    if path.is_file():
        file = GGUFFile(path)
        config = gguf_config(file)
        return config, GGUFWeights(file, config, fp32, cpu).tensor
    if not path.is_dir():
        raise ModelNotInstalledError(f"{path}: no such file or folder")
    config = DecoderConfig.from_json_file(path / "config.json")
    weights = SafetensorsWeights(path, config, fp32, cpu)
    if config.tie_embeddings:
        # A checkpoint that says so may carry another output matrix, which wins.
        weights.embedding()
        output = weights.output()
        assert isinstance(output, DenseLinear)
        config = replace(config, tie_embeddings=torch.equal(output.weight, weights.tensor("embed")))
    return config, weights.tensor


def save_model(config: DecoderConfig, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write config.json and model.safetensors.

    Args:
        config: The shape.
        tensors: By their names in `weights.py`.
        folder: Made if it is not there.

    Raises:
        ModelError: A config.json can't say this shape.
    """
    raw = hf_config(config)
    dtype = tensors["embed"].dtype
    raw["dtype"] = str(dtype).removeprefix("torch.")
    named = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu()
        if name.endswith("conv_weight"):
            value = value[:, None]  # (E, W) -> (E, 1, W)
        named[hf_name(config, name)] = value.contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    # Under another name first: a folder never holds half a file.
    partial = folder / "model.safetensors.partial"
    save_file(named, partial, metadata={"format": "pt"})
    partial.replace(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def hf_config(config: DecoderConfig) -> dict[str, Any]:
    """The content of a config.json: `DecoderConfig.from_hf` the other way round.

    Raises:
        ModelError: The families' files can't say this shape; names what they can't.
    """
    make = {"jamba": _jamba, "llama": _llama, "mamba": _mamba}[config.family]
    raw = make(config) | {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids) or None,
    }
    read = DecoderConfig.from_hf(raw)
    said = replace(config, normalize_expert_weights=read.normalize_expert_weights) if config.n_experts <= 1 else config
    lost = [field.name for field in fields(config) if getattr(read, field.name) != getattr(said, field.name)]
    if lost:
        described = ", ".join(f"{name}={getattr(config, name)!r:.80}" for name in lost)
        raise ModelError(f"a config.json of the {config.family} family can't say {described}; choose another shape")
    return raw


def _attention(config: DecoderConfig) -> dict[str, Any]:
    """What Jamba's and Llama's have in common."""
    raw = {
        "hidden_act": "silu",
        "intermediate_size": config.d_ff,
        "num_attention_heads": config.n_heads or 1,
        "num_key_value_heads": config.n_kv_heads or 1,
        "rms_norm_eps": config.norm_eps,
        "max_position_embeddings": config.max_context_tokens,
    }
    if config.head_dim * config.n_heads != config.d_model:
        raw["head_dim"] = config.head_dim
    return raw


def _jamba(config: DecoderConfig) -> dict[str, Any]:
    attention = [kind == "attention" for kind in config.layer_kinds]
    experts = list(config.moe_layers)
    return _attention(config) | {
        "model_type": "jamba",
        "architectures": ["JambaForCausalLM"],
        **_every("attn_layer", attention),
        **_every("expert_layer", experts),
        "num_experts": config.n_experts,
        "num_experts_per_tok": config.n_experts_per_token,
        "mamba_expand": config.d_inner // config.d_model,
        "mamba_d_state": config.d_state,
        "mamba_d_conv": config.d_conv,
        "mamba_dt_rank": config.dt_rank,
        "mamba_conv_bias": config.conv_bias,
        "mamba_proj_bias": False,
    }


def _every(name: str, marks: list[bool]) -> dict[str, int]:
    """The period and offset whose layers are the marked ones; one beyond the last layer where none is.

    Where no period says it, any: `hf_config` notices.
    """
    n = len(marks)
    for period in range(1, n + 2):
        for offset in range(period):
            if [i % period == offset for i in range(n)] == marks:
                return {f"{name}_period": period, f"{name}_offset": offset}
    return {f"{name}_period": 1, f"{name}_offset": 0}


def _llama(config: DecoderConfig) -> dict[str, Any]:
    kind = "qwen2" if config.qkv_bias else "mixtral" if config.n_experts > 1 else "llama"
    architecture = {"qwen2": "Qwen2", "mixtral": "Mixtral", "llama": "Llama"}[kind]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = dict(config.rope_scaling)
        original = int(scaling.pop("original_max_position_embeddings"))
        rope |= {"rope_type": "llama3", **scaling, "original_max_position_embeddings": original}
    raw = _attention(config) | {
        "model_type": kind,
        "architectures": [f"{architecture}ForCausalLM"],
        # Since version 5 transformers has all of it in one place; before, in two.
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else rope,
        "rope_parameters": rope,
    }
    if kind == "mixtral":
        raw |= {
            "num_local_experts": config.n_experts,
            "num_experts_per_tok": config.n_experts_per_token,
            "sliding_window": None,
        }
    return raw


def _mamba(config: DecoderConfig) -> dict[str, Any]:
    return {
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "hidden_act": "silu",
        "expand": config.d_inner / config.d_model
        if config.d_inner % config.d_model
        else config.d_inner // config.d_model,
        "intermediate_size": config.d_inner,
        "state_size": config.d_state,
        "conv_kernel": config.d_conv,
        "time_step_rank": config.dt_rank,
        "use_conv_bias": config.conv_bias,
        "use_bias": False,
        "layer_norm_epsilon": config.norm_eps,
    }
