"""The Triton kernels: compiled where there is a GPU, else through Triton's interpreter.

Which of the two, Triton settles when it is imported. Where another test module was first, these tests run in a process
of their own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longleaf.errors import MissingExtraError
from longleaf.model import scan_triton
from longleaf.model.scan_triton import causal_conv1d_triton, is_available, selective_scan_triton

from .scan_agreement import CHUNKS, ScanAgreement, in_chunks, scan_inputs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"
triton = pytest.importorskip("triton")
RUNS_HERE = DEVICE == "cuda" or not isinstance(triton.language.sum, triton.JITFunction)
runs_here = pytest.mark.skipif(
    not RUNS_HERE, reason="Triton was imported to compile; see the test with its own process"
)


@runs_here
class TestTriton(ScanAgreement):
    device = DEVICE
    scan = staticmethod(selective_scan_triton)
    conv = staticmethod(causal_conv1d_triton)

    @pytest.mark.parametrize("chunks", CHUNKS[1:], ids=str)
    def test_cutting_a_sequence_changes_no_bit(self, chunks: tuple[int, ...]) -> None:
        inputs, state = scan_inputs(8, torch.float32, DEVICE)
        state_of_whole = state.clone()
        whole = selective_scan_triton(**inputs, state=state_of_whole)
        assert torch.equal(in_chunks(selective_scan_triton, inputs, chunks, state), whole)
        assert torch.equal(state, state_of_whole)


@pytest.mark.skipif(RUNS_HERE, reason="they ran here")
def test_the_kernels_in_a_process_of_their_own() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from longleaf.model import scan_triton

def build(kernel, tensors, **constants):
    types = {name: "i32" for name in kernel.arg_names} | tensors | dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, types, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]

scan, conv = scan_triton._kernels()
halves, floats = dict.fromkeys(("x", "dt", "z", "y"), "*bf16"), ("A", "B", "C", "D", "dt_bias", "state")
build(scan, halves | dict.fromkeys(floats, "*fp32"), BLOCK_E=64, BLOCK_N=16)
build(conv, dict.fromkeys(("x", "weight", "state", "y"), "*bf16"), bias=None, W=4, BLOCK_L=1, BLOCK_E=128)
"""


@pytest.mark.skipif(DEVICE == "cuda" or sys.platform != "linux", reason="compiled by the tests above, or not at all")
def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    """The interpreter takes much that the compiler does not."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_missing_triton_is_named_when_a_kernel_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    scan_triton._kernels.cache_clear()
    assert not is_available()
    inputs, state = scan_inputs(8, torch.float32, "cpu")
    with pytest.raises(MissingExtraError, match=r"longleaf\[gpu\]"):
        selective_scan_triton(**inputs, state=state)
    with pytest.raises(MissingExtraError, match=r"longleaf\[gpu\]"):
        causal_conv1d_triton(inputs["x"], torch.zeros(4, 40), None, torch.zeros(3, 40))
    monkeypatch.undo()
    assert is_available()
