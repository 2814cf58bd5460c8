"""Weights from a GGUF file: their names there, and quantised matrices that stay quantised.

Where the native kernels run, matrices of the types in `native.GGUF_PACKABLE` are packed: the same small integers, with
scales of K-quants multiplied out in fp16. All others, and all of them elsewhere, are made dense in the decoder's dtype.
Names and layouts: llama.cpp's
gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py (Jamba, Mamba: A is stored as -exp(A_log), the convolution
without its middle dimension; Llama: query and key rows are interleaved for llama.cpp's rotation).
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from longleaf.errors import ModelError

from . import native
from .config import DecoderConfig
from .decoder import Embedding
from .gguf_file import GGUFFile, GGUFTensor
from .linear import DenseLinear, Linear, PackedLinear
from .weights import check_tensors, expected_shapes

__all__ = ["GGUFWeights"]

_GLOBAL = {"embed": "token_embd.weight", "final_norm": "output_norm.weight", "output": "output.weight"}
_LAYER = {
    "mixer_norm": "attn_norm.weight",
    "network_norm": "ffn_norm.weight",
    "q": "attn_q.weight",
    "k": "attn_k.weight",
    "v": "attn_v.weight",
    "o": "attn_output.weight",
    "q_bias": "attn_q.bias",
    "k_bias": "attn_k.bias",
    "v_bias": "attn_v.bias",
    "in_proj": "ssm_in.weight",
    "conv_weight": "ssm_conv1d.weight",
    "conv_bias": "ssm_conv1d.bias",
    "x_proj": "ssm_x.weight",
    "dt_norm": "ssm_dt_norm.weight",
    "b_norm": "ssm_b_norm.weight",
    "c_norm": "ssm_c_norm.weight",
    "dt_proj": "ssm_dt.weight",
    "dt_bias": "ssm_dt.bias",
    "A_log": "ssm_a",
    "D": "ssm_d",
    "out_proj": "ssm_out.weight",
    "gate": "ffn_gate.weight",
    "up": "ffn_up.weight",
    "down": "ffn_down.weight",
    "router": "ffn_gate_inp.weight",
}
_EXPERTS = {"gate": "ffn_gate_exps.weight", "up": "ffn_up_exps.weight", "down": "ffn_down_exps.weight"}
_DENSE = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class GGUFWeights:
    """See `weights.Weights`.

    Args:
        file: Opened.
        config: Of `gguf_config`.
        dtype: Of the decoder.
        device: Of the decoder; matrices stay packed on a CPU only.

    Raises:
        ModelError: The tensors do not fit the config.
    """

    def __init__(self, file: GGUFFile, config: DecoderConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._file, self._config, self._dtype, self._device = file, config, dtype, device
        self._packs = device.type == "cpu" and native.is_available()
        wanted = {}
        for name, shape in expected_shapes(config).items():
            theirs, expert = _theirs(name)
            wanted[theirs] = (config.n_experts, *shape) if expert is not None else shape
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        if config.n_experts > 1 and any(re.fullmatch(r"blk\.\d+\.ffn_gate\.0\.weight", name) for name in shapes):
            raise ModelError(f"{file.path}: experts one by one, as in files of 2023, are not supported; get another")
        check_tensors(str(file.path), wanted, shapes, ignore=["rope_freqs.weight"])  # part of the config

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """See `weights.Weights`."""
        tensor, raw = self._raw(name)
        values = self._numbers(tensor, raw)
        if name.endswith("A_log"):
            values = torch.log(-values)
        if self._interleaved(name):
            values = self._straighten(values[:, None], name)[:, 0]
        return values.to(self._device, dtype or self._dtype, copy=True)  # not a view of the mapped file

    def linears(self, names: Sequence[str], biases: Sequence[str] = ()) -> tuple[Linear, ...]:
        """See `weights.Weights`; packed ones are fused where they are of one type."""
        found = [self._raw(name) for name in names]
        if self._packs and all(tensor.kind in native.GGUF_PACKABLE for tensor, _ in found):
            kept = [self.tensor(name, torch.float32) for name in biases]
            raws = [self._straighten_raw(tensor, raw, name) for name, (tensor, raw) in zip(names, found, strict=True)]
            kinds, shapes = [tensor.kind for tensor, _ in found], [tensor.shape for tensor, _ in found]
            if len(set(kinds)) == 1 and len(names) > 1:
                n_out = sum(rows for rows, _ in shapes)
                raws, kinds, shapes = [torch.cat(raws)], kinds[:1], [(n_out, shapes[0][1])]
                kept = [torch.cat(kept)] if kept else []
            return tuple(
                PackedLinear(native.pack_gguf(kind, raw, *shape), bias)
                for kind, raw, shape, bias in zip(kinds, raws, shapes, kept or (None,) * len(raws), strict=True)
            )
        matrices = [self._matrix(name) for name in names]
        weight = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
        bias = torch.cat([self.tensor(name) for name in biases]) if biases else None
        return (DenseLinear(weight, bias),)

    def embedding(self) -> Embedding:
        """See `weights.Weights`; a packable table stays in the file, and a chunk's rows are read there."""
        tensor, raw = self._raw("embed")
        if self._packs and tensor.kind in native.GGUF_PACKABLE:
            table = raw.view(tensor.shape[0], -1)  # (vocab, bytes of a row)
            n_in = tensor.shape[1]

            def look_up(ids: Tensor) -> Tensor:
                rows = table[ids].reshape(-1)
                return native.gguf_rows(tensor.kind, rows, ids.shape[0], n_in).to(self._dtype)  # (T, D)

            return look_up
        self._embed = self._numbers(tensor, raw).to(self._device, self._dtype)
        return lambda ids: torch.nn.functional.embedding(ids, self._embed)

    def output(self) -> Linear:
        """See `weights.Weights`."""
        (linear,) = self.linears(["embed" if self._config.tie_embeddings else "output"])
        return linear

    def _raw(self, name: str) -> tuple[GGUFTensor, Tensor]:
        """The tensor, or the one expert's part of it, and its bytes."""
        theirs, expert = _theirs(name)
        tensor = self._file.tensors[theirs]
        raw = self._file.raw(tensor)
        if expert is not None:
            size = tensor.size_bytes // tensor.shape[0]
            tensor = replace(tensor, shape=tensor.shape[1:], offset=tensor.offset + expert * size, size_bytes=size)
            raw = raw[expert * size : (expert + 1) * size]
        return tensor, raw

    def _numbers(self, tensor: GGUFTensor, raw: Tensor) -> Tensor:
        if tensor.kind in _DENSE:
            return raw.view(_DENSE[tensor.kind]).view(tensor.shape).float()
        if tensor.kind in native.GGUF_PACKABLE and native.is_available():
            rows = 1
            for side in tensor.shape[:-1]:
                rows *= side
            return native.gguf_rows(tensor.kind, raw, rows, tensor.shape[-1]).view(tensor.shape)
        from gguf import GGMLQuantizationType, dequantize

        try:
            values = dequantize(raw.numpy(), GGMLQuantizationType[tensor.kind])
        except NotImplementedError as exc:
            what = f"{tensor.name} is of type {tensor.kind}"
            raise ModelError(f"{self._file.path}: {what}, which is not supported") from exc
        return torch.from_numpy(values).view(tensor.shape)

    def _matrix(self, name: str) -> Tensor:
        tensor, raw = self._raw(name)
        values = self._numbers(tensor, raw)
        if self._interleaved(name):
            values = self._straighten(values, name)
        return values.to(self._device, self._dtype, copy=True)

    # llama.cpp rotates neighbouring pairs in models of its `llama` architecture, so their converter interleaves the
    # two halves of each query and key head; we rotate halves, and put the rows back.

    def _interleaved(self, name: str) -> bool:
        return self._file.metadata.get("general.architecture") == "llama" and bool(re.search(r"\.[qk](_bias)?$", name))

    def _straighten(self, rows: Tensor, name: str) -> Tensor:
        heads = self._config.n_heads if name.split(".")[-1].startswith("q") else self._config.n_kv_heads
        return rows.view(heads, -1, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)

    def _straighten_raw(self, tensor: GGUFTensor, raw: Tensor, name: str) -> Tensor:
        if not self._interleaved(name):
            return raw
        return self._straighten(raw.view(tensor.shape[0], -1), name).reshape(-1)  # whole rows of blocks move


def _theirs(name: str) -> tuple[str, int | None]:
    """The file's name for ours, and the expert's number in a stacked tensor."""
    layer = re.fullmatch(r"layers\.(\d+)\.(?:experts\.(\d+)\.)?(.+)", name)
    if layer is None:
        return _GLOBAL[name], None
    i, expert, part = layer.groups()
    if expert is not None:
        return f"blk.{i}.{_EXPERTS[part]}", int(expert)
    return f"blk.{i}.{_LAYER[part]}", None
