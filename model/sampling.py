"""Picks the next token from a row of logits: repetition penalty, temperature, top-k, top-p, min-p, in that order.

Order and ties as in transformers (generation/logits_process.py), so that the same options allow the same tokens.
Knows nothing of the model or of text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longleaf.errors import ModelError

__all__ = ["Sampler", "SamplingOptions"]

_MIN_TEMPERATURE = 1e-30  # smaller ones are 0 in fp32


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen; the defaults take the likeliest one.

    Attributes:
        temperature: Logits are divided by it; 0 takes the likeliest token.
        top_k: Choose among this many of the likeliest tokens; 0 for all.
        top_p: Choose among the likeliest tokens that have this probability together.
        min_p: Choose among tokens that are at least this likely, in proportion to the likeliest.
        repetition_penalty: Above 1, tokens that were there before are less likely; 1 leaves them (Keskar et al. 2019,
            arXiv:1909.05858, section 4.1).
        seed: Same seed, same choices; None for another one each time.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be between 0 and 1, got {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed must fit into 64 bits, got {self.seed}")


class Sampler:
    """Chooses tokens by the options, with random numbers of its own.

    sampler = Sampler(SamplingOptions(temperature=0.7, top_p=0.9, seed=1))
    token_id = sampler(logits, previous=token_ids)
    """

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._generator = torch.Generator()  # on the CPU: the same choices on any device
        if options.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(options.seed)

    def __call__(self, logits: Tensor, previous: Sequence[int] = ()) -> int:
        """The next token; arguments and errors as in `probabilities`."""
        probabilities = self.probabilities(logits, previous)
        if self.options.temperature == 0:
            return int(probabilities.argmax())
        return int(torch.multinomial(probabilities.cpu(), 1, generator=self._generator))

    def probabilities(self, logits: Tensor, previous: Sequence[int] = ()) -> Tensor:
        """How likely each token is to be chosen.

        Args:
            logits: (vocab,) fp32; -inf rules a token out. Not changed.
            previous: Tokens that the repetition penalty counts as having been there.

        Returns:
            (vocab,) fp32, adding up to 1; 0 for tokens that the options rule out.

        Raises:
            ModelError: The logits are not numbers, or rule out every token.
        """
        options = self.options
        scores = _penalize(logits, previous, options.repetition_penalty)
        top = float(scores.max())
        if not math.isfinite(top):
            raise ModelError(
                f"the model's logits are broken: the largest of {logits.numel()} is {top}; "
                "its weights are damaged, or its numbers overflow in this dtype"
            )
        if options.temperature == 0:
            return torch.zeros_like(scores).index_fill_(0, scores.argmax(), 1.0)
        scores = (scores - top) / max(options.temperature, _MIN_TEMPERATURE)
        if 0 < options.top_k < scores.numel():
            scores = _keep(scores, scores >= scores.topk(options.top_k).values[-1])
        if options.top_p < 1:
            scores = _keep(scores, _top_p_mask(scores, options.top_p))
        if options.min_p > 0:
            probabilities = scores.softmax(-1)
            scores = _keep(scores, probabilities >= options.min_p * probabilities.max())
        return scores.softmax(-1)


def _penalize(logits: Tensor, previous: Sequence[int], penalty: float) -> Tensor:
    if penalty == 1 or not previous:
        return logits
    seen = torch.tensor(sorted(set(previous)), device=logits.device)
    scores = logits.clone()
    scores[seen] = torch.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    return scores


def _top_p_mask(scores: Tensor, top_p: float) -> Tensor:
    """The smallest set of likeliest tokens whose probability reaches `top_p`; at least one."""
    ascending, order = scores.sort()
    below = ascending.softmax(-1).cumsum(-1)
    keep = below > 1 - top_p
    keep[-1] = True
    return torch.empty_like(keep).scatter_(0, order, keep)


def _keep(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -math.inf)
