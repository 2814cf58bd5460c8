"""Frames between the library and its parser process: two lengths, a JSON header, raw bytes. No pickle."""

import json
import struct
from typing import Any, BinaryIO

__all__ = ["LENGTHS", "encode_frame", "read_frame", "split_frame"]

LENGTHS = struct.Struct(">II")  # bytes of header, bytes of payload
_MAX_HEADER = 64 * 2**20

Frame = tuple[dict[str, Any], bytes]


def encode_frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """One frame, ready to be written."""
    data = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode()
    return LENGTHS.pack(len(data), len(payload)) + data + payload


def split_frame(buffer: bytearray) -> Frame | None:
    """Take the first whole frame off the front of `buffer`; None if it is not complete yet.

    Raises:
        ValueError: What stands there is no frame.
    """
    if len(buffer) < LENGTHS.size:
        return None
    n_header, n_payload = LENGTHS.unpack_from(buffer)
    if n_header > _MAX_HEADER:
        raise ValueError(f"a frame header of {n_header} bytes")
    end = LENGTHS.size + n_header + n_payload
    if len(buffer) < end:
        return None
    header = json.loads(bytes(buffer[LENGTHS.size : LENGTHS.size + n_header]))
    payload = bytes(buffer[LENGTHS.size + n_header : end])
    del buffer[:end]
    return header, payload


def read_frame(stream: BinaryIO) -> Frame | None:
    """Read one frame from a blocking stream; None at its end."""
    lengths = stream.read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return None
    n_header, n_payload = LENGTHS.unpack(lengths)
    data = stream.read(n_header + n_payload)
    if len(data) < n_header + n_payload:
        return None
    return json.loads(data[:n_header]), data[n_header:]
