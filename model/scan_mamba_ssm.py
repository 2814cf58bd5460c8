"""The selective scan and its convolution by the published CUDA kernels, mamba-ssm and causal-conv1d.

That scan starts from zero and can't be given a state. The recurrence is linear in it, so what the state contributes is
added afterwards: with S_t = Σ_{i≤t} dt_i, it is C·exp(A·S_t)·state to y_t, and exp(A·S_L)·state to the last state. As
A < 0 and S ≥ 0 no exponent is above zero. The kernel is therefore called without its gate, and in fp32, so that y is
rounded once, after both parts are in it. A single token goes to mamba-ssm's decoding kernel, which does take a state.

Layouts differ: theirs are (batch, E, L) and (E, N), ours (L, E) and (N, E). Both libraries need an NVIDIA GPU even to
be imported; that is done when they are first used. Letters as in selective_scan.py.

Source: state-spaces/mamba, selective_scan_interface.py and selective_state_update.py; Dao-AILab/causal-conv1d,
causal_conv1d_interface.py.
"""

from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from longleaf.errors import MissingExtraError

__all__ = ["causal_conv1d_mamba_ssm", "is_available", "selective_scan_mamba_ssm"]

_SCAN = "mamba_ssm.ops.selective_scan_interface"
_UPDATE = "mamba_ssm.ops.triton.selective_state_update"
_CONV = "causal_conv1d"


def is_available() -> bool:
    """Whether there is a CUDA device and both libraries import."""
    if not torch.cuda.is_available():
        return False
    try:
        for module in (_SCAN, _UPDATE, _CONV):
            import_module(module)
    except ImportError:
        return False
    return True


def selective_scan_mamba_ssm(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor, state: Tensor
) -> Tensor:
    """Scan a chunk; `selective_scan_ref` describes the arguments.

    Returns:
        (L, E) in the dtype of `x`.

    Raises:
        MissingExtraError: mamba-ssm is not installed, or does not import here.
    """
    if x.shape[0] == 1:
        update = _load(_UPDATE, "selective_state_update")
        one: Tensor = update(state.T[None], x, dt, A.T, B, C, D, z=z, dt_bias=dt_bias, dt_softplus=True)
        return one  # (1, E)
    scan = _load(_SCAN, "selective_scan_fn")
    u, delta, B_first, C_first = (_channels_first(rows) for rows in (x, dt, B, C))  # (1, E, L) and (1, N, L), fp32
    out, last = scan(
        u, delta, A.T, B_first, C_first, D, z=None, delta_bias=dt_bias, delta_softplus=True, return_last_state=True
    )  # (1, E, L), (1, E, N) fp32
    y: Tensor = out[0].T.contiguous()  # (L, E) fp32
    if state.any():
        total = F.softplus(dt.float() + dt_bias).cumsum(0)  # S, (L, E) fp32
        for n in range(A.shape[0]):  # a state dimension at a time: (L, N, E) would not fit
            y.addcmul_(C[:, n, None].float(), torch.exp(total * A[n]).mul_(state[n]))
        state.mul_(torch.exp(total[-1] * A))
    state.add_(last[0].T)
    return y.mul_(F.silu(z.float())).to(x.dtype)


def causal_conv1d_mamba_ssm(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor) -> Tensor:
    """Depthwise causal convolution and silu; `causal_conv1d_ref` describes the arguments.

    The kernel for whole chunks wants E to be a multiple of 8.

    Returns:
        (L, E) in the dtype of `x`.

    Raises:
        MissingExtraError: causal-conv1d is not installed, or does not import here.
    """
    if bias is not None:  # the kernels want one dtype for both
        dtype = torch.promote_types(weight.dtype, bias.dtype)
        weight, bias = weight.to(dtype), bias.to(dtype)
    if x.shape[0] == 1 and state.dtype == x.dtype:
        update = _load(_CONV, "causal_conv1d_update")
        one: Tensor = update(x, state.T[None], weight.T, bias, activation="silu")
        return one  # (1, E)
    conv = _load(_CONV, "causal_conv1d_fn")
    # The tokens before go in front of the chunk and their outputs are dropped. The kernel knows states too, but can't
    # write the new one over the old.
    padded = torch.cat([state.to(x.dtype), x])  # (W-1+L, E)
    before = state.shape[0]
    state.copy_(padded[padded.shape[0] - before :])
    y: Tensor = conv(padded.T[None], weight.T, bias, activation="silu")[0].T[before:]
    return y


def _channels_first(rows: Tensor) -> Tensor:
    """(L, E) to (1, E, L) in fp32, in one copy."""
    L, E = rows.shape
    return torch.empty((1, E, L), dtype=torch.float32, device=rows.device).copy_(rows.T)


def _load(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except ImportError as exc:
        raise MissingExtraError(
            f"{module} does not import here ({exc}): pip install --no-build-isolation 'longleaf[mamba]'"
        ) from exc
