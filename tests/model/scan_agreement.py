"""What every version of the selective scan and its convolution must do: agree with the plain one, however a sequence is
cut. A test module inherits `ScanAgreement` and names its functions."""

import pytest
import torch
from torch import Tensor

from longleaf.model.selective_scan import CausalConv, SelectiveScan, causal_conv1d_ref, selective_scan_ref

L, E = 13, 40  # E is no multiple of a Triton block, but of causal-conv1d's 8
CHUNKS = [(13,), (1,) * 13, (2,) * 6 + (1,), (3,) * 4 + (1,), (5, 1, 7)]


def scan_inputs(d_state: int, dtype: torch.dtype, device: str, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """The scan's arguments over L tokens, x and z being halves of one tensor; and the state before them."""
    rng = torch.Generator().manual_seed(seed)
    xz, dt = torch.randn(L, 2 * E, generator=rng), torch.randn(L, E, generator=rng)
    B, C, D = (torch.randn(*shape, generator=rng) for shape in ((L, d_state), (L, d_state), (E,)))
    A = -8 * torch.rand(d_state, E, generator=rng)
    dt_bias, state = torch.randn(E, generator=rng) - 2, torch.randn(d_state, E, generator=rng)
    x, z = xz.to(device, dtype).split(E, dim=1)
    inputs = {"x": x, "dt": dt.to(dtype), "A": A, "B": B, "C": C.to(dtype), "D": D, "z": z, "dt_bias": dt_bias}
    return {name: value.to(device) for name, value in inputs.items()}, state.to(device)


def in_chunks(scan: SelectiveScan, inputs: dict[str, Tensor], chunks: tuple[int, ...], state: Tensor) -> Tensor:
    parts, begin = [], 0
    for length in chunks:
        rows = {name: inputs[name][begin : begin + length] for name in ("x", "dt", "B", "C", "z")}
        parts.append(scan(**{**inputs, **rows}, state=state))
        begin += length
    return torch.cat(parts)


def assert_agree(ours: Tensor, reference: Tensor, what: str) -> None:
    # bf16: one unit in the last place, as Triton's interpreter cuts off where others round
    rtol, atol = (2**-7, 1e-5) if ours.dtype == torch.bfloat16 else (1e-5, 1e-5)
    torch.testing.assert_close(ours, reference, rtol=rtol, atol=atol, msg=lambda message: f"{what}: {message}")


class ScanAgreement:
    device = "cpu"
    scan: SelectiveScan
    conv: CausalConv

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("d_state", [8, 16])
    @pytest.mark.parametrize("chunks", CHUNKS, ids=str)
    def test_scan_in_chunks_equals_the_plain_scan_of_the_whole(
        self, chunks: tuple[int, ...], d_state: int, dtype: torch.dtype
    ) -> None:
        inputs, state = scan_inputs(d_state, dtype, self.device)
        expected_state = state.clone()
        expected = selective_scan_ref(**inputs, state=expected_state)
        y = in_chunks(self.scan, inputs, chunks, state)
        assert y.dtype == dtype
        assert_agree(y, expected, "y")
        assert_agree(state, expected_state, "state")

    @pytest.mark.parametrize("d_state", [5, 16])
    def test_scan_from_an_empty_state_that_lies_among_others(self, d_state: int) -> None:
        inputs, _ = scan_inputs(d_state, torch.float32, self.device)
        around = torch.full((2, 3 * d_state, E), torch.nan, device=self.device)
        state, A = around[:, d_state : 2 * d_state]
        state.zero_()
        inputs["A"] = A.copy_(inputs["A"])
        expected_state = torch.zeros_like(state)
        expected = selective_scan_ref(**inputs, state=expected_state)
        assert_agree(self.scan(**inputs, state=state), expected, "y")
        assert_agree(state, expected_state, "state")
        assert around[:, :d_state].isnan().all()
        assert around[:, 2 * d_state :].isnan().all()

    @pytest.mark.parametrize("step", [-30.0, -12.0, 20.5, 60.0])
    def test_scan_with_steps_far_from_zero(self, step: float) -> None:
        """Tiny steps must not vanish, and with huge ones the state is forgotten without a NaN."""
        inputs, state = scan_inputs(16, torch.float32, self.device)
        inputs["dt_bias"] = torch.full_like(inputs["dt_bias"], step)
        expected_state = state.clone()
        expected = selective_scan_ref(**inputs, state=expected_state)
        y = self.scan(**inputs, state=state)
        assert_agree(y, expected, "y")
        assert_agree(state, expected_state, "state")
        # What the chunk added to an empty state, next to which a large state would hide it.
        inputs["A"] = torch.zeros_like(inputs["A"])
        selective_scan_ref(**inputs, state=expected_state.zero_())
        self.scan(**inputs, state=state.zero_())
        torch.testing.assert_close(state, expected_state, rtol=1e-5, atol=1e-7 * expected_state.abs().max().item())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("d_conv", [3, 4])
    @pytest.mark.parametrize("biased", [True, False])
    @pytest.mark.parametrize("chunks", CHUNKS, ids=str)
    def test_conv_in_chunks_equals_the_plain_conv_of_the_whole(
        self, chunks: tuple[int, ...], biased: bool, d_conv: int, dtype: torch.dtype
    ) -> None:
        rng = torch.Generator().manual_seed(d_conv)
        x = torch.randn(L, 2 * E, generator=rng).to(self.device, dtype)[:, :E]
        weight = torch.randn(E, d_conv, generator=rng).to(self.device, dtype).T
        bias = torch.randn(E, generator=rng).to(self.device) if biased else None
        state = torch.randn(d_conv - 1, E, generator=rng).to(self.device, dtype)
        expected_state = state.clone()
        expected = causal_conv1d_ref(x, weight, bias, expected_state)
        y = torch.cat([self.conv(part, weight, bias, state) for part in x.split(list(chunks))])
        assert y.dtype == dtype
        assert_agree(y, expected, "y")
        assert torch.equal(state, expected_state)
