"""The decoder as a module that can be trained: the same mathematics as `layers.py`, in plain differentiable PyTorch.

    model = TrainableDecoder.from_model(path)           # or TrainableDecoder(config, seed=0) with random weights
    loss = F.cross_entropy(model(token_ids).flatten(0, 1), targets.flatten())
    model.save(folder)                                  # load_model(folder) reads it

Whole sequences from an empty state, a batch of equal lengths, nothing cached; reading and writing are `Decoder`'s.
Every matrix product is an nn.Linear with the field's name, so that adapters find it. Numbers that an exponential or a
recurrence magnifies (A_log, D, dt_bias, the convolution) stay in fp32 at least, and norms and the scan run in it.

Equations: as in `layers.py`. Initial weights: Gu and Dao 2023, arXiv:2312.00752, section 3.6 and appendix E, and
mamba_ssm's modules/mamba_simple.py.

Letters: L length, D d_model, E d_inner, N d_state, W d_conv, R dt_rank, H query heads, K kv heads, hd head_dim, I d_ff,
X experts; batch is written out.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import DecoderConfig
from .rotary import Rotary
from .training_files import open_weights, save_model, weight_name
from .training_scan import selective_scan

__all__ = ["TrainableDecoder"]

_DT_MIN, _DT_MAX = 1e-3, 0.1
_EMBEDDING_STD = 0.02
_IN_FP32 = ("A_log", "D", "dt_bias", "conv_weight", "conv_bias")

Rotation = tuple[Tensor, Tensor] | None
"""Cosines and sines of the positions, (L, hd / 2) each; None without positions."""


class TrainableDecoder(nn.Module):
    """A decoder of one of the three families.

    Attributes:
        config: The shape.
        checkpoint_layers: Whether only the inputs of each layer are kept for the backward pass and the rest is worked
            out again: a third more time, a fraction of the memory. Off at first.

    Args:
        config: The shape.
        seed: Of the random weights. None leaves them without values, on the meta device.
    """

    def __init__(self, config: DecoderConfig, *, seed: int | None = 0) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_layers = False
        with torch.device("meta"):  # no time and no random numbers for values that are replaced
            self.embed = nn.Embedding(config.vocab_size, config.d_model)
            self.layers = nn.ModuleList(_Layer(config, i) for i in range(config.n_layers))
            self.final_norm = _RMSNorm(config.d_model, config.norm_eps)
            tied = config.tie_embeddings
            self.output = None if tied else nn.Linear(config.d_model, config.vocab_size, bias=False)
        if seed is not None:
            self.to_empty(device="cpu")
            self._draw(torch.Generator().manual_seed(seed))

    @classmethod
    def from_model(cls, path: Path, dtype: torch.dtype = torch.float32) -> "TrainableDecoder":
        """Take a model's weights.

        Args:
            path: A folder with config.json and .safetensors files, or a .gguf file, whose weights are dequantised.
            dtype: Of the weights, but for those that stay in fp32.

        Raises:
            ModelNotInstalledError: Nothing there.
            ModelError: Not a model that this decoder runs, or its files are damaged or do not fit each other.
        """
        config, tensor = open_weights(path)
        model = cls(config, seed=None)
        values = {}
        for name in model.state_dict():
            wide = name.rpartition(".")[2] in _IN_FP32 and dtype.itemsize < torch.float32.itemsize
            values[name] = tensor(weight_name(name), torch.float32 if wide else dtype)
        model.load_state_dict(values, assign=True)
        return model

    def forward(self, token_ids: Tensor) -> Tensor:
        """Logits of every position.

        Args:
            token_ids: (batch, L) int64

        Returns:
            (batch, L, vocab_size) in the weights' dtype
        """
        return self.logits(self.hidden(token_ids))

    def hidden(self, token_ids: Tensor) -> Tensor:
        """What the output matrix is applied to: (batch, L) int64 -> (batch, L, D). See `logits`."""
        if token_ids.dim() != 2 or token_ids.shape[1] == 0:
            raise ValueError(f"token_ids must be (batch, L) with L at least 1, got {tuple(token_ids.shape)}")
        x: Tensor = self.embed(token_ids)  # (batch, L, D)
        rotation = self._rotation(token_ids.shape[1], x.device)
        for layer in self.layers:
            if self.checkpoint_layers and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, use_reentrant=False)
            else:
                x = layer(x, rotation)
        y: Tensor = self.final_norm(x)
        return y

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., vocab_size): where few positions count, the others need none."""
        if self.output is None:
            return F.linear(hidden, self.embed.weight)
        y: Tensor = self.output(hidden)
        return y

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, which `load_model` reads and transformers too.

        Args:
            folder: Made if it is not there.

        Raises:
            ModelError: A config.json can't say this shape.
        """
        save_model(self.config, {weight_name(name): value for name, value in self.state_dict().items()}, folder)

    def _rotation(self, length: int, device: torch.device) -> Rotation:
        with torch.inference_mode(False):  # else a first call in it would leave tensors that backward can't keep
            rotary = Rotary.of(self.config, device)
            return None if rotary is None else rotary.rows([(0, length)])

    @torch.no_grad()
    def _draw(self, rng: torch.Generator) -> None:
        """Random weights as Mamba's authors draw them.

        Matrices uniform within ± 1 / sqrt(n_in), those that add to the residual stream divided by the root of how many
        do. dt begins log-uniform in [0.001, 0.1] and A at -1 … -N, so that channels forget at different speeds.
        """
        branches = self.config.n_layers * (2 if self.config.d_ff else 1)
        for name, weight in self.named_parameters():
            kind = name.removesuffix(".weight").rpartition(".")[2]
            if kind == "embed":
                weight.normal_(0, _EMBEDDING_STD, generator=rng)
            elif kind == "A_log":
                weight.copy_(torch.arange(1, weight.shape[1] + 1).log().expand_as(weight))
            elif kind == "dt_bias":
                low, high = math.log(_DT_MIN), math.log(_DT_MAX)
                dt = torch.exp(low + (high - low) * torch.rand(weight.shape, generator=rng))
                weight.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
            elif kind.endswith("norm") or kind == "D":
                weight.fill_(1)
            elif kind.endswith("bias"):
                weight.zero_()
            else:
                bound = weight.shape[-1] ** -0.5
                if kind in ("o_proj", "out_proj", "down_proj"):
                    bound /= math.sqrt(branches)
                weight.uniform_(-bound, bound, generator=rng)


class _Layer(nn.Module):
    """One layer: the mixer, and a network except in pure Mamba models."""

    def __init__(self, config: DecoderConfig, index: int) -> None:
        super().__init__()
        self.mixer_norm = _RMSNorm(config.d_model, config.norm_eps)
        self.mixer = _Attention(config) if config.layer_kinds[index] == "attention" else _MambaMixer(config)
        self.network: nn.Module | None = None
        if config.d_ff:
            self.network_norm = _RMSNorm(config.d_model, config.norm_eps)
            self.network = _MixtureOfExperts(config) if config.moe_layers[index] else _FeedForward(config)

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(batch, L, D) -> (batch, L, D)."""
        x = x + self.mixer(self.mixer_norm(x), rotation)
        return x if self.network is None else x + self.network(self.network_norm(x))


class _RMSNorm(nn.Module):
    """See `kernels.rms_norm_ref`."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        wide = _wide(x)
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


class _Attention(nn.Module):
    """Causal attention with grouped query heads; see `layers.Attention`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        D, H, K, hd = config.d_model, config.n_heads, config.n_kv_heads, config.head_dim
        self.q_proj = nn.Linear(D, H * hd, bias=config.qkv_bias)
        self.k_proj = nn.Linear(D, K * hd, bias=config.qkv_bias)
        self.v_proj = nn.Linear(D, K * hd, bias=config.qkv_bias)
        self.o_proj = nn.Linear(H * hd, D, bias=False)
        self.head_dim = hd

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        """(batch, L, D) -> (batch, L, D)."""
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, L, hd)
            for linear in (self.q_proj, self.k_proj, self.v_proj)
        )
        if rotation is not None:
            q, k = _rotate(q, *rotation), _rotate(k, *rotation)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        mixed: Tensor = self.o_proj(y.transpose(1, 2).flatten(2))
        return mixed


class _MambaMixer(nn.Module):
    """The Mamba-1 mixer, with norms on dt, B and C where the model has them; see `layers.MambaMixer`.

    dt_bias stands apart from dt_proj because it is added in fp32.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        D, E, N, R = config.d_model, config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(D, 2 * E, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(E, config.d_conv))
        self.conv_bias = nn.Parameter(torch.empty(E)) if config.conv_bias else None
        self.x_proj = nn.Linear(E, R + 2 * N, bias=False)
        self.dt_norm = self.b_norm = self.c_norm = None
        if config.mamba_norms:
            self.dt_norm, self.b_norm, self.c_norm = (_RMSNorm(width, config.norm_eps) for width in (R, N, N))
        self.dt_proj = nn.Linear(R, E, bias=False)
        self.dt_bias = nn.Parameter(torch.empty(E))
        self.A_log = nn.Parameter(torch.empty(E, N))
        self.D = nn.Parameter(torch.empty(E))
        self.out_proj = nn.Linear(E, D, bias=False)
        self.widths = [R, N, N]

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:  # noqa: ARG002
        """(batch, L, D) -> (batch, L, D)."""
        u, z = self.in_proj(x).chunk(2, dim=-1)  # (batch, L, E) each
        u = self._convolve(u)
        dt, B, C = torch.split(self.x_proj(u), self.widths, dim=-1)
        if self.dt_norm is not None and self.b_norm is not None and self.c_norm is not None:
            dt, B, C = self.dt_norm(dt), self.b_norm(B), self.c_norm(C)
        wide = _wide(u)
        dt = F.softplus(_wide(self.dt_proj(dt)) + self.dt_bias)  # (batch, L, E)
        A = -torch.exp(self.A_log).T  # (N, E)
        y = selective_scan(wide, dt, A, _wide(B), _wide(C)) + self.D * wide
        mixed: Tensor = self.out_proj((y * F.silu(_wide(z))).to(x.dtype))
        return mixed

    def _convolve(self, u: Tensor) -> Tensor:
        """Causal, then silu: (batch, L, E) -> (batch, L, E). A sum of shifted products: few taps, many channels."""
        L, taps = u.shape[1], self.conv_weight.shape[1]
        padded = F.pad(_wide(u), (0, 0, taps - 1, 0))  # (batch, W-1+L, E)
        y = padded[:, :L] * self.conv_weight[:, 0]
        for i in range(1, taps):
            y = torch.addcmul(y, padded[:, i : i + L], self.conv_weight[:, i])
        if self.conv_bias is not None:
            y = y + self.conv_bias
        return F.silu(y).to(u.dtype)


class _FeedForward(nn.Module):
    """down(silu(gate(x)) · up(x))."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.up_proj = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down_proj = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        y: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class _MixtureOfExperts(nn.Module):
    """Each token goes through the few experts that the router gives most weight; see `layers.MixtureOfExperts`.

    Which experts are chosen has no gradient; the router learns through the weights of those that were.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.router = nn.Linear(config.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(_FeedForward(config) for _ in range(config.n_experts))
        self.n_experts_per_token = config.n_experts_per_token
        self.normalize = config.normalize_expert_weights

    def forward(self, x: Tensor) -> Tensor:
        """(batch, L, D) -> (batch, L, D)."""
        flat = x.flatten(0, 1)  # (T, D)
        probabilities = F.softmax(_wide(self.router(flat)), dim=-1)  # (T, X)
        weights, chosen = probabilities.topk(self.n_experts_per_token, dim=-1)  # (T, top) each
        if self.normalize:
            weights = weights / weights.sum(-1, keepdim=True)
        weights = weights.to(x.dtype)
        y = torch.zeros_like(flat)
        for index, expert in enumerate(self.experts):
            tokens, rank = torch.where(chosen == index)
            if len(tokens):
                y = y.index_add(0, tokens, expert(flat[tokens]) * weights[tokens, rank, None])
        return y.view_as(x)


def _wide(x: Tensor) -> Tensor:
    """In fp32, or as it is if it has more digits."""
    return x if x.dtype == torch.float64 else x.float()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the two halves of each head: (batch, heads, L, hd) -> the same. See `kernels.rope_ref`."""
    first, second = _wide(x).chunk(2, dim=-1)  # (batch, heads, L, hd / 2)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
