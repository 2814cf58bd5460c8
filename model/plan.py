"""How much memory a decoder takes: parameters, weights, keys and values, Mamba states, workspace. Arithmetic only.

    plan = plan_memory(PUBLIC_MODELS["jamba2-mini"].config, 262_144, quantize="int8")
    plan.kv_bytes / 2**30                  # 4.0
    largest_context(config, 80 * 10**9, quantize="int8").tokens

Weights, keys, values and states are exact for the decoder in this folder; the workspace is an estimate, worked out and
not measured. Not counted: the process itself, the CUDA context, what an allocator holds back, and the room at the end
of the last block of keys and values (`state.block_tokens_for`).

Letters: L chunk_tokens, D d_model, I d_ff, E d_inner, N d_state, W d_conv, R dt_rank, H heads, K kv heads, hd head_dim.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from .config import DecoderConfig

__all__ = [
    "DTYPE_BYTES",
    "ContextFit",
    "MemoryPlan",
    "ParameterCounts",
    "Quantize",
    "count_parameters",
    "kv_bytes_per_token",
    "largest_context",
    "plan_memory",
]

Quantize = Literal["int8", "int8-experts"]
"""`int8`: one byte per weight of every large product and of the output matrix, and an fp32 scale per output row; a tied
embedding is kept as these rows, an untied one as it is. Routers, x_proj, dt_proj, norms, convolution and the scan's own
weights stay. `int8-experts`: only the experts' matrices. As `safetensors_weights.py` does it."""

DTYPE_BYTES = {"bf16": 2, "fp32": 4}

_ATTEND_BLOCK_TOKENS = 1024  # keys that plain attention looks at at a time: `state.block_tokens_for` on a CPU


@dataclass(frozen=True)
class _Weight:
    """Tensors of one shape, fused as the decoder has them. `kind`: what int8 quantises, the model's dtype, or fp32."""

    part: str
    count: int
    rows: int
    columns: int
    kind: Literal["large", "plain", "fp32"] = "plain"

    @property
    def size(self) -> int:
        return self.count * self.rows * self.columns


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters by part.

    Args:
        embedding: The embedding, which is the output matrix too where they are tied.
        output: The output matrix where it is one of its own, else 0.
        attention: Query, key, value and output projections.
        mamba: Projections, convolution and the scan's own weights.
        dense: Feed-forward networks that every token goes through.
        experts: Feed-forward networks that a router chooses from.
        routers: The routers.
        norms: All RMSNorms.
        active: Of all of them, those that one token goes through.
    """

    embedding: int
    output: int
    attention: int
    mamba: int
    dense: int
    experts: int
    routers: int
    norms: int
    active: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """The split, without `active`."""
        return {name: count for name, count in asdict(self).items() if name != "active"}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes for one sequence.

    Args:
        weights_bytes: The weights, with the convolution, A_log, D and dt's bias in fp32.
        kv_bytes: Keys and values of all tokens.
        ssm_bytes: States of the scans, fp32; the same for any number of tokens.
        conv_bytes: Taps of the convolutions.
        workspace_bytes: What reading one chunk needs on top; see `plan_memory`.
    """

    weights_bytes: int
    kv_bytes: int
    ssm_bytes: int
    conv_bytes: int
    workspace_bytes: int

    @property
    def state_bytes(self) -> int:
        """What is kept of the tokens read: the size of a stored reading."""
        return self.kv_bytes + self.ssm_bytes + self.conv_bytes

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.state_bytes + self.workspace_bytes


class ContextFit(NamedTuple):
    """How many tokens fit.

    Args:
        tokens: 0 if not even weights and workspace fit; None if any number does.
        limited_by: `memory`; `model`, whose training ends before the memory does; or `nothing`.
    """

    tokens: int | None
    limited_by: Literal["memory", "model", "nothing"]


def count_parameters(config: DecoderConfig) -> ParameterCounts:
    """Count a decoder's parameters by part."""
    parts = dict.fromkeys((name for name in ParameterCounts.__dataclass_fields__ if name != "active"), 0)
    for weight in _weights(config):
        parts[weight.part] += weight.size
    idle = parts["experts"] // config.n_experts * (config.n_experts - config.n_experts_per_token)
    return ParameterCounts(**parts, active=sum(parts.values()) - idle)


def kv_bytes_per_token(config: DecoderConfig, kv_dtype: str = "bf16") -> int:
    """Bytes by which each token read makes the state grow."""
    return len(config.attention_layers) * 2 * config.n_kv_heads * config.head_dim * DTYPE_BYTES[kv_dtype]


def plan_memory(
    config: DecoderConfig,
    context_tokens: int,
    dtype: str = "bf16",
    quantize: Quantize | None = None,
    kv_dtype: str = "bf16",
    chunk_tokens: int = 512,
    weights_bytes: int | None = None,
) -> MemoryPlan:
    """Bytes that a decoder takes with one sequence of so many tokens.

    The workspace is the residual stream, the widest layer's intermediate tensors for one chunk, the logits of one
    position, and under int8 the widened copy of the largest matrix. For attention that is the larger of the plain
    kernel's scores for a block of keys and the joined copy of one layer's keys and values that fused attention reads;
    for experts it is all of a chunk's tokens at once.

    Args:
        config: The shape.
        context_tokens: Tokens of prompt and answer together, at least 1; more than the model was trained for is
            computed all the same.
        dtype: Of weights and activations: bf16 or fp32.
        quantize: See `Quantize`.
        kv_dtype: Of keys and values.
        chunk_tokens: Tokens read at a time.
        weights_bytes: Of weights that stay packed as their file has them; computed if not given.

    Raises:
        ValueError: An unknown dtype or quantisation, or fewer than one token.
    """
    if dtype not in DTYPE_BYTES or kv_dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype {dtype!r}, kv_dtype {kv_dtype!r}; there are {', '.join(DTYPE_BYTES)}")
    if quantize not in (None, "int8", "int8-experts"):
        raise ValueError(f"quantize is {quantize!r}; there are int8 and int8-experts")
    if context_tokens < 1 or chunk_tokens < 1:
        raise ValueError(f"context_tokens {context_tokens} and chunk_tokens {chunk_tokens} must be at least 1")
    n_mamba = len(config.mamba_layers)
    return MemoryPlan(
        weights_bytes=_weights_bytes(config, dtype, quantize) if weights_bytes is None else weights_bytes,
        kv_bytes=context_tokens * kv_bytes_per_token(config, kv_dtype),
        ssm_bytes=n_mamba * config.d_state * config.d_inner * 4,
        conv_bytes=n_mamba * (config.d_conv - 1) * config.d_inner * DTYPE_BYTES[dtype],
        workspace_bytes=_workspace_bytes(config, context_tokens, dtype, quantize, kv_dtype, chunk_tokens),
    )


def largest_context(config: DecoderConfig, memory_bytes: int, **options: Any) -> ContextFit:
    """The most tokens with which a decoder stays within so much memory.

    Args:
        config: The shape.
        memory_bytes: What there is for it.
        **options: As `plan_memory` takes them.
    """

    def fits(context_tokens: int) -> bool:
        return plan_memory(config, context_tokens, **options).total_bytes <= memory_bytes

    if not fits(1):
        return ContextFit(0, "memory")
    per_token = kv_bytes_per_token(config, options.get("kv_dtype", "bf16"))
    most = config.max_context_tokens
    if most is None:
        if not per_token and fits(options.get("chunk_tokens", 512)):  # from a whole chunk on, nothing grows
            return ContextFit(None, "nothing")
        most = memory_bytes // per_token + 1 if per_token else options.get("chunk_tokens", 512)
    if fits(most):
        return ContextFit(most, "model")
    low, high = 1, most  # low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return ContextFit(low, "memory")


def _weights(config: DecoderConfig) -> Iterator[_Weight]:
    """Every tensor of the decoder, as shapes and how often they occur."""
    D, H, K, hd = config.d_model, config.n_heads, config.n_kv_heads, config.head_dim
    E, N, R, width = config.d_inner, config.d_state, config.dt_rank, config.d_ff
    n_layers, n_attention, n_mamba = config.n_layers, len(config.attention_layers), len(config.mamba_layers)
    n_moe = sum(config.moe_layers)
    n_dense = 0 if config.family == "mamba" else n_layers - n_moe

    yield _Weight("embedding", 1, config.vocab_size, D, "large" if config.tie_embeddings else "plain")
    if not config.tie_embeddings:
        yield _Weight("output", 1, config.vocab_size, D, "large")

    yield _Weight("attention", n_attention, (H + 2 * K) * hd, D, "large")
    yield _Weight("attention", n_attention, D, H * hd, "large")
    if config.qkv_bias:
        yield _Weight("attention", n_attention, 1, (H + 2 * K) * hd)

    yield _Weight("mamba", n_mamba, 2 * E, D, "large")
    yield _Weight("mamba", n_mamba, E, config.d_conv + config.conv_bias, "fp32")
    yield _Weight("mamba", n_mamba, R + 2 * N, E)  # x_proj
    yield _Weight("mamba", n_mamba, E, R)  # dt_proj
    yield _Weight("mamba", n_mamba, E, N + 2, "fp32")  # A_log, D and dt's bias
    yield _Weight("mamba", n_mamba, D, E, "large")

    yield _Weight("dense", n_dense, 2 * width, D, "large")
    yield _Weight("dense", n_dense, D, width, "large")
    yield _Weight("experts", n_moe * config.n_experts, 2 * width, D, "large")
    yield _Weight("experts", n_moe * config.n_experts, D, width, "large")
    yield _Weight("routers", n_moe, config.n_experts, D)

    yield _Weight("norms", n_layers * (1 if config.family == "mamba" else 2) + 1, 1, D)
    if config.mamba_norms:
        yield _Weight("norms", n_mamba, 1, R + 2 * N)


def _is_int8(weight: _Weight, quantize: Quantize | None) -> bool:
    return weight.kind == "large" and (quantize == "int8" or (quantize is not None and weight.part == "experts"))


def _weights_bytes(config: DecoderConfig, dtype: str, quantize: Quantize | None) -> int:
    total = 0
    for weight in _weights(config):
        if _is_int8(weight, quantize):
            total += weight.size + 4 * weight.count * weight.rows
        else:
            total += weight.size * (4 if weight.kind == "fp32" else DTYPE_BYTES[dtype])
    return total


def _workspace_bytes(
    config: DecoderConfig, context_tokens: int, dtype: str, quantize: Quantize | None, kv_dtype: str, chunk_tokens: int
) -> int:
    L, size = min(chunk_tokens, context_tokens), DTYPE_BYTES[dtype]
    D, width = config.d_model, config.d_ff
    layers = [0]
    if config.attention_layers:
        H, K, hd = config.n_heads, config.n_kv_heads, config.head_dim
        projected = L * (2 * H + 2 * K) * hd * size  # q, k, v and what attention gives
        scores = 2 * L * H * min(context_tokens, _ATTEND_BLOCK_TOKENS) * 4 + 3 * L * H * hd * 4  # fp32
        joined = 2 * context_tokens * K * hd * DTYPE_BYTES[kv_dtype]
        layers.append(projected + max(scores, joined))
    if config.mamba_layers:
        # In the model's dtype: x and z, x after the convolution, dt. In fp32: x, dt, dt·x, y, D·x, silu(z).
        layers.append(L * config.d_inner * (4 * size + 6 * 4) + L * (config.dt_rank + 2 * config.d_state) * 4)
    if config.family != "mamba" and not all(config.moe_layers):
        layers.append(L * 4 * width * size)  # gate and up, silu of gate, their product
    if any(config.moe_layers):
        layers.append(L * config.n_experts_per_token * (4 * width + 2 * D) * size)
    widened = max((w.rows * w.columns * size for w in _weights(config) if w.count and _is_int8(w, quantize)), default=0)
    logits = config.vocab_size * (size + 4)
    return 3 * L * D * size + max(layers) + widened + logits
