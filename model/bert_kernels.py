"""The embedder's encoder in int8, by csrc/bert.c: same hidden states as `bert.DenseEncoder` but for rounding.

Matrix products are the decoder's with packed weights (native.py): weights and activations are int8 with a scale per 32
values. One scale per row of weights is not enough here: all-MiniLM-L6-v2 has a few large columns, and passages full of
dots fell to a cosine of 0.991 with their fp32 vectors. Attention multiplies in bf16 where the processor does; all else
is fp32. Texts lie end to end without padding. Knows nothing of text and tokenizers.
"""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longleaf.errors import ModelError

from . import native

if TYPE_CHECKING:
    from .bert import BertConfig

__all__ = ["Int8Encoder", "is_fast", "is_supported"]

_V = 16  # lanes of a vector in csrc
_GROUP = 32  # values of a weight that share a scale
_PART_TOKENS = 256
"""A thread's piece of work: enough for reading the weights, from the second cache or the third, not to matter."""


class _Layer(ctypes.Structure):
    """`Layer` of csrc/bert.c."""

    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            "qkv", "attention_out", "up", "down", "qkv_bias", "attention_out_bias", "up_bias", "down_bias",
            "attention_norm", "attention_norm_bias", "output_norm", "output_norm_bias",
        )
    )  # fmt: skip


class _Encoder(ctypes.Structure):
    """`Encoder` of csrc/bert.c."""

    _fields_ = (
        ("word", ctypes.c_void_p),
        ("position", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("norm_bias", ctypes.c_void_p),
        ("layers", ctypes.POINTER(_Layer)),
        ("n_layers", ctypes.c_int64),
        ("D", ctypes.c_int64),
        ("F", ctypes.c_int64),
        ("H", ctypes.c_int64),
        ("eps", ctypes.c_float),
    )


def is_supported(config: "BertConfig") -> bool:
    """Whether the kernels are built and cover this shape."""
    return (
        native.is_available()
        and hasattr(native._lib(), "ll_bert_encode")  # a checkout's builds may be older than its sources
        and config.d_model % _GROUP == config.d_ff % _GROUP == 0
        and config.d_model // config.n_heads % _V == 0
    )


def is_fast() -> bool:
    """Whether int8 is the quickest here: where the processor multiplies int8 in vectors of 512 bits."""
    return native.instruction_set() == "avx512"


class Int8Encoder:
    """Makes vectors of token ids, in int8.

    Args:
        config: The model's shape; see `is_supported`.
        weights: As for `bert.DenseEncoder`, fp32.

    Raises:
        ModelError: The kernels are not built or do not cover the shape.
    """

    dtype = torch.int8

    def __init__(self, config: "BertConfig", weights: dict[str, Tensor]) -> None:
        if not is_supported(config):
            raise ModelError(
                f"int8 needs the CPU kernels (a C compiler at installation), d_model and d_ff that are multiples of"
                f" {_GROUP} and heads of a multiple of {_V} values, here {config}; use torch.float32 or torch.bfloat16"
            )
        self.config = config
        self._weights = weights
        self._kept: list[object] = []  # what the structures below point to
        D, F = config.d_model, config.d_ff
        position = self._weight("embeddings.position_embeddings.weight", config.max_positions, D)
        self._c = _Encoder(
            self._keep("embeddings.word_embeddings.weight", config.vocab_size, D),
            self._address(position + weights["embeddings.token_type_embeddings.weight"][0]),
            self._keep("embeddings.LayerNorm.weight", D),
            self._keep("embeddings.LayerNorm.bias", D),
            (_Layer * config.n_layers)(*(self._layer(f"encoder.layer.{i}", D, F) for i in range(config.n_layers))),
            config.n_layers,
            D,
            F,
            config.n_heads,
            config.layer_norm_eps,
        )
        del self._weights

    def _layer(self, name: str, D: int, F: int) -> _Layer:
        products = {"qkv": (3 * D, D), "attention.output.dense": (D, D), "intermediate.dense": (F, D),
                    "output.dense": (D, F)}  # fmt: skip
        norms = [f"{name}.{part}.LayerNorm" for part in ("attention.output", "output")]
        return _Layer(
            *(self._pack(f"{name}.{part}.weight", *shape) for part, shape in products.items()),
            *(self._keep(f"{name}.{part}.bias", n_out) for part, (n_out, _) in products.items()),
            *(self._keep(f"{norm}.{kind}", D) for norm in norms for kind in ("weight", "bias")),
        )

    def _weight(self, name: str, *shape: int) -> Tensor:
        """A tensor of exactly this shape: the kernels read as far as the shape says."""
        weight = self._weights[name]
        if weight.shape != shape:
            raise ModelError(f"tensor {name} has shape {tuple(weight.shape)}, by config.json it has {shape}")
        return weight

    def _keep(self, name: str, *shape: int) -> int:
        return self._address(self._weight(name, *shape))

    def _address(self, tensor: Tensor) -> int:
        tensor = tensor.float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _pack(self, name: str, n_out: int, n_in: int) -> int:
        packed = native.pack_gguf("Q8_0", _q8_0(self._weight(name, n_out, n_in)), n_out, n_in)
        self._kept.append(packed)
        return ctypes.addressof(packed._c)

    @property
    def batch_tokens(self) -> int:
        """Tokens of one call: enough that threads which end early do not wait long."""
        return 2048 * max(4, torch.get_num_threads())

    def vectors(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """The mean of the last layer over each text's tokens, of length 1.

        Args:
            tokens: Ids of each text, at least one; longest first is quickest.

        Returns:
            (n, D) fp32

        Raises:
            ValueError: A text without tokens, of more than the model has positions, or with an id that it lacks.
        """
        lengths = [len(text) for text in tokens]
        if not 0 < min(lengths) <= max(lengths) <= self.config.max_positions:
            raise ValueError(
                f"texts must have 1 to {self.config.max_positions} tokens, here {min(lengths)} to {max(lengths)}"
            )
        starts = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        ids = np.fromiter((token for text in tokens for token in text), np.int32, int(starts[-1]))
        if not 0 <= ids.min() <= ids.max() < self.config.vocab_size:
            raise ValueError(
                f"token ids must be 0 to {self.config.vocab_size - 1}, here {ids.min()} to {ids.max()}; the tokenizer"
                " is not this model's"
            )
        parts = _parts(lengths, torch.get_num_threads())
        out = np.empty((len(tokens), self.config.d_model), dtype=np.float32)
        failed = native._lib().ll_bert_encode(
            ctypes.byref(self._c), _array(ids), _array(starts), _array(parts), ctypes.c_int64(len(parts) - 1),
            _array(out), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise ModelError("out of memory while embedding; close other programs or embed fewer texts at a time")
        return out


def _q8_0(weight: Tensor) -> Tensor:
    """The matrix as GGUF's Q8_0: per 32 values an fp16 scale and 32 int8, as bytes."""
    groups = weight.float().view(weight.shape[0], -1, _GROUP)  # (n_out, n_in / 32, 32)
    scale = (groups.abs().amax(-1, keepdim=True) / 127).half()  # (n_out, n_in / 32, 1) fp16
    divisor = torch.where(scale > 0, scale, 1).float()
    values = (groups / divisor).round_().clamp_(-127, 127).to(torch.int8)
    return torch.cat([scale.view(torch.uint8), values.view(torch.uint8)], dim=-1).flatten()


def _parts(lengths: Sequence[int], n_threads: int) -> NDArray[np.int64]:
    """Where each thread's next piece of work begins: texts of 256 tokens together, of fewer where there are few."""
    most = min(_PART_TOKENS, max(32, sum(lengths) // (4 * n_threads)))
    begins, in_part = [0], 0
    for index, length in enumerate(lengths):
        if in_part and in_part + length > most:
            begins.append(index)
            in_part = 0
        in_part += length
    return np.array([*begins, len(lengths)], dtype=np.int64)


def _array(values: NDArray[np.int32] | NDArray[np.int64] | NDArray[np.float32]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)
