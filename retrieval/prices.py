"""What tokens cost at a provider that charges by the million; which prices hold is for the user to say."""

import math
from dataclasses import dataclass

__all__ = ["Prices"]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one model, all in one currency.

        Prices(0.20, 0.40, cached_input_per_million=0.05).cost(120_000, 300, cached=100_000)

    Args:
        input_per_million: For a million tokens of prompts.
        output_per_million: For a million tokens written.
        cached_input_per_million: For a million tokens of prompts that the provider had in its cache; None where it
            charges them like others.

    Raises:
        ValueError: A price is negative, or no number.
    """

    input_per_million: float
    output_per_million: float
    cached_input_per_million: float | None = None

    def __post_init__(self) -> None:
        for name in ("input_per_million", "output_per_million", "cached_input_per_million"):
            price = getattr(self, name)
            if price is not None and not (math.isfinite(price) and price >= 0):
                raise ValueError(f"{name} must be a number from 0 on, not {price}")

    def cost(self, tokens_in: int, tokens_out: int, cached: int = 0) -> float:
        """What a call, or the sum of several, costs.

        Args:
            tokens_in: Tokens of the prompts, those from the cache among them (as usage has them).
            tokens_out: Tokens written.
            cached: How many of `tokens_in` came from the provider's cache.

        Raises:
            ValueError: A count is negative, or more are cached than there are.
        """
        if min(tokens_in, tokens_out, cached) < 0 or cached > tokens_in:
            raise ValueError(f"no such counts: {tokens_in} in, {cached} of them cached, {tokens_out} out")
        cached_price = (
            self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million
        )
        charged = (tokens_in - cached) * self.input_per_million + cached * cached_price
        return (charged + tokens_out * self.output_per_million) / _MILLION
