"""The decoder's weights by one set of names, whatever the checkpoint calls them, and the check that all are there.

Names here: `embed`, `final_norm`, `output`, and for each layer `layers.{i}.` + `mixer_norm`, `q k v o`, `in_proj
conv_weight conv_bias x_proj dt_norm b_norm c_norm dt_proj dt_bias A_log D out_proj`, `network_norm`, `gate up down`,
`router`, `experts.{e}.{gate,up,down}`. Matrices are (n_out, n_in).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from longleaf.errors import ModelError

from .config import DecoderConfig
from .decoder import Embedding
from .linear import Linear

__all__ = ["Weights", "check_tensors", "expected_shapes"]

_LISTED = 12
"""Tensors named in an error; the rest are counted."""


class Weights(Protocol):
    """A checkpoint, opened."""

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor on the decoder's device; in the decoder's dtype if none is given."""
        ...

    def linears(self, names: Sequence[str], biases: Sequence[str] = ()) -> tuple[Linear, ...]:
        """Products that read the same input: fused into one where their form allows it, else one for each name."""
        ...

    def embedding(self) -> Embedding:
        """Token ids to vectors."""
        ...

    def output(self) -> Linear:
        """The product with the output matrix, or with the embedding where they are tied."""
        ...


def expected_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that a model of this shape has, `output` apart: a tied model may come with or without it."""
    D, E, N, R, I = config.d_model, config.d_inner, config.d_state, config.dt_rank, config.d_ff  # noqa: E741
    H, K, hd = config.n_heads, config.n_kv_heads, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab_size, D), "final_norm": (D,)}
    if not config.tie_embeddings:
        shapes["output"] = (config.vocab_size, D)
    attention = {"q": (H * hd, D), "k": (K * hd, D), "v": (K * hd, D), "o": (D, H * hd)}
    biases = {"q_bias": (H * hd,), "k_bias": (K * hd,), "v_bias": (K * hd,)} if config.qkv_bias else {}
    mamba: dict[str, tuple[int, ...]] = {
        "in_proj": (2 * E, D),
        "conv_weight": (E, config.d_conv),
        "x_proj": (R + 2 * N, E),
        "dt_proj": (E, R),
        "dt_bias": (E,),
        "A_log": (E, N),
        "D": (E,),
        "out_proj": (D, E),
    }
    if config.conv_bias:
        mamba["conv_bias"] = (E,)
    if config.mamba_norms:
        mamba |= {"dt_norm": (R,), "b_norm": (N,), "c_norm": (N,)}
    dense = {"gate": (I, D), "up": (I, D), "down": (D, I)}
    for i in range(config.n_layers):
        layer: dict[str, tuple[int, ...]] = {"mixer_norm": (D,)}
        layer |= attention | biases if config.layer_kinds[i] == "attention" else mamba
        if config.d_ff:
            layer["network_norm"] = (D,)
            if config.moe_layers[i]:
                layer["router"] = (config.n_experts, D)
                for e in range(config.n_experts):
                    layer |= {f"experts.{e}.{name}": shape for name, shape in dense.items()}
            else:
                layer |= dense
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def check_tensors(
    where: str, wanted: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]], ignore: Sequence[str] = ()
) -> None:
    """Compare what a checkpoint has with what the config asks for, under the checkpoint's own names.

    Args:
        where: The file or folder, for the message.
        wanted: Name to shape.
        there: Name to shape.
        ignore: Names that may be there and are not used.

    Raises:
        ModelError: One message that lists every missing, misshapen and unknown tensor.
    """
    missing = sorted(wanted.keys() - there.keys())
    unknown = sorted(there.keys() - wanted.keys() - set(ignore))
    misshapen = sorted(name for name in wanted.keys() & there.keys() if tuple(there[name]) != tuple(wanted[name]))
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing: {_some([f'{name} {_shape(wanted[name])}' for name in missing])}")
    if misshapen:
        described = [f"{name} is {_shape(there[name])} instead of {_shape(wanted[name])}" for name in misshapen]
        problems.append(f"{len(misshapen)} of another shape: {_some(described)}")
    if unknown:
        problems.append(f"{len(unknown)} unknown: {_some([f'{name} {_shape(there[name])}' for name in unknown])}")
    if problems:
        raise ModelError(f"{where}: the tensors do not fit the config. " + "; ".join(problems))


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _some(items: list[str]) -> str:
    rest = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
