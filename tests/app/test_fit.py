"""The figures of the page "Models" are the planner's own."""

from dataclasses import replace

import pytest

from longleaf.app.fit import (
    CONTEXTS,
    ModelFit,
    Weighting,
    best_fit,
    find_shape,
    shape_before_fetching,
    transformer_of,
    weighting,
    weightings,
)
from longleaf.app.settings import Settings
from longleaf.model import MODELS
from longleaf.model.plan import kv_bytes_per_token, largest_context, plan_memory

JAMBA_3B_KV = 2 * 1 * 128 * 2
"""Keys and values that one token leaves in one attention layer of the 3B, in bytes."""


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    monkeypatch.delenv("LONGLEAF_QUANTIZE", raising=False)
    return Settings(models_dir=tmp_path / "models", home=tmp_path / "home")


@pytest.mark.parametrize("held", [Weighting(), Weighting("fp32"), Weighting(quantize="int8")])
def test_each_figure_of_the_model_is_the_planners(settings, held):
    fit = ModelFit(find_shape("jamba2-3b", settings), held)
    rows = fit.rows()
    assert [row.tokens for row in rows] == [4096, 8192, 16384, 32768, 65536, 131072, 262144]
    for row in rows:
        same = plan_memory(fit.shape.config, row.tokens, dtype=held.dtype, kv_dtype=held.dtype, quantize=held.quantize)
        assert row.model == same


def test_the_pure_transformer_differs_by_what_it_keeps_of_each_token(settings):
    fit = ModelFit(find_shape("jamba2-3b", settings), Weighting())
    assert fit.transformer is not None
    assert kv_bytes_per_token(fit.transformer) == 28 * JAMBA_3B_KV
    for row in fit.rows():
        assert row.transformer is not None
        assert row.transformer == plan_memory(
            fit.transformer, row.tokens, weights_bytes=plan_memory(fit.shape.config, 1).weights_bytes
        )
        assert row.transformer.weights_bytes == row.model.weights_bytes
        assert row.transformer.kv_bytes == 14 * row.model.kv_bytes  # 28 layers instead of 2
        assert row.transformer.ssm_bytes == row.transformer.conv_bytes == 0


def test_what_fits_is_the_planners_and_no_token_more_fits(settings):
    fit = ModelFit(find_shape("jamba2-mini", settings), Weighting(quantize="int8"))
    memory = 56 * 10**9
    model, transformer = fit.within(memory), fit.transformer_within(memory)
    assert transformer is not None
    assert model.tokens == largest_context(fit.shape.config, memory, quantize="int8").tokens
    assert model.tokens > 6 * transformer.tokens > 0
    assert transformer.total_bytes <= memory
    (row,) = fit.rows((transformer.tokens + 1,))
    assert row.transformer is not None
    assert row.transformer.total_bytes > memory


@pytest.mark.parametrize("name", ["mistral-7b", "mamba-130m"])
def test_one_kind_of_layer_has_nothing_to_be_compared_with(settings, name):
    fit = ModelFit(find_shape(name, settings), Weighting())
    assert fit.transformer is None
    assert fit.transformer_within(10**12) is None
    assert [row.transformer for row in fit.rows()] == [None] * len(CONTEXTS)


def test_the_transformer_of_a_model_keeps_all_but_the_kind_of_its_layers(settings):
    config = find_shape("jamba2-mini", settings).config
    other = transformer_of(config)
    assert other is not None
    assert set(other.layer_kinds) == {"attention"}
    assert replace(other, layer_kinds=config.layer_kinds) == config


def test_a_gguf_that_is_not_here_is_counted_as_its_file_will_be(settings):
    shape = shape_before_fetching("qwen2.5-1.5b", settings)
    assert shape.weights_bytes == MODELS["qwen2.5-1.5b"].size_bytes
    assert [held.name for held in weightings(shape)] == ["packed", "bf16", "int8", "fp32"]
    assert ModelFit(shape, weighting(shape)).rows()[0].model.weights_bytes == shape.weights_bytes
    assert find_shape("qwen2.5-1.5b", settings).weights_bytes is None, "longleaf plan says what a checkpoint takes"


def test_a_mixture_of_experts_can_have_them_alone_rounded(settings):
    ways = [held.name for held in weightings(find_shape("jamba2-mini", settings))]
    assert ways == ["bf16", "int8", "int8-experts", "fp32"]


@pytest.mark.parametrize(
    ("name", "memory", "weights", "tokens"),
    [
        ("jamba2-mini", 200 * 10**9, "bf16", 262_144),
        ("jamba2-mini", 80 * 10**9, "int8", 262_144),
        ("jamba2-mini", 8 * 10**9, "bf16", 0),
        ("qwen2.5-1.5b", 8 * 10**9, "packed", 32_768),
        ("mamba-130m", 8 * 10**9, "bf16", None),
    ],
)
def test_the_best_fit_rounds_only_where_that_helps(settings, name, memory, weights, tokens):
    fit = best_fit(shape_before_fetching(name, settings), memory)
    assert (fit.weights, fit.tokens) == (weights, tokens)
