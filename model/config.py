"""The decoder's shape, from a Hugging Face `config.json` or a GGUF file's metadata, and checked.

One dataclass serves three families. Names of other projects appear only in `from_hf` and `from_gguf`, which translate
them once: `mamba_d_state` (Jamba), `state_size` (Mamba) and `ssm.state_size` (GGUF) are all `d_state` from here on.

Sources: transformers' JambaConfig, LlamaConfig, Qwen2Config and MambaConfig; llama.cpp's GGUF keys
(gguf-py/gguf/constants.py). Jamba: Lieber et al. 2024, arXiv:2403.19887.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from longleaf.errors import ModelError

__all__ = ["DecoderConfig", "Family", "LayerKind"]

Family = Literal["jamba", "llama", "mamba"]
LayerKind = Literal["attention", "mamba"]

_LLAMA_LIKE = ("llama", "qwen2", "mistral", "mixtral")


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
        rope_scaling: Factors of Llama 3's long-context scaling, or None.
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
    bos_token_id: int | None = field(default=None)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "n_layers"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.layer_kinds) != self.n_layers or len(self.moe_layers) != self.n_layers:
            raise ModelError(
                f"{len(self.layer_kinds)} layer kinds and {len(self.moe_layers)} expert marks for {self.n_layers} layers"
            )
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
            generation: Content of `generation_config.json`, whose end-of-text tokens win.

        Raises:
            ModelError: A family, or a variant of one, that this decoder does not run; or sizes that do not fit.
        """
        kind = raw.get("model_type")
        eos = (generation or {}).get("eos_token_id", raw.get("eos_token_id"))
        end = {
            "eos_token_ids": tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
            "bos_token_id": raw.get("bos_token_id"),
        }
        try:
            if kind == "jamba":
                return cls(**_jamba_from_hf(raw), **end)
            if kind in _LLAMA_LIKE:
                return cls(**_llama_from_hf(raw), **end)
            if kind == "mamba":
                return cls(**_mamba_from_hf(raw), **end)
        except KeyError as exc:
            raise ModelError(f"the config of this {kind} model lacks {exc}") from exc
        raise ModelError(f"model_type is {kind!r}; this decoder runs jamba, mamba, {', '.join(_LLAMA_LIKE)}")

    @classmethod
    def from_json_file(cls, path: Path) -> "DecoderConfig":
        """Read `config.json`, and `generation_config.json` beside it if there is one.

        Raises:
            ModelError: Missing, not JSON, or not a model that this decoder runs; names the file.
        """
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            beside = path.with_name("generation_config.json")
            generation = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
        except FileNotFoundError as exc:
            raise ModelError(f"{path}: no such file; a model's folder has a config.json and .safetensors files") from exc
        except (OSError, ValueError) as exc:
            raise ModelError(f"{path}: not readable as JSON ({exc})") from exc
        if not isinstance(raw, dict):
            raise ModelError(f"{path}: holds {type(raw).__name__} where a JSON object is expected")
        try:
            return cls.from_hf(raw, generation if isinstance(generation, dict) else None)
        except ModelError as exc:
            raise ModelError(f"{path}: {exc}") from exc
        except (TypeError, ValueError) as exc:
            raise ModelError(f"{path}: a value has the wrong type ({exc})") from exc

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], vocab_size: int) -> "DecoderConfig":
        """Translate a GGUF file's metadata.

        Args:
            metadata: Key to value, as the file has them (`jamba.block_count`, …).
            vocab_size: Rows of `token_embd.weight`; GGUF keys do not always say.

        Raises:
            ModelError: An architecture that this decoder does not run; or sizes that do not fit.
        """
        arch = metadata.get("general.architecture")

        def get(key: str, default: Any = None) -> Any:
            return metadata.get(f"{arch}.{key}", default)

        try:
            common: dict[str, Any] = {
                "vocab_size": vocab_size,
                "d_model": metadata[f"{arch}.embedding_length"],
                "n_layers": metadata[f"{arch}.block_count"],
                "norm_eps": metadata[f"{arch}.attention.layer_norm_rms_epsilon"],
                "max_context_tokens": get("context_length"),
                "eos_token_ids": _gguf_eos(metadata),
                "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
                "tie_embeddings": True,  # GGUF leaves output.weight out where they are tied
            }
            n_layers = common["n_layers"]
            if arch in ("llama", "qwen2"):
                return cls(family="llama", **_llama_from_gguf(get, common), **common)
            ssm: dict[str, Any] = {
                "d_inner": get("ssm.inner_size"),
                "d_state": get("ssm.state_size"),
                "d_conv": get("ssm.conv_kernel"),
                "dt_rank": get("ssm.time_step_rank"),
            }
            if arch == "mamba":
                if get("ssm.dt_b_c_rms"):
                    raise ModelError("FalconMamba's normalisation of dt, B and C is not supported")
                kinds: dict[str, Any] = {"layer_kinds": ("mamba",) * n_layers, "moe_layers": (False,) * n_layers}
                return cls(family="mamba", **kinds, **ssm, **common)
            if arch == "jamba":
                return cls(family="jamba", mamba_norms=True, **_jamba_from_gguf(get, common), **ssm, **common)
        except (KeyError, TypeError) as exc:
            raise ModelError(f"the metadata of this {arch} file lacks a value or has a wrong one ({exc})") from exc
        raise ModelError(f"the architecture is {arch!r}; this decoder runs jamba, llama, qwen2 and mamba from GGUF")


def _check(raw: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse what the decoder would compute wrongly, instead of ignoring it."""
    for key, value in wanted.items():
        if raw.get(key, value) != value:
            raise ModelError(f"{key} is {raw[key]!r}; supported is {value!r}")


def _jamba_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    _check(raw, {"hidden_act": "silu", "mamba_proj_bias": False})
    d_model, n_layers, n_heads = raw["hidden_size"], raw["num_hidden_layers"], raw["num_attention_heads"]
    n_experts = raw.get("num_experts", 16)
    dt_rank = raw.get("mamba_dt_rank", "auto")
    attention = (raw.get("attn_layer_period", 8), raw.get("attn_layer_offset", 4))
    experts = (raw.get("expert_layer_period", 2), raw.get("expert_layer_offset", 1))
    return {
        "family": "jamba",
        "vocab_size": raw["vocab_size"],
        "d_model": d_model,
        "n_layers": n_layers,
        "layer_kinds": tuple("attention" if i % attention[0] == attention[1] else "mamba" for i in range(n_layers)),
        "moe_layers": tuple(n_experts > 1 and i % experts[0] == experts[1] for i in range(n_layers)),
        "d_ff": raw["intermediate_size"],
        "n_experts": n_experts,
        "n_experts_per_token": raw.get("num_experts_per_tok", 2) if n_experts > 1 else 1,
        "n_heads": n_heads,
        "n_kv_heads": raw.get("num_key_value_heads") or n_heads,
        "head_dim": raw.get("head_dim") or d_model // n_heads,
        "d_inner": raw.get("mamba_expand", 2) * d_model,
        "d_state": raw.get("mamba_d_state", 16),
        "d_conv": raw.get("mamba_d_conv", 4),
        "dt_rank": math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank,
        "conv_bias": raw.get("mamba_conv_bias", True),
        "mamba_norms": True,
        "norm_eps": raw.get("rms_norm_eps", 1e-6),
        "tie_embeddings": raw.get("tie_word_embeddings", False),
        "max_context_tokens": raw.get("max_position_embeddings"),
    }


def _llama_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    kind = raw["model_type"]
    _check(raw, {"hidden_act": "silu", "mlp_bias": False, "use_sliding_window": False})
    if kind != "qwen2":
        _check(raw, {"attention_bias": False})
        if raw.get("sliding_window") and raw["sliding_window"] < raw.get("max_position_embeddings", 0):
            raise ModelError(f"sliding-window attention ({raw['sliding_window']} tokens) is not supported")
    d_model, n_layers, n_heads = raw["hidden_size"], raw["num_hidden_layers"], raw["num_attention_heads"]
    n_experts = raw.get("num_local_experts", 1) if kind == "mixtral" else 1
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = rope.get("rope_theta", raw.get("rope_theta", 10_000.0))
    return {
        "family": "llama",
        "vocab_size": raw["vocab_size"],
        "d_model": d_model,
        "n_layers": n_layers,
        "layer_kinds": ("attention",) * n_layers,
        "moe_layers": (n_experts > 1,) * n_layers,
        "d_ff": raw["intermediate_size"],
        "n_experts": n_experts,
        "n_experts_per_token": raw.get("num_experts_per_tok", 2) if n_experts > 1 else 1,
        "normalize_expert_weights": True,
        "n_heads": n_heads,
        "n_kv_heads": raw.get("num_key_value_heads") or n_heads,
        "head_dim": raw.get("head_dim") or d_model // n_heads,
        "qkv_bias": kind == "qwen2",
        "rope_theta": float(theta),
        "rope_scaling": _rope_scaling(rope),
        "norm_eps": raw.get("rms_norm_eps", 1e-6),
        "tie_embeddings": raw.get("tie_word_embeddings", False),
        "max_context_tokens": raw.get("max_position_embeddings"),
    }


def _rope_scaling(rope: Mapping[str, Any]) -> tuple[tuple[str, float], ...] | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(f"rope scaling of type {kind!r} is not supported; there is llama3")
    names = ("factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings")
    return tuple((name, float(rope[name])) for name in names)


def _mamba_from_hf(raw: Mapping[str, Any]) -> dict[str, Any]:
    _check(raw, {"hidden_act": "silu", "use_bias": False})
    d_model, n_layers = raw["hidden_size"], raw["num_hidden_layers"]
    dt_rank = raw.get("time_step_rank", "auto")
    return {
        "family": "mamba",
        "vocab_size": raw["vocab_size"],
        "d_model": d_model,
        "n_layers": n_layers,
        "layer_kinds": ("mamba",) * n_layers,
        "moe_layers": (False,) * n_layers,
        "d_inner": raw.get("intermediate_size") or raw.get("expand", 2) * d_model,
        "d_state": raw["state_size"],
        "d_conv": raw.get("conv_kernel", 4),
        "dt_rank": math.ceil(d_model / 16) if dt_rank == "auto" else dt_rank,
        "conv_bias": raw.get("use_conv_bias", True),
        "norm_eps": raw.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": raw.get("tie_word_embeddings", True),
    }


def _llama_from_gguf(get: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    n_layers, n_heads = common["n_layers"], get("attention.head_count")
    if get("expert_count"):
        raise ModelError("mixtures of experts in llama-like GGUF files are not supported; use the safetensors folder")
    if get("rope.scaling.type", "none") not in ("none", ""):
        raise ModelError(f"rope scaling {get('rope.scaling.type')!r} in a GGUF file is not supported")
    head_dim = get("attention.key_length") or common["d_model"] // n_heads
    if get("rope.dimension_count", head_dim) != head_dim:
        raise ModelError(f"rotary embedding over {get('rope.dimension_count')} of {head_dim} dimensions")
    return {
        "layer_kinds": ("attention",) * n_layers,
        "moe_layers": (False,) * n_layers,
        "d_ff": get("feed_forward_length"),
        "n_heads": n_heads,
        "n_kv_heads": get("attention.head_count_kv") or n_heads,
        "head_dim": head_dim,
        "rope_theta": float(get("rope.freq_base", 10_000.0)),
    }


def _jamba_from_gguf(get: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    n_kv_heads = list(get("attention.head_count_kv"))  # for each layer; 0 is a Mamba layer
    n_heads = get("attention.head_count")
    if isinstance(n_heads, list):
        n_heads = max(n_heads)
    n_experts = get("expert_count") or 1
    return {
        "layer_kinds": tuple("attention" if heads else "mamba" for heads in n_kv_heads),
        # Which layers have experts only the tensors tell: the loader settles it.
        "moe_layers": (False,) * common["n_layers"],
        "d_ff": get("feed_forward_length"),
        "n_experts": n_experts,
        "n_experts_per_token": get("expert_used_count") or 1,
        "n_heads": n_heads,
        "n_kv_heads": max(n_kv_heads),
        "head_dim": common["d_model"] // n_heads,
    }


def _gguf_eos(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    names = ("eos", "eot", "eom")
    found = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in names)
    return tuple(dict.fromkeys(int(token) for token in found if token is not None))
