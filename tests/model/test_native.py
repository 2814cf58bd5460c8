"""The CPU kernels against their plain versions, in every build that this processor runs."""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from gguf import GGMLQuantizationType
from torch import Tensor

from longleaf.model import native
from longleaf.model import state as state_module
from longleaf.model.kernels import REFERENCE, attend_ref, dt_b_c_ref, rms_norm_ref, rope_ref, silu_mul_ref
from longleaf.model.linear import DenseLinear, Int8Linear, PackedLinear, quantize_rows
from longleaf.model.selective_scan import causal_conv1d_ref, selective_scan_ref
from longleaf.model.state import KVCache

from .scan_agreement import ScanAgreement, assert_agree, scan_inputs
from .tiny_gguf import dequantize, random_blocks
from .tiny_models import relative_error

pytestmark = [
    pytest.mark.skipif(not native.is_available(), reason="the native kernels were not built"),
    pytest.mark.usefixtures("one_thread"),
]

FP32, BF16 = torch.float32, torch.bfloat16
both_dtypes = pytest.mark.parametrize("dtype", [FP32, BF16], ids=["fp32", "bf16"])


def builds() -> list[str]:
    folder = Path(native.__file__).resolve().parent
    return [name for name in native._SETS if native._runs(name) and list(folder.glob(f"_native_{name}.*"))]


@pytest.fixture(params=builds())
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has the kernels of one build do the work."""
    use(request.param, monkeypatch)
    return request.param


def use(name: str, patch: pytest.MonkeyPatch) -> None:
    native.is_available()  # shares PyTorch's OpenMP runtime
    (path,) = Path(native.__file__).resolve().parent.glob(f"_native_{name}.*")
    library = ctypes.CDLL(str(path))
    library.ll_gguf_bound.restype = ctypes.c_float
    patch.setattr(native, "_library", lambda: library)
    assert native.instruction_set() == name


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def random(*shape: int, dtype: torch.dtype = FP32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rows_of(x: Tensor) -> Tensor:
    """The same numbers, as the right half of a wider matrix."""
    return torch.cat([torch.full_like(x, torch.nan), x], dim=-1)[..., x.shape[-1] :]


def assert_near(ours: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    """Within the tolerance of the largest, or one unit in the last place of bf16."""
    assert ours.dtype == reference.dtype
    assert ours.shape == reference.shape
    ours, expected = ours.float(), reference.float()
    allowed = tolerance * max(1.0, expected.abs().max().item()) + (
        2**-7 * expected.abs() if reference.dtype == BF16 else 0
    )
    worst = ((ours - expected).abs() - allowed).max().item()
    assert worst <= 0, f"{worst:.1e} more than allowed; relative error {relative_error(ours, expected):.1e}"


class TestNativeScan(ScanAgreement):
    scan = staticmethod(native.selective_scan)
    conv = staticmethod(native.causal_conv1d)

    @pytest.fixture(autouse=True)
    def _build(self, build: str) -> None:
        pass


# Mamba


@cache
def mamba_case(E: int, d_state: int, d_conv: int, L: int, dtype: torch.dtype) -> tuple[dict[str, Tensor], ...]:
    """Arguments of the convolution and of the scan, and what the plain versions make of them."""
    x, z = random(L, 2 * E, dtype=dtype).split(E, dim=1)
    state = random(d_conv - 1, E, dtype=dtype, seed=2)
    conv = {"x": x, "weight": random(d_conv, E), "bias": random(E, seed=1), "state": state}
    scan = {
        "x": x, "z": z, "dt": random(L, E, dtype=dtype, seed=3), "A": -4 * random(d_state, E, seed=9).abs(),
        "B": random(L, d_state, seed=4), "C": random(L, d_state, seed=5), "D": random(E, seed=6),
        "dt_bias": random(E, seed=7) - 3, "state": random(d_state, E, seed=8),
    }  # fmt: skip
    expected = {"conv state": conv["state"].clone(), "scan state": scan["state"].clone()}
    expected["conv"] = causal_conv1d_ref(**conv | {"state": expected["conv state"]})
    expected["scan"] = selective_scan_ref(**scan | {"state": expected["scan state"]})
    return conv, scan, expected


def check_scan_and_conv(E: int, d_state: int, d_conv: int, L: int, dtype: torch.dtype) -> None:
    conv, scan, expected = mamba_case(E, d_state, d_conv, L, dtype)
    state = conv["state"].clone()
    assert_near(native.causal_conv1d(**conv | {"state": state}), expected["conv"])
    assert torch.equal(state, expected["conv state"])
    state = scan["state"].clone()
    assert_near(native.selective_scan(**scan | {"state": state}), expected["scan"], 1e-4)
    assert_near(state, expected["scan state"], 1e-4)


@both_dtypes
@pytest.mark.parametrize("L", [1, 2, 33, 500])
@pytest.mark.parametrize(("E", "d_state", "d_conv"), [(64, 16, 4), (48, 5, 3), (16, 64, 8)])
def test_scan_and_conv(E: int, d_state: int, d_conv: int, L: int, dtype: torch.dtype, build: str, threads: int) -> None:
    check_scan_and_conv(E, d_state, d_conv, L, dtype)


@both_dtypes
@pytest.mark.parametrize(("E", "d_state", "d_conv"), [(40, 16, 4), (32, 65, 9)])
def test_scan_and_conv_of_sizes_without_a_kernel(E: int, d_state: int, d_conv: int, dtype: torch.dtype) -> None:
    check_scan_and_conv(E, d_state, d_conv, 33, dtype)


def test_scan_of_rows_that_lie_apart(build: str) -> None:
    inputs, state = scan_inputs(16, FP32, "cpu")
    expected_state = state.clone()
    expected = selective_scan_ref(**inputs, state=expected_state)
    inputs |= {name: rows_of(inputs[name]) for name in ("dt", "B", "C")}
    assert_agree(native.selective_scan(**inputs, state=state), expected, "y")
    assert_agree(state, expected_state, "state")


@pytest.mark.parametrize("step", [-1000.0, -100.0, -88.0, -17.0, 0.0, 19.999, 20.0, 20.001, 88.0, 100.0, 1000.0])
def test_softplus_of_a_step(step: float, build: str) -> None:
    """With A = 0, B = 1, x = 1 the state becomes softplus(step)."""
    one, zero = torch.ones(1, 16), torch.zeros(1, 16)
    state = torch.zeros(1, 16)
    native.selective_scan(one, one * step, zero, torch.ones(1, 1), torch.ones(1, 1), zero[0], one, zero[0], state)
    expected = step if step > 20 else math.log1p(math.exp(step)) if step > -700 else 0.0
    assert ((state - expected).abs() <= 1e-37 + 3e-7 * expected).all(), f"{state[0, 0].item()} instead of {expected}"


@pytest.mark.parametrize("exponent", [0.0, -1e-8, -0.5, -10.0, -80.0, -87.3, -87.4, -100.0, -1e4, -math.inf])
def test_decay_of_a_state(exponent: float, build: str) -> None:
    """With x = 0 the state is multiplied by exp(dt·A); what underflows is nothing."""
    one, zero = torch.ones(1, 16), torch.zeros(1, 16)
    state = torch.full((1, 16), 3.0)
    dt = 30.0  # softplus leaves it as it is
    native.selective_scan(zero, one * dt, one * exponent / dt, one[:, :1], one[:, :1], zero[0], one, zero[0], state)
    expected = 3 * math.exp(exponent)
    assert ((state - expected).abs() <= 1e-37 + 2e-6 * expected).all(), f"{state[0, 0].item()} instead of {expected}"


NANS = torch.tensor([0x7FC00000, 0x7FFFFFFF, -1, 0x7F800001], dtype=torch.int32).view(FP32).tolist()
"""A NaN as arithmetic makes it, and with other bits: of memory that was overwritten, say."""


def nans_lost_in_the_scan(dtype: torch.dtype, nan: float) -> list[str]:
    lost = []
    for where in ("x", "dt", "z", "B", "C", "A", "D", "dt_bias", "state"):
        inputs, state = scan_inputs(16, dtype, "cpu")
        rows = {name: inputs[name][:, :32].contiguous() for name in ("x", "dt", "z", "A")}
        inputs |= rows | {name: inputs[name][:32].contiguous() for name in ("D", "dt_bias")}
        state = state[:, :32].contiguous()
        broken = state if where == "state" else inputs[where]
        broken[..., -1] = nan
        assert broken[..., -1].isnan().all()
        expected_state = state.clone()
        expected = selective_scan_ref(**inputs, state=expected_state)
        y = native.selective_scan(**inputs, state=state)
        if not (torch.equal(y.isnan(), expected.isnan()) and torch.equal(state.isnan(), expected_state.isnan())):
            lost.append(where)
    return lost


@both_dtypes
@pytest.mark.parametrize("number", range(len(NANS)))
def test_a_nan_stays_one_in_the_scan(number: int, dtype: torch.dtype, build: str) -> None:
    assert nans_lost_in_the_scan(dtype, NANS[number]) == []


# Attention


def cache_of(n_tokens: int, n_kv_heads: int, head_dim: int, dtype: torch.dtype, block_tokens: int) -> KVCache:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_module, "block_tokens_for", lambda device: block_tokens)
        cache = KVCache(n_kv_heads, head_dim, dtype, torch.device("cpu"))
    keys, values = random(2, n_tokens, n_kv_heads, head_dim, dtype=dtype, seed=1)
    cache.append(keys, values)
    return cache


@pytest.mark.parametrize(("q_dtype", "kv_dtype"), [(FP32, FP32), (BF16, BF16), (FP32, BF16), (BF16, FP32)])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"), [(4, 4, 16), (6, 2, 64), (5, 1, 128), (2, 1, 256), (3, 3, 20), (2, 1, 272)]
)
@pytest.mark.parametrize(
    ("n_before", "L", "block_tokens"), [(0, 1, 8), (0, 33, 8), (40, 2, 16), (700, 7, 128), (9, 100, 64)]
)
def test_attention(
    n_before: int,
    L: int,
    block_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    q_dtype: torch.dtype,
    kv_dtype: torch.dtype,
    build: str,
) -> None:
    cache = cache_of(n_before + L, kv_heads, head_dim, kv_dtype, block_tokens)
    q = random(L, heads * head_dim, dtype=q_dtype, seed=2)
    wide = rows_of(q).unflatten(1, (heads, head_dim))  # tokens lie apart, as in a fused projection
    expected = attend_ref(q.view(L, heads, head_dim), cache)
    # Where keys are bf16 the kernel may round queries and weights of the softmax to it as well; measured: 4e-3.
    tolerance = 8e-3 if kv_dtype == BF16 else 1e-5
    for queries in (q.view(L, heads, head_dim), wide):
        assert_near(native.attend(queries, cache), expected, tolerance)


@both_dtypes
def test_attention_over_a_long_past(dtype: torch.dtype, build: str, threads: int) -> None:
    """One token over many: the keys are shared out among threads, and the parts put together."""
    for n, L in ((3001, 1), (1500, 40)):
        cache = cache_of(n, 1, 32, dtype, 1024)
        q = 3 * random(L, 4, 32, dtype=dtype, seed=2)
        assert_near(native.attend(q, cache), attend_ref(q, cache), 4e-3 if dtype == BF16 else 1e-5)


@both_dtypes
def test_attention_sees_nothing_ahead(dtype: torch.dtype, build: str) -> None:
    cache, q = cache_of(20, 2, 32, dtype, 8), random(20, 4, 32, dtype=dtype)
    expected = native.attend(q, cache)
    later = cache_of(20, 2, 32, dtype, 8)
    for keys, values in later.pieces(start=11):
        keys.fill_(50.0)
        values.fill_(50.0)
    out = native.attend(q, later)
    assert torch.equal(out[:11], expected[:11])
    assert not torch.isclose(out[11:].float(), expected[11:].float()).all(-1).any()


@both_dtypes
@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_attention_with_even_and_with_extreme_scores(scale: float, dtype: torch.dtype, build: str) -> None:
    cache, q = cache_of(50, 1, 16, dtype, 16), scale * random(3, 2, 16, dtype=dtype)
    out = native.attend(q, cache)
    assert out.isfinite().all()
    assert_near(out, attend_ref(q, cache), 4e-3 if dtype == BF16 else 1e-5)


@both_dtypes
@pytest.mark.parametrize("where", ["q", "keys", "values"])
def test_a_nan_stays_one_in_attention(where: str, dtype: torch.dtype, build: str) -> None:
    cache, q = cache_of(600, 1, 16, dtype, 256), random(2, 2, 16, dtype=dtype)
    if where == "q":
        q[1, 0, 3] = torch.nan
    else:
        keys, values = next(cache.pieces(start=300))
        (keys if where == "keys" else values)[0, 0, 5] = torch.nan
    expected = attend_ref(q, cache)
    assert expected.isnan().any()
    assert torch.equal(native.attend(q, cache).isnan(), expected.isnan())


# Norms, gates, rotation


@both_dtypes
@pytest.mark.parametrize(("T", "D"), [(1, 64), (2, 37), (33, 5), (500, 48), (1, 16)])
@pytest.mark.parametrize("added", [True, False])
def test_rms_norm(added: bool, T: int, D: int, dtype: torch.dtype, build: str, threads: int) -> None:
    x, weight = random(T, D, dtype=dtype), 1 + random(D, dtype=dtype, seed=1) / 4
    delta = random(T, D, dtype=dtype, seed=2) if added else None
    expected_x = x.clone()
    expected = rms_norm_ref(expected_x, weight, 1e-6, delta)
    y = native.rms_norm(x, weight, 1e-6, delta)
    assert torch.equal(x, expected_x)  # the residual stream itself, rounded in the same way
    assert_near(y, expected)
    zeros = native.rms_norm(torch.zeros(2, D, dtype=dtype), weight, 1e-6, None)
    assert (zeros == 0).all()


@both_dtypes
@pytest.mark.parametrize(("T", "width"), [(1, 64), (2, 37), (33, 5), (500, 48)])
def test_silu_mul(T: int, width: int, dtype: torch.dtype, build: str, threads: int) -> None:
    gate, up = random(T, 2 * width, dtype=dtype).mul(4).chunk(2, dim=-1)
    # PyTorch rounds silu(gate) to bf16 before it multiplies; the kernel does not.
    expected = silu_mul_ref(gate.float(), up.float()).to(dtype)
    assert_near(native.silu_mul(gate, up), expected)
    assert_near(native.silu_mul(gate.contiguous(), up.contiguous()), expected)


@both_dtypes
def test_silu_at_extremes(dtype: torch.dtype, build: str) -> None:
    gate = torch.tensor([[-1e4, -200.0, -100.0, -88.0, -20.0, 0.0, 20.0, 88.0, 100.0, 1e4] * 2], dtype=dtype)
    expected = (gate.double() / (1 + torch.exp(-gate.double()))).to(dtype)
    torch.testing.assert_close(native.silu_mul(gate, torch.ones_like(gate)), expected, rtol=1e-6, atol=1e-33)


@both_dtypes
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize(("T", "R", "N"), [(1, 4, 16), (2, 3, 5), (33, 160, 16), (500, 10, 8)])
def test_dt_b_c(T: int, R: int, N: int, normalised: bool, dtype: torch.dtype, build: str, threads: int) -> None:
    projected = random(T, R + 2 * N, dtype=dtype)
    norms = tuple(1 + random(n, dtype=dtype, seed=n) / 4 for n in (R, N, N)) if normalised else None
    for given in (projected, rows_of(projected)):
        for ours, expected in zip(
            native.dt_b_c(given, norms, 1e-6, N), dt_b_c_ref(projected, norms, 1e-6, N), strict=True
        ):
            assert ours.dtype == expected.dtype
            # B and C leave the plain version through bf16, the kernel in fp32.
            assert_near(ours.to(dtype), expected.to(dtype))


@both_dtypes
@pytest.mark.parametrize(("T", "heads", "head_dim"), [(1, 1, 16), (2, 3, 6), (33, 2, 64), (500, 4, 32)])
def test_rope(T: int, heads: int, head_dim: int, dtype: torch.dtype, build: str, threads: int) -> None:
    x = random(T, heads * head_dim, dtype=dtype)
    angles = 100 * random(T, head_dim // 2, seed=1)
    ours, expected = rows_of(x).unflatten(1, (heads, head_dim)), x.clone().view(T, heads, head_dim)
    native.rope(ours, angles.cos(), angles.sin())
    rope_ref(expected, angles.cos(), angles.sin())
    assert_near(ours, expected)


@both_dtypes
@pytest.mark.parametrize("number", range(len(NANS)))
def test_a_nan_stays_one_between_products(number: int, dtype: torch.dtype, build: str) -> None:
    x = random(3, 37, dtype=dtype)
    x[1, 2] = x[2, 36] = NANS[number]  # in a vector, and in what is left over
    ones = torch.ones_like(x)
    assert native.rms_norm(x.clone(), ones[0], 1e-6, None).isnan().any(-1).tolist() == [False, True, True]
    assert native.rms_norm(ones.clone(), ones[0], 1e-6, x).isnan().any(-1).tolist() == [False, True, True]
    for gate, up in ((x, ones), (ones, x)):
        assert torch.equal(native.silu_mul(gate, up).isnan(), x.isnan())
    taps, state = torch.zeros(4, 48), torch.zeros(3, 48, dtype=dtype)
    taps[3] = 1
    wide = F.pad(x, (0, 11))  # no longer than the taps: what a NaN has touched stays one, even weighted with 0
    assert torch.equal(native.causal_conv1d(wide, taps, None, state).isnan(), wide.isnan().cumsum(0) > 0)


# Products of a few tokens


@pytest.mark.parametrize("T", [1, 2, 4, 7, 8])
@pytest.mark.parametrize(("n_in", "n_out"), [(64, 32), (37, 5), (160, 33), (8, 1)])
@pytest.mark.parametrize("biased", [True, False])
def test_gemv_bf16(T: int, n_in: int, n_out: int, biased: bool, build: str, threads: int) -> None:
    x, weight = random(T, n_in, dtype=BF16), random(n_out, n_in, dtype=BF16, seed=1)
    bias = random(n_out, dtype=BF16, seed=2) if biased else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double()).to(BF16)
    assert_near(native.gemv_bf16(rows_of(x), weight, bias), expected)


@both_dtypes
@pytest.mark.parametrize("T", [1, 2, 8])
@pytest.mark.parametrize(("n_in", "n_out"), [(64, 32), (37, 5), (160, 33)])
@pytest.mark.parametrize("biased", [True, False])
def test_gemv_int8(T: int, n_in: int, n_out: int, biased: bool, dtype: torch.dtype, build: str, threads: int) -> None:
    x, bias = random(T, n_in, dtype=dtype), random(n_out, dtype=dtype, seed=2) if biased else None
    weight, scale = quantize_rows(random(n_out, n_in, seed=1))
    expected = F.linear(x.double(), weight.double() * scale.double()[:, None]) + (0 if bias is None else bias.double())
    assert_near(native.gemv_int8(rows_of(x), weight, scale, bias), expected.to(dtype))


@both_dtypes
def test_products_take_the_same_value_whatever_the_number_of_tokens(dtype: torch.dtype, build: str) -> None:
    weight = random(33, 96, dtype=dtype) / 10
    int8 = quantize_rows(weight)
    x = random(40, 96, dtype=dtype, seed=1)
    for linear in (DenseLinear(weight), Int8Linear(*int8), PackedLinear(native.pack_int8(*int8))):
        whole = linear(x)
        for n in (1, 3, 8, 9):
            assert_near(linear(x[:n]), whole[:n], 4e-3 if dtype == BF16 else 1e-5)


def test_rounding_rows_to_int8() -> None:
    weight = torch.cat([random(5, 40) * torch.tensor([[1e-6], [1], [1e6], [3], [0]]), torch.eye(2, 40)])
    q, scale = quantize_rows(weight)
    assert q.dtype == torch.int8
    assert q.abs().amax(-1).tolist() == [127, 127, 127, 127, 0, 127, 127]
    assert ((q * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()
    stacked, scales = quantize_rows(weight.expand(3, -1, -1))
    assert torch.equal(stacked[2], q)
    assert torch.equal(scales[2], scale)


# Packed weights


def raw_weight(kind: str, n_out: int, n_in: int) -> np.ndarray:
    if kind.endswith("_K"):
        return random_blocks(kind, n_out, n_in)
    return gguf.quantize((random(n_out, n_in) / n_in**0.5).numpy(), GGMLQuantizationType[kind])


def sizes(kind: str) -> list[tuple[int, int]]:
    step = 256 if kind.endswith("_K") else 32
    return [(1, step), (16, 2 * step), (17, 3 * step), (48, step), (31, 5 * step)]


def as_bytes(raw: np.ndarray) -> Tensor:
    return torch.from_numpy(raw).reshape(-1)


def whole_steps(T: int, n_in: int, dtype: torch.dtype = FP32, share: int = 32) -> Tensor:
    """Activations that int8 holds as they are: in each `share` whole multiples of a power of two, up to 127 of them."""
    rng = torch.Generator().manual_seed(T)
    x = torch.randint(-127, 128, (T, n_in), generator=rng).float()
    x[:, ::share] = 127
    steps = 2.0 ** torch.randint(-9, -5, (T, -(-n_in // share)), generator=rng)
    return (x * steps.repeat_interleave(share, dim=1)[:, :n_in]).to(dtype)


def exact(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product in fp64."""
    return F.linear(x.double(), weight.double(), None if bias is None else bias.double())


@pytest.mark.parametrize("kind", native.GGUF_PACKABLE)
def test_rows_of_a_gguf_type_are_what_the_gguf_package_makes_of_them(kind: str, build: str, threads: int) -> None:
    for n_out, n_in in sizes(kind):
        raw = raw_weight(kind, n_out, n_in)
        assert torch.equal(native.gguf_rows(kind, as_bytes(raw), n_out, n_in), dequantize(kind, raw))


@both_dtypes
@pytest.mark.parametrize("T", [1, 2, 6, 7, 33])
@pytest.mark.parametrize("kind", native.GGUF_PACKABLE)
def test_products_with_packed_gguf_weights(kind: str, T: int, dtype: torch.dtype, build: str, threads: int) -> None:
    for n_out, n_in in sizes(kind):
        raw, bias = raw_weight(kind, n_out, n_in), random(n_out, seed=2)
        packed = native.pack_gguf(kind, as_bytes(raw), n_out, n_in)
        x = whole_steps(T, n_in, dtype, packed.act_group)
        weight = dequantize(kind, raw)
        for given in (None, bias):
            y = native.packed_linear(x, packed, given)
            # The 6-bit scales of K-quants are multiplied out and kept in fp16.
            assert_near(y, exact(x, weight, given).to(dtype), 2e-3 if kind.endswith("_K") else 1e-5)


@pytest.mark.parametrize(
    ("kind", "bits"), [("Q4_0", 4.5), ("Q4_1", 5), ("Q8_0", 8.5), ("Q4_K", 5), ("Q5_K", 9), ("Q6_K", 7)]
)
def test_bytes_of_packed_weights(kind: str, bits: float) -> None:
    packed = native.pack_gguf(kind, as_bytes(raw_weight(kind, 32, 512)), 32, 512)
    assert packed.nbytes * 8 == 32 * 512 * bits
    odd = native.pack_gguf(kind, as_bytes(raw_weight(kind, 17, 512)), 17, 512)  # rows come in sixteens
    assert odd.nbytes == packed.nbytes


@pytest.mark.parametrize("kind", native.GGUF_PACKABLE)
@pytest.mark.parametrize("largest", [2.0**-20, 2.0**10])
def test_packed_weights_of_any_size(kind: str, largest: float, build: str) -> None:
    """Scales towards the ends of what fp16 holds, and 0."""
    n_out, n_in = 17, 512
    blocks = raw_weight(kind, n_out, n_in).reshape(-1, gguf.GGML_QUANT_SIZES[GGMLQuantizationType[kind]][1]).copy()
    ends = slice(208, 210) if kind == "Q6_K" else slice(0, 4) if kind in ("Q4_1", "Q4_K", "Q5_K") else slice(0, 2)
    scales = blocks[:, ends].copy().view(np.float16).astype(np.float32)
    blocks[:, ends] = (scales * (largest / np.abs(scales).max())).astype(np.float16).view(np.uint8)
    blocks[3, ends] = 0
    raw = blocks.reshape(n_out, -1)
    weight, packed = dequantize(kind, raw), native.pack_gguf(kind, as_bytes(raw), n_out, n_in)
    assert weight.isfinite().all()
    x = whole_steps(3, n_in, share=packed.act_group)
    y = native.packed_linear(x, packed, None)
    assert relative_error(y.double(), exact(x, weight)) <= 2e-3


@both_dtypes
@pytest.mark.parametrize("T", [1, 7, 33])
@pytest.mark.parametrize(("n_out", "n_in"), [(16, 32), (33, 100), (5, 7), (64, 96)])
def test_products_with_packed_int8_rows(
    T: int, n_out: int, n_in: int, dtype: torch.dtype, build: str, threads: int
) -> None:
    q, scale = quantize_rows(random(n_out, n_in))
    x, bias = whole_steps(T, n_in, dtype), random(n_out, seed=2)
    y = native.packed_linear(x, native.pack_int8(q, scale), bias)
    assert_near(y, exact(x, q * scale[:, None], bias).to(dtype))


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 9])
def test_the_largest_products_keep_all_their_bits(T: int, build: str) -> None:
    q, n_in = torch.full((20, 96), -128, dtype=torch.int8), 96
    q[1], q[2, ::2] = 127, 127
    x = torch.ones(T, n_in) * torch.tensor([1, -1, 1]).repeat(T)[:T, None]
    y = native.packed_linear(x, native.pack_int8(q, torch.ones(20)), None)
    assert_near(y, F.linear(x, q.float()), 1e-6)


@both_dtypes
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q6_K"])
def test_products_of_extreme_activations(kind: str, dtype: torch.dtype, build: str) -> None:
    weight = raw_weight(kind, 20, 256)
    packed = native.pack_gguf(kind, as_bytes(weight), 20, 256)
    assert (native.packed_linear(torch.zeros(2, 256, dtype=dtype), packed, None) == 0).all()
    for size in (2.0**-90, 2.0**90):
        x = size * whole_steps(2, 256, dtype, packed.act_group)
        y, expected = native.packed_linear(x, packed, None).double(), exact(x, dequantize(kind, weight))
        assert (y - expected).norm() / expected.norm() <= 5e-3


@pytest.mark.parametrize(("kind", "share"), [("Q4_0", 32), ("Q8_0", 32), ("Q4_K", 256), ("Q6_K", 256)])
def test_activations_share_a_scale_as_ggml_has_them(kind: str, share: int, build: str) -> None:
    """A large one costs its neighbours their last bits, and nobody else."""
    raw, x = raw_weight(kind, 32, 512), random(3, 512, seed=1)
    packed, weight = native.pack_gguf(kind, as_bytes(raw), 32, 512), dequantize(kind, raw)
    assert packed.act_group == share
    lone = torch.where(torch.arange(512) < share, 0, x)  # nothing among those that the large one is next to
    large = lone.clone()
    large[:, 0] = 1e3
    assert relative_error(native.packed_linear(lone, packed, None), F.linear(lone, weight)) <= 0.012
    added = native.packed_linear(large, packed, None) - native.packed_linear(lone, packed, None)
    torch.testing.assert_close(added, 1e3 * weight[:, 0].expand(3, -1), rtol=2e-3, atol=1e-2)


@both_dtypes
def test_activations_are_rounded_to_the_nearest_of_255_steps(dtype: torch.dtype, build: str) -> None:
    eye = native.pack_int8(127 * torch.eye(96, dtype=torch.int8), torch.full((96,), 1 / 127))
    x = random(5, 96, dtype=dtype)
    x[0, 40:] *= 1000  # each 32 have a step of their own
    y = native.packed_linear(x, eye, None).float()
    steps = x.float().unflatten(1, (3, 32)).abs().amax(-1, keepdim=True) / 127
    off = (y - x.float()).unflatten(1, (3, 32)).abs() / steps
    assert off.max() <= (0.501 if dtype == FP32 else 1.0)  # y is rounded to bf16 too
    assert 0.2 < off.mean() < 0.3


@both_dtypes
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "int8"])
def test_a_nan_stays_one_in_products(kind: str, bad: float, dtype: torch.dtype, build: str) -> None:
    """An infinite activation has no place in int8 either: better no number than a wrong one."""
    n_in = 512
    if kind == "int8":
        packed = native.pack_int8(*quantize_rows(random(20, n_in)))
    else:
        packed = native.pack_gguf(kind, as_bytes(raw_weight(kind, 20, n_in)), 20, n_in)
    x = random(3, n_in, dtype=dtype)
    x[1, 300] = bad
    y = native.packed_linear(x, packed, None)
    assert not y[1].isfinite().any()
    assert y[[0, 2]].isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_nan_stays_one_in_products_of_a_few_tokens(bad: float, build: str) -> None:
    x = random(2, 70, dtype=BF16)
    x[1, 69] = x[1, 3] = bad
    weight = random(9, 70, seed=1).abs() + 0.1
    for y in (native.gemv_bf16(x, weight.bfloat16(), None), native.gemv_int8(x, *quantize_rows(weight), None)):
        assert not y[1].isfinite().any()
        assert y[0].isfinite().all()


# Builds


def test_every_operation_has_a_native_kernel() -> None:
    same = [f.name for f in fields(REFERENCE) if getattr(native.KERNELS, f.name) is getattr(REFERENCE, f.name)]
    assert same == []


@pytest.mark.skipif(len(builds()) < 2, reason="one build runs here")
def test_builds_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {kind: raw_weight(kind, 33, 512) for kind in native.GGUF_PACKABLE}
    x = random(7, 512)
    results: dict[str, dict[str, Tensor]] = {}
    for name in builds():
        use(name, monkeypatch)
        made = {}
        for kind, blocks in raw.items():
            packed = native.pack_gguf(kind, as_bytes(blocks), 33, 512)
            made[f"{kind} q"], made[f"{kind} d"] = packed.q, packed.d.view(torch.int16)
            made[f"{kind} y"] = native.packed_linear(x, packed, None)
        made["silu"] = native.silu_mul(x, x)
        made["norm"] = native.rms_norm(x.clone(), x[0], 1e-6, None)
        inputs, state = scan_inputs(16, FP32, "cpu")
        inputs = {key: value[..., :32] for key, value in inputs.items() if key in ("x", "z", "D", "dt_bias")} | {
            key: inputs[key][..., :32].contiguous() if key in ("dt", "A") else inputs[key]
            for key in ("dt", "A", "B", "C")
        }
        made["scan"] = native.selective_scan(**inputs, state=state[:, :32].contiguous())
        made["attention"] = native.attend(random(5, 2, 16), cache_of(40, 1, 16, FP32, 16))
        results[name] = made
    first, *others = results
    for other in others:
        for what, expected in results[first].items():
            ours = results[other][what]
            if expected.is_floating_point():
                assert relative_error(ours, expected) <= 2e-6, f"{what}: {other} and {first} differ"
            else:
                assert torch.equal(ours, expected), f"{what}: {other} and {first} differ"


def test_a_faster_build_is_preferred() -> None:
    assert native.instruction_set() == builds()[0]
    assert native._runs("generic")


def test_a_build_that_can_not_be_loaded_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    for name in native._SETS:
        (tmp_path / f"_native_{name}.so").write_bytes(b"not a library")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    native._library.cache_clear()
    try:
        assert not native.is_available()
        assert native.instruction_set() is None
        assert not native.has_bf16_gemv()
        assert "can't be loaded" in caplog.text
    finally:
        native._library.cache_clear()
