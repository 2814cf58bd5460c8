"""What the figures over context rest on: shapes of equal size, filled states, the fit and where it crosses."""

from pathlib import Path

import pytest
import torch
from benchmarks.context_memory import filled, papers
from benchmarks.context_throughput import fit, overtakes
from benchmarks.shapes import SizedShape, equal_shapes, hybrid_shape

from longleaf.model import Decoder, load_model
from longleaf.model.training import TrainableDecoder

TINY = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder: Path = tmp_path_factory.mktemp("hybrid")
    shape = SizedShape("hybrid", {**hybrid_shape(256).raw, **TINY})
    TrainableDecoder(shape.config, seed=0).save(folder)
    return load_model(folder, dtype=torch.float32)


def test_the_three_shapes_are_of_one_size_and_have_the_same_attention_heads() -> None:
    shapes = equal_shapes()
    sizes = {name: shape.parameters.total for name, shape in shapes.items()}
    assert all(abs(size / sizes["hybrid"] - 1) <= 0.02 for size in sizes.values()), sizes
    hybrid, transformer, mamba = (shapes[name].config for name in ("hybrid", "transformer", "mamba"))
    assert (len(hybrid.attention_layers), len(hybrid.mamba_layers)) == (1, 7)
    assert (len(transformer.mamba_layers), len(mamba.attention_layers)) == (0, 0)
    heads = [(c.n_heads, c.n_kv_heads, c.head_dim, c.d_model, c.vocab_size) for c in (hybrid, transformer)]
    assert heads[0] == heads[1]


def test_a_width_without_shapes_of_equal_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mamba has 85,"):
        equal_shapes(768)


def test_a_filled_state_has_the_bytes_of_a_read_one_and_can_be_read_on(hybrid: Decoder) -> None:
    ids = [i % 64 for i in range(2500)]
    short, long = hybrid.new_state(), hybrid.new_state()
    hybrid.prefill(ids[:700], short)
    hybrid.prefill(ids, long)
    there = filled(hybrid, short, 2500)
    assert (there.n_tokens, there.nbytes) == (2500, long.nbytes)
    assert short.n_tokens == 700
    hybrid.prefill(ids[:5], there)
    hybrid.prefill(ids[:5], long)
    assert (there.n_tokens, there.nbytes) == (2505, long.nbytes)


def test_a_state_filled_to_what_was_read_goes_on_as_it_would_have(hybrid: Decoder) -> None:
    state = hybrid.new_state()
    hybrid.prefill(list(range(60)), state)
    there = filled(hybrid, state, 60)
    assert torch.equal(hybrid.decode(3, there), hybrid.decode(3, state))


def test_the_fit_finds_what_made_the_times_and_never_goes_below_zero() -> None:
    tokens = [1024, 4096, 65_536, 262_144]
    a, b = fit(tokens, [2e-4 * n + 3e-9 * n * n for n in tokens])
    assert (a, b) == (pytest.approx(2e-4), pytest.approx(3e-9))
    a, b = fit(tokens, [2e-4 * n - 1e-10 * n * n for n in tokens])
    assert b == 0
    assert 0 < a < 2e-4


def test_where_one_overtakes_another() -> None:
    assert overtakes((2.0, 1.0), (1.0, 3.0)) == "from 0 tokens on"  # at n = 1/2
    assert overtakes((2.0, 1e-4), (1.0, 2e-4)) == "from 10,000 tokens on"
    assert overtakes((1.0, 2e-4), (2.0, 1e-4)) == "up to 10,000 tokens"
    assert overtakes((1.0, 1.0), (1.0, 2.0)) == "at any context"
    assert overtakes((2.0, 2.0), (1.0, 2.0)) == "at none"


def test_the_planner_has_the_keys_and_values_of_the_papers() -> None:
    for row in papers():
        assert row["planned_kv_gib"] == row["paper_gb"], row["model"]
