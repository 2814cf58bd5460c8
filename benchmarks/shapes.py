"""Shapes of equal size: Jamba's hybrid, a pure Transformer and a pure Mamba; and random weights for a shape.

The hybrid is one block of Jamba's: eight layers, attention at 4, a feed-forward network in each (Lieber et al. 2024,
arXiv:2403.19887, section 3). The other two have its d_model and vocabulary, and as many parameters within 2 %:

transformer  its number of layers and its heads, so that a layer's keys and values are as large as in the hybrid's
             attention layer; the networks are wider, which makes up for attention being smaller than a Mamba mixer.
             With more layers instead of wider ones it would have more attention, and lose by more on long texts
mamba        no feed-forward networks, as in Mamba's paper (Gu and Dao 2023, arXiv:2312.00752), but more layers
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder import save_random_jamba
from benchmarks.measuring import Figures, quiet_transformers
from longleaf.model import DecoderConfig
from longleaf.model.plan import ParameterCounts, count_parameters

TOLERANCE = 0.02
_WIDTH_STEP = 16
_MOST_TOKENS = 1 << 20  # so that no context is refused


@dataclass(frozen=True)
class SizedShape:
    """A shape with its size.

    Attributes:
        name: hybrid, transformer or mamba, or what a benchmark calls it.
        raw: Keys of its config.json.
    """

    name: str
    raw: Mapping[str, Any]

    @cached_property
    def config(self) -> DecoderConfig:
        """The shape as the decoder has it."""
        return DecoderConfig.from_hf(self.raw)

    @cached_property
    def parameters(self) -> ParameterCounts:
        """How many, by part."""
        return count_parameters(self.config)

    def figures(self) -> Figures:
        """What a table says of it."""
        config = self.config
        return {
            "parameters": self.parameters.total,
            "of_embedding_and_output": self.parameters.embedding + self.parameters.output,
            "n_layers": config.n_layers,
            "attention_layers": len(config.attention_layers),
            "d_model": config.d_model,
            "d_ff": config.d_ff,
            "n_heads": config.n_heads,
            "n_kv_heads": config.n_kv_heads,
            "head_dim": config.head_dim,
        }


def hybrid_shape(d_model: int = 512, vocab_size: int = 4096) -> SizedShape:
    """One dense block of Jamba's in this width: heads of 64, four to a kv head, d_ff 3.5 times d_model."""
    return SizedShape(
        "hybrid",
        {
            "model_type": "jamba",
            "vocab_size": vocab_size,
            "hidden_size": d_model,
            "intermediate_size": d_model * 7 // 2,
            "num_hidden_layers": 8,
            "num_attention_heads": d_model // 64,
            "num_key_value_heads": d_model // 256,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "num_experts": 1,
            "max_position_embeddings": _MOST_TOKENS,
        },
    )


def equal_shapes(d_model: int = 512, vocab_size: int = 4096) -> dict[str, SizedShape]:
    """The hybrid, the Transformer and the Mamba of its size, by name.

    Args:
        d_model: A multiple of 256, for whole heads.
        vocab_size: Small, so that the embedding, which all three have, does not make different models look equal.

    Raises:
        ValueError: No such shapes within 2 % in this width.
    """
    if d_model < 256 or d_model % 256:
        raise ValueError(f"d_model is {d_model}; it must be a multiple of 256")
    hybrid = hybrid_shape(d_model, vocab_size)
    transformer = {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": d_model,
        "num_hidden_layers": 8,
        "num_attention_heads": d_model // 64,
        "num_key_value_heads": d_model // 256,
        "max_position_embeddings": _MOST_TOKENS,
    }
    mamba = {
        "model_type": "mamba",
        "vocab_size": vocab_size,
        "hidden_size": d_model,
        "intermediate_size": 2 * d_model,
        "tie_word_embeddings": False,
    }
    wanted = hybrid.parameters.total
    widths = range(d_model, 8 * d_model, _WIDTH_STEP)
    shapes = {
        "hybrid": hybrid,
        "transformer": _nearest("transformer", transformer, "intermediate_size", widths, wanted),
        "mamba": _nearest("mamba", mamba, "num_hidden_layers", range(8, 64), wanted),
    }
    for shape in shapes.values():
        if abs(shape.parameters.total / wanted - 1) > TOLERANCE:
            raise ValueError(f"{shape.name} has {shape.parameters.total:,} parameters and the hybrid {wanted:,}")
    return shapes


def save_random(folder: Path, shape: SizedShape, seed: int = 0) -> None:
    """Random bf16 weights and config.json, as transformers initialises and saves them; speed does not depend on them.

    Args:
        folder: Made if it is not there.
        shape: Jamba's through `decoder.save_random_jamba`.
        seed: Of the weights.
    """
    if shape.config.family == "jamba":
        save_random_jamba(folder, shape.raw, seed)
        return
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet_transformers()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape.raw))
    model.to(torch.bfloat16).save_pretrained(folder)


def _nearest(name: str, raw: Mapping[str, Any], key: str, values: range, wanted: int) -> SizedShape:
    """The shape whose size comes nearest, with one key set."""
    shapes = (SizedShape(name, {**raw, key: value}) for value in values)
    return min(shapes, key=lambda shape: abs(shape.parameters.total - wanted))
