"""A grey or RGB picture as PNG, without an imaging library."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["encode_png"]


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode `[height, width]` (grey) or `[height, width, 3]` (RGB) as PNG.

    Source: PNG (third edition), W3C, sections 5.3 and 11.2.
    """
    height, width = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 2
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    up = rows.copy()
    up[1:] -= rows[:-1]  # filter 2, "up": page images are mostly equal rows
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), up], axis=1)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 3)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
