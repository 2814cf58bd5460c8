"""Matrix products of the decoder: dense, weight-only int8, and quantised weights that stay packed.

A product takes (T, n_in) and gives (T, n_out) in the same dtype. Quantisation is done at load, per output row and
symmetric: scale = max|row| / 127 (as vLLM's ExpertsInt8 does for experts).
"""

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from . import native

__all__ = ["DenseLinear", "Int8Linear", "Linear", "PackedLinear", "quantize_rows"]

_FEW_TOKENS = 8
"""Up to so many tokens a product is bound by reading its weights, and our own kernels read them faster."""


class Linear(Protocol):
    """A matrix product with its weights."""

    n_in: int
    n_out: int

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """(T, n_in) -> (T, n_out)."""
        ...


class DenseLinear:
    """Weights as they are.

    Args:
        weight: (n_out, n_in)
        bias: (n_out,) or None
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.n_out, self.n_in = weight.shape
        self.weight = weight
        self.bias = bias
        self._native = native.has_bf16_gemv() and weight.device.type == "cpu" and weight.dtype == torch.bfloat16

    @property
    def nbytes(self) -> int:
        """Bytes of weights and bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, n_in) -> (T, n_out)."""
        if self._native and x.shape[0] <= _FEW_TOKENS:
            return native.gemv_bf16(x, self.weight, self.bias)
        return F.linear(x, self.weight, self.bias)


class Int8Linear:
    """Weight-only int8: activations keep their dtype.

    Args:
        weight: (n_out, n_in) int8
        scale: (n_out,) fp32
        bias: (n_out,) or None
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
        self.n_out, self.n_in = weight.shape
        self.weight = weight
        self.scale = scale
        self.bias = bias
        self._native = native.is_available() and weight.device.type == "cpu"

    @property
    def nbytes(self) -> int:
        """Bytes of weights, scales and bias."""
        return self.weight.nbytes + self.scale.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, n_in) -> (T, n_out)."""
        if self._native and x.shape[0] <= _FEW_TOKENS:
            return native.gemv_int8(x, self.weight, self.scale, self.bias)
        # int8 values are exact in bf16, so that only the product's own rounding is left; the widened copy lives for
        # one product.
        y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias


class PackedLinear:
    """Weights of 4 or 8 bits in groups, packed for the native kernel; activations are rounded to int8 per 32 values.

    Args:
        packed: See `native.PackedWeight`.
        bias: (n_out,) fp32, or None
    """

    def __init__(self, packed: "native.PackedWeight", bias: Tensor | None = None) -> None:
        self.n_out, self.n_in = packed.n_out, packed.n_in
        self.packed = packed
        self.bias = bias

    @property
    def nbytes(self) -> int:
        """Bytes of weights, scales and bias."""
        return self.packed.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        """(T, n_in) -> (T, n_out)."""
        return native.packed_linear(x, self.packed, self.bias)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each output row to int8.

    Args:
        weight: (..., n_out, n_in), finite

    Returns:
        (..., n_out, n_in) int8 and the rows' scales (..., n_out) fp32; weight ≈ int8 × scale.
    """
    wide = weight.float()
    scale = wide.abs().amax(-1) / 127  # (..., n_out)
    divisor = torch.where(scale > 0, scale, 1)
    return torch.round(wide / divisor[..., None]).to(torch.int8), scale
