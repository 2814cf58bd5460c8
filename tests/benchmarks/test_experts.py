"""The measures of routing on routings that are known, and the routers' bias in the decoder."""

from pathlib import Path

import pytest
import torch
from benchmarks import expert_speed
from benchmarks.expert_texts import is_table_line
from benchmarks.experts import (
    N_EXPERTS,
    apart,
    entropy,
    explained_by_byte,
    load_of,
    shape,
    together,
    watched_routers,
)
from benchmarks.small_models import imbalance

from longleaf.model import load_model
from longleaf.model.layers import MixtureOfExperts
from longleaf.model.training import TrainableDecoder


def routed(pairs: list[tuple[int, int]]) -> torch.Tensor:
    """Probabilities of one layer whose tokens choose these pairs. (1, T, X)"""
    probabilities = torch.full((len(pairs), N_EXPERTS), 0.01)
    for token, (first, second) in enumerate(pairs):
        probabilities[token, first], probabilities[token, second] = 0.5, 0.4
    return probabilities[None]


def test_loads_entropies_and_distances_of_known_routings() -> None:
    one, even = routed([(0, 1)] * 8), routed([(i, (i + 1) % 8) for i in range(8)])
    assert load_of(one)[0].tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert load_of(even)[0].tolist() == [0.125] * 8
    assert entropy(load_of(even)).item() == pytest.approx(1)
    assert entropy(load_of(one)).item() == pytest.approx(1 / 3)  # log 2 / log 8
    assert apart(load_of(one), load_of(even)) == pytest.approx(0.75)


def test_pairs_are_chosen_together_as_often_as_chance_where_all_pairs_come() -> None:
    every = [(a, b) for a in range(N_EXPERTS) for b in range(N_EXPERTS) if a != b]
    assert together(routed(every))[0, 0].tolist() == pytest.approx([0] + [1] * 7)
    couples = together(routed([(0, 1), (2, 3), (4, 5), (6, 7)]))[0]
    assert couples[0].tolist() == pytest.approx([0, 7, 0, 0, 0, 0, 0, 0])


def test_the_byte_explains_all_or_nothing_of_a_routing() -> None:
    ids = torch.arange(32) % 4
    assert explained_by_byte(routed([(int(i), 7) for i in ids]), ids) == pytest.approx(1)
    assert explained_by_byte(routed([(n // 4 % 4, 7) for n in range(32)]), ids) == pytest.approx(0, abs=1e-6)


def test_the_balance_loss_is_one_where_even_and_more_where_not() -> None:
    even = torch.zeros(8, N_EXPERTS)
    for token in range(8):
        even[token, [token, (token + 1) % 8]] = 5.0
    assert imbalance(even, 2).item() == pytest.approx(1)
    assert imbalance(torch.tensor([[5.0, 5, 0, 0, 0, 0, 0, 0]] * 8), 2).item() > 3


def test_a_forced_router_sends_the_decoders_tokens_where_the_bias_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_speed, "N_EXPERTS", N_EXPERTS)
    TrainableDecoder(shape(32), seed=0).save(tmp_path)
    model = load_model(tmp_path, dtype=torch.float32)
    sent: list[int] = []
    for network in (layer.network for layer in model.layers if isinstance(layer.network, MixtureOfExperts)):
        network.experts = tuple(_Noted(expert, number, sent) for number, expert in enumerate(network.experts))
    for routing, wanted in (("one pair", {0, 1}), ("even", set(range(8)))):
        sent.clear()
        with expert_speed.forced(routing):
            model.prefill([1] * 16, model.new_state())
        assert set(sent) == wanted
        sent.clear()
        with expert_speed.forced(routing):
            state = model.new_state()
            for _ in range(4):
                model.decode(1, state)
        assert set(sent) == wanted  # even over the tokens of each layer
    with watched_routers() as plain:
        model.prefill([1, 2, 3], model.new_state())
    with watched_routers() as left_alone, expert_speed.forced("router"):
        model.prefill([1, 2, 3], model.new_state())
    assert [p.tolist() for _, p in plain] == [p.tolist() for _, p in left_alone]
    assert len(plain) == 4


class _Noted:
    """An expert that notes its number whenever it is called."""

    def __init__(self, expert, number, sent) -> None:
        self.expert, self.number, self.sent = expert, number, sent

    def __call__(self, x, kernels):
        self.sent.append(self.number)
        return self.expert(x, kernels)


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("Berths  12  15", True),
        ("The board owns four cranes, and 1,204 people work there.", False),
        ("3 Attendance of directors ..................... 3", False),
        ("  Two  fields", False),
    ],
)
def test_a_table_line_has_three_fields(line: str, is_one: bool) -> None:
    assert is_table_line(line) is is_one
