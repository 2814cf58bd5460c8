"""Tiny models as GGUF files, laid out as llama.cpp's converters do: the names of its `gguf` package, A instead of
A_log, the convolution without its middle dimension, experts stacked, query and key rows interleaved for Llama."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor
from transformers import PreTrainedModel

__all__ = ["dequantize", "random_blocks", "write_gguf"]

_SMALL = ("ssm_conv1d", "ssm_x", "ssm_dt", "ffn_gate_inp")
"""Matrices that llama.cpp never quantises."""


def random_blocks(kind: str, n_rows: int, n_in: int, seed: int = 0) -> np.ndarray:
    """Rows of K-quant blocks, for which there is no quantiser in Python: random bytes under sane scales.

    Returns:
        (n_rows, bytes of a row) uint8; values of about the size 1 / sqrt(n_in).
    """
    rng = np.random.default_rng(seed)
    values, size = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    blocks = rng.integers(0, 256, (n_rows, n_in // values, size), dtype=np.uint8)
    # The largest of a block is about d · 63 · 15 in Q4_K, d · 63 · 31 in Q5_K, d · 127 · 32 in Q6_K.
    unit = n_in**-0.5 / {"Q4_K": 300, "Q5_K": 600, "Q6_K": 1200}[kind]
    scales = rng.uniform(0.5, 1.5, (n_rows, n_in // values, 1)) * unit
    if kind == "Q6_K":
        blocks[..., 208:] = scales.astype(np.float16).view(np.uint8)
    else:
        blocks[..., :2] = scales.astype(np.float16).view(np.uint8)
        blocks[..., 2:4] = (scales * {"Q4_K": 7.5, "Q5_K": 15.5}[kind]).astype(np.float16).view(np.uint8)
    return blocks.reshape(n_rows, -1)


def dequantize(kind: str, raw: np.ndarray) -> Tensor:
    """By the `gguf` package. (n_rows, bytes) uint8 -> (n_rows, n_in) fp32"""
    return torch.from_numpy(gguf.dequantize(raw, GGMLQuantizationType[kind]).astype(np.float32, copy=False))


@torch.no_grad()
def write_gguf(model: PreTrainedModel, path: Path, kind: str | Callable[[str], str] = "F32") -> None:
    """Write a model; its own weights become what the file holds, once that is dequantised.

    Args:
        model: Jamba, Llama, Qwen2 or Mamba.
        path: The file.
        kind: Of the large matrices whose inner dimension is a whole number of blocks, or a function of their names; the
            others are kept in F32.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", None) or config.layer_norm_epsilon)
    writer.add_eos_token_id(2)
    if config.model_type != "mamba":
        writer.add_context_length(config.max_position_embeddings)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
    if config.model_type in ("llama", "qwen2"):
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if config.model_type == "llama":
            writer.add_rope_dimension_count(config.head_dim)
    else:
        jamba = config.model_type == "jamba"
        writer.add_ssm_conv_kernel(config.mamba_d_conv if jamba else config.conv_kernel)
        writer.add_ssm_inner_size(config.mamba_expand * config.hidden_size if jamba else config.intermediate_size)
        writer.add_ssm_state_size(config.mamba_d_state if jamba else config.state_size)
        writer.add_ssm_time_step_rank(config.mamba_dt_rank if jamba else config.time_step_rank)
        if jamba:
            period, offset = config.attn_layer_period, config.attn_layer_offset
            layers = range(config.num_hidden_layers)
            writer.add_head_count_kv([config.num_key_value_heads if i % period == offset else 0 for i in layers])
            writer.add_expert_count(config.num_experts)
            writer.add_expert_used_count(config.num_experts_per_tok)
    for name, weight in _tensors(model):
        quantised = weight.dim() >= 2 and not any(small in name for small in _SMALL)
        wanted = kind if isinstance(kind, str) else kind(name)
        _add(writer, name, weight, wanted if quantised else "F32", config)
    if config.model_type == "llama" and config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", _rope_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """GGUF's names, and views of the model's own weights."""
    config = model.config
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, config.model_type.upper()), config.num_hidden_layers)
    for name, weight in model.named_parameters():
        if name.endswith("experts.gate_up_proj"):
            gate, up = weight.data.chunk(2, dim=1)  # (X, I, D) each
            for part, values in (("gate_proj", gate), ("up_proj", up)):
                stacked = name.replace("feed_forward", "mlp").replace("gate_up_proj", part)
                yield f"{names.get_name(stacked)}.weight", values
        elif name.endswith("experts.down_proj"):
            yield f"{names.get_name(name.replace('feed_forward', 'mlp'))}.weight", weight.data
        else:
            found = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert found is not None, name
            yield found, weight.data


def _add(writer: gguf.GGUFWriter, name: str, weight: Tensor, kind: str, config: object) -> None:
    if name.endswith("ssm_a"):
        writer.add_tensor(name, (-torch.exp(weight)).numpy())
        return
    if name.endswith("ssm_conv1d.weight"):
        weight = weight[:, 0]
    values_per_block, _ = gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    if kind == "F32" or weight.shape[-1] % values_per_block:
        writer.add_tensor(name, _interleave(name, weight, config).contiguous().numpy())
        return
    if kind.endswith("_K"):
        n_rows = weight[..., 0].numel()
        raw = random_blocks(kind, n_rows, weight.shape[-1], seed=sum(name.encode()))
        raw = raw.reshape(*weight.shape[:-1], -1)
    else:
        raw = gguf.quantize(weight.contiguous().numpy(), GGMLQuantizationType[kind])
    weight.copy_(dequantize(kind, raw))
    rows = _interleave(name, torch.from_numpy(raw), config)  # whole rows move: their blocks stay as they are
    writer.add_tensor(name, rows.contiguous().numpy(), raw_dtype=GGMLQuantizationType[kind])


def _interleave(name: str, rows: Tensor, config: object) -> Tensor:
    """Put the two halves of each head's rows in turns, for llama.cpp's rotation of neighbours."""
    if config.model_type != "llama" or not name.startswith("blk") or name.split(".")[2] not in ("attn_q", "attn_k"):
        return rows
    heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _rope_factors(config: object) -> np.ndarray:
    """What each frequency is divided by, as llama.cpp's converter works it out. (hd / 2,) fp32"""
    rope = config.rope_parameters
    frequencies = rope["rope_theta"] ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    wavelengths, original = 2 * np.pi / frequencies, rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = (original / wavelengths - low) / (high - low)
    blended = 1 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelengths < original / high, 1, np.where(wavelengths > original / low, factor, blended))
    return factors.astype(np.float32)
