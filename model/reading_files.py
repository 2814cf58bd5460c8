"""The files that readings are made of: names, digests, headers, and loading one whole reading.

folder/<model>/kv/<start>-<end>-<digest>.safetensors   a segment: keys and values of these tokens, and their ids
folder/<model>/snapshots/<n>-<digest>.safetensors      taps and SSM states after n tokens, and which segments go before

A digest is the sha256 of the model's fingerprint and of all token ids from the first one on: two files with the same
name hold the same thing. Knows nothing of locks, budgets and eviction, which are the store's (`readings.py`).
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from longleaf.errors import DamagedStateError, StateError, StorageError

from .state import DecoderState
from .state_file import fill_state, read_metadata, read_tensors, read_token_ids, unpack_token_ids

if TYPE_CHECKING:
    from hashlib import _Hash

logger = logging.getLogger(__name__)

_SEGMENT = re.compile(r"(\d{1,9})-(\d{1,9})-([0-9a-f]{64})\.safetensors")
_SNAPSHOT = re.compile(r"(\d{1,9})-([0-9a-f]{64})\.safetensors")

TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class Segment:
    """A file with keys and values of the tokens from `start` to `end`."""

    path: Path
    start: int
    end: int
    digest: str  # of all tokens before `end`

    @classmethod
    def at(cls, path: Path) -> "Segment | None":
        """What the name says, or None if it is not a segment's."""
        found = _SEGMENT.fullmatch(path.name)
        return cls(path, int(found[1]), int(found[2]), found[3]) if found else None


@dataclass(eq=False)
class Snapshot:
    """A snapshot's file and what its header says."""

    path: Path
    n_tokens: int
    digest: str
    fingerprint: str
    segments: tuple[Segment, ...]
    size_bytes: int
    seconds: float
    last_used: float
    metadata: Mapping[str, str]
    shorter: list["Snapshot"] = field(default_factory=list)  # those that its tokens begin with

    @classmethod
    def read(cls, path: Path, n_tokens: int, digest: str) -> "Snapshot":
        """Read the header, and no more. Raises what `read_metadata` does."""
        metadata, stat = read_metadata(path, "snapshot"), path.stat()
        return cls(
            path=path,
            n_tokens=n_tokens,
            digest=digest,
            fingerprint=metadata["fingerprint"],
            segments=_listed_segments(path, metadata, n_tokens),
            size_bytes=stat.st_size,
            seconds=_seconds(path, metadata),
            last_used=stat.st_mtime,
            metadata=metadata,
        )

    @property
    def sources(self) -> tuple[str, ...] | None:
        """Where its words are from; None where an earlier version, which did not say, wrote it."""
        try:
            return tuple(map(str, json.loads(self.metadata["sources"])))
        except (KeyError, ValueError, TypeError):
            return None


def as_array(token_ids: Sequence[int]) -> TokenIds:
    """Token ids as they are hashed and compared: (L,) int32, little-endian."""
    return np.asarray(token_ids, dtype="<i4")


def seed(fingerprint: str) -> "_Hash":
    """The hash of no tokens at all: with the fingerprint, so that a digest stands for one model's reading."""
    return hashlib.sha256(fingerprint.encode() + b"\0")


def digests_at(running: "_Hash", ids: TokenIds, counts: Iterable[int]) -> dict[int, str]:
    """The digest after each of these counts of tokens, as far as there are tokens. Moves `running` on."""
    digests, done = {}, 0
    for n in sorted(set(counts)):
        if n > len(ids):
            break
        running.update(ids[done:n].data)
        digests[n] = running.hexdigest()
        done = n
    return digests


def entries(folder: Path) -> list[Path]:
    """Paths in a folder; none if it can't be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def segment_files(folder: Path) -> list[Segment]:
    """The segments of a model's folder, by their names."""
    return [segment for path in entries(folder / "kv") if (segment := Segment.at(path))]


def snapshot_files(folder: Path) -> Iterator[tuple[Path, int, str]]:
    """The snapshots of a model's folder, by their names: path, number of tokens, digest."""
    for path in entries(folder / "snapshots"):
        if found := _SNAPSHOT.fullmatch(path.name):
            yield path, int(found[1]), found[2]


def read_snapshots(store: Path) -> tuple[list[Snapshot], list[Path]]:
    """All readings whose files are there, and the snapshots that can't be used."""
    whole, broken = [], []
    for folder in entries(store):
        files = list(snapshot_files(folder))  # before the segments, which are written first and deleted last
        there = {segment.path for segment in segment_files(folder)}
        for path, n_tokens, digest in files:
            try:
                snapshot = Snapshot.read(path, n_tokens, digest)
            except FileNotFoundError:
                continue
            except StateError:
                broken.append(path)
            except (StorageError, OSError) as exc:
                logger.warning("a reading is passed over: %s", exc)
            else:
                if there.issuperset(segment.path for segment in snapshot.segments):
                    whole.append(snapshot)
                else:
                    broken.append(path)
    return whole, broken


def _listed_segments(path: Path, metadata: Mapping[str, str], n_tokens: int) -> tuple[Segment, ...]:
    """The segments that a snapshot names; they follow each other from the first token to its last."""
    try:
        kv = path.parent.parent / "kv"
        segments = tuple(s for name in json.loads(metadata["segments"]) if (s := Segment.at(kv / Path(name).name)))
    except (KeyError, ValueError, TypeError) as exc:
        raise DamagedStateError(f"{path}: does not name its segments") from exc
    ends = [0, *(segment.end for segment in segments)]
    if ends[:-1] != [segment.start for segment in segments] or ends[-1] != n_tokens:
        raise DamagedStateError(f"{path}: its segments are not those of {n_tokens} tokens")
    return segments


def _seconds(path: Path, metadata: Mapping[str, str]) -> float:
    try:
        return float(metadata["seconds"])
    except (KeyError, ValueError) as exc:
        raise DamagedStateError(f"{path}: does not say how long the reading took") from exc


def load_reading(path: Path, n_tokens: int, ids: TokenIds, empty: DecoderState) -> tuple[float, str]:
    """Check every file of a reading, then fill the state with it.

    Args:
        path: Of the snapshot; deleting it if it is damaged is left to the caller. Damaged segments are deleted here.
        n_tokens: Of the reading.
        ids: The prompt, which must begin with the reading's tokens.
        empty: The state before the first token; filled only if all is well.

    Returns:
        Seconds that the reading took, and its label.

    Raises:
        FileNotFoundError: A file is missing.
        StateError: A file is damaged, or another model's, or of other tokens.
        StorageError: A file can't be read.
    """
    tensors, metadata = read_tensors(path, "snapshot", empty.fingerprint)
    files = [tensors]
    for segment in _listed_segments(path, metadata, n_tokens):
        try:
            held, _ = read_tensors(segment.path, "segment", empty.fingerprint)
            if not np.array_equal(unpack_token_ids(held, segment.path), ids[segment.start : segment.end]):
                raise DamagedStateError(f"{segment.path}: holds other tokens than its name says")
        except StateError:
            delete(segment.path)
            raise
        files.append(held)
    seconds = _seconds(path, metadata)
    fill_state(empty, ids[:n_tokens], files, path)
    return seconds, metadata.get("label", "")


def stored_chain(folder: Path, ids: TokenIds, fingerprint: str) -> list[Segment]:
    """The segments on disk that hold these tokens from the first one on, as far as they go."""
    segments = segment_files(folder)
    digests = digests_at(seed(fingerprint), ids, (segment.end for segment in segments))
    chains: dict[int, list[Segment]] = {0: []}  # the shortest chain that ends there
    for segment in sorted(segments, key=lambda segment: (segment.end, segment.start)):
        before, there = chains.get(segment.start), chains.get(segment.end)
        if digests.get(segment.end) != segment.digest or before is None or not _is_readable(segment):
            continue
        if there is None or len(before) + 1 < len(there):
            chains[segment.end] = [*before, segment]
    return chains[max(chains)]


def _is_readable(segment: Segment) -> bool:
    try:
        read_metadata(segment.path, "segment")
    except (StateError, StorageError, OSError):
        return False
    return True


@lru_cache(maxsize=2048)
def segment_tokens(path: Path) -> tuple[str, TokenIds]:
    """The digest before a segment, and its token ids. A segment's name says its tokens, so they may be remembered."""
    return read_metadata(path, "segment").get("parent", ""), read_token_ids(path)


def n_common(some: TokenIds, others: TokenIds) -> int:
    """How many first tokens are the same."""
    n = min(len(some), len(others))
    differ = np.flatnonzero(some[:n] != others[:n])
    return int(differ[0]) if len(differ) else n


def delete(path: Path) -> int:
    """Delete a file if it can be; the bytes freed."""
    try:
        n_bytes = path.stat().st_size
        path.unlink()
    except OSError:
        return 0
    return n_bytes


def touch(path: Path) -> None:
    """Note a use; that it can't be noted harms nobody."""
    now = time.time_ns()  # by itself the file system's clock lags some milliseconds behind
    with suppress(OSError):
        os.utime(path, ns=(now, now))
