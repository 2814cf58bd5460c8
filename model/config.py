"""The decoder's shape, from a Hugging Face `config.json` or a GGUF file's metadata, and checked.

One dataclass serves three families. Names of other projects appear only in `from_hf` and `from_gguf`, which translate
them once: `mamba_d_state` (Jamba), `state_size` (Mamba) and `ssm.state_size` (GGUF) are all `d_state` from here on.

Sources: transformers' JambaConfig, LlamaConfig, Qwen2Config and MambaConfig; llama.cpp's GGUF keys
(gguf-py/gguf/constants.py). Jamba: Lieber et al. 2024, arXiv:2403.19887.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from longleaf.errors import ModelError

__all__ = ["DecoderConfig", "Family", "LayerKind"]

Family = Literal["jamba", "llama", "mamba"]
LayerKind = Literal["attention", "mamba"]

_MOST_LAYERS_OR_EXPERTS = 4096
_LLAMA_LIKE = ("llama", "qwen2", "mistral", "mixtral")

_LLAMA_DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "jamba": {
        "num_key_value_heads": 8,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 16,
        "num_experts_per_tok": 2,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_dt_rank": "auto",
        "mamba_conv_bias": True,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "llama": _LLAMA_DEFAULTS,
    "qwen2": _LLAMA_DEFAULTS | {"num_key_value_heads": 32, "bos_token_id": None, "eos_token_id": None},
    "mistral": _LLAMA_DEFAULTS | {"num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": _LLAMA_DEFAULTS
    | {
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
    },
    "mamba": {
        "expand": 2,
        "state_size": 16,
        "conv_kernel": 4,
        "time_step_rank": "auto",
        "use_conv_bias": True,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}
"""What transformers fills in where a config.json lacks a key; sizes without one must be there. A null
`num_key_value_heads` is as many as there are heads."""


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder.

    Attributes:
        family: `jamba` (attention and Mamba layers, no positions), `llama` (attention with RoPE) or `mamba`.
        vocab_size: Rows of the embedding.
        d_model: Width of the residual stream.
        n_layers: Layers; each has a mixer and, except in `mamba`, a feed-forward network.
        layer_kinds: For each layer, which mixer it has.
        moe_layers: For each layer, whether its feed-forward network is a mixture of experts.
        d_ff: Width inside a feed-forward network or an expert; 0 in `mamba`.
        n_experts: Experts of a mixture; 1 where all are dense.
        n_experts_per_token: Experts that each token goes through.
        normalize_expert_weights: Whether the chosen experts' weights are made to add up to 1. Not in Jamba.
        n_heads: Query heads.
        n_kv_heads: Key and value heads; each serves `n_heads / n_kv_heads` query heads.
        head_dim: Width of a head.
        qkv_bias: Whether query, key and value projections have a bias (Qwen2).
        rope_theta: Base of the rotary embedding; None where there is none (Jamba).
        rope_scaling: Numbers of Llama 3's stretched wavelengths, or None.
        rope_factors: The same worked out, as GGUF files have it: divisors of the head_dim / 2 frequencies, or None.
        d_inner: Channels of a Mamba mixer.
        d_state: State values of each channel.
        d_conv: Taps of the causal convolution.
        dt_rank: Rank of the projection that makes dt.
        conv_bias: Whether the convolution has a bias.
        mamba_norms: Whether dt, B and C are normalised before the scan (Jamba does, Mamba does not).
        norm_eps: Added under the root of every RMSNorm.
        tie_embeddings: Whether the output matrix is the embedding, unless the checkpoint carries one of its own.
        max_context_tokens: What the model was trained for; None if the checkpoint does not say.
        eos_token_ids: Tokens that end an answer.
        bos_token_id: Token that begins a text, or None.
    """

    family: Family
    vocab_size: int
    d_model: int
    n_layers: int
    layer_kinds: tuple[LayerKind, ...]
    moe_layers: tuple[bool, ...]
    d_ff: int = 0
    n_experts: int = 1
    n_experts_per_token: int = 1
    normalize_expert_weights: bool = False
    n_heads: int = 0
    n_kv_heads: int = 0
    head_dim: int = 0
    qkv_bias: bool = False
    rope_theta: float | None = None
    rope_scaling: tuple[tuple[str, float], ...] | None = None
    rope_factors: tuple[float, ...] | None = None
    d_inner: int = 0
    d_state: int = 0
    d_conv: int = 0
    dt_rank: int = 0
    conv_bias: bool = True
    mamba_norms: bool = False
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    max_context_tokens: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "n_layers"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.layer_kinds) != self.n_layers or len(self.moe_layers) != self.n_layers:
            counts = f"{len(self.layer_kinds)} layer kinds and {len(self.moe_layers)} expert marks"
            raise ModelError(f"{counts} for {self.n_layers} layers")
        if "attention" in self.layer_kinds:
            if min(self.n_heads, self.n_kv_heads, self.head_dim) < 1:
                raise ModelError(
                    "attention layers need heads: "
                    f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}, head_dim={self.head_dim}"
                )
            if self.n_heads % self.n_kv_heads:
                raise ModelError(f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.n_kv_heads}")
            if self.rope_theta is not None and self.head_dim % 2:
                raise ModelError(f"rotary embedding needs an even head_dim, got {self.head_dim}")
            factors = self.rope_factors
            if factors is not None and (
                len(factors) != self.head_dim // 2 or not all(0 < f < math.inf for f in factors)
            ):
                raise ModelError(f"rope_factors must be {self.head_dim // 2} numbers above 0, got {factors}")
        if "mamba" in self.layer_kinds and min(self.d_inner, self.d_state, self.dt_rank, self.d_conv - 1) < 1:
            raise ModelError(
                "Mamba layers need their sizes: "
                f"d_inner={self.d_inner}, d_state={self.d_state}, d_conv={self.d_conv}, dt_rank={self.dt_rank}"
            )
        if self.family != "mamba" and self.d_ff < 1:
            raise ModelError(f"feed-forward networks need d_ff, got {self.d_ff}")
        if any(self.moe_layers) and not 1 <= self.n_experts_per_token <= self.n_experts:
            raise ModelError(f"{self.n_experts_per_token} experts per token of {self.n_experts}")

    @property
    def attention_layers(self) -> tuple[int, ...]:
        """Indices of the attention layers."""
        return tuple(i for i, kind in enumerate(self.layer_kinds) if kind == "attention")

    @property
    def mamba_layers(self) -> tuple[int, ...]:
        """Indices of the Mamba layers."""
        return tuple(i for i, kind in enumerate(self.layer_kinds) if kind == "mamba")

    def to_json(self) -> str:
        """One line, the same for equal configs: part of a model's fingerprint."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], generation: Mapping[str, Any] | None = None) -> "DecoderConfig":
        """Translate a `config.json`.

        Args:
            raw: Its content.
            generation: Content of `generation_config.json`, whose end-of-text tokens win if it has any.

        Raises:
            ModelError: A family, or a variant of one, that this decoder does not run; or sizes that do not fit.
        """
        kind = raw.get("model_type")
        if not isinstance(kind, str) or kind not in _DEFAULTS:
            raise ModelError(f"model_type is {kind!r}; this decoder runs jamba, mamba, {', '.join(_LLAMA_LIKE)}")
        translate = _jamba_from_hf if kind == "jamba" else _mamba_from_hf if kind == "mamba" else _llama_from_hf
        raw = _DEFAULTS[kind] | dict(raw)
        eos = (generation or {}).get("eos_token_id")
        return cls(
            **translate(raw),
            eos_token_ids=_token_ids("eos_token_id", raw["eos_token_id"] if eos is None else eos),
            bos_token_id=next(iter(_token_ids("bos_token_id", raw["bos_token_id"])), None),
        )

    @classmethod
    def from_json_file(cls, path: Path) -> "DecoderConfig":
        """Read `config.json`, and `generation_config.json` beside it if there is one.

        Raises:
            ModelError: Missing, not JSON, or not a model that this decoder runs; names the file.
        """
        raw, beside = _read_json(path), path.with_name("generation_config.json")
        try:
            return cls.from_hf(raw, _read_json(beside) if beside.is_file() else None)
        except ModelError as exc:
            raise ModelError(f"{path}: {exc}") from exc

    @classmethod
    def from_gguf(
        cls,
        metadata: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        rope_factors: tuple[float, ...] | None = None,
    ) -> "DecoderConfig":
        """Translate a GGUF file's metadata.

        Args:
            metadata: Key to value, as the file has them (`jamba.block_count`, …).
            shapes: Of the tensors by name. They tell what no key says: the vocabulary, biases, which layers have
                experts, and whether the embedding is the output matrix.
            rope_factors: Content of `rope_freqs.weight`, if there is one.

        Raises:
            ModelError: An architecture that this decoder does not run; or sizes that do not fit.
        """
        arch = metadata.get("general.architecture")
        if arch not in ("llama", "qwen2", "mamba", "jamba"):
            raise ModelError(f"the architecture is {arch!r}; this decoder runs jamba, llama, qwen2 and mamba from GGUF")
        if "token_embd.weight" not in shapes:
            raise ModelError("has no token_embd.weight, so it is not a whole language model")
        keys = {key.removeprefix(f"{arch}."): value for key, value in metadata.items()}
        n_layers = _count(keys, "block_count")
        common: dict[str, Any] = {
            "vocab_size": shapes["token_embd.weight"][0],
            "d_model": _size(keys, "embedding_length"),
            "n_layers": n_layers,
            "moe_layers": tuple(f"blk.{i}.ffn_gate_inp.weight" in shapes for i in range(n_layers)),
            "norm_eps": _number(keys, "attention.layer_norm_rms_epsilon"),
            "max_context_tokens": _size_or_none(keys, "context_length"),
            "eos_token_ids": _gguf_eos(keys),
            "bos_token_id": keys.get("tokenizer.ggml.bos_token_id"),
            "tie_embeddings": "output.weight" not in shapes,
        }
        if arch in ("llama", "qwen2"):
            qkv_bias = "blk.0.attn_q.bias" in shapes
            return cls(**_llama_from_gguf(keys, common), qkv_bias=qkv_bias, rope_factors=rope_factors, **common)
        common |= {
            "d_inner": _size(keys, "ssm.inner_size"),
            "d_state": _size(keys, "ssm.state_size"),
            "d_conv": _size(keys, "ssm.conv_kernel", least=2),
            "dt_rank": _size(keys, "ssm.time_step_rank"),
            "conv_bias": any(name.endswith("ssm_conv1d.bias") for name in shapes),
        }
        if arch == "jamba":
            return cls(**_jamba_from_gguf(keys, common), **common)
        if keys.get("ssm.dt_b_c_rms"):
            raise ModelError("FalconMamba's normalisation of dt, B and C is not supported")
        return cls(family="mamba", layer_kinds=tuple("mamba" for _ in range(n_layers)), **common)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        wanted = "a model's folder has a config.json and .safetensors files"
        raise ModelError(f"{path}: no such file; {wanted}") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path}: not readable as JSON ({exc})") from exc
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds {type(content).__name__} where a JSON object is expected")
    return content


def _size(raw: Mapping[str, Any], key: str, default: int | None = None, least: int = 1) -> int:
    """A whole number; the default stands in for a missing one and for null."""
    value = default if raw.get(key) is None else raw[key]
    if value is None:
        raise ModelError(f"{key} is missing")
    if type(value) is not int or value < least:
        raise ModelError(f"{key} is {value!r}; it must be a whole number of at least {least}")
    return value


def _count(raw: Mapping[str, Any], key: str) -> int:
    """Layers or experts: a damaged number must not make lists that fill the memory."""
    value = _size(raw, key)
    if value > _MOST_LAYERS_OR_EXPERTS:
        raise ModelError(f"{key} is {value:,}; more than {_MOST_LAYERS_OR_EXPERTS:,} are not plausible")
    return value


def _size_or_none(raw: Mapping[str, Any], key: str) -> int | None:
    return None if raw.get(key) is None else _size(raw, key)


def _number(raw: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = raw.get(key, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ModelError(f"{key} is {value!r}; it must be a number above 0")
    return float(value)


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw[key]
    if not isinstance(value, bool):
        raise ModelError(f"{key} is {value!r}; it must be true or false")
    return value


def _token_ids(key: str, value: Any) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if any(type(token) is not int for token in ids):
        raise ModelError(f"{key} is {value!r}; it must be a token id or a list of them")
    return tuple(ids)


def _check(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what the decoder would compute wrongly, instead of ignoring it."""
    for key, value in wanted.items():
        if raw.get(key, value) != value:
            raise ModelError(f"{key} is {raw[key]!r}; supported is {value!r}")


def _base_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": _size(raw, "vocab_size"),
        "d_model": _size(raw, "hidden_size"),
        "n_layers": _count(raw, "num_hidden_layers"),
        "tie_embeddings": _flag(raw, "tie_word_embeddings"),
    }


def _attention_from_hf(raw: Mapping[str, Any], n_experts: int) -> dict[str, Any]:
    """What Jamba and the Llama-like families share."""
    _check(raw, {"hidden_act": "silu"})
    base = _base_from_hf(raw)
    n_heads = _size(raw, "num_attention_heads")
    return base | {
        "d_ff": _size(raw, "intermediate_size"),
        "n_experts": n_experts,
        "n_experts_per_token": _size(raw, "num_experts_per_tok") if n_experts > 1 else 1,
        "n_heads": n_heads,
        "n_kv_heads": _size(raw, "num_key_value_heads", n_heads),
        "head_dim": _size(raw, "head_dim", base["d_model"] // n_heads),
        "norm_eps": _number(raw, "rms_norm_eps"),
        "max_context_tokens": _size_or_none(raw, "max_position_embeddings"),
    }


def _dt_rank(raw: Mapping[str, Any], key: str, d_model: int) -> int:
    return math.ceil(d_model / 16) if raw[key] == "auto" else _size(raw, key)


def _jamba_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    _check(raw, {"mamba_proj_bias": False, "mamba_inner_layernorms": True})
    shape = _attention_from_hf(raw, _count(raw, "num_experts"))
    d_model, layers = shape["d_model"], range(shape["n_layers"])
    attention = _every(raw, "attn_layer")
    experts = _every(raw, "expert_layer")
    return shape | {
        "family": "jamba",
        "layer_kinds": tuple("attention" if attention(i) else "mamba" for i in layers),
        "moe_layers": tuple(shape["n_experts"] > 1 and experts(i) for i in layers),
        "d_inner": _size(raw, "mamba_expand") * d_model,
        "d_state": _size(raw, "mamba_d_state"),
        "d_conv": _size(raw, "mamba_d_conv", least=2),
        "dt_rank": _dt_rank(raw, "mamba_dt_rank", d_model),
        "conv_bias": _flag(raw, "mamba_conv_bias"),
        "mamba_norms": True,
    }


def _every(raw: Mapping[str, Any], name: str) -> Callable[[int], bool]:
    """Whether a layer is one of those that `<name>_period` and `<name>_offset` say."""
    period, offset = _size(raw, f"{name}_period"), _size(raw, f"{name}_offset", least=0)
    if offset >= period:
        raise ModelError(f"{name}_offset is {offset}; it must be less than {name}_period, which is {period}")
    return lambda i: i % period == offset


def _llama_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    kind = raw["model_type"]
    _check(raw, {"mlp_bias": False, "use_sliding_window": False})
    if kind == "llama":
        _check(raw, {"attention_bias": False})
    shape = _attention_from_hf(raw, _count(raw, "num_local_experts") if kind == "mixtral" else 1)
    window, most = _size_or_none(raw, "sliding_window"), shape["max_context_tokens"]
    if kind in ("mistral", "mixtral") and window is not None and (most is None or window < most):
        raise ModelError(f"sliding_window is {window} and the context {most} tokens; such attention is not supported")
    if raw.get("layer_types") not in (None, ["full_attention"] * shape["n_layers"]):
        raise ModelError(f"layer_types is {raw['layer_types']!r:.100}; supported is 'full_attention' in all layers")
    return shape | {
        "family": "llama",
        "layer_kinds": ("attention",) * shape["n_layers"],
        "moe_layers": (shape["n_experts"] > 1,) * shape["n_layers"],
        "normalize_expert_weights": True,
        "qkv_bias": kind == "qwen2",
        **_rope_from_hf(raw),
    }


def _rope_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Since transformers 5 all in `rope_parameters`; before, the base beside `rope_scaling`."""
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(given, dict):
        raise ModelError(f"rope_scaling or rope_parameters is {given!r}; it must be an object")
    rope = {key: raw[key] for key in ("rope_theta", "partial_rotary_factor") if key in raw} | given
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise ModelError(f"partial_rotary_factor is {rope['partial_rotary_factor']!r}; supported is 1")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ModelError(f"rope_type is {kind!r}; supported are 'default' and 'llama3'")
    names = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")
    scaling = tuple((name, _number(rope, name)) for name in names) if kind == "llama3" else None
    return {"rope_theta": _number(rope, "rope_theta"), "rope_scaling": scaling}


def _mamba_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    _check(raw, {"hidden_act": "silu", "use_bias": False})
    shape = _base_from_hf(raw)
    d_model, n_layers = shape["d_model"], shape["n_layers"]
    return shape | {
        "family": "mamba",
        "layer_kinds": ("mamba",) * n_layers,
        "moe_layers": (False,) * n_layers,
        "d_inner": _size(raw, "intermediate_size", _size(raw, "expand") * d_model),
        "d_state": _size(raw, "state_size"),
        "d_conv": _size(raw, "conv_kernel", least=2),
        "dt_rank": _dt_rank(raw, "time_step_rank", d_model),
        "conv_bias": _flag(raw, "use_conv_bias"),
        "norm_eps": _number(raw, "layer_norm_epsilon"),
    }


def _llama_from_gguf(keys: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    if keys.get("expert_count"):
        raise ModelError("mixtures of experts in llama-like GGUF files are not supported; use the safetensors folder")
    if keys.get("rope.scaling.type", "none") not in ("none", ""):
        raise ModelError(f"rope.scaling.type is {keys['rope.scaling.type']!r}; such scaling is not supported from GGUF")
    n_heads = _size(keys, "attention.head_count")
    head_dim = _size(keys, "attention.key_length", common["d_model"] // n_heads)
    if keys.get("rope.dimension_count", head_dim) != head_dim:
        raise ModelError(f"rope.dimension_count is {keys['rope.dimension_count']!r} of a head's {head_dim} dimensions")
    return {
        "family": "llama",
        "layer_kinds": ("attention",) * common["n_layers"],
        "d_ff": _size(keys, "feed_forward_length"),
        "n_heads": n_heads,
        "n_kv_heads": _size(keys, "attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "rope_theta": _number(keys, "rope.freq_base", 10_000.0),
    }


def _jamba_from_gguf(keys: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    n_kv_heads = keys.get("attention.head_count_kv")
    if not isinstance(n_kv_heads, list) or any(type(heads) is not int for heads in n_kv_heads):
        raise ModelError(f"attention.head_count_kv is {n_kv_heads!r}; it must list heads for each layer, 0 for Mamba")
    n_heads = _size(keys, "attention.head_count")
    n_experts = _count(keys, "expert_count") if keys.get("expert_count") else 1
    return {
        "family": "jamba",
        "layer_kinds": tuple("attention" if heads else "mamba" for heads in n_kv_heads),
        "d_ff": _size(keys, "feed_forward_length"),
        "n_experts": n_experts,
        "n_experts_per_token": _size(keys, "expert_used_count") if n_experts > 1 else 1,
        "n_heads": n_heads,
        "n_kv_heads": max(n_kv_heads, default=0),
        "head_dim": common["d_model"] // n_heads,
        "mamba_norms": True,
    }


def _gguf_eos(keys: Mapping[str, Any]) -> tuple[int, ...]:
    names = ("eos", "eot", "eom")
    found = (keys.get(f"tokenizer.ggml.{name}_token_id") for name in names)
    return tuple(dict.fromkeys(int(token) for token in found if token is not None))
