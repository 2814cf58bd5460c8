"""A checkpoint of random weights written once more as a GGUF file: llama.cpp runs what the safetensors folder holds.

    write_gguf(folder, Path("model-q8_0.gguf"), "Q8_0")

Names and layouts are those of llama.cpp's converter (its gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py): A
instead of A_log, the convolution without its middle dimension, experts stacked, query and key rows interleaved for
llama. Like its `llama-quantize`, this leaves a Mamba mixer's small matrices in F16, and the router and the convolution
in F32. The vocabulary is made up: llama.cpp wants one, and asks it for the text of the tokens that it writes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from safetensors import safe_open
from torch import Tensor

from longleaf.errors import ModelError

__all__ = ["Kind", "write_gguf"]

Kind = Literal["F16", "BF16", "Q8_0"]

_SMALL = ("ssm_x.", "ssm_dt.")
_FULL = ("ssm_conv1d", "ssm_a", "ffn_gate_inp")


def write_gguf(folder: Path, path: Path, kind: Kind) -> None:
    """Write a checkpoint's weights to a GGUF file.

    Args:
        folder: With a config.json of model_type llama or jamba and .safetensors files, as transformers saves them.
        path: The file.
        kind: Of the large matrices.

    Raises:
        ModelError: Another architecture, or a tensor without a name in GGUF.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    arch = config["model_type"]
    if arch not in ("llama", "jamba"):
        raise ModelError(f"{folder}: model_type is {arch!r}; only llama and jamba are written")
    writer = gguf.GGUFWriter(path, arch)
    _add_shape(writer, config)
    _add_vocabulary(writer, config["vocab_size"])
    for name, weight in _tensors(folder, config):
        wanted = "F32" if weight.dim() < 2 or any(part in name for part in _FULL) else kind
        if wanted == "Q8_0" and any(part in name for part in _SMALL):
            wanted = "F16"
        _add(writer, name, weight, GGMLQuantizationType[wanted])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    n_layers, n_kv_heads = config["num_hidden_layers"], config["num_key_value_heads"]
    writer.add_block_count(n_layers)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if config["model_type"] == "llama":
        writer.add_head_count_kv(n_kv_heads)
        writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
        return
    period, offset = config["attn_layer_period"], config["attn_layer_offset"]
    writer.add_head_count_kv([n_kv_heads if i % period == offset else 0 for i in range(n_layers)])  # 0: a Mamba layer
    writer.add_ssm_conv_kernel(config["mamba_d_conv"])
    writer.add_ssm_inner_size(config["mamba_expand"] * config["hidden_size"])
    writer.add_ssm_state_size(config["mamba_d_state"])
    writer.add_ssm_time_step_rank(config["mamba_dt_rank"])
    if config["num_experts"] > 1:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])


def _add_vocabulary(writer: gguf.GGUFWriter, n_tokens: int) -> None:
    """Three special tokens, the 256 bytes, and words without a meaning."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = [*words, *(f"▁{number:x}" for number in range(len(words), n_tokens))][:n_tokens]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * n_tokens
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([0.0] * n_tokens)
    writer.add_token_types(kinds[:n_tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _tensors(folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """GGUF's names, and the checkpoint's weights as they came, laid out for llama.cpp."""
    arch = config["model_type"]
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, arch.upper()), config["num_hidden_layers"])
    heads = (
        {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]} if arch == "llama" else {}
    )
    experts: dict[str, dict[int, Tensor]] = {}
    for name, weight in _stored(folder):
        one = re.fullmatch(r"(.+)\.feed_forward\.experts\.(\d+)\.(gate|up|down)_proj\.weight", name)
        if one:
            experts.setdefault(f"{one[1]}.mlp.experts.{one[3]}_proj", {})[int(one[2])] = weight
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"{folder}: {name} has no name in GGUF's {arch}")
        if found.endswith("ssm_a"):
            weight = -torch.exp(weight.float())
        elif found.endswith("ssm_conv1d.weight"):
            weight = weight[:, 0]  # (E, W)
        elif n_heads := heads.get(found.split(".")[-2]):
            weight = weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        yield found, weight
    for name, parts in experts.items():
        yield f"{names.get_name(name)}.weight", torch.stack([parts[i] for i in range(len(parts))])  # (X, rows, columns)


def _stored(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)


def _add(writer: gguf.GGUFWriter, name: str, weight: Tensor, kind: GGMLQuantizationType) -> None:
    values = weight.float().contiguous().numpy()
    if kind == GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    elif kind == GGMLQuantizationType.F16:
        writer.add_tensor(name, values.astype(np.float16))
    else:
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
