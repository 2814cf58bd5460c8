"""Weights from a Hugging Face folder of safetensors: their names there, fusing, and int8 as they are loaded.

A tensor at a time is mapped, brought into its final form and let go of, so that loading holds the model once and one
tensor more. Experts may be stored one by one, as on the hub, or stacked, as transformers 5 saves them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from safetensors import SafetensorError, safe_open
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError

from . import native
from .config import DecoderConfig
from .decoder import Embedding
from .linear import DenseLinear, Int8Linear, Linear, PackedLinear, quantize_rows
from .weights import check_tensors, expected_shapes

__all__ = ["Quantization", "SafetensorsWeights"]

Quantization = Literal["int8", "int8-experts", "w8a8"]
"""`int8`: weights of all large products and of the output matrix, activations as they are; a tied embedding is kept
once, as int8 rows for both uses. `int8-experts`: those of experts only. `w8a8`: as `int8`, with activations rounded to
int8 per 32 values too (CPU). `plan.py` counts the first two."""

_JAMBA = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.final_layernorm.weight",
    "output": "lm_head.weight",
    "mixer_norm": "model.layers.{i}.input_layernorm.weight",
    "network_norm": "model.layers.{i}.pre_ff_layernorm.weight",
    "dt_norm": "model.layers.{i}.mamba.dt_layernorm.weight",
    "b_norm": "model.layers.{i}.mamba.b_layernorm.weight",
    "c_norm": "model.layers.{i}.mamba.c_layernorm.weight",
    "mamba": "model.layers.{i}.mamba.",
    "gate": "model.layers.{i}.feed_forward.gate_proj.weight",
    "up": "model.layers.{i}.feed_forward.up_proj.weight",
    "down": "model.layers.{i}.feed_forward.down_proj.weight",
    "router": "model.layers.{i}.feed_forward.router.weight",
    "experts": "model.layers.{i}.feed_forward.experts.",
}
_LLAMA = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "output": "lm_head.weight",
    "mixer_norm": "model.layers.{i}.input_layernorm.weight",
    "network_norm": "model.layers.{i}.post_attention_layernorm.weight",
    "gate": "model.layers.{i}.mlp.gate_proj.weight",
    "up": "model.layers.{i}.mlp.up_proj.weight",
    "down": "model.layers.{i}.mlp.down_proj.weight",
    "router": "model.layers.{i}.block_sparse_moe.gate.weight",
    "experts": "model.layers.{i}.block_sparse_moe.experts.",
}
_MAMBA = {
    "embed": "backbone.embeddings.weight",
    "final_norm": "backbone.norm_f.weight",
    "output": "lm_head.weight",
    "mixer_norm": "backbone.layers.{i}.norm.weight",
    "mamba": "backbone.layers.{i}.mixer.",
}
_PROJECTIONS = {name: f"model.layers.{{i}}.self_attn.{name}_proj.weight" for name in ("q", "k", "v", "o")}
_BIASES = {f"{name}_bias": f"model.layers.{{i}}.self_attn.{name}_proj.bias" for name in ("q", "k", "v")}
_NAMES = {"jamba": _JAMBA | _PROJECTIONS, "llama": _LLAMA | _PROJECTIONS | _BIASES, "mamba": _MAMBA}
_MIXER = {
    "in_proj": "in_proj.weight",
    "conv_weight": "conv1d.weight",
    "conv_bias": "conv1d.bias",
    "x_proj": "x_proj.weight",
    "dt_proj": "dt_proj.weight",
    "dt_bias": "dt_proj.bias",
    "A_log": "A_log",
    "D": "D",
    "out_proj": "out_proj.weight",
}
_EXPERT = {
    "jamba": {"gate": "gate_proj.weight", "up": "up_proj.weight", "down": "down_proj.weight"},
    "llama": {"gate": "w1.weight", "up": "w3.weight", "down": "w2.weight"},
}
_SPELLINGS = (
    ("backbone.embedding.weight", "backbone.embeddings.weight"),
    (".mlp.gate.weight", ".block_sparse_moe.gate.weight"),
    (".mlp.experts.", ".block_sparse_moe.experts."),
)
"""Other spellings of the same name: (in the file, here)."""
_UNUSED = re.compile(r"rotary_emb\.inv_freq$")
_ROWS = 1024
"""Rows that are brought into their final form at a time: rounding makes copies in fp32."""
_SMALL = ("x_proj", "dt_proj")
"""Products that stay as they are under int8: a twentieth of the weights, and dt, B and C are sensitive."""


class SafetensorsWeights:
    """See `weights.Weights`.

    Args:
        folder: With one or several .safetensors files.
        config: The shape; the tensors are checked against it.
        dtype: Of the decoder.
        device: Of the decoder.
        quantize: See `Quantization`; None keeps the weights in `dtype`.

    Raises:
        ModelNotInstalledError: No .safetensors file there.
        ModelError: A file can't be read, or the tensors do not fit the config.
    """

    def __init__(
        self,
        folder: Path,
        config: DecoderConfig,
        dtype: torch.dtype,
        device: torch.device,
        quantize: Quantization | None = None,
    ) -> None:
        self.files = sorted(folder.glob("*.safetensors"))
        if not self.files:
            raise ModelNotInstalledError(
                f"{folder}: no .safetensors files; other weight formats are not loaded (GGUF files are named directly)"
            )
        self._config, self._dtype, self._device, self._quantize = config, dtype, device, quantize
        self._names = _NAMES[config.family]
        self._file_of: dict[str, tuple[Path, str]] = {}  # our spelling of a name -> (file, its spelling)
        shapes: dict[str, tuple[int, ...]] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    for spelled in file.keys():  # noqa: SIM118  not a dict
                        if not _UNUSED.search(spelled):
                            name = _respell(spelled)
                            self._file_of[name] = (path, spelled)
                            shapes[name] = tuple(file.get_slice(spelled).get_shape())
            except (SafetensorError, OSError) as exc:
                raise ModelError(f"{path}: not a readable safetensors file, or cut off ({exc}); get it again") from exc
        self._stacked = {name for name in shapes if name.endswith((".gate_up_proj", ".experts.down_proj"))}
        wanted = {}
        for name, shape in expected_shapes(config).items():
            for theirs, their_shape in self._theirs(name, shape):
                wanted[theirs] = their_shape
        check_tensors(str(folder), wanted, shapes, ignore=[self._names["output"]] if config.tie_embeddings else [])
        self._has_output = self._names["output"] in shapes
        if self._has_output and shapes[self._names["output"]] != (config.vocab_size, config.d_model):
            raise ModelError(f"{folder}: lm_head.weight has shape {shapes[self._names['output']]}")
        self._tied_int8: Int8Linear | None = None

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """See `weights.Weights`."""
        tensor = self._read(name)
        if name.endswith("conv_weight"):
            tensor = tensor[:, 0]  # (E, 1, W) -> (E, W)
        # A tensor that already has dtype and device is copied too: the mapping must not outlive the load.
        return tensor.to(self._device, dtype or self._dtype, copy=True)

    def linears(self, names: Sequence[str], biases: Sequence[str] = ()) -> tuple[Linear, ...]:
        """See `weights.Weights`; always fused into one."""
        parts = [self._read(name) for name in names]
        bias = torch.cat([self.tensor(name) for name in biases]) if biases else None
        return (self._linear(parts, bias, self._quantized(names[0])),)

    def embedding(self) -> Embedding:
        """See `weights.Weights`."""
        if self._quantize in ("int8", "w8a8") and not self._has_output:
            tied = self._tied()
            return lambda ids: tied.weight[ids].to(self._dtype) * tied.scale[ids, None].to(self._dtype)
        self._embed = self.tensor("embed")  # (vocab, D)
        return lambda ids: F.embedding(ids, self._embed)

    def output(self) -> Linear:
        """See `weights.Weights`."""
        quantized = self._quantize in ("int8", "w8a8")
        if self._has_output:
            return self._linear([self._read("output")], None, quantized)
        if quantized:
            return self._tied()
        return DenseLinear(self._embed)

    def _tied(self) -> Int8Linear:
        if self._tied_int8 is None:
            linear = self._linear([self._read("embed")], None, quantized=True, keep_rows=True)
            assert isinstance(linear, Int8Linear)
            self._tied_int8 = linear
        return self._tied_int8

    def _quantized(self, name: str) -> bool:
        if self._quantize == "int8-experts":
            return ".experts." in name
        return self._quantize is not None and not name.endswith(_SMALL)

    def _linear(self, parts: list[Tensor], bias: Tensor | None, quantized: bool, *, keep_rows: bool = False) -> Linear:
        n_out = sum(part.shape[0] for part in parts)
        n_in = parts[0].shape[1]
        weight = torch.empty(n_out, n_in, dtype=torch.int8 if quantized else self._dtype, device=self._device)
        scale = torch.empty(n_out if quantized else 0, dtype=torch.float32, device=self._device)
        row = 0
        while parts:  # each part's mapping goes as soon as it is copied
            for some in torch.split(parts.pop(0), _ROWS):
                rows = slice(row, row + some.shape[0])
                if quantized:
                    weight[rows], scale[rows] = quantize_rows(some)
                else:
                    weight[rows] = some
                row = rows.stop
        if not quantized:
            return DenseLinear(weight, bias)
        if self._quantize == "w8a8" and not keep_rows:
            return PackedLinear(native.pack_int8(weight, scale), None if bias is None else bias.float())
        return Int8Linear(weight, scale, bias)

    def _read(self, name: str) -> Tensor:
        """The tensor as it lies in the file, mapped."""
        expert = re.fullmatch(r"(layers\.\d+\.)experts\.(\d+)\.(gate|up|down)", name)
        (theirs, _), *_ = self._theirs(name, ())
        path, spelled = self._file_of[theirs]
        with safe_open(path, framework="pt") as file:
            if expert is None or theirs not in self._stacked:
                tensor: Tensor = file.get_tensor(spelled)
                return tensor
            rows = file.get_slice(spelled)
            one: Tensor = rows[int(expert[2])]
        if expert[3] == "down":
            return one
        half = self._config.d_ff
        return one[:half] if expert[3] == "gate" else one[half:]

    def _theirs(self, name: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
        """The checkpoint's name for ours, and the shape that it has there."""
        expert = re.fullmatch(r"layers\.(\d+)\.experts\.\d+\.(gate|up|down)", name)
        if expert is not None:
            i, which = expert.groups()
            stacked = self._names["experts"].format(i=i) + ("down_proj" if which == "down" else "gate_up_proj")
            if stacked in self._stacked:
                X, I, D = self._config.n_experts, self._config.d_ff, self._config.d_model  # noqa: E741
                return [(stacked, (X, D, I) if which == "down" else (X, 2 * I, D))]
        if name.endswith(".conv_weight") and shape:
            shape = (shape[0], 1, shape[1])
        return [(hf_name(self._config, name), shape)]


def hf_name(config: DecoderConfig, name: str) -> str:
    """The checkpoint's name for ours; experts one by one, as on the hub."""
    names = _NAMES[config.family]
    layer = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    if layer is None:
        return names[name]
    i, part = layer.groups()
    if part.startswith("experts."):
        _, e, which = part.split(".")
        return f"{names['experts'].format(i=i)}{e}.{_EXPERT[config.family][which]}"
    if part in _MIXER:
        return names["mamba"].format(i=i) + _MIXER[part]
    return names[part].format(i=i)


def _respell(name: str) -> str:
    for theirs, ours in _SPELLINGS:
        name = name.replace(theirs, ours)
    return name
