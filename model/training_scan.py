"""The selective scan for training: the same recurrence as `selective_scan.py`, over a batch, with a backward pass.

    s[t] = exp(dt[t]·A)·s[t-1] + (dt[t]·x[t])·B[t];  y[t] = Σ_n C[t]·s[t]

Autograd over a loop would keep every step's intermediates and run a dozen small operations for each. Here time is cut
into blocks whose states fit the processor's cache: within a block everything but the recurrence is one operation over
all its steps, and the recurrence one fused multiply-add a step, in either direction. Forward keeps the states between
blocks; backward works out a block's states again from the one before it. Memory is O(blocks) states instead of O(L).

Letters: L length, N d_state, E d_inner; batch is written out. The gradient of the recurrence is the same recurrence
backwards: g[t] = C[t]·gy[t] + exp(dt[t+1]·A)·g[t+1], where g is the gradient of s. Source of the forward equations: Gu
and Dao 2023, arXiv:2312.00752, algorithm 2; recomputing instead of storing is the idea of their section 3.3.2.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["selective_scan"]

_BLOCK_VALUES = 1 << 17
"""State values of a block's steps together: half a MiB in fp32, of which a few lie in a core's cache."""


def selective_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Scan whole sequences from empty states; differentiable once in every argument.

    Skip and gate are left to the caller, whom autograd serves well there. All arguments are of one dtype.

    Args:
        x: Output of the convolution. (batch, L, E)
        dt: Step sizes, after bias and softplus. (batch, L, E)
        A: -exp(A_log), transposed. (N, E)
        B: Input weights. (batch, L, N)
        C: Output weights. (batch, L, N)

    Returns:
        (batch, L, E)
    """
    x, dt, B, C = (part.transpose(0, 1) for part in (x, dt, B, C))
    y: Tensor = _Scan.apply(x, dt, A, B, C)  # type: ignore[no-untyped-call]
    return y.transpose(0, 1)


class _Scan(torch.autograd.Function):
    """Time first: x, dt (L, batch, E); A (N, E); B, C (L, batch, N)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        x, dt, A, B, C = (part.contiguous() for part in (x, dt, A, B, C))
        state = x.new_zeros(x.shape[1], *A.shape)  # (batch, N, E)
        y, kept = torch.empty_like(x), []
        for block in _blocks(x, A):
            kept.append(state)
            states, _ = _states(x[block], dt[block], A, B[block], state)  # (l, batch, N, E)
            y[block] = _over_n(C[block], states)
            state = states[-1].clone()  # not a view that keeps the block
        ctx.save_for_backward(x, dt, A, B, C, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, B, C, *kept = ctx.saved_tensors
        gy = gy.contiguous()
        gx, gdt, gA, gB, gC = (torch.zeros_like(part) for part in (x, dt, A, B, C))
        carried = torch.zeros_like(kept[0])  # exp(dt·A)·g of the step after. (batch, N, E)
        for block, before in reversed(list(zip(_blocks(x, A), kept, strict=True))):
            x_, dt_, B_, C_, gy_ = x[block], dt[block], B[block], C[block], gy[block]
            states, decay = _states(x_, dt_, A, B_, before)  # (l, batch, N, E) each
            gC[block] = _over_e(states, gy_)
            g = C_[..., None] * gy_[:, :, None]  # (l, batch, N, E), and now backwards
            g[-1] += carried
            steps, factors = g.unbind(), decay.unbind()
            for now, after, factor in zip(steps[-2::-1], steps[:0:-1], factors[:0:-1], strict=True):
                now.addcmul_(factor, after)
            carried = decay[0] * g[0]
            gB[block] = _over_e(g, dt_ * x_)
            gdtx = _over_n(B_, g)  # of the product dt·x. (l, batch, E)
            gx[block] = gdtx * dt_
            # g becomes the gradient of the exponent dt·A: g·s[t-1]·exp(dt·A)
            g *= decay
            g[1:] *= states[:-1]
            g[0] *= before
            gdt[block] = torch.linalg.vecdot(g, A, dim=-2) + gdtx * x_
            gA += torch.linalg.vecdot(g.flatten(0, 1), dt_.flatten(0, 1)[:, None], dim=0)
        return gx, gdt, gA, gB, gC


def _blocks(x: Tensor, A: Tensor) -> list[slice]:
    """Runs of steps whose states together are about `_BLOCK_VALUES`; at least one step each."""
    steps = max(1, _BLOCK_VALUES // (x.shape[1] * A.numel()))
    return [slice(start, start + steps) for start in range(0, x.shape[0], steps)]


def _states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """States after each step of a block, and the factors exp(dt·A): (l, batch, N, E) each."""
    decay = torch.exp_(dt[:, :, None] * A)
    states = B[..., None] * (dt * x)[:, :, None]
    for now, factor in zip(states.unbind(), decay.unbind(), strict=True):
        now.addcmul_(factor, before)
        before = now
    return states, decay


def _over_n(weights: Tensor, states: Tensor) -> Tensor:
    """Σ_n weights·states: (l, batch, N), (l, batch, N, E) -> (l, batch, E)."""
    return (weights[:, :, None] @ states)[:, :, 0]


def _over_e(states: Tensor, values: Tensor) -> Tensor:
    """Σ_e states·values: (l, batch, N, E), (l, batch, E) -> (l, batch, N)."""
    return (states @ values[..., None])[..., 0]
