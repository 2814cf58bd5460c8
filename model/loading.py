"""Loads a decoder: from a Hugging Face folder, a hub id or short name that was pulled, or a GGUF file.

    model = load_model("jamba2-3b", dtype=torch.bfloat16)
    model = load_model("reader.gguf")

Only safetensors and GGUF are read, never pickle.
"""

import hashlib
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import get_args

import torch

from longleaf.errors import ModelError, ModelNotInstalledError

from . import native
from .config import DecoderConfig
from .decoder import Decoder
from .gguf_file import GGUFFile, gguf_config
from .gguf_weights import GGUFWeights
from .kernels import Kernels, choose_kernels
from .layers import Attention, FeedForward, Layer, MambaMixer, MixtureOfExperts
from .linear import Linear
from .registry import model_path
from .safetensors_weights import Quantization, SafetensorsWeights
from .weights import Weights

__all__ = ["find_weights", "load_model", "read_config"]

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 4096
_SAMPLES = 512


def load_model(
    model: str | PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    quantize: Quantization | None = None,
    *,
    kv_dtype: torch.dtype | None = None,
    kernels: Kernels | None = None,
    models_dir: Path | None = None,
) -> Decoder:
    """Load a decoder of any family.

    Args:
        model: A folder with config.json and .safetensors files, a .gguf file, or the name or hub id of a model that was
            pulled.
        device: "cpu" or "cuda".
        dtype: Of activations and unquantised weights: torch.float32 or torch.bfloat16 (Jamba overflows fp16). bf16 if
            not given, or fp32 for a GGUF file on a CPU, whose packed products are in int8 anyway.
        quantize: int8 weights, made at load; see `Quantization`. GGUF files are quantised as they come.
        kv_dtype: Of kept keys and values; `dtype` if not given, bf16 for a GGUF file.
        kernels: What runs between the products; the fastest for the device if not given.
        models_dir: Where pulled models lie; the user's data folder if not given.

    Raises:
        ModelNotInstalledError: Nothing there; the message says what to run.
        ModelError: Not a model that this decoder runs, or its files are damaged or do not fit each other.
    """
    path = find_weights(model, models_dir)
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("there is no CUDA device here; use device='cpu'")
    is_gguf = path.is_file()
    dtype = dtype or (torch.float32 if is_gguf and place.type == "cpu" else torch.bfloat16)
    if dtype not in (torch.float32, torch.bfloat16):
        raise ModelError(f"dtype must be torch.float32 or torch.bfloat16, got {dtype} (Jamba overflows fp16)")
    if quantize not in (None, *get_args(Quantization)):
        raise ModelError(f"quantize must be one of {', '.join(get_args(Quantization))}, got {quantize!r}")
    if quantize is not None and is_gguf:
        raise ModelError(f"{path}: a GGUF file is quantised as it comes; load it without quantize={quantize!r}")
    if quantize == "w8a8" and (place.type != "cpu" or not native.is_available()):
        raise ModelError("quantize='w8a8' needs the native CPU kernels; use quantize='int8'")
    weights: Weights
    if is_gguf:
        file = GGUFFile(path)
        config = gguf_config(file)
        weights, files = GGUFWeights(file, config, dtype, place), [path]
        kv_dtype = kv_dtype or torch.bfloat16
    else:
        config = DecoderConfig.from_json_file(path / "config.json")
        weights = SafetensorsWeights(path, config, dtype, place, quantize)
        files = weights.files
        kv_dtype = kv_dtype or dtype
    fingerprint = _fingerprint(config, files, f"{dtype} {kv_dtype} {quantize}")
    with torch.inference_mode():
        layers = [_layer(config, weights, i) for i in range(config.n_layers)]
        embed = weights.embedding()
        decoder = Decoder(
            config,
            embed,
            layers,
            weights.tensor("final_norm"),
            weights.output(),
            kernels=kernels or choose_kernels(place),
            dtype=dtype,
            kv_dtype=kv_dtype,
            device=place,
            fingerprint=fingerprint,
        )
    if is_gguf:
        file.forget()
    return decoder


def read_config(path: Path) -> DecoderConfig:
    """The shape of the model in a folder or a .gguf file, without its weights.

    Raises:
        ModelError: Not a model that this decoder runs.
    """
    return DecoderConfig.from_json_file(path / "config.json") if path.is_dir() else gguf_config(GGUFFile(path))


def find_weights(model: str | PathLike[str], models_dir: Path | None = None) -> Path:
    """The folder or .gguf file that a name stands for.

    Raises:
        UnknownModelError: Neither a path that exists nor a known name.
        ModelNotInstalledError: A known name whose weights are not here, or a path that does not exist.
    """
    path = Path(model).expanduser()
    try:
        if path.exists():
            return path
    except OSError as exc:  # a name longer than any file name
        raise ModelNotInstalledError(f"{str(model)[:80]}…: no such file or folder") from exc
    if path.suffix == ".gguf" or path.is_absolute() or str(model).startswith("."):
        raise ModelNotInstalledError(f"{path}: no such file or folder")
    return model_path(str(model), models_dir)


def _layer(config: DecoderConfig, weights: Weights, i: int) -> Layer:
    p = f"layers.{i}."
    layer = Layer(
        mixer_norm=weights.tensor(p + "mixer_norm"),
        mixer=_attention(config, weights, p) if config.layer_kinds[i] == "attention" else _mamba(config, weights, p),
    )
    if config.d_ff:
        layer.network_norm = weights.tensor(p + "network_norm")
        if config.moe_layers[i]:
            layer.network = MixtureOfExperts(
                router=weights.tensor(p + "router"),
                experts=tuple(_feed_forward(weights, f"{p}experts.{e}.") for e in range(config.n_experts)),
                n_experts_per_token=config.n_experts_per_token,
                normalize=config.normalize_expert_weights,
            )
        else:
            layer.network = _feed_forward(weights, p)
    return layer


def _attention(config: DecoderConfig, weights: Weights, p: str) -> Attention:
    biases = [p + "q_bias", p + "k_bias", p + "v_bias"] if config.qkv_bias else []
    return Attention(
        qkv=weights.linears([p + "q", p + "k", p + "v"], biases),
        o=_one(weights, p + "o"),
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
    )


def _mamba(config: DecoderConfig, weights: Weights, p: str) -> MambaMixer:
    norms = tuple(weights.tensor(p + name) for name in ("dt_norm", "b_norm", "c_norm")) if config.mamba_norms else None
    fp32 = torch.float32
    return MambaMixer(
        in_proj=_one(weights, p + "in_proj"),
        conv_weight=weights.tensor(p + "conv_weight", fp32).T.contiguous(),  # (W, E)
        conv_bias=weights.tensor(p + "conv_bias", fp32) if config.conv_bias else None,
        x_proj=_one(weights, p + "x_proj"),
        norms=norms,  # type: ignore[arg-type]
        dt_proj=_one(weights, p + "dt_proj"),
        dt_bias=weights.tensor(p + "dt_bias", fp32),
        A=-torch.exp(weights.tensor(p + "A_log", fp32)).T.contiguous(),  # (N, E)
        D=weights.tensor(p + "D", fp32),
        out_proj=_one(weights, p + "out_proj"),
        norm_eps=config.norm_eps,
    )


def _feed_forward(weights: Weights, p: str) -> FeedForward:
    return FeedForward(gate_up=weights.linears([p + "gate", p + "up"]), down=_one(weights, p + "down"))


def _one(weights: Weights, name: str) -> Linear:
    (linear,) = weights.linears([name])
    return linear


def _fingerprint(config: DecoderConfig, files: Sequence[Path], settings: str) -> str:
    """Names weights and settings: what a state must share with the model that continues it.

    The whole of a checkpoint takes minutes to hash; its size and samples spread over all of it tell apart any two that
    were trained or converted differently.
    """
    digest = hashlib.sha256(f"{config.to_json()}\n{settings}\n".encode())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{size}\n".encode())
        step = max(_SAMPLE_BYTES, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))  # a small file is read whole
        with path.open("rb") as stream:
            for at in range(0, size, step):
                stream.seek(at)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()
