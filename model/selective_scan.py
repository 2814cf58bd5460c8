"""The selective scan of Mamba-1 and the causal convolution before it: the plain versions that every kernel is held to.

    dt = softplus(dt + dt_bias);  s = exp(dt·A)·s + (dt·x)·B;  y = Σ_n C·s + D·x;  y = y·silu(z)

Both take up a state and leave it as it is after the last token, so that a sequence may be read in chunks of any
length. Sequential in time, O(chunk) memory; a decode step is a chunk of one token. A batch is one call per sequence:
the products around the scan are where batching pays.

Letters: L chunk length, E d_inner, N d_state, W d_conv. States are stored with E last, (N, E) and (W-1, E), so that
neighbouring channels lie side by side in memory. Source: Gu and Dao 2023, arXiv:2312.00752, algorithm 2; softplus and
D·x as in state-spaces/mamba's `selective_scan_ref`, which has no initial state.
"""

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

__all__ = ["CausalConv", "SelectiveScan", "causal_conv1d_ref", "selective_scan_ref"]


class SelectiveScan(Protocol):
    """What all scan kernels have in common; see `selective_scan_ref`."""

    def __call__(
        self, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor,
        state: Tensor,
    ) -> Tensor:  # fmt: skip
        """The gated output (L, E); `state` moves on."""


class CausalConv(Protocol):
    """What all convolution kernels have in common; see `causal_conv1d_ref`."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor) -> Tensor:
        """The activated output (L, E); `state` moves on."""


def selective_scan_ref(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor, state: Tensor
) -> Tensor:
    """Scan a chunk, in fp32 whatever the inputs' dtype.

    Args:
        x: Output of the convolution. (L, E); rows may be strided
        dt: Step sizes before bias and softplus. (L, E)
        A: -exp(A_log), transposed. (N, E) fp32
        B: Input weights. (L, N)
        C: Output weights. (L, N)
        D: Skip weights. (E,) fp32
        z: Gate, before silu. (L, E); rows may be strided
        dt_bias: (E,) fp32
        state: Before the chunk; overwritten with the state after it. (N, E) fp32

    Returns:
        (L, E) in the dtype of `x`.
    """
    xf, B, C = x.float(), B.float(), C.float()
    dt = F.softplus(dt.float() + dt_bias)  # (L, E) fp32; PyTorch's threshold is 20, as mamba-ssm's
    dtx = dt * xf  # (L, E)
    y = torch.empty_like(xf)
    for t in range(x.shape[0]):
        state.mul_(torch.exp(dt[t] * A)).addcmul_(B[t, :, None], dtx[t])  # (N, E)
        torch.mv(state.T, C[t], out=y[t])
    y = (y + D * xf) * F.silu(z.float())
    return y.to(x.dtype)


def causal_conv1d_ref(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor) -> Tensor:
    """Depthwise causal convolution and silu, in fp32 whatever the inputs' dtype.

    Args:
        x: The chunk. (L, E); rows may be strided
        weight: Taps, oldest first: conv1d.weight (E, 1, W) transposed. (W, E)
        bias: (E,) or None
        state: The last W-1 inputs before the chunk, oldest first; overwritten with the last W-1 after it, of which a
            chunk shorter than W-1 keeps some. (W-1, E)

    Returns:
        (L, E) in the dtype of `x`.
    """
    taps = weight.shape[0]
    padded = torch.cat([state.to(x.dtype), x])  # (W-1+L, E)
    state.copy_(padded[padded.shape[0] - taps + 1 :])
    y = torch.zeros(x.shape, dtype=torch.float32, device=x.device)  # (L, E) fp32
    for i in range(taps):
        y += padded[i : i + x.shape[0]].float() * weight[i].float()
    if bias is not None:
        y = y + bias.float()
    return F.silu(y).to(x.dtype)
