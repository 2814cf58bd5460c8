"""The file of a saved index: a header that says what the index is, and bytes that this file does not look into.

    magic, length and CRC-32 of the header, header as JSON, payload

The header has the payload's length and CRC-32, so that the two can't disagree. A file is written whole or not at all:
to another name beside it, to the disk, then renamed. Nothing of it is believed before its checksums were compared.
"""

import json
import os
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from longleaf.model.disk import sync

__all__ = ["DamagedIndexError", "IndexHeader", "read_header", "read_index_file", "write_index_file"]

_MAGIC = b"longleaf vectors 1\n"
_LENGTHS = struct.Struct("<II")  # of the header: length and CRC-32
_BLOCK = 1 << 20
_SPARE = 64  # bytes of room for the payload's length and CRC-32, which are known only after it was written


class DamagedIndexError(Exception):
    """Cut, altered, or no such file; stays inside this folder, for an index can always be built anew."""


@dataclass(frozen=True, slots=True)
class IndexHeader:
    """What a saved index is.

    Attributes:
        library: Whose vectors it has.
        space: Which of them.
        d: Numbers in a vector.
        n_vectors: How many.
        seq: The change that it had reached.
        n_trained: How many there were when it was last trained.
        n_probes: Lists searched for a question.
        recall: Measured with these.
        payload_bytes: Length of what follows.
        payload_crc: CRC-32 of it.
    """

    library: str
    space: str
    d: int
    n_vectors: int
    seq: int
    n_trained: int
    n_probes: int
    recall: float
    payload_bytes: int = 0
    payload_crc: int = 0


def write_index_file(path: Path, header: IndexHeader, write_payload: Callable[[Callable[[bytes], None]], None]) -> None:
    """Write a file, whole or not at all; one of that name is replaced.

    Args:
        path: Its folder must be there.
        header: Length and checksum of the payload are filled in.
        write_payload: Called once with the function to hand the payload to, piece by piece.

    Raises:
        OSError: Full disk, or a folder that can't be written.
    """
    room = len(_json(header)) + _SPARE
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    n_bytes = crc = 0
    try:
        with scratch.open("wb") as file:
            file.write(bytes(len(_MAGIC) + _LENGTHS.size + room))

            def write(piece: bytes) -> None:
                nonlocal n_bytes, crc
                file.write(piece)
                n_bytes += len(piece)
                crc = zlib.crc32(piece, crc)

            write_payload(write)
            text = _json(replace(header, payload_bytes=n_bytes, payload_crc=crc)).ljust(room)
            file.seek(0)
            file.write(_MAGIC + _LENGTHS.pack(room, zlib.crc32(text)) + text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def read_header(path: Path) -> IndexHeader:
    """The header alone; of the payload only the length is checked.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It can't be read.
        DamagedIndexError: It was cut or altered, or is no such file.
    """
    with path.open("rb") as file:
        return _header(file, path)


@contextmanager
def read_index_file(path: Path) -> Iterator[tuple[IndexHeader, BinaryIO]]:
    """The header, and the file at the beginning of the payload; all checksums have been compared.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It can't be read.
        DamagedIndexError: It was cut or altered, or is no such file.
    """
    with path.open("rb") as file:
        header = _header(file, path)
        begin, crc = file.tell(), 0
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
        if crc != header.payload_crc:
            raise DamagedIndexError(f"{path}: altered since it was written (the checksum differs)")
        file.seek(begin)
        yield header, file


def _header(file: BinaryIO, path: Path) -> IndexHeader:
    start = file.read(len(_MAGIC) + _LENGTHS.size)
    if len(start) < len(_MAGIC) + _LENGTHS.size or not start.startswith(_MAGIC):
        raise DamagedIndexError(f"{path}: not an index of this version")
    length, crc = _LENGTHS.unpack(start[len(_MAGIC) :])
    text = file.read(min(length, _BLOCK))
    if len(text) != length or zlib.crc32(text) != crc:
        raise DamagedIndexError(f"{path}: its header was cut or altered")
    header = IndexHeader(**json.loads(text))
    n_bytes = os.fstat(file.fileno()).st_size - file.tell()
    if n_bytes != header.payload_bytes:
        raise DamagedIndexError(f"{path}: {n_bytes} bytes follow its header, not {header.payload_bytes}")
    return header


def _json(header: IndexHeader) -> bytes:
    return json.dumps(asdict(header)).encode()
