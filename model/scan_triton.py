"""The selective scan and its convolution as Triton kernels, the same sums as in selective_scan.py.

The scan reads each input once: one program takes a block of channels through the whole chunk, their state in
registers, with softplus, D·x and the gate on the way. Source: Gu and Dao 2023, arXiv:2312.00752, section 3.3.2. It
differs from the published kernel in taking up a state, and in walking the tokens in order, so that a chunk's length
does not change the order of any sum.

Triton is imported when a kernel is first called. It then decides, by TRITON_INTERPRET, whether the kernels are compiled
for the GPU or run by its interpreter on the CPU.

Letters as in selective_scan.py.
"""

from __future__ import annotations  # Triton reads a kernel's annotations as text; `tl` is bound later

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, no_type_check

import torch
from torch import Tensor

from longleaf.errors import MissingExtraError

__all__ = ["causal_conv1d_triton", "is_available", "selective_scan_triton"]

tl: Any = None  # triton.language once a kernel was called; Triton looks the name up in this module


def is_available() -> bool:
    """Whether Triton is installed; the kernels also need their tensors on a GPU, or TRITON_INTERPRET=1."""
    return find_spec("triton") is not None


def selective_scan_triton(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor, state: Tensor
) -> Tensor:
    """Scan a chunk; `selective_scan_ref` describes the arguments.

    Returns:
        (L, E) in the dtype of `x`.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    kernel, _ = _kernels()
    (length, d_inner), d_state = x.shape, A.shape[0]
    x, dt, B, C, z = (_packed(rows) for rows in (x, dt, B, C, z))
    y = torch.empty((length, d_inner), dtype=x.dtype, device=x.device)
    # One warp, as the sum over d_state would cross warps through shared memory; and four bytes of x to a thread, the
    # least that the GPU copies ahead of its use.
    block = 128 // x.element_size()
    with torch.cuda.device(x.get_device()):  # -1 on the CPU, which leaves things as they are
        kernel[((d_inner + block - 1) // block,)](
            x, dt, A, B, C, D.contiguous(), z, dt_bias.contiguous(), state, y,
            length, d_inner, d_state,
            x.stride(0), dt.stride(0), A.stride(0), A.stride(1), B.stride(0), C.stride(0), z.stride(0),
            state.stride(0), state.stride(1),
            BLOCK_E=block, BLOCK_N=1 << (d_state - 1).bit_length(), num_warps=1,
        )  # fmt: skip
    return y


def causal_conv1d_triton(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor) -> Tensor:
    """Depthwise causal convolution and silu; `causal_conv1d_ref` describes the arguments.

    Returns:
        (L, E) in the dtype of `x`.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    _, kernel = _kernels()
    (length, d_inner), before = x.shape, state.shape[0]
    x, state_before = _packed(x), state.to(x.dtype).contiguous()
    y = torch.empty((length, d_inner), dtype=x.dtype, device=x.device)
    block_l, block_e = min(16, 1 << (length - 1).bit_length()), 128
    with torch.cuda.device(x.get_device()):
        kernel[((length + block_l - 1) // block_l, (d_inner + block_e - 1) // block_e)](
            x, weight, None if bias is None else bias.contiguous(), state_before, y,
            length, d_inner, x.stride(0), weight.stride(0), weight.stride(1),
            W=before + 1, BLOCK_L=block_l, BLOCK_E=block_e,
        )  # fmt: skip
    # After the launch, on the same stream: every program reads the taps from before.
    state.copy_(torch.cat([state_before, x[max(0, length - before) :]])[-before:])
    return y


def _packed(rows: Tensor) -> Tensor:
    """The kernels take rows at any distance, but the numbers of a row side by side."""
    return rows if rows.stride(-1) == 1 else rows.contiguous()


@cache
def _kernels() -> tuple[Any, Any]:
    global tl
    try:
        triton, tl = import_module("triton"), import_module("triton.language")
    except ImportError as exc:
        raise MissingExtraError("the Triton kernels need triton: pip install 'longleaf[gpu]'") from exc
    # One kernel for every length: a chunk of one token would otherwise be compiled apart, and could round differently.
    jit = triton.jit(do_not_specialize=["L"])
    return jit(_scan_kernel), jit(_conv_kernel)


@no_type_check
def _scan_kernel(
    x, dt, A, B, C, D, z, dt_bias, state, y,
    L, E, N,
    x_row, dt_row, A_row, A_column, B_row, C_row, z_row, state_row, state_column,
    BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    e, n = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_N)
    in_e, in_n = e < E, n < N
    in_tile = in_n[:, None] & in_e[None, :]
    states = state + n[:, None] * state_row + e[None, :] * state_column
    s = tl.load(states, mask=in_tile, other=0.0)  # (N, E) fp32
    a = tl.load(A + n[:, None] * A_row + e[None, :] * A_column, mask=in_tile, other=0.0)
    d, bias = tl.load(D + e, mask=in_e, other=0.0), tl.load(dt_bias + e, mask=in_e, other=0.0)
    # The pointers walk, as t times a row's length may pass 2**31.
    x, dt, z, y, B, C = x + e, dt + e, z + e, y + e, B + n, C + n
    for _ in tl.range(0, L, num_stages=4):  # loads run ahead of the sums that wait for the state
        xt = tl.load(x, mask=in_e, other=0.0).to(tl.float32)
        zt = tl.load(z, mask=in_e, other=0.0).to(tl.float32)
        bt = tl.load(B, mask=in_n, other=0.0).to(tl.float32)
        ct = tl.load(C, mask=in_n, other=0.0).to(tl.float32)
        # softplus(v) = max(v, 0) + log(1 + w), w = exp(-|v|), to full precision also where 1 + w rounds w away; past
        # the reference's threshold of 20 the logarithm is below half a unit in the last place of v.
        v = tl.load(dt, mask=in_e, other=0.0).to(tl.float32) + bias
        w = tl.exp(-tl.abs(v))
        u = 1.0 + w
        dtt = tl.maximum(v, 0.0) + (tl.log(u) + (w - (u - 1.0)) / u)
        s = tl.exp(dtt[None, :] * a) * s + bt[:, None] * (dtt * xt)[None, :]
        yt = tl.sum(s * ct[:, None], axis=0) + d * xt
        tl.store(y, (yt * (zt * tl.sigmoid(zt))).to(y.dtype.element_ty), mask=in_e)
        x, dt, z, y, B, C = x + x_row, dt + dt_row, z + z_row, y + E, B + B_row, C + C_row
    tl.store(states, s, mask=in_tile)


@no_type_check
def _conv_kernel(
    x, weight, bias, state, y,
    L, E, x_row, weight_row, weight_column,
    W: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    t = (tl.program_id(0) * BLOCK_L + tl.arange(0, BLOCK_L)).to(tl.int64)[:, None]  # t times a row's length is long
    e = (tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E))[None, :]
    in_e = e < E
    total = tl.zeros((BLOCK_L, BLOCK_E), tl.float32)
    for i in tl.static_range(W):
        at = t + i - (W - 1)  # the token under tap i; those before the chunk are in the state
        old = tl.load(state + (at + (W - 1)) * E + e, mask=(at < 0) & in_e, other=0.0)
        new = tl.load(x + at * x_row + e, mask=(at >= 0) & (at < L) & in_e, other=0.0)
        tap = tl.load(weight + i * weight_row + e * weight_column, mask=in_e, other=0.0)
        total += tl.where(at < 0, old, new).to(tl.float32) * tap.to(tl.float32)
    if bias is not None:
        total += tl.load(bias + e, mask=in_e, other=0.0).to(tl.float32)
    tl.store(y + t * E + e, (total * tl.sigmoid(total)).to(y.dtype.element_ty), mask=(t < L) & in_e)
