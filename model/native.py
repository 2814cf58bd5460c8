"""The CPU kernels written in C: which build of them this processor runs, and their calls.

setup.py compiles csrc/ once per instruction set, where there is a C compiler; without one everything here says that it
is not available and the PyTorch versions do the work. The calls go through ctypes, which lets other threads run
meanwhile, and use the OpenMP threads that PyTorch has started, as many as `torch.get_num_threads()` says.

Functions have the meaning and the signature of those in kernels.py and selective_scan.py; shapes that a kernel does not
cover go to those.
"""

import ctypes
import logging
import math
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longleaf.errors import ModelError

from . import kernels as plain
from .selective_scan import causal_conv1d_ref, selective_scan_ref
from .state import KVCache

__all__ = [
    "GGUF_PACKABLE",
    "PackedWeight",
    "gemv_bf16",
    "gemv_int8",
    "gguf_rows",
    "has_bf16_gemv",
    "instruction_set",
    "is_available",
    "pack_gguf",
    "pack_int8",
    "packed_linear",
]

logger = logging.getLogger(__name__)

_SETS = ("avx512", "avx2", "generic")
_MAX_D_CONV, _MAX_D_STATE, _MAX_HEAD_DIM = 8, 64, 256
_V = 16  # lanes of a vector in csrc
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}

GGUF_PACKABLE = {
    "Q4_0": (2, 4, 32),
    "Q4_1": (3, 4, 32),
    "Q8_0": (8, 8, 32),
    "Q4_K": (12, 4, 32),
    "Q5_K": (13, 8, 32),
    "Q6_K": (14, 6, 16),
}
"""GGUF's quantised types that stay packed: (ggml's number, bits, group)."""
_GGUF_OFFSET = {"Q4_0": 8, "Q8_0": 128, "Q6_K": 32}  # the others keep a minimum per group


@cache
def _library() -> ctypes.CDLL | None:
    """The build for this processor, or None."""
    folder = Path(__file__).resolve().parent
    for name in _SETS:
        if not _runs(name):
            continue
        for path in sorted(folder.glob(f"_native_{name}.*")):
            try:
                _share_openmp()
                library = ctypes.CDLL(str(path))
            except OSError as exc:
                logger.warning("%s can't be loaded: %s", path, exc)
                continue
            library.ll_gguf_bound.restype = ctypes.c_float
            return library
    return None


def _runs(name: str) -> bool:
    if name == "generic":
        return True
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    flags = set(next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), []))
    if name == "avx2":
        return {"avx2", "fma", "f16c"} <= flags
    return {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"} <= flags


def _share_openmp() -> None:
    """Make PyTorch's OpenMP runtime visible to our builds, which are linked without one: two would fight for cores."""
    folder = Path(torch.__file__).parent / "lib"
    for path in sorted(path for name in ("libgomp*", "libiomp*", "libomp*") for path in folder.glob(f"{name}.so*")):
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    loaded = ctypes.CDLL(None)
    if not hasattr(loaded, "GOMP_parallel"):  # a PyTorch that uses the system's
        ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)


def is_available() -> bool:
    """Whether the kernels were built and this processor runs them."""
    return _library() is not None


def instruction_set() -> str | None:
    """Which build is in use: avx512, avx2, generic; None where there is none."""
    library = _library()
    return None if library is None else Path(library._name).name.split(".")[0].removeprefix("_native_")


def has_bf16_gemv() -> bool:
    """Whether bf16 products over few tokens are faster here than PyTorch's: where vectors are wide."""
    return instruction_set() in ("avx512", "avx2")


def _lib() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise ModelError("the native CPU kernels are not built; install a C compiler and install longleaf again")
    return library


def _ptr(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


_i64 = ctypes.c_int64


def _threads() -> int:
    return torch.get_num_threads()


def _rows(x: Tensor) -> Tensor:
    """The same with unit stride along the last dimension."""
    return x if x.stride(-1) == 1 else x.contiguous()


def rms_norm(x: Tensor, weight: Tensor, eps: float, delta: Tensor | None = None) -> Tensor:
    """See `kernels.rms_norm_ref`."""
    if x.dtype not in _DTYPES or not x.is_contiguous() or (delta is not None and not delta.is_contiguous()):
        return plain.rms_norm_ref(x, weight, eps, delta)
    out = torch.empty_like(x)
    T, D = x.shape
    _lib().ll_rms_norm(
        _ptr(x), _ptr(delta), _ptr(weight), _ptr(out), _i64(T), _i64(D), ctypes.c_float(eps), _DTYPES[x.dtype],
        _threads(),
    )  # fmt: skip
    return out


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """See `kernels.silu_mul_ref`."""
    if gate.dtype not in _DTYPES or gate.dtype != up.dtype or gate.stride() != up.stride() or gate.stride(1) != 1:
        return plain.silu_mul_ref(gate, up)
    T, width = gate.shape
    out = gate.new_empty(T, width)
    _lib().ll_silu_mul(
        _ptr(gate), _ptr(up), _i64(gate.stride(0)), _ptr(out), _i64(T), _i64(width), _DTYPES[gate.dtype], _threads()
    )
    return out


def dt_b_c(
    projected: Tensor, norms: tuple[Tensor, Tensor, Tensor] | None, eps: float, d_state: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `kernels.dt_b_c_ref`."""
    if projected.dtype not in _DTYPES or not projected.is_contiguous():
        return plain.dt_b_c_ref(projected, norms, eps, d_state)
    T, width = projected.shape
    R = width - 2 * d_state
    dt = projected.new_empty(T, R)
    B, C = (torch.empty(T, d_state, dtype=torch.float32) for _ in range(2))
    weights = (None, None, None) if norms is None else norms
    _lib().ll_dt_b_c(
        _ptr(projected), *map(_ptr, weights), _ptr(dt), _ptr(B), _ptr(C), _i64(T), _i64(R), _i64(d_state),
        ctypes.c_float(eps), _DTYPES[projected.dtype], _threads(),
    )  # fmt: skip
    return dt, B, C


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """See `kernels.rope_ref`."""
    T, heads, hd = x.shape
    if x.dtype not in _DTYPES or x.stride(2) != 1 or x.stride(1) != hd:
        plain.rope_ref(x, cos, sin)
        return
    cos, sin = cos.contiguous(), sin.contiguous()
    _lib().ll_rope(
        _ptr(x), _ptr(cos), _ptr(sin), _i64(T), _i64(heads), _i64(hd), _i64(x.stride(0)), _DTYPES[x.dtype], _threads()
    )


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor) -> Tensor:
    """See `selective_scan.causal_conv1d_ref`."""
    W, E = weight.shape
    if x.dtype not in _DTYPES or E % _V or W > _MAX_D_CONV or weight.dtype != torch.float32 or state.dtype != x.dtype:
        return causal_conv1d_ref(x, weight, bias, state)
    x = _rows(x)
    out = x.new_empty(x.shape[0], E)
    _lib().ll_causal_conv(
        _ptr(x), _i64(x.stride(0)), _ptr(weight), _ptr(bias), _ptr(state), _ptr(out), _i64(x.shape[0]), _i64(E),
        _i64(W), _DTYPES[x.dtype], _threads(),
    )  # fmt: skip
    return out


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, dt_bias: Tensor, state: Tensor
) -> Tensor:
    """See `selective_scan.selective_scan_ref`."""
    N, E = A.shape
    if x.dtype not in _DTYPES or E % _V or N > _MAX_D_STATE or not x.dtype == dt.dtype == z.dtype:
        return selective_scan_ref(x, dt, A, B, C, D, z, dt_bias, state)
    x, z, dt, B, C = _rows(x), _rows(z), dt.contiguous(), B.float().contiguous(), C.float().contiguous()
    out = x.new_empty(x.shape[0], E)
    _lib().ll_selective_scan(
        _ptr(x), _i64(x.stride(0)), _ptr(dt), _ptr(A), _ptr(B), _ptr(C), _ptr(D), _ptr(z), _i64(z.stride(0)),
        _ptr(dt_bias), _ptr(state), _ptr(out), _i64(x.shape[0]), _i64(E), _i64(N), _DTYPES[x.dtype], _threads(),
    )  # fmt: skip
    return out


def attend(q: Tensor, cache: KVCache) -> Tensor:
    """See `kernels.attend_ref`."""
    L, H, hd = q.shape
    if q.dtype not in _DTYPES or cache.dtype not in _DTYPES or hd % _V or hd > _MAX_HEAD_DIM:
        return plain.attend_ref(q, cache)
    if q.stride(2) != 1 or q.stride(1) != hd:
        q = q.contiguous()
    out = q.new_empty(L, H, hd)
    keys, values = cache.pointers()
    n_blocks = len(keys)
    pointers = ctypes.c_void_p * n_blocks
    failed = _lib().ll_attend(
        _ptr(q), _i64(q.stride(0)), pointers(*keys), pointers(*values), _ptr(out), _i64(L), _i64(cache.n_tokens),
        _i64(H), _i64(cache.n_kv_heads), _i64(hd), _i64(cache.block_tokens), _DTYPES[q.dtype], _DTYPES[cache.dtype],
        _threads(),
    )  # fmt: skip
    if failed:
        raise ModelError("out of memory in attention; close other programs or read in smaller chunks")
    return out


def gemv_bf16(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product of x (T, n_in) with weight (n_out, n_in), T at most 8; all bf16."""
    x = x.contiguous()
    T, n_in = x.shape
    out = x.new_empty(T, weight.shape[0])
    _lib().ll_gemv_bf16(
        _ptr(x), _ptr(weight), _ptr(bias), _ptr(out), _i64(T), _i64(n_in), _i64(weight.shape[0]), _threads()
    )
    return out


def gemv_int8(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Product of x (T, n_in) with weight (n_out, n_in) int8 · scale (n_out,) fp32, T at most 8; x fp32 or bf16."""
    x = x.contiguous()
    T, n_in = x.shape
    out = x.new_empty(T, weight.shape[0])
    failed = _lib().ll_gemv_int8(
        _ptr(x), _ptr(weight), _ptr(scale), _ptr(bias), _ptr(out), _i64(T), _i64(n_in), _i64(weight.shape[0]),
        _DTYPES[x.dtype], _threads(),
    )  # fmt: skip
    if failed:
        raise ModelError("out of memory in a product")
    return out


class _Packed(ctypes.Structure):
    """`Packed` of csrc/packed.c."""

    _fields_ = (
        ("q", ctypes.c_void_p),
        ("d", ctypes.c_void_p),
        ("m", ctypes.c_void_p),
        ("row_d", ctypes.c_void_p),
        ("n_in", ctypes.c_int64),
        ("n_out", ctypes.c_int64),
        ("bits", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("offset", ctypes.c_int32),
        ("act_group", ctypes.c_int32),
        ("unit", ctypes.c_float),
    )


@dataclass
class PackedWeight:
    """Weights of 4, 6 or 8 bits as csrc/packed.c lays them out: value = unit·(d·q - m), q unsigned.

    Attributes:
        n_in: Inner dimension, as the model has it.
        n_out: Rows, as the model has them.
        bits: 4, 6 or 8.
        group: Values along the inner dimension that share d and m; 16 or 32.
        offset: m / d where that is the same everywhere; otherwise 0, and `m` is given.
        q: Bytes, 16 rows side by side.
        d: fp16 per group and row, or None.
        m: fp16 per group and row, or None.
        row_d: fp32 per row where there is no `d`.
        unit: A power of two.
        act_group: Activations that share a scale; 32 or 256.
    """

    n_in: int
    n_out: int
    bits: int
    group: int
    offset: int
    q: Tensor
    d: Tensor | None = None
    m: Tensor | None = None
    row_d: Tensor | None = None
    unit: float = 1.0
    act_group: int = 32
    _c: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pointers = (None if part is None else part.data_ptr() for part in (self.q, self.d, self.m, self.row_d))
        padded = (_up(self.n_in, 32), _up(self.n_out, _V))
        self._c = _Packed(*pointers, *padded, self.bits, self.group, self.offset, self.act_group, self.unit)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in (self.q, self.d, self.m, self.row_d) if part is not None)


def _up(n: int, multiple: int) -> int:
    return math.ceil(n / multiple) * multiple


def pack_gguf(kind: str, raw: Tensor, n_out: int, n_in: int) -> PackedWeight:
    """Pack a matrix of GGUF blocks.

    Args:
        kind: A key of `GGUF_PACKABLE`.
        raw: Its bytes. uint8
        n_out: Rows.
        n_in: Inner dimension, a multiple of the blocks' 32 or 256.
    """
    number, bits, group = GGUF_PACKABLE[kind]
    library, groups, rows = _lib(), n_in // group, _up(n_out, _V)
    block_values = 256 if kind.endswith("_K") else 32
    bound = library.ll_gguf_bound(number, _ptr(raw), _i64(n_out * n_in // block_values), _threads())
    unit = 2.0 ** (math.floor(math.log2(bound)) - 14) if bound > 0 else 1.0
    offset = _GGUF_OFFSET.get(kind, 0)
    packed = PackedWeight(
        n_in=n_in,
        n_out=n_out,
        bits=bits,
        group=group,
        offset=offset,
        q=torch.empty(rows * n_in * bits // 8, dtype=torch.uint8),
        d=torch.empty(rows * groups, dtype=torch.float16),
        m=None if offset else torch.empty(rows * groups, dtype=torch.float16),
        unit=unit,
        act_group=block_values,
    )
    library.ll_pack_gguf(number, _ptr(raw), _i64(n_out), ctypes.byref(packed._c), _threads())
    return packed


def pack_int8(weight: Tensor, scale: Tensor) -> PackedWeight:
    """Pack int8 rows (n_out, n_in) with one fp32 scale each."""
    n_out, n_in = weight.shape
    rows = _up(n_out, _V)
    packed = PackedWeight(
        n_in=n_in,
        n_out=n_out,
        bits=8,
        group=32,
        offset=128,
        q=torch.empty(rows * _up(n_in, 32), dtype=torch.uint8),
        row_d=torch.empty(rows, dtype=torch.float32),
    )
    _lib().ll_pack_int8(
        _ptr(weight.contiguous()), _ptr(scale.contiguous()), _i64(n_out), _i64(n_in), ctypes.byref(packed._c),
        _threads(),
    )  # fmt: skip
    return packed


def gguf_rows(kind: str, raw: Tensor, n_rows: int, n_in: int) -> Tensor:
    """Rows of GGUF blocks as numbers. (n_rows, n_in) fp32."""
    out = torch.empty(n_rows, n_in, dtype=torch.float32)
    _lib().ll_gguf_rows(GGUF_PACKABLE[kind][0], _ptr(raw), _i64(n_rows), _i64(n_in), _ptr(out), _threads())
    return out


def packed_linear(x: Tensor, weight: PackedWeight, bias: Tensor | None) -> Tensor:
    """Product of x (T, n_in) with a packed weight, in the dtype of x (fp32 or bf16); bias (n_out,) fp32 or None."""
    x = x.contiguous()
    out = x.new_empty(x.shape[0], weight.n_out)
    failed = _lib().ll_packed_linear(
        _ptr(x), _i64(weight.n_in), ctypes.byref(weight._c), _ptr(bias), _ptr(out), _i64(weight.n_out),
        _i64(x.shape[0]), _DTYPES[x.dtype], _threads(),
    )  # fmt: skip
    if failed:
        raise ModelError("out of memory in a product")
    return out


KERNELS = plain.Kernels(
    name="native",
    rms_norm=rms_norm,
    silu_mul=silu_mul,
    dt_b_c=dt_b_c,
    rope=rope,
    attend=attend,
    scan=selective_scan,
    conv=causal_conv1d,
)
