"""Reads a GGUF file's metadata and the decoder's shape, and finds its tensors' bytes without copying them.

The `gguf` package makes a Python object of every token of the vocabulary, which takes seconds; here long arrays are
stepped over. Format: ggml's docs/gguf.md, version 2 and 3, little-endian. PyTorch is imported only where bytes become
a tensor: a plan needs no weights.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longleaf.errors import ModelError, ModelNotInstalledError

from .config import DecoderConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GGUFFile", "GGUFTensor", "gguf_config"]

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONG_ARRAY = 1024
"""Arrays longer than this (the vocabulary, its merges) are stepped over: no model has so many layers."""
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Where a tensor lies.

    Attributes:
        name: As the file has it.
        kind: Type by ggml's name.
        shape: Inner dimension last, as in PyTorch; the file has it the other way round.
        offset: Of its first byte in the file.
        size_bytes: As the file holds it, quantised or not.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


class GGUFFile:
    """A GGUF file, memory-mapped.

        file = GGUFFile(path)
        file.metadata["general.architecture"]
        file.raw(file.tensors["token_embd.weight"])       # its bytes

    Attributes:
        path: The file.
        metadata: Keys and values, but for arrays of more than 1,024 entries.
        tensors: By name.

    Raises:
        ModelNotInstalledError: No such file.
        ModelError: Not a GGUF file, or cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                # A private mapping may be written to, which torch wants to be told; nothing here does.
                self._map = mmap.mmap(stream.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except FileNotFoundError as exc:
            raise ModelNotInstalledError(f"{path}: no such file") from exc
        except (OSError, ValueError) as exc:  # ValueError: an empty file can't be mapped
            raise ModelError(f"{path}: not a readable GGUF file ({exc})") from exc
        self._bytes = memoryview(self._map)
        self._at = 0
        try:
            self._read_header()
        except (struct.error, ValueError, IndexError, OverflowError) as exc:
            raise ModelError(f"{path}: not a readable GGUF file, or cut off ({exc})") from exc
        for tensor in self.tensors.values():
            if tensor.offset + tensor.size_bytes > len(self._bytes):
                raise ModelError(f"{path}: it ends before the end of tensor {tensor.name}; get the file again")

    def raw(self, tensor: GGUFTensor) -> "Tensor":
        """The tensor's bytes in the file, mapped and not copied: (size_bytes,) uint8."""
        import torch

        return torch.frombuffer(self._map, dtype=torch.uint8, count=tensor.size_bytes, offset=tensor.offset)

    def floats(self, tensor: GGUFTensor) -> tuple[float, ...]:
        """The values of a small fp32 tensor."""
        if tensor.kind != "F32":
            raise ModelError(f"{self.path}: {tensor.name} is of type {tensor.kind} instead of F32")
        return struct.unpack_from(f"<{tensor.size_bytes // 4}f", self._bytes, tensor.offset)

    def forget(self) -> None:
        """Let the system take back the pages that were read: what was needed has been copied."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _read_header(self) -> None:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        magic, version = self._bytes[:4].tobytes(), self._scalar("4xI")
        if magic != _MAGIC or version not in (2, 3):
            raise ValueError(f"it begins with {magic!r}, version {version}; supported are b'GGUF', 2 and 3")
        n_tensors, n_values = self._scalar("Q"), self._scalar("Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = self._string()
            value = self._value(self._scalar("I"))
            if value is not None:
                self.metadata[key] = value
        found = []
        for _ in range(n_tensors):
            name = self._string()
            n_dimensions = self._scalar("I")
            if n_dimensions > _MOST_DIMENSIONS:
                raise ValueError(f"{name} has {n_dimensions} dimensions")
            shape = tuple(self._scalar("Q") for _ in range(n_dimensions))[::-1]
            found.append((name, shape, GGMLQuantizationType(self._scalar("I")), self._scalar("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        self.tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in found:
            values, size = GGML_QUANT_SIZES[kind]
            size_bytes = math.prod(shape) // values * size
            self.tensors[name] = GGUFTensor(name, kind.name, shape, begin + offset, size_bytes)

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._bytes, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        n = self._scalar("Q")
        if self._at + n > len(self._bytes):
            raise ValueError(f"a string of {n} bytes at {self._at}")
        text = bytes(self._bytes[self._at : self._at + n]).decode("utf-8", "replace")
        self._at += n
        return text

    def _value(self, kind: int) -> Any:
        """The value, or None for an array that is stepped over."""
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._scalar(_code(kind))
        inner, n = self._scalar("I"), self._scalar("Q")
        if n <= _LONG_ARRAY:
            return [self._value(inner) for _ in range(n)]
        if inner == _STRING:
            unpack, view, at = struct.Struct("<Q").unpack_from, self._bytes, self._at
            for _ in range(n):
                at += 8 + unpack(view, at)[0]
            self._at = at
        else:
            self._at += n * struct.calcsize("<" + _code(inner))
        return None


def gguf_config(file: GGUFFile) -> DecoderConfig:
    """The decoder's shape, from metadata and tensors.

    Raises:
        ModelError: Not a model that this decoder runs; names the file.
    """
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    divisors = file.tensors.get("rope_freqs.weight")
    factors = None if divisors is None else file.floats(divisors)
    try:
        return DecoderConfig.from_gguf(file.metadata, shapes, factors)
    except ModelError as exc:
        raise ModelError(f"{file.path}: {exc}") from exc


def _code(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"a value of the unknown type {kind}")
    return _SCALARS[kind]
