"""What a model takes and what fits: the figures of `longleaf plan` and of the page "Models". No weights are read.

The comparison that the page draws is ours: a *pure Transformer of the same size* has the model's own shape with every
Mamba layer replaced by an attention layer like those it has, and as many bytes of weights. An attention layer has fewer
parameters than a Mamba layer of the same width; to count the weights the same leaves nothing but keys and values,
states and workspace to tell the two apart.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from longleaf.errors import ModelError
from longleaf.model import MODELS, get_spec, model_path
from longleaf.model.config import DecoderConfig, LayerKind
from longleaf.model.gguf_file import GGUFFile, gguf_config
from longleaf.model.machine import total_memory_bytes
from longleaf.model.plan import ContextFit, MemoryPlan, Quantize, largest_context, plan_memory
from longleaf.model.public_models import PUBLIC_MODELS

from .models_view import installed_path
from .settings import Settings

__all__ = [
    "CHUNK_TOKENS",
    "CONTEXTS",
    "FigureRow",
    "Fit",
    "Memory",
    "ModelFit",
    "Shape",
    "Weighting",
    "best_fit",
    "find_shape",
    "memories",
    "shape_before_fetching",
    "transformer_of",
    "weighting",
    "weightings",
]

CHUNK_TOKENS = 512
"""Tokens read at a time, which the workspace is worked out for."""

CONTEXTS = tuple(1024 * 2**power for power in range(2, 9))
"""4K to 256K tokens."""

Dtype = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Shape:
    """What a plan is made from.

    Attributes:
        name: As the user typed it, or the model's own.
        config: The decoder's shape.
        source: Where the numbers are from.
        weights_bytes: Set where weights stay packed as their file has them.
    """

    name: str
    config: DecoderConfig
    source: str
    weights_bytes: int | None = None


@dataclass(frozen=True)
class Weighting:
    """How weights are held.

    Attributes:
        dtype: Of weights that are not rounded, of activations, and of keys and values.
        quantize: What is rounded to int8, if anything is.
        packed_bytes: Set where all stay as their file has them.
    """

    dtype: Dtype = "bf16"
    quantize: Quantize | None = None
    packed_bytes: int | None = None

    @property
    def name(self) -> str:
        """`packed`, `bf16`, `fp32`, `int8` or `int8-experts`."""
        return self.quantize or ("packed" if self.packed_bytes is not None else self.dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The same for `plan_memory` and `largest_context`."""
        return {
            "dtype": self.dtype,
            "kv_dtype": self.dtype,
            "chunk_tokens": CHUNK_TOKENS,
            "quantize": self.quantize,
            "weights_bytes": self.packed_bytes,
        }


@dataclass(frozen=True)
class Fit:
    """Which context fits a memory.

    Attributes:
        weights: As `Weighting.name`.
        tokens: As `ContextFit` has it, and so is the next.
        limited_by: What ends the context.
        total_bytes: With so many tokens; with one where none fit, with a chunk where any number does.
    """

    weights: str
    tokens: int | None
    limited_by: str
    total_bytes: int

    def in_words(self, total: str) -> str:
        """A clause, with `total_bytes` as `total` has it."""
        if self.tokens == 0:
            return f"does not fit: it takes {total} before the first token"
        if self.tokens is None:
            return f"any number of tokens, in {total}"
        if self.limited_by == "model":
            return f"{self.tokens:,} tokens, all that the model was trained for, in {total}"
        return f"{self.tokens:,} tokens, in {total}"


class FigureRow(NamedTuple):
    """The memory that one context takes.

    Attributes:
        tokens: Prompt and answer together.
        model: Of the model.
        transformer: Of the pure Transformer of its size, where there is one to compare with.
    """

    tokens: int
    model: MemoryPlan
    transformer: MemoryPlan | None


class Memory(NamedTuple):
    """A memory that a model may have to fit.

    Attributes:
        name: Such as "this machine".
        size_bytes: All of it.
    """

    name: str
    size_bytes: int


@dataclass(frozen=True)
class ModelFit:
    """A model held one way, beside a pure Transformer of its size.

    fit = ModelFit(find_shape("jamba2-3b", settings), Weighting())
    fit.within(8 * 2**30).tokens
    """

    shape: Shape
    weighting: Weighting

    @property
    def transformer(self) -> DecoderConfig | None:
        """The pure Transformer; None where the model is one, or has no attention layer to make others like."""
        return transformer_of(self.shape.config)

    def rows(self, contexts: tuple[int, ...] = CONTEXTS) -> list[FigureRow]:
        """What each context takes, whether or not the model was trained for it."""
        other = self.transformer
        return [
            FigureRow(
                tokens,
                plan_memory(self.shape.config, tokens, **self.weighting.options),
                plan_memory(other, tokens, **self._transformer_options()) if other else None,
            )
            for tokens in contexts
        ]

    def within(self, memory_bytes: int) -> Fit:
        """Which context of the model fits."""
        return _fit(self.shape.config, memory_bytes, self.weighting.name, self.weighting.options)

    def transformer_within(self, memory_bytes: int) -> Fit | None:
        """Which context of the pure Transformer fits."""
        other = self.transformer
        return _fit(other, memory_bytes, self.weighting.name, self._transformer_options()) if other else None

    def _transformer_options(self) -> dict[str, Any]:
        weights = plan_memory(self.shape.config, 1, **self.weighting.options).weights_bytes
        return {**self.weighting.options, "weights_bytes": weights}


def find_shape(model: str, settings: Settings) -> Shape:
    """The shape of a model that is on this machine, by its own files; else as `PUBLIC_MODELS` has it.

    Args:
        model: A name, `org/name`, a `config.json`, a folder or a `.gguf` file.
        settings: Where models lie.

    Raises:
        ModelError: Unknown, not here, no reader, or its files can't be read.
    """
    path = Path(model).expanduser()
    if model not in MODELS and model not in PUBLIC_MODELS and (path.suffix in (".gguf", ".json") or path.exists()):
        return _shape_of_files(path, str(path))
    spec = get_spec(model)
    if spec.role != "reader":
        raise ModelError(f"{spec.name} makes embeddings; plan is about readers")
    installed = installed_path(spec, settings)
    if installed is None and spec.name in PUBLIC_MODELS:
        public = PUBLIC_MODELS[spec.name]
        return Shape(public.name, public.config, public.source)
    return _shape_of_files(model_path(spec.name, settings.models_dir), spec.name)


def shape_before_fetching(model: str, settings: Settings) -> Shape:
    """As `find_shape`, but a model that will come as a .gguf file is counted with the bytes of that file.

    Raises:
        ModelError: As there.
    """
    shape = find_shape(model, settings)
    spec = MODELS.get(model)
    if spec is None or shape.weights_bytes is not None:
        return shape
    return replace(shape, weights_bytes=spec.files[0].size_bytes, source=f"{shape.source}, and its .gguf file's size")


def weighting(shape: Shape, dtype: Dtype = "bf16", quantize: Quantize | None = None) -> Weighting:
    """Packed weights stay as they are unless something else is asked for."""
    return Weighting(dtype, quantize, shape.weights_bytes if quantize is None and dtype == "bf16" else None)


def weightings(shape: Shape) -> list[Weighting]:
    """All ways to hold a model's weights; the first is what it comes with."""
    given = [weighting(shape)] if shape.weights_bytes is not None else []
    experts = [Weighting(quantize="int8-experts")] if any(shape.config.moe_layers) else []
    return [*given, Weighting(), Weighting(quantize="int8"), *experts, Weighting("fp32")]


def best_fit(shape: Shape, memory_bytes: int) -> Fit:
    """As the model comes, or rounded to int8 where that gives it a longer context in so much memory."""
    comes, rounded = weighting(shape), Weighting(quantize="int8")
    fits = [ModelFit(shape, each).within(memory_bytes) for each in (comes, rounded)]
    # A file's own packing is below 8 bits as a rule: to round it again gains nothing.
    return fits[0] if comes.name == "packed" or fits[0].limited_by != "memory" else max(fits, key=_length)


def memories(settings: Settings) -> list[Memory]:
    """The memory of this machine, where the reader runs, and beside it that of a large graphics card."""
    own = Memory("this machine", total_memory_bytes())
    if settings.device == "cuda":
        import torch

        if torch.cuda.is_available():
            own = Memory("this machine's graphics card", torch.cuda.get_device_properties(0).total_memory)
    return [own, Memory("a large graphics card", 80_000_000_000)]


def transformer_of(config: DecoderConfig) -> DecoderConfig | None:
    """The same shape with attention in every layer; None where it has, or has nowhere, attention."""
    if not config.mamba_layers or not config.attention_layers:
        return None
    attention: LayerKind = "attention"
    return replace(config, layer_kinds=(attention,) * config.n_layers)


def _length(fit: Fit) -> float:
    return float("inf") if fit.tokens is None else fit.tokens


def _fit(config: DecoderConfig, memory_bytes: int, weights: str, options: dict[str, Any]) -> Fit:
    fit: ContextFit = largest_context(config, memory_bytes, **options)
    tokens = CHUNK_TOKENS if fit.tokens is None else max(fit.tokens, 1)
    return Fit(weights, fit.tokens, fit.limited_by, plan_memory(config, tokens, **options).total_bytes)


def _shape_of_files(path: Path, name: str) -> Shape:
    if path.suffix == ".gguf":
        return _shape_of_gguf(path, name)
    path = path / "config.json" if path.is_dir() else path
    config = DecoderConfig.from_json_file(path)
    if config.tie_embeddings and _has_output_matrix(path.parent):
        config = replace(config, tie_embeddings=False)
    return Shape(name, config, str(path))


def _has_output_matrix(folder: Path) -> bool:
    """Whether the weights hold an output matrix of their own, which is then used whatever the config says."""
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    try:
        if index.is_file():
            return "lm_head.weight" in json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="np") as weights:
                if "lm_head.weight" in weights.keys():  # noqa: SIM118  not a dict
                    return True
    except (OSError, ValueError, KeyError, SafetensorError):  # a plan needs no weights, and says nothing about them
        pass
    return False


def _shape_of_gguf(path: Path, name: str) -> Shape:
    file = GGUFFile(path)
    return Shape(name, gguf_config(file), str(path), sum(tensor.size_bytes for tensor in file.tensors.values()))
