"""The trainable decoder: the same logits as the one that reads, gradients that are right, and files that both read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone uses
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model import training_scan
from longleaf.model.config import DecoderConfig
from longleaf.model.gguf_tokenizer import build_tokenizer, plain_ids
from longleaf.model.loading import load_model
from longleaf.model.selective_scan import selective_scan_ref
from longleaf.model.training import TrainableDecoder
from longleaf.model.training_files import hf_config
from longleaf.model.training_scan import selective_scan

from .tiny_models import VARIANTS, oracle_logits, prompt, relative_error

TOLERANCE = 1e-4
HYBRID = DecoderConfig(
    family="jamba",
    vocab_size=11,
    d_model=8,
    n_layers=3,
    layer_kinds=("mamba", "attention", "mamba"),
    moe_layers=(False, True, False),
    d_ff=6,
    n_experts=3,
    n_experts_per_token=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=4,
    d_inner=16,
    d_state=3,
    d_conv=3,
    dt_rank=2,
    mamba_norms=True,
)
"""Attention, Mamba, a dense network and experts; small enough for a difference quotient of every parameter."""

pytestmark = pytest.mark.usefixtures("one_thread")


def largest_difference(ours: Tensor, reference: Tensor) -> float:
    return float((ours.double() - reference.double()).abs().max())


def logits_of(model: TrainableDecoder, token_ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([token_ids]))[0]


# The scan


def scan_inputs(batch: int, length: int, dtype: torch.dtype, d_inner: int = 5, d_state: int = 3) -> list[Tensor]:
    """x, dt, A, B, C; states fade over a few tokens."""
    rng = torch.Generator().manual_seed(length)
    x, z = (torch.randn(batch, length, d_inner, generator=rng, dtype=dtype) for _ in range(2))
    B, C = (torch.randn(batch, length, d_state, generator=rng, dtype=dtype) for _ in range(2))
    A = -0.2 - torch.rand(d_state, d_inner, generator=rng, dtype=dtype)
    return [part.requires_grad_() for part in (x, F.softplus(z).detach(), A, B, C)]


@pytest.fixture(params=[1, 2, 5, 1000], ids="{} steps a block".format)
def block_steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many steps are worked out at once, of a batch of two in the sizes above."""
    monkeypatch.setattr(training_scan, "_BLOCK_VALUES", request.param * 2 * 5 * 3)
    return request.param


@pytest.mark.parametrize("length", [1, 7])
def test_gradients_of_the_scan(block_steps: int, length: int) -> None:
    assert torch.autograd.gradcheck(selective_scan, scan_inputs(2, length, torch.float64))


def test_the_scan_is_that_of_the_decoder(block_steps: int) -> None:
    x, dt, A, B, C = (part.detach() for part in scan_inputs(2, 33, torch.float32))
    y = selective_scan(x, dt, A, B, C)
    nothing, open_gate = torch.zeros(5), torch.full_like(x[0], 1e4)  # silu(1e4) = 1e4
    before_softplus = torch.log(torch.expm1(dt))
    for row in range(2):
        expected = selective_scan_ref(
            x[row], before_softplus[row], A, B[row], C[row], nothing, open_gate, nothing, torch.zeros_like(A)
        )
        assert largest_difference(y[row], expected / 1e4) < 1e-5


def test_the_scan_takes_strided_inputs() -> None:
    inputs = scan_inputs(2, 9, torch.float64)
    strided = [part.detach().mT.contiguous().mT.requires_grad_() for part in inputs]
    for parts in (inputs, strided):
        selective_scan(*parts).square().sum().backward()
    for plain, part in zip(inputs, strided, strict=True):
        assert plain.grad is not None
        assert part.grad is not None
        assert largest_difference(part.grad, plain.grad) < 1e-12


# The whole model


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_files_are_those_of_the_decoder(variant: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    decoder = load_model(tiny(variant), dtype=torch.float32)
    expected = decoder.logits_of_all(prompt(80), decoder.new_state())
    model = TrainableDecoder.from_model(tiny(variant))
    difference = largest_difference(logits_of(model, prompt(80)), expected)
    assert difference < TOLERANCE, f"{variant}: {difference:.1e}"

    model.save(tmp_path / "saved")
    saved = load_model(tmp_path / "saved", dtype=torch.float32)
    assert saved.logits_of_all(prompt(80), saved.new_state()).equal(expected)


@pytest.mark.parametrize("variant", ["jamba-mini", "llama-rope-scaling", "qwen2", "mixtral", "mamba-untied"])
def test_transformers_reads_what_is_saved(variant: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = TrainableDecoder.from_model(tiny(variant))
    model.save(tmp_path)
    theirs, info = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32, output_loading_info=True)
    theirs.set_experts_implementation("eager")  # grouped products do not take any width
    assert not any(info.values()), info
    assert largest_difference(logits_of(model, prompt(40)), oracle_logits(theirs, prompt(40))) < TOLERANCE


def test_gradients_of_every_parameter_of_a_hybrid() -> None:
    """Against difference quotients in float64, the embedding and the router's choice included."""
    model = TrainableDecoder(HYBRID, seed=1).double()
    token_ids = torch.tensor([[1, 5, 9, 5, 2], [7, 7, 0, 3, 10]])
    with torch.no_grad():  # larger than at the start, so that no gradient is all but zero
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))

    def loss() -> Tensor:
        logits = model(token_ids)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), token_ids[:, 1:].flatten())

    loss().backward()
    step = 1e-6
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-5, name
        values, grads = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(0, values.numel(), max(1, values.numel() // 12)):
            sides = []
            before = float(values[i])
            for change in (step, -step):
                values[i] = before + change
                with torch.no_grad():
                    sides.append(float(loss()))
            values[i] = before
            quotient = (sides[0] - sides[1]) / (2 * step)
            assert float(grads[i]) == pytest.approx(quotient, rel=1e-5, abs=1e-8), f"{name}[{i}]"


def test_rows_of_a_batch_and_later_tokens_do_not_matter() -> None:
    model = TrainableDecoder(HYBRID)
    first, second = prompt(12), prompt(12, seed=1)
    rows = torch.tensor([first, second]) % HYBRID.vocab_size
    with torch.no_grad():
        both, alone = model(rows), model(rows[1:, :7])
    assert largest_difference(both[1, :7], alone[0]) < 1e-6


def test_recomputed_layers_give_the_same_gradients() -> None:
    token_ids = torch.tensor([prompt(20)]) % HYBRID.vocab_size
    grads = []
    for recompute in (False, True):
        model = TrainableDecoder(HYBRID)
        model.checkpoint_layers = recompute
        model(token_ids).square().mean().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for kept, recomputed in zip(*grads, strict=True):
        assert kept.equal(recomputed)


def test_it_learns_a_text_by_heart() -> None:
    model = TrainableDecoder(HYBRID)
    token_ids = torch.randint(HYBRID.vocab_size, (1, 24), generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(120):
        loss = F.cross_entropy(model(token_ids)[0, :-1], token_ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logits_of(model, token_ids[0].tolist())[:-1].argmax(-1).equal(token_ids[0, 1:])


def test_a_seed_says_the_weights_and_disturbs_no_other_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (TrainableDecoder(HYBRID, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.rand(3).equal(expected)
    assert all(value.equal(again[name]) for name, value in first.items())
    assert not first["layers.0.mixer.in_proj.weight"].equal(other["layers.0.mixer.in_proj.weight"])


def test_initial_steps_and_decays_are_those_of_mamba() -> None:
    mixer = TrainableDecoder(replace(HYBRID, d_inner=256)).layers[0].mixer
    dt = F.softplus(mixer.dt_bias)
    assert 1e-3 <= dt.min() < 2e-3
    assert 0.05 < dt.max() <= 0.1 + 1e-6
    assert torch.allclose(mixer.A_log.exp(), torch.tensor([1.0, 2.0, 3.0]).expand(256, 3))


def test_products_have_the_names_that_adapters_look_for() -> None:
    names = {
        name.rpartition(".")[2] for name, part in TrainableDecoder(HYBRID).named_modules() if type(part) is nn.Linear
    }
    mamba = {"in_proj", "x_proj", "dt_proj", "out_proj"}
    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert names == {*mamba, *attention, "gate_proj", "up_proj", "down_proj", "router", "output"}


def test_bf16_weights_keep_the_recurrence_in_fp32(tiny: Callable[[str], Path]) -> None:
    full, half = (TrainableDecoder.from_model(tiny("jamba-3b"), dtype) for dtype in (torch.float32, torch.bfloat16))
    mixer = half.layers[0].mixer
    assert {mixer.A_log.dtype, mixer.dt_bias.dtype, mixer.conv_weight.dtype} == {torch.float32}
    assert mixer.in_proj.weight.dtype == torch.bfloat16
    decoder = load_model(tiny("jamba-3b"), dtype=torch.bfloat16)
    ours, theirs = logits_of(half, prompt(40)), decoder.logits_of_all(prompt(40), decoder.new_state())
    reference = logits_of(full, prompt(40))
    assert relative_error(ours, reference) < 1.3 * relative_error(theirs, reference)


# Shapes and files that do not fit


def test_shapes_that_a_file_cannot_say_are_refused(tmp_path: Path) -> None:
    without_norms = replace(HYBRID, mamba_norms=False)
    irregular = replace(HYBRID, layer_kinds=("attention", "attention", "mamba"))
    for config, named in ((without_norms, "mamba_norms"), (irregular, "layer_kinds")):
        with pytest.raises(ModelError, match=named):
            TrainableDecoder(config).save(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("kinds", "experts"),
    [("mmm", "..."), ("aaa", "xxx"), ("amm", ".x."), ("mma", "..x"), ("ama", "x.x")],
)
def test_a_file_says_every_regular_pattern_of_layers(kinds: str, experts: str) -> None:
    layer_kinds = tuple("attention" if kind == "a" else "mamba" for kind in kinds)
    config = replace(HYBRID, layer_kinds=layer_kinds, moe_layers=tuple(mark == "x" for mark in experts))
    assert DecoderConfig.from_hf(hf_config(config)) == config


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalledError, match="no such file or folder"):
        TrainableDecoder.from_model(tmp_path / "missing")


def test_token_ids_without_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(batch, L\)"):
        TrainableDecoder(HYBRID)(torch.tensor([1, 2]))


# Real weights


@pytest.mark.slow
def test_a_quantised_file_gives_the_likeliest_tokens_of_the_decoder(smollm2: Path) -> None:
    """The decoder rounds activations to int8 besides, so that near ties may fall the other way."""
    tokenizer = build_tokenizer(smollm2)
    text = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. One, two, three, four, five, six, seven."
    token_ids = plain_ids(tokenizer, text)
    decoder = load_model(smollm2)
    ours = decoder.logits_of_all(token_ids, decoder.new_state())
    full = logits_of(TrainableDecoder.from_model(smollm2), token_ids)
    sure = full.softmax(-1).max(-1).values > 0.5
    assert sure.sum() >= 10
    assert ours[sure].argmax(-1).equal(full[sure].argmax(-1))
