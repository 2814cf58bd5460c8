"""Rotary position embedding: the cosines and sines of positions.

Source: Su et al. 2021, arXiv:2104.09864, with the two halves of a head rotated (as in Llama's checkpoints); Llama 3.1's
stretched wavelengths as in transformers' modeling_rope_utils, or by the factors that a GGUF file has worked out.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .config import DecoderConfig

__all__ = ["Rotary"]


class Rotary:
    """Cosines and sines by position, worked out when first needed.

    Args:
        frequencies: Radians per token. (hd / 2,) fp32
    """

    def __init__(self, frequencies: Tensor) -> None:
        self._frequencies = frequencies
        self._cos = self._sin = frequencies.new_empty(0, frequencies.shape[0])  # (positions, hd / 2)

    @classmethod
    def of(cls, config: DecoderConfig, device: torch.device) -> "Rotary | None":
        """The model's, or None if it has no positions."""
        if config.rope_theta is None:
            return None
        half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        frequencies = 1.0 / config.rope_theta**half
        if config.rope_scaling is not None:
            frequencies = _stretch(frequencies, dict(config.rope_scaling))
        if config.rope_factors is not None:
            frequencies = frequencies / torch.tensor(config.rope_factors)
        return cls(frequencies.to(device))

    def rows(self, runs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Of the positions of several runs (first position, how many), end to end: (T, hd / 2) each."""
        needed = max(start + count for start, count in runs)
        if needed > self._cos.shape[0]:
            positions = torch.arange(max(needed, 2 * self._cos.shape[0]), device=self._frequencies.device)
            angles = positions[:, None].float() * self._frequencies  # (positions, hd / 2)
            self._cos, self._sin = angles.cos(), angles.sin()
        if len(runs) == 1:
            start, count = runs[0]
            return self._cos[start : start + count], self._sin[start : start + count]
        index = torch.cat([torch.arange(start, start + count) for start, count in runs]).to(self._cos.device)
        return self._cos[index], self._sin[index]


def _stretch(frequencies: Tensor, scaling: dict[str, float]) -> Tensor:
    """Llama 3.1: long wavelengths are divided by a factor, short ones kept, those between blended."""
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = original * frequencies / (2 * math.pi)  # whole turns within the original context
    blend = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies / factor * (1 - blend) + frequencies * blend
