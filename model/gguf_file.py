"""Reads a GGUF file's metadata and finds its tensors' bytes, without copying them.

The `gguf` package makes a Python object of every token of the vocabulary, which takes seconds; here long arrays are
stepped over. Format: ggml's docs/gguf.md, version 2 and 3, little-endian. Dequantising types that are not packed by our
own kernels is left to the `gguf` package.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longleaf.errors import ModelError, ModelNotInstalledError

__all__ = ["GGUFFile", "GGUFTensor"]

_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONG_ARRAY = 1024
"""Arrays longer than this (the vocabulary, its merges) are stepped over."""


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """One tensor: its type by ggml's name, its shape with the inner dimension last, and where its bytes lie."""

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
            raise ModelError(f"{path}: can't be read ({exc})") from exc
        self._bytes = memoryview(self._map)
        self._at = 4
        if self._bytes[:4] != _MAGIC:
            raise ModelError(f"{path}: not a GGUF file")
        try:
            self._read_header()
        except (struct.error, IndexError, KeyError, ValueError, OverflowError) as exc:
            raise ModelError(f"{path}: not a readable GGUF file, or cut off ({exc})") from exc
        for tensor in self.tensors.values():
            if tensor.offset + tensor.size_bytes > len(self._bytes):
                raise ModelError(f"{path}: it ends before the end of tensor {tensor.name}; get the file again")

    def raw(self, tensor: GGUFTensor) -> Tensor:
        """The tensor's bytes in the file, mapped and not copied. (size_bytes,) uint8"""
        return torch.frombuffer(self._map, dtype=torch.uint8, count=tensor.size_bytes, offset=tensor.offset)

    def forget(self) -> None:
        """Let the system take back the pages that were read: what was needed has been copied."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def _read_header(self) -> None:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        version = self._scalar("I")
        if version not in (2, 3):
            raise ModelError(f"{self.path}: GGUF version {version}; 2 and 3 are supported")
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
            shape = tuple(self._scalar("Q") for _ in range(self._scalar("I")))[::-1]
            found.append((name, shape, GGMLQuantizationType(self._scalar("I")), self._scalar("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        begin = -(-self._at // alignment) * alignment
        self.tensors: dict[str, GGUFTensor] = {}
        for name, shape, kind, offset in found:
            values, size = GGML_QUANT_SIZES[kind]
            n = 1
            for side in shape:
                n *= side
            self.tensors[name] = GGUFTensor(name, kind.name, shape, begin + offset, n // values * size)

    def _scalar(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._bytes, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _string(self) -> str:
        n = self._scalar("Q")
        if self._at + n > len(self._bytes):
            raise IndexError(f"a string of {n} bytes at {self._at}")
        text = bytes(self._bytes[self._at : self._at + n]).decode("utf-8", "replace")
        self._at += n
        return text

    def _value(self, kind: int) -> Any:
        """The value, or None for an array that is stepped over."""
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._scalar(_SCALARS[kind])
        inner, n = self._scalar("I"), self._scalar("Q")
        if n <= _LONG_ARRAY:
            return [self._value(inner) for _ in range(n)]
        if inner == _STRING:
            unpack, view, at = struct.Struct("<Q").unpack_from, self._bytes, self._at
            for _ in range(n):
                at += 8 + unpack(view, at)[0]
            self._at = at
        else:
            self._at += n * struct.calcsize("<" + _SCALARS[inner])
        return None
