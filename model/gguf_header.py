"""Reads what stands before the weights in a GGUF file: metadata, and names, shapes and sizes of the tensors.

A vocabulary of 150,000 tokens costs the `gguf` package seconds. Here long arrays are stepped over, and nothing after
the header is touched. Source: the GGUF specification, ggml-org/ggml docs/gguf.md, versions 2 and 3, little-endian.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longleaf.errors import ModelError

__all__ = ["GgufHeader", "GgufTensor", "read_gguf_header"]

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_LONG_ARRAY = 1024  # more entries than any model has layers: a part of the vocabulary


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's place in the header.

    Args:
        shape: Rows first, as PyTorch has it; the file has it the other way round.
        size_bytes: As the file holds it, quantised or not.
    """

    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """The header.

    Args:
        metadata: Keys and values, but for arrays of more than 1,024 entries.
        tensors: By name.
    """

    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def read_gguf_header(path: Path) -> GgufHeader:
    """Read a GGUF file's header.

    Raises:
        ModelError: No such file, not a GGUF, or one that ends too early.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read(_Cursor(content))
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: no such file") from exc
    except (OSError, ValueError, struct.error) as exc:
        raise ModelError(f"{path}: not a readable GGUF file ({exc})") from exc


def _read(cursor: "_Cursor") -> GgufHeader:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    magic, version, n_tensors, n_values = cursor.take("<4sIQQ")
    if magic != b"GGUF" or version not in (2, 3):
        raise ValueError(f"it begins with {magic!r}, version {version}")
    header = GgufHeader({}, {})
    for _ in range(n_values):
        key = cursor.string()
        value = cursor.value(cursor.one("<I"))
        if value is not None:
            header.metadata[key] = value
    for _ in range(n_tensors):
        name = cursor.string()
        shape = tuple(reversed(cursor.take(f"<{cursor.one('<I')}Q")))
        kind, _offset = cursor.take("<IQ")
        block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        header.tensors[name] = GgufTensor(shape, math.prod(shape) // block_values * block_bytes)
    return header


class _Cursor:
    """Walks through the file; struct.error or ValueError where it ends too early."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._content, self._at)
        self._at += struct.calcsize(layout)
        return values

    def one(self, layout: str) -> Any:
        return self.take(layout)[0]

    def string(self) -> str:
        length = self.one("<Q")
        begin = self._at
        self._skip(length)
        return self._content[begin : self._at].decode("utf-8")

    def value(self, kind: int) -> Any:
        """The value of this type; None for a long array, which is stepped over."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            kind, length = self.take("<IQ")
            if length <= _LONG_ARRAY:
                return [self.value(kind) for _ in range(length)]
            if kind == _STRING:
                for _ in range(length):
                    self._skip(self.one("<Q"))
            else:
                self._skip(length * struct.calcsize(self._layout(kind)))
            return None
        return self.one(self._layout(kind))

    @staticmethod
    def _layout(kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _skip(self, n_bytes: int) -> None:
        if self._at + n_bytes > len(self._content):
            raise ValueError("it ends in the middle of its header")
        self._at += n_bytes
