"""Low-rank adapters for the linear layers of any module tree: W x + (alpha / rank) · B A x, with W frozen.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1. A is drawn
as in the authors' code (loralib, Kaiming-uniform) and B begins at zero, so that the model is unchanged at first. Files
have peft's names and layout (adapter_model.safetensors and adapter_config.json); those of a `TrainableDecoder` name the
layers as its checkpoint does, which is what peft finds in the transformers model. The base model's fingerprint stands
in the header of the safetensors file, which peft does not look at.

Knows nothing of tokens and losses: those are `fine_tuning.py`.

A: (r, n_in), B: (n_out, r), both fp32 whatever the base weights are.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from longleaf.errors import ModelError

from .safetensors_weights import hf_name
from .training import TrainableDecoder
from .training_files import weight_name

__all__ = ["ATTENTION", "DEFAULT_TARGETS", "MAMBA", "MLP", "LoRA", "LoRALinear", "LoRAOptions", "base_fingerprint"]

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MAMBA = ("in_proj", "x_proj", "out_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
DEFAULT_TARGETS = (*ATTENTION, *MAMBA, *MLP)
"""Every large product. `dt_proj` and `router` can be named too: the first is small and feeds an exponential, the second
decides by a hair which experts run, so neither is adapted unless asked for."""

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # what peft's wrappers put before a module's path
_SAMPLES = 1024  # values of each base tensor that its fingerprint looks at


@dataclass(frozen=True)
class LoRAOptions:
    """Size and place of the adapters.

    Attributes:
        rank: Inner width r of B A.
        alpha: The product is scaled by alpha / rank, so that another rank needs no other learning rate.
        targets: Last parts of the names of the nn.Linear modules that get one.
        dropout: Share of the adapter's inputs that are zeroed in training.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = DEFAULT_TARGETS
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be a number above 0, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if not self.targets:
            raise ValueError("targets is empty; name at least one kind of linear layer")


class LoRALinear(nn.Module):
    """A frozen linear layer and its adapter.

    Args:
        base: The layer; its weights are used as they are, not copied.
        options: See `LoRAOptions`.
        generator: Draws A.
    """

    def __init__(self, base: nn.Linear, options: LoRAOptions, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.base = base
        self.scaling = options.alpha / options.rank
        self.enabled = True
        device, fp32 = base.weight.device, torch.float32
        self.lora_A = nn.Linear(base.in_features, options.rank, bias=False, device=device, dtype=fp32)
        self.lora_B = nn.Linear(options.rank, base.out_features, bias=False, device=device, dtype=fp32)
        self.dropout = nn.Dropout(options.dropout)
        with torch.no_grad():
            # Kaiming-uniform with a = sqrt(5) comes to ± 1 / sqrt(n_in). Drawn on the CPU: the same on every device.
            drawn = torch.rand(options.rank, base.in_features, generator=generator) * 2 - 1
            self.lora_A.weight.copy_(drawn / math.sqrt(base.in_features))
            self.lora_B.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """W x + b + (alpha / rank) · B A x: (..., n_in) -> (..., n_out)."""
        y: Tensor = self.base(x)
        if not self.enabled:
            return y
        change: Tensor = self.lora_B(self.lora_A(self.dropout(x.to(self.lora_A.weight.dtype))))  # (..., n_out)
        return y + (self.scaling * change).to(y.dtype)

    def change(self) -> Tensor:
        """What the adapter adds to the base weight: (n_out, n_in) fp32."""
        return self.scaling * (self.lora_B.weight @ self.lora_A.weight)

    # A module that reads a product's weights itself sees the adapted ones.

    @property
    def weight(self) -> Tensor:
        """The adapted weight, worked out anew each time: (n_out, n_in)."""
        return self.base.weight + self.change().to(self.base.weight.dtype) if self.enabled else self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """The base layer's."""
        return self.base.bias


class LoRA:
    """The adapters of one model. Making it freezes the model and puts a `LoRALinear` in the place of each target.

        lora = LoRA(model, LoRAOptions(rank=8))
        optimizer = torch.optim.AdamW(lora.parameters(), lr=2e-4)
        ...
        lora.save_adapter(folder)
        lora.merge()                                    # the model is a plain one again, with adapted weights

    Args:
        model: Any module tree with nn.Linear; changed in place.
        options: See `LoRAOptions`.
        seed: Of the A matrices.
        base_name: Written into adapter_config.json, for people and for peft.

    Raises:
        ModelError: No linear layer has one of the names, or the model has adapters already.
    """

    def __init__(
        self, model: nn.Module, options: LoRAOptions | None = None, *, seed: int = 0, base_name: str = ""
    ) -> None:
        self.model, self.options, self.base_name = model, options or LoRAOptions(), base_name
        if any(isinstance(module, LoRALinear) for module in model.modules()):
            raise ModelError("the model has adapters already; merge() or remove() them first")
        linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        self._file_names = {name: _file_name(model, name) for name in linears}
        # By the name here or in the file: Mixtral's down_proj is w2 there.
        found = [n for n in linears if {_last(n), _last(self._file_names[n])} & set(self.options.targets)]
        if not found:
            there = {_last(name) for name in linears}
            raise ModelError(
                f"no linear layer is called {', '.join(self.options.targets)}; this model's are "
                f"{', '.join(sorted(there)) or 'none'}"
            )
        self._fingerprint: str | None = None
        self._were_trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        model.requires_grad_(False)
        generator = torch.Generator().manual_seed(seed)
        self.layers = {name: LoRALinear(_at(model, name), self.options, generator) for name in found}
        for name, layer in self.layers.items():
            layer.train(model.training)
            _put(model, name, layer)

    @classmethod
    def from_adapter(cls, model: nn.Module, folder: Path) -> "LoRA":
        """Give a model the adapters that were saved, with the options that they were saved with.

        Raises:
            ModelError: As for `load_adapter`; the model is as it was.
        """
        options, base_name = _read_config(folder)
        lora = cls(model, options, base_name=base_name)
        try:
            lora.load_adapter(folder)
        except ModelError:
            lora.remove()
            raise
        return lora

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The A and B matrices by the names that they have in a file."""
        for name, layer in self.layers.items():
            for own, parameter in layer.named_parameters():
                if own.startswith("lora_"):
                    yield f"{_PREFIX}{self._file_names[name]}.{own}", parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained: the A and B matrices."""
        for _, parameter in self.named_parameters():
            yield parameter

    @property
    def n_trainable(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.parameters())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model's own answers, inside a `with`."""
        for layer in self.layers.values():
            layer.enabled = False
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enabled = True

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Add the adapters to the base weights, in fp32 and rounded to their dtype, and take them out.

        Returns:
            The model, whose linear layers are plain again and trained as they were before.
        """
        for layer in self.layers.values():
            weight = layer.base.weight
            weight.copy_(weight.float() + layer.change())  # copy_ rounds
        return self.remove()

    def remove(self) -> nn.Module:
        """Take the adapters out without a trace; returns the base model, trained as it was before."""
        for name, layer in self.layers.items():
            _put(self.model, name, layer.base)
        for parameter in self._were_trained:
            parameter.requires_grad_(True)
        self.layers, self._fingerprint = {}, None
        return self.model

    def save_adapter(self, folder: Path) -> None:
        """Write adapter_model.safetensors and adapter_config.json; what is there is replaced, each file whole.

        Raises:
            ModelError: The adapters are merged or removed.
        """
        if not self.layers:
            raise ModelError("there is no adapter to save: it was merged or removed")
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: parameter.detach().contiguous().cpu() for name, parameter in self.named_parameters()}
        metadata = {"format": "pt", "base_fingerprint": self.fingerprint()}
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base_name,
            "r": self.options.rank,
            "lora_alpha": self.options.alpha,
            "lora_dropout": self.options.dropout,
            "target_modules": sorted({_last(self._file_names[name]) for name in self.layers}),
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
        }
        text = json.dumps(config, indent=2) + "\n"
        _replace(folder / _CONFIG, lambda part: part.write_text(text, encoding="utf-8"))
        _replace(folder / _WEIGHTS, lambda part: save_file(tensors, part, metadata=metadata))

    def load_adapter(self, folder: Path) -> None:
        """Fill A and B from files that `save_adapter` or peft wrote.

        A file that names no base model, as peft's do not, is taken if its names and shapes fit.

        Raises:
            ModelError: Missing or damaged, made for another base model, or with another rank, alpha or other layers.
        """
        options, _ = _read_config(folder)
        mine = (self.options.rank, self.options.alpha)
        if (options.rank, options.alpha) != mine:
            raise ModelError(
                f"{folder}: the adapter has rank {options.rank} and alpha {options.alpha:g}, this model is set up for "
                f"rank {mine[0]} and alpha {mine[1]:g}; use LoRA.from_adapter(model, folder)"
            )
        file = folder / _WEIGHTS
        try:
            with safe_open(file, framework="pt") as opened:
                made_for = (opened.metadata() or {}).get("base_fingerprint")
                tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as exc:
            raise ModelError(f"{file}: not a readable adapter ({exc})") from exc
        if made_for is not None and made_for != self.fingerprint():
            raise ModelError(
                f"{folder}: the adapter was made for another base model (fingerprint {made_for[:12]}, this model's is "
                f"{self.fingerprint()[:12]}); load the model that it was trained on"
            )
        mine_by_name = dict(self.named_parameters())
        _check(folder, {name: tuple(p.shape) for name, p in mine_by_name.items()}, tensors)
        with torch.no_grad():
            for name, parameter in mine_by_name.items():
                parameter.copy_(tensors[name])

    def fingerprint(self) -> str:
        """Names the base model; see `base_fingerprint`. Worked out once: its weights are frozen."""
        if self._fingerprint is None:
            self._fingerprint = base_fingerprint(self.model)
        return self._fingerprint


def base_fingerprint(model: nn.Module) -> str:
    """Names a model's own weights, adapters aside: their names, shapes and samples of each.

    Samples are rounded to bf16 first, so that a model has one fingerprint whether it was loaded in fp32 or in bf16.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            continue
        digest.update(f"{name.replace('.base.', '.')} {tuple(parameter.shape)}\n".encode())
        values = parameter.detach().reshape(-1)
        some = values[:: max(1, values.numel() // _SAMPLES)].to(torch.bfloat16)
        digest.update(some.contiguous().cpu().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _file_name(model: nn.Module, name: str) -> str:
    """A linear layer's name in adapter files."""
    if not isinstance(model, TrainableDecoder):
        return name
    return hf_name(model.config, weight_name(f"{name}.weight")).removesuffix(".weight")


def _at(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _read_config(folder: Path) -> tuple[LoRAOptions, str]:
    """Options and the base model's name."""
    path = folder / _CONFIG
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if raw["peft_type"] != "LORA":
            raise ModelError(f"{path}: peft_type is {raw['peft_type']!r}; only LORA is supported")
        for key, plain in (("bias", "none"), ("use_dora", False), ("use_rslora", False), ("fan_in_fan_out", False)):
            if raw.get(key) not in (None, plain):
                raise ModelError(f"{path}: {key} is {raw[key]!r}; supported is {plain!r}")
        for key in ("rank_pattern", "alpha_pattern", "modules_to_save"):
            if raw.get(key):
                raise ModelError(f"{path}: {key} is set, which is not supported")
        targets = raw["target_modules"]
        if not isinstance(targets, list):
            raise ModelError(f"{path}: target_modules is {targets!r}; it must be a list of names")
        options = LoRAOptions(
            int(raw["r"]), float(raw["lora_alpha"]), tuple(map(str, targets)), float(raw.get("lora_dropout") or 0)
        )
        return options, str(raw.get("base_model_name_or_path") or "")
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: no such file; an adapter's folder has {_CONFIG} and {_WEIGHTS}") from exc
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise ModelError(f"{path}: not a readable adapter config ({exc!r})") from exc


def _check(folder: Path, wanted: dict[str, tuple[int, ...]], there: dict[str, Tensor]) -> None:
    problems: list[str] = []
    problems += [f"{name} is missing" for name in sorted(wanted.keys() - there.keys())]
    problems += [f"{name} has no place in this model" for name in sorted(there.keys() - wanted.keys())]
    problems += [
        f"{name} is {_sizes(there[name].shape)} instead of {_sizes(wanted[name])}"
        for name in sorted(wanted.keys() & there.keys())
        if tuple(there[name].shape) != wanted[name]
    ]
    if problems:
        rest = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(
            f"{folder}: the adapter does not fit this model: {', '.join(problems[:3])}{rest}; it was made for another "
            "base model or for other layers"
        )


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
