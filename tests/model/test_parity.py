"""The decoder against transformers in fp32: every family and form of checkpoint, whole prompts, chunks, decoding.

The oracle always reads the whole sequence in one pass: it can't take up a Mamba state with more than one token.
`pytest -rP` shows the errors as a table.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from longleaf.model import native
from longleaf.model.decoder import Decoder
from longleaf.model.kernels import REFERENCE
from longleaf.model.layers import FeedForward, MixtureOfExperts
from longleaf.model.linear import DenseLinear
from longleaf.model.loading import load_model

from .tiny_models import VARIANTS, oracle_logits, prompt, relative_error, tiny_model

TOLERANCE = 1e-4  # measured: 1e-6 and less
N_TOKENS = 150

pytestmark = pytest.mark.usefixtures("one_thread")

needs_native = pytest.mark.skipif(not native.is_available(), reason="the native kernels were not built")
both_kernels = pytest.mark.parametrize("kernels", ["reference", pytest.param("native", marks=needs_native)])


def load(folder: Path, kernels: str, dtype: torch.dtype = torch.float32) -> Decoder:
    return load_model(folder, dtype=dtype, kernels=native.KERNELS if kernels == "native" else REFERENCE)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def expected(variant: str, oracle: Callable[[str], PreTrainedModel]) -> Tensor:
    return oracle_logits(oracle(variant), prompt(N_TOKENS))


@pytest.fixture(scope="module", params=["reference", pytest.param("native", marks=needs_native)])
def model(request: pytest.FixtureRequest, variant: str, tiny: Callable[[str], Path]) -> Decoder:
    return load(tiny(variant), request.param)


def report(variant: str, model: Decoder, what: str, error: float) -> str:
    line = f"{variant:26} {model.kernels.name:10} {what:16} {error:.1e}"
    print(line)  # noqa: T201  the table
    return line


def test_all_logits_of_a_prompt(variant: str, model: Decoder, expected: Tensor) -> None:
    state = model.new_state()
    error = relative_error(model.logits_of_all(prompt(N_TOKENS), state), expected)
    line = report(variant, model, "all logits", error)
    assert error <= TOLERANCE, line
    assert state.token_ids == prompt(N_TOKENS)


def test_chunks_of_any_length(variant: str, model: Decoder, expected: Tensor) -> None:
    d_conv = model.config.d_conv or 4
    for size in sorted({1, 2, d_conv - 1, d_conv, 7, 64, N_TOKENS}):
        logits = model.prefill(prompt(N_TOKENS), model.new_state(), chunk_tokens=size)
        error = relative_error(logits, expected[-1])
        line = report(variant, model, f"chunks of {size}", error)
        assert error <= TOLERANCE, line


def test_decoding_token_by_token(variant: str, model: Decoder, oracle: Callable[[str], PreTrainedModel]) -> None:
    begin, written = prompt(20, seed=1), 24
    state = model.new_state()
    logits, rows = model.prefill(begin, state), []
    for _ in range(written):
        rows.append(logits)
        logits = model.decode(int(logits.argmax()), state)
    ours = torch.stack(rows)  # (written, vocab)
    tokens = ours.argmax(-1).tolist()
    assert state.token_ids == begin + tokens
    reference = oracle_logits(oracle(variant), begin + tokens)[len(begin) - 1 : -1]
    error = relative_error(ours, reference)
    line = report(variant, model, "decoding", error)
    assert error <= TOLERANCE, line
    assert tokens == reference.argmax(-1).tolist()
    answer = model.generate(begin, model.new_state(), max_tokens=written, stop_tokens=())
    assert list(answer) == tokens


@both_kernels
@pytest.mark.parametrize("name", ["jamba-3b", "llama", "qwen2", "mamba"])
def test_bf16_loses_no_more_than_transformers_does(name: str, kernels: str, tiny: Callable[[str], Path]) -> None:
    reference = oracle_logits(tiny_model(name), prompt(N_TOKENS))
    theirs = relative_error(oracle_logits(tiny_model(name).bfloat16(), prompt(N_TOKENS)), reference)
    model = load(tiny(name), kernels, torch.bfloat16)
    whole = model.logits_of_all(prompt(N_TOKENS), model.new_state())
    state = model.new_state()
    chunked = [model.logits_of_all(prompt(N_TOKENS)[i : i + 3], state) for i in range(0, N_TOKENS, 3)]
    error = max(relative_error(whole, reference), relative_error(torch.cat(chunked), reference))
    line = report(name, model, f"bf16 ({theirs:.1e})", error)
    assert error <= 1.2 * theirs, line


# What the tables above rest on: mechanisms that are easily taken for another model's.


@both_kernels
@pytest.mark.parametrize("normalize", [False, True])
def test_experts_are_weighted_by_the_softmax_over_all_of_them(kernels: str, normalize: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    T, D, I, X, top = 9, 16, 32, 5, 2  # noqa: E741
    gate_up, down = torch.randn(X, 2 * I, D, generator=rng) / 4, torch.randn(X, D, I, generator=rng) / 4
    router, x = torch.randn(X, D, generator=rng), torch.randn(T, D, generator=rng)
    experts = tuple(FeedForward((DenseLinear(gate_up[e]),), DenseLinear(down[e])) for e in range(X))
    mixture = MixtureOfExperts(router, experts, top, normalize)
    expected = torch.zeros(T, D)
    for t in range(T):
        probabilities = (router @ x[t]).softmax(0)
        chosen = probabilities.argsort(descending=True)[:top].tolist()
        total = probabilities[chosen].sum() if normalize else 1.0
        for e in chosen:
            gate, up = (gate_up[e] @ x[t]).chunk(2)
            expected[t] += probabilities[e] / total * (down[e] @ (torch.nn.functional.silu(gate) * up))
    y = mixture(x, native.KERNELS if kernels == "native" else REFERENCE)
    assert relative_error(y, expected) <= 1e-5


@pytest.mark.parametrize(("name", "normalized"), [("jamba-mini", False), ("mixtral", True)])
def test_routed_experts_are_normalised_in_mixtral_only(
    name: str, normalized: bool, tiny: Callable[[str], Path], oracle: Callable[[str], PreTrainedModel]
) -> None:
    model = load(tiny(name), "reference")
    mixtures = [layer.network for layer in model.layers if isinstance(layer.network, MixtureOfExperts)]
    assert mixtures
    assert all(mixture.normalize is normalized for mixture in mixtures)
    reference = oracle_logits(oracle(name), prompt(40))
    assert relative_error(model.logits_of_all(prompt(40), model.new_state()), reference) <= TOLERANCE
    for mixture in mixtures:
        mixture.normalize = not normalized
    other = relative_error(model.logits_of_all(prompt(40), model.new_state()), reference)
    assert other > 0.05, f"the oracle does not tell them apart: {other:.1e}"


@both_kernels
@pytest.mark.parametrize(("name", "positions"), [("jamba-one-attention-layer", False), ("llama", True)])
def test_jamba_has_no_positions(name: str, positions: bool, kernels: str, tiny: Callable[[str], Path]) -> None:
    """One attention layer without positions gives the last token the same whatever the order of those before it."""
    model = load(tiny(name), kernels)
    *before, last = prompt(30)
    logits = model.prefill([*before, last], model.new_state())
    turned = model.prefill([*before[::-1], last], model.new_state())
    error = relative_error(turned, logits)
    assert error > 0.05 if positions else error <= 1e-5
