"""The parts of a decoder layer: attention, Mamba mixer, feed-forward network, mixture of experts.

A part takes the tokens of several sequences laid end to end, (T, D), and a `Span` for each sequence: products run over
all of them at once, and what depends on the past runs sequence by sequence. So a chunk of one document, one token of
each of eight answers, or both together are one and the same call, and no padding ever reaches a state.

Equations: reference implementation in transformers' models/jamba, models/llama, models/qwen2 and models/mamba.
Letters: T tokens, L chunk length, D d_model, E d_inner, N d_state, R dt_rank, H query heads, K kv heads, hd head_dim,
I d_ff, X experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor

from .kernels import Kernels
from .linear import Linear
from .state import KVCache, MambaState

__all__ = ["Attention", "FeedForward", "Layer", "MambaMixer", "Mixer", "MixtureOfExperts", "Network", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's tokens among those laid end to end: rows [start, stop), and what this layer remembers of it."""

    start: int
    stop: int
    past: KVCache | MambaState


Rotation = tuple[Tensor, Tensor] | None
"""Cosines and sines of every row's position, (T, hd / 2) each; None without positions."""


class Mixer(Protocol):
    """Mixes along the sequence."""

    def __call__(self, x: Tensor, spans: Sequence[Span], rotation: Rotation, kernels: Kernels) -> Tensor:
        """(T, D) -> (T, D); what the layer remembers moves on."""


class Network(Protocol):
    """Works on each token alone."""

    def __call__(self, x: Tensor, kernels: Kernels) -> Tensor:
        """(T, D) -> (T, D)."""


@dataclass(slots=True)
class Layer:
    """One layer: the mixer, and a feed-forward network except in pure Mamba models.

    Attributes:
        mixer_norm: Weights of the norm before the mixer. (D,)
        mixer: Attention or Mamba.
        network_norm: Weights of the norm before the network, or None. (D,)
        network: Dense or a mixture of experts, or None.
    """

    mixer_norm: Tensor
    mixer: Mixer
    network_norm: Tensor | None = None
    network: Network | None = None


@dataclass(slots=True)
class Attention:
    """Causal attention with grouped query heads; rotary positions where the model has them.

    Attributes:
        qkv: The three projections fused, D -> (H + 2K)·hd, or apart.
        o: Output projection.
        n_heads, n_kv_heads, head_dim: H, K, hd.
    """

    qkv: tuple[Linear, ...]
    o: Linear
    n_heads: int
    n_kv_heads: int
    head_dim: int

    def __call__(self, x: Tensor, spans: Sequence[Span], rotation: Rotation, kernels: Kernels) -> Tensor:
        """(T, D) -> (T, D)."""
        T = x.shape[0]
        H, K, hd = self.n_heads, self.n_kv_heads, self.head_dim
        parts = [linear(x) for linear in self.qkv]
        q, k, v = torch.split(parts[0], [H * hd, K * hd, K * hd], dim=-1) if len(parts) == 1 else parts
        q, k, v = q.view(T, H, hd), k.view(T, K, hd), v.view(T, K, hd)
        if rotation is not None:
            kernels.rope(q, *rotation)
            kernels.rope(k, *rotation)
        y = []
        for span in spans:
            past = span.past
            assert isinstance(past, KVCache)
            rows = slice(span.start, span.stop)
            past.append(k[rows], v[rows])
            y.append(kernels.attend(q[rows], past))  # (L, H, hd)
        mixed = y[0] if len(y) == 1 else torch.cat(y)
        return self.o(mixed.reshape(T, H * hd))


@dataclass(slots=True)
class MambaMixer:
    """The Mamba-1 mixer; with norms on dt, B and C as Jamba has them.

    Attributes:
        in_proj: D -> 2E, first the scan's input x, then the gate z.
        conv_weight: (W, E) fp32
        conv_bias: (E,) fp32 or None
        x_proj: E -> R + 2N
        norms: Weights of the norms of dt, B and C, or None.
        dt_proj: R -> E, without its bias.
        dt_bias: (E,) fp32
        A: -exp(A_log), transposed. (N, E) fp32
        D: (E,) fp32
        out_proj: E -> D
        norm_eps: Of the norms.
    """

    in_proj: Linear
    conv_weight: Tensor
    conv_bias: Tensor | None
    x_proj: Linear
    norms: tuple[Tensor, Tensor, Tensor] | None
    dt_proj: Linear
    dt_bias: Tensor
    A: Tensor
    D: Tensor
    out_proj: Linear
    norm_eps: float

    def __call__(self, x: Tensor, spans: Sequence[Span], rotation: Rotation, kernels: Kernels) -> Tensor:  # noqa: ARG002
        """(T, D) -> (T, D)."""
        N = self.A.shape[0]
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (T, E) each
        convolved = []
        for span in spans:
            assert isinstance(span.past, MambaState)
            rows = u[span.start : span.stop]
            convolved.append(kernels.conv(rows, self.conv_weight, self.conv_bias, span.past.conv))
        u = convolved[0] if len(convolved) == 1 else torch.cat(convolved)  # (T, E)
        dt, B, C = kernels.dt_b_c(self.x_proj(u), self.norms, self.norm_eps, N)
        dt = self.dt_proj(dt)  # (T, E)
        y = []
        for span in spans:
            assert isinstance(span.past, MambaState)
            r = slice(span.start, span.stop)
            y.append(kernels.scan(u[r], dt[r], self.A, B[r], C[r], self.D, z[r], self.dt_bias, span.past.ssm))
        return self.out_proj(y[0] if len(y) == 1 else torch.cat(y))


@dataclass(slots=True)
class FeedForward:
    """down(silu(gate(x)) · up(x)).

    Attributes:
        gate_up: The two fused, D -> 2I, or apart, D -> I each.
        down: I -> D
    """

    gate_up: tuple[Linear, ...]
    down: Linear

    def __call__(self, x: Tensor, kernels: Kernels) -> Tensor:
        """(T, D) -> (T, D)."""
        parts = [linear(x) for linear in self.gate_up]
        gate, up = parts[0].chunk(2, dim=-1) if len(parts) == 1 else parts
        return self.down(kernels.silu_mul(gate, up))


@dataclass(slots=True)
class MixtureOfExperts:
    """Each token goes through the few experts that the router gives most weight.

    Attributes:
        router: (X, D)
        experts: X feed-forward networks.
        n_experts_per_token: How many of them a token goes through.
        normalize: Whether the chosen weights are made to add up to 1. Jamba's are not: they stay what the softmax over
            all experts gave them.
    """

    router: Tensor
    experts: tuple[FeedForward, ...]
    n_experts_per_token: int
    normalize: bool

    def __call__(self, x: Tensor, kernels: Kernels) -> Tensor:
        """(T, D) -> (T, D)."""
        probabilities = F.softmax(F.linear(x, self.router).float(), dim=-1)  # (T, X) fp32
        weights, chosen = probabilities.topk(self.n_experts_per_token, dim=-1)  # (T, top) each
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights.to(x.dtype)
        # Sorted by expert, each expert is one product over its tokens, and only experts that were hit are read.
        order = chosen.flatten().argsort(stable=True)  # (T·top,)
        token = order // self.n_experts_per_token
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        grouped = x[token]  # (T·top, D)
        parts, start = [], 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                parts.append(expert(grouped[start : start + count], kernels))
                start += count
        y = torch.cat(parts) * weights.flatten()[order, None]  # (T·top, D)
        back = torch.empty_like(y)
        back[order] = y
        return back.view(x.shape[0], self.n_experts_per_token, -1).sum(1)
