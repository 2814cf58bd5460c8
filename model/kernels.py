"""The operations between the matrix products: plain PyTorch versions, and the choice of a faster one for a device.

Every operation has a version here that runs anywhere; `native.py` (CPU), `scan_triton.py` and `scan_mamba_ssm.py`
(CUDA) replace those that they can. Products themselves are in `linear.py`.

Letters: T tokens, D width, H query heads, K kv heads, G = H / K, hd head_dim, R dt_rank, N d_state, I d_ff.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from .selective_scan import CausalConv, SelectiveScan, causal_conv1d_ref, selective_scan_ref
from .state import KVCache

__all__ = [
    "REFERENCE",
    "Kernels",
    "attend_ref",
    "choose_kernels",
    "dt_b_c_ref",
    "rms_norm_ref",
    "rope_ref",
    "silu_mul_ref",
]

logger = logging.getLogger(__name__)


def rms_norm_ref(x: Tensor, weight: Tensor, eps: float, delta: Tensor | None = None) -> Tensor:
    """RMSNorm of the residual stream, after adding to it what a layer made.

    Args:
        x: The stream; `delta` is added in place. (T, D)
        weight: (D,)
        eps: Added under the root.
        delta: (T, D), or None

    Returns:
        (T, D)
    """
    if delta is not None:
        x += delta
    xf = x.float()
    return (xf * torch.rsqrt(xf.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def silu_mul_ref(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up. (T, I) each, rows may be strided -> (T, I)."""
    return F.silu(gate) * up


def dt_b_c_ref(
    projected: Tensor, norms: tuple[Tensor, Tensor, Tensor] | None, eps: float, d_state: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Split x_proj's output into dt, B and C, and normalise each (Jamba) or leave them (Mamba: `norms` is None).

    Args:
        projected: (T, R + 2N)
        norms: Weights for dt (R,), B (N,) and C (N,).
        eps: Of the norms.
        d_state: N.

    Returns:
        dt (T, R) in the model's dtype; B and C (T, N), fp32.
    """
    parts = torch.split(projected, [projected.shape[-1] - 2 * d_state, d_state, d_state], dim=-1)
    if norms is not None:
        parts = tuple(rms_norm_ref(part, weight, eps) for part, weight in zip(parts, norms, strict=True))
    dt, B, C = parts
    return dt, B.float(), C.float()


def rope_ref(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate the two halves of each head, in place.

    Args:
        x: (T, heads, hd); tokens may be strided
        cos: (T, hd / 2) fp32
        sin: (T, hd / 2) fp32
    """
    half = x.shape[-1] // 2
    first, second = x[..., :half].float(), x[..., half:].float()  # (T, heads, hd / 2)
    cos, sin = cos[:, None], sin[:, None]
    x.copy_(torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1))


def attend_ref(q: Tensor, cache: KVCache) -> Tensor:
    """Causal attention of the last tokens of a sequence over all of it, a block of keys at a time.

    The softmax is kept as a running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867), so that memory
    does not grow with the context. Query heads of one kv head are rows of one product: keys are never repeated.

    Args:
        q: Queries of the last L tokens, whose keys are in the cache already. (L, H, hd); tokens may be strided
        cache: Keys and values of all tokens.

    Returns:
        (L, H, hd)
    """
    L, H, hd = q.shape
    K = cache.n_kv_heads
    G = H // K
    rows = q.float().view(L, K, G, hd).permute(1, 2, 0, 3).reshape(K, G * L, hd) / math.sqrt(hd)  # (K, G·L, hd)
    position = torch.arange(cache.n_tokens - L, cache.n_tokens, device=q.device).repeat(G)[:, None]  # (G·L, 1)
    highest = torch.full((K, G * L, 1), -math.inf, device=q.device)
    total = torch.zeros((K, G * L, 1), device=q.device)
    out = torch.zeros((K, G * L, hd), device=q.device)
    begin = 0
    for keys, values in cache.pieces():
        n = keys.shape[1]
        scores = rows @ keys.float().transpose(1, 2)  # (K, G·L, n)
        if begin + n > cache.n_tokens - L:
            hidden = torch.arange(begin, begin + n, device=q.device) > position  # (G·L, n)
            scores.masked_fill_(hidden, -math.inf)
        new_highest = torch.maximum(highest, scores.amax(-1, keepdim=True))  # finite: key 0 is seen by all
        scale = torch.exp(highest - new_highest)
        weights = torch.exp(scores - new_highest)
        total = total * scale + weights.sum(-1, keepdim=True)
        out = out * scale + weights @ values.float()
        highest, begin = new_highest, begin + n
    return (out / total).view(K, G, L, hd).permute(2, 0, 1, 3).reshape(L, H, hd).to(q.dtype)


def attend_sdpa(q: Tensor, cache: KVCache) -> Tensor:
    """The same by PyTorch's fused kernels; for CUDA. See `attend_ref`."""
    from torch.nn.attention.bias import causal_lower_right

    pieces = list(cache.pieces())
    keys, values = (side[0] if len(side) == 1 else torch.cat(side, dim=1) for side in zip(*pieces, strict=True))
    mask = causal_lower_right(q.shape[0], cache.n_tokens) if q.shape[0] > 1 else None
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None].to(keys.dtype), keys[None], values[None], attn_mask=mask, enable_gqa=True
    )  # (1, H, L, hd)
    return out[0].transpose(0, 1).to(q.dtype)


@dataclass(frozen=True)
class Kernels:
    """One version of each operation; the fields' signatures are those of the `_ref` functions."""

    name: str
    rms_norm: Callable[[Tensor, Tensor, float, Tensor | None], Tensor]
    silu_mul: Callable[[Tensor, Tensor], Tensor]
    dt_b_c: Callable[[Tensor, tuple[Tensor, Tensor, Tensor] | None, float, int], tuple[Tensor, Tensor, Tensor]]
    rope: Callable[[Tensor, Tensor, Tensor], None]
    attend: Callable[[Tensor, KVCache], Tensor]
    scan: SelectiveScan
    conv: CausalConv


REFERENCE = Kernels(
    name="reference",
    rms_norm=rms_norm_ref,
    silu_mul=silu_mul_ref,
    dt_b_c=dt_b_c_ref,
    rope=rope_ref,
    attend=attend_ref,
    scan=selective_scan_ref,
    conv=causal_conv1d_ref,
)


def choose_kernels(device: torch.device) -> Kernels:
    """The fastest kernels that run on this device here; the reference where there is nothing else."""
    if device.type == "cpu":
        from . import native

        if native.is_available():
            return native.KERNELS
        logger.warning(
            "the native CPU kernels were not built, so reading is many times slower: "
            "install a C compiler (apt install gcc) and install longleaf again"
        )
        return REFERENCE
    if device.type != "cuda":
        return REFERENCE
    from . import scan_mamba_ssm, scan_triton

    kernels = replace(REFERENCE, name="cuda", attend=attend_sdpa)
    if scan_triton.is_available():
        return replace(
            kernels, name="triton", scan=scan_triton.selective_scan_triton, conv=scan_triton.causal_conv1d_triton
        )
    if scan_mamba_ssm.is_available():
        return replace(
            kernels,
            name="mamba-ssm",
            scan=scan_mamba_ssm.selective_scan_mamba_ssm,
            conv=scan_mamba_ssm.causal_conv1d_mamba_ssm,
        )
    return kernels
