"""The back end over mamba-ssm and causal-conv1d, which need an NVIDIA GPU.

Where they can't run, stand-ins take their place, which make the same demands of their arguments and, like them, give
the scan no state to start from.
"""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from longleaf.errors import MissingExtraError
from longleaf.model.scan_mamba_ssm import causal_conv1d_mamba_ssm, is_available, selective_scan_mamba_ssm

from .scan_agreement import ScanAgreement, scan_inputs


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):  # fmt: skip
    (batch, dim, length), d_state = u.shape, A.shape[1]
    assert delta.shape == u.shape
    assert A.shape == (dim, d_state)
    assert B.shape == C.shape == (batch, d_state, length)
    assert A.dtype == D.dtype == delta_bias.dtype == torch.float32
    assert u.dtype == delta.dtype == B.dtype == C.dtype
    for tensor in (u, delta, B, C, D, delta_bias, *([] if z is None else [z])):
        assert tensor.stride(-1) == 1
    step = delta.double() + delta_bias[:, None]
    if delta_softplus:
        step = torch.log1p(step.exp())
    h, out = torch.zeros(batch, dim, d_state, dtype=torch.double), []
    for t in range(length):
        h = torch.exp(A * step[..., t, None]) * h + torch.einsum("bd,bn->bdn", step[..., t] * u[..., t], B[..., t])
        out.append(torch.einsum("bdn,bn->bd", h, C[..., t].double()) + D * u[..., t])
    y = torch.stack(out, dim=-1)
    if z is not None:
        y = y * z.double() * torch.sigmoid(z.double())
    y = y.to(u.dtype)
    return (y, h.float()) if return_last_state else y


def selective_state_update(
    state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, state_batch_indices=None
):  # fmt: skip
    batch, dim, d_state = state.shape
    assert x.shape == dt.shape == z.shape == (batch, dim)
    assert A.shape == (dim, d_state)
    assert B.shape == C.shape == (batch, d_state)
    assert D.shape == dt_bias.shape == (dim,)
    step = dt.double() + dt_bias
    if dt_softplus:
        step = torch.log1p(step.exp())
    h = torch.exp(step[..., None] * A) * state + (step * x)[..., None] * B[:, None, :]
    state.copy_(h)
    y = (h * C[:, None, :]).sum(-1) + D * x
    return (y * z * torch.sigmoid(z.double())).to(x.dtype)


def convolve(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = (padded.double().unfold(-1, weight.shape[1], 1) * weight[:, None].double()).sum(-1)
    y = y if bias is None else y + bias[:, None]
    return (y * torch.sigmoid(y)).to(padded.dtype)


def check_weight(weight: Tensor, bias: Tensor | None, dim: int) -> None:
    assert weight.shape[0] == dim
    assert 2 <= weight.shape[1] <= 4
    assert bias is None or (bias.shape == (dim,) and bias.dtype == weight.dtype and bias.stride(-1) == 1)


def causal_conv1d_fn(
    x, weight, bias=None, seq_idx=None, initial_states=None, return_final_states=False, final_states_out=None,
    activation=None,
):  # fmt: skip
    _, dim, _ = x.shape
    check_weight(weight, bias, dim)
    assert x.stride(1) == 1 or x.stride(2) == 1
    if x.stride(1) == 1 and x.stride(2) > 1:
        assert dim % 8 == x.stride(2) % 8 == x.stride(0) % 8 == 0
    assert seq_idx is None
    assert initial_states is None
    assert not return_final_states
    assert activation == "silu"
    y = convolve(torch.nn.functional.pad(x, (weight.shape[1] - 1, 0)), weight, bias)
    return torch.empty_like(x).copy_(y)


def causal_conv1d_update(
    x, conv_state, weight, bias=None, activation=None, cache_seqlens=None, conv_state_indices=None
):  # fmt: skip
    batch, dim = x.shape
    check_weight(weight, bias, dim)
    assert conv_state.shape[:2] == (batch, dim)
    assert conv_state.shape[2] >= weight.shape[1] - 1
    assert conv_state.dtype == x.dtype
    assert activation == "silu"
    padded = torch.cat([conv_state, x[..., None]], dim=-1)
    conv_state.copy_(padded[..., 1:])
    return convolve(padded[..., -weight.shape[1] :], weight, bias)[..., 0]


PUBLISHED = is_available()
STAND_INS = {
    "mamba_ssm": (),
    "mamba_ssm.ops": (),
    "mamba_ssm.ops.selective_scan_interface": (selective_scan_fn,),
    "mamba_ssm.ops.triton": (),
    "mamba_ssm.ops.triton.selective_state_update": (selective_state_update,),
    "causal_conv1d": (causal_conv1d_fn, causal_conv1d_update),
}


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, functions in () if PUBLISHED else STAND_INS.items():
        module = ModuleType(name)
        for function in functions:
            setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("libraries")
class TestMambaSSM(ScanAgreement):
    device = "cuda" if PUBLISHED else "cpu"
    scan = staticmethod(selective_scan_mamba_ssm)
    conv = staticmethod(causal_conv1d_mamba_ssm)

    def test_a_conv_state_of_another_dtype_is_kept_in_it(self) -> None:
        """causal-conv1d's decoding kernel wants one dtype for both."""
        x = torch.ones(1, 40, dtype=torch.bfloat16, device=self.device)
        state, weight = torch.zeros(3, 40, device=self.device), torch.ones(4, 40, device=self.device)
        causal_conv1d_mamba_ssm(x, weight, None, state)
        assert state[:, 0].tolist() == [0.0, 0.0, 1.0]

    def test_is_available_only_with_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert is_available()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert not is_available()


@pytest.mark.parametrize("length", [1, 5])
def test_a_missing_library_is_named_when_it_is_called(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in STAND_INS:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not is_available()
    inputs, state = scan_inputs(8, torch.float32, "cpu")
    inputs |= {name: inputs[name][:length] for name in ("x", "dt", "B", "C", "z")}
    with pytest.raises(MissingExtraError, match=r"longleaf\[mamba\]"):
        selective_scan_mamba_ssm(**inputs, state=state)
    with pytest.raises(MissingExtraError, match=r"longleaf\[mamba\]"):
        causal_conv1d_mamba_ssm(inputs["x"], torch.zeros(4, 40), None, torch.zeros(3, 40))
