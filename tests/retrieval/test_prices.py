"""What calls cost."""

import pytest

from longleaf.retrieval.prices import Prices


@pytest.mark.parametrize(
    ("cached_price", "cached", "expected"),
    [
        (None, 0, 0.2 * 0.12 + 0.4 * 0.0003),
        (None, 100_000, 0.2 * 0.12 + 0.4 * 0.0003),  # cached tokens are charged like others
        (0.05, 100_000, 0.2 * 0.02 + 0.05 * 0.1 + 0.4 * 0.0003),
        (0.0, 120_000, 0.4 * 0.0003),
    ],
)
def test_a_call_costs_what_its_tokens_cost(cached_price: float | None, cached: int, expected: float) -> None:
    assert Prices(0.2, 0.4, cached_price).cost(120_000, 300, cached) == pytest.approx(expected, rel=1e-12)


def test_prices_and_counts_that_can_not_be_are_refused() -> None:
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="input_per_million"):
            Prices(bad, 0.4)
        with pytest.raises(ValueError, match="cached_input_per_million"):
            Prices(0.2, 0.4, bad)
    with pytest.raises(ValueError, match="11 of them cached"):
        Prices(0.2, 0.4).cost(10, 0, 11)
    with pytest.raises(ValueError, match="-1 out"):
        Prices(0.2, 0.4).cost(10, -1)
