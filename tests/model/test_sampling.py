"""Sampling against transformers' own processors, and by the exact tokens that each option allows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.errors import ModelError
from longleaf.model.sampling import Sampler, SamplingOptions

PROBABILITIES = torch.tensor([0.05, 0.5, 0.15, 0.3])
LOGITS = PROBABILITIES.log()


def allowed(logits=LOGITS, previous=(), temperature=1.0, **options) -> set[int]:
    sampler = Sampler(SamplingOptions(temperature=temperature, **options))
    return set(sampler.probabilities(logits, previous).nonzero().flatten().tolist())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_p": 0.01}, {1}),
        ({"top_p": 0.49}, {1}),
        ({"top_p": 0.51}, {1, 3}),
        ({"top_p": 0.94}, {1, 2, 3}),
        ({"min_p": 0.29}, {1, 2, 3}),
        ({"min_p": 0.31}, {1, 3}),
        ({"min_p": 1.0}, {1}),
        ({"top_k": 2, "top_p": 0.6}, {1}),  # of the two that are left, the first has 0.625
        ({"temperature": 0.25, "top_p": 0.9}, {1, 3}),  # a low temperature first sharpens
        ({"temperature": 0.0}, {1}),
    ],
)
def test_the_options_allow_exactly_these_tokens(options, expected):
    assert allowed(**options) == expected


def test_tokens_as_likely_as_the_last_of_top_k_are_all_kept():
    assert allowed(torch.tensor([1.0, 1.0, 1.0, 0.0]), top_k=2) == {0, 1, 2}


def test_repetition_penalty_weakens_what_was_there_whatever_its_sign():
    logits = torch.tensor([2.0, -2.0, 1.5, -2.5])
    sampler = Sampler(SamplingOptions(temperature=1.0, repetition_penalty=2.0))
    expected = torch.tensor([1.0, -4.0, 1.5, -2.5]).softmax(-1)
    torch.testing.assert_close(sampler.probabilities(logits, [1, 0, 1, 1]), expected)
    assert logits.tolist() == [2.0, -2.0, 1.5, -2.5]
    assert Sampler(SamplingOptions(repetition_penalty=2.0))(logits, [0]) == 2  # greedy heeds it too


@settings(deadline=None)
@given(
    logits=st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=2, max_size=12),
    ruled_out=st.sets(st.integers(1, 11)),
    previous=st.lists(st.integers(0, 1), max_size=4),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),  # powers of two: both sides round alike
    top_k=st.integers(0, 14),
    top_p=st.floats(0.05, 1.0),
    min_p=st.floats(0.0, 1.0),
    penalty=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_probabilities_equal_those_of_transformers(
    logits, ruled_out, previous, temperature, top_k, top_p, min_p, penalty
):
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    scores = torch.tensor([-math.inf if i in ruled_out else logit for i, logit in enumerate(logits)])
    theirs = [
        RepetitionPenaltyLogitsProcessor(penalty),
        TemperatureLogitsWarper(temperature),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        TopPLogitsWarper(top_p),
        MinPLogitsWarper(min_p),
    ]
    expected = LogitsProcessorList(theirs)(torch.tensor([previous], dtype=torch.long), scores[None])[0].softmax(-1)
    options = SamplingOptions(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty
    )
    ours = Sampler(options).probabilities(scores, previous)
    assert (ours > 0).tolist() == (expected > 0).tolist()
    torch.testing.assert_close(ours, expected)


def test_choices_come_as_often_as_their_probabilities_say():
    sampler = Sampler(SamplingOptions(temperature=1.0, seed=0))
    drawn = torch.bincount(torch.tensor([sampler(LOGITS) for _ in range(4000)]), minlength=4) / 4000
    # 4 standard deviations of the likeliest token's share are 0.032
    torch.testing.assert_close(drawn, PROBABILITIES, atol=0.032, rtol=0)


def test_the_seed_repeats_and_no_global_state_is_touched():
    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingOptions(temperature=1.0, seed=seed))
        return [sampler(torch.zeros(1000)) for _ in range(10)]

    before = torch.get_rng_state()
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [1e-3, 1e-9, 1e-40, 1e-300])
def test_a_temperature_close_to_0_takes_the_likeliest_token(temperature):
    probabilities = Sampler(SamplingOptions(temperature=temperature)).probabilities(LOGITS * 50)
    assert probabilities.tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_of_minus_infinity_are_never_chosen(temperature):
    assert allowed(torch.tensor([-math.inf, 0.0, -math.inf]), temperature=temperature, top_p=0.9) == {1}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, math.nan, 1.0], [0.0, math.inf], [-math.inf, -math.inf]])
def test_broken_logits_are_a_model_error(logits, temperature):
    with pytest.raises(ModelError, match=f"largest of {len(logits)}"):
        Sampler(SamplingOptions(temperature=temperature))(torch.tensor(logits))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.5),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -3),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.25),
        ("min_p", 1.25),
        ("repetition_penalty", 0.0),
        ("seed", 2**64),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_value(name, value):
    with pytest.raises(ValueError, match=f"^{name} must .*{value}$"):
        SamplingOptions(**{name: value})
