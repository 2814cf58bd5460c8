"""Character boxes as a compact blob, and back.

Format, version 1: one version byte, the units per point (uint8), the number of characters (uint32), all little
endian, then a zlib stream (level 1) of

    mask    ceil(n / 8) bytes, bit i (most significant first) set where character i has a box
    dx      int16 x k: x0 of each boxed character minus x1 of the one before it (0 before the first)
    dw      int16 x k: its width minus the width of the one before
    dy      int16 x k: its y0 minus the y0 of the one before
    dh      int16 x k: its height minus the height of the one before

in whole units, arithmetic modulo 2**16, each column as its low bytes followed by its high bytes. The units per point
are 20 for pages up to 1,638 points; larger pages take the largest value of 10, 5, 2, 1 that still fits in int16.
Neighbours on a line give zeros nearly everywhere, so a page of 3,800 characters takes about 5 KB instead of 61.
"""

import struct
import zlib

import numpy as np

from .document import Boxes

__all__ = ["decode_boxes", "encode_boxes"]

_VERSION = 1
_HEADER = struct.Struct("<BBI")
_UNITS = (20, 10, 5, 2, 1)
_LIMIT = 32_000


def encode_boxes(boxes: Boxes) -> bytes:
    """Pack boxes to 1/20 point.

    Args:
        boxes: `[n, 4]` in points; a row with any value that is not finite counts as "no box".

    Raises:
        ValueError: The shape is wrong.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be [n, 4], not {boxes.shape}")
    has_box = np.isfinite(boxes).all(axis=1)
    known = np.clip(boxes[has_box], -_LIMIT, _LIMIT)
    largest = float(np.abs(known).max(initial=0.0))
    units = next(u for u in _UNITS if largest * u <= _LIMIT or u == 1)
    q = np.rint(known.T * units).astype(np.int16)  # (4, k)
    x0, y0, x1, y1 = q
    columns = np.stack([x0, x1 - x0, y0, y1 - y0])
    delta = columns.copy()
    delta[:, 1:] -= columns[:, :-1]
    delta[0, 1:] = x0[1:] - x1[:-1]
    planes = delta.astype("<i2").view(np.uint8).reshape(4, -1, 2).transpose(0, 2, 1)
    body = np.packbits(has_box).tobytes() + planes.tobytes()
    return _HEADER.pack(_VERSION, units, len(boxes)) + zlib.compress(body, 1)


def decode_boxes(blob: bytes) -> Boxes:
    """Unpack what `encode_boxes` made; `[n, 4]`, NaN where a character has no box.

    Raises:
        ValueError: The blob is of another version or damaged.
    """
    try:
        version, units, n = _HEADER.unpack_from(blob)
        if version != _VERSION:
            raise ValueError(f"boxes of version {version}; this Longleaf reads version {_VERSION}")
        body = zlib.decompress(blob[_HEADER.size :])
        n_mask = (n + 7) // 8
        has_box = np.unpackbits(np.frombuffer(body, np.uint8, n_mask), count=n).astype(bool)
        planes = np.frombuffer(body, np.uint8, offset=n_mask).reshape(4, 2, int(has_box.sum()))
    except (struct.error, zlib.error) as exc:
        raise ValueError(f"damaged boxes: {exc}") from exc
    delta = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i2")[:, :, 0].astype(np.int64)
    width, y0, height = delta[1:].cumsum(axis=1).astype(np.int16).astype(np.int64)
    steps = delta[0].copy()
    steps[1:] += width[:-1]
    x0 = steps.cumsum()
    q = np.stack([x0, y0, x0 + width, y0 + height], axis=1).astype(np.int16)
    boxes = np.full((n, 4), np.nan, np.float32)
    boxes[has_box] = q.astype(np.float32) / np.float32(units)
    return boxes
