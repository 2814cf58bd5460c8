"""Readings on disk: what the decoder remembers of token prefixes, so that a text is read once and not again.

A reading is one snapshot (taps and SSM states) and the segments (keys and values) of the tokens before it; see
`reading_files.py`. Segments never change and are shared: snapshots along one text, and texts with a common beginning,
have its keys and values on disk once. A snapshot is written after its segments and deleted before them, so that a
process killed at any moment leaves whole readings, or files that nothing refers to. `folder/lock` is held while
anything is written, and while anything but a damaged file is deleted; finding needs no lock.

A state can't be trimmed, so a reading serves a prompt only if all its tokens are the prompt's first ones, and at least
one token must be left over: the decoder gives logits only for tokens that it reads.

Eviction weighs the seconds that a reading saves against the bytes it alone takes, after Marconi (Pan et al. 2024,
arXiv:2411.19379), instead of going by last use only.
"""

import hashlib
import json
import logging
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from longleaf.errors import StateError, StorageError

from .reading_files import (
    Segment,
    Snapshot,
    TokenIds,
    as_array,
    delete,
    digests_at,
    entries,
    load_reading,
    n_common,
    read_snapshots,
    seed,
    segment_files,
    segment_tokens,
    snapshot_files,
    stored_chain,
    touch,
)
from .state import DecoderState
from .state_file import check_whole, kv_tensors, mamba_tensors, pack_token_ids, write_tensors

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["Reading", "ReadingInfo", "ReadingStore"]

logger = logging.getLogger(__name__)

_ORPHAN_AGE_S = 3600
_HALF_LIFE_S = 30 * 24 * 3600
"""A reading that nobody used for so long counts half."""


@dataclass(frozen=True)
class Reading:
    """A reading taken from the store.

    Attributes:
        id: Digest of model and tokens.
        state: After the prompt's first `state.n_tokens` tokens.
        seconds: What reading these tokens took, and what is now saved.
        label: What was read, such as names of documents.
    """

    id: str
    state: DecoderState
    seconds: float
    label: str


@dataclass(frozen=True)
class ReadingInfo:
    """What is known of a stored reading.

    Attributes:
        id: Digest of model and tokens; its first characters name it.
        n_tokens: Tokens that it stands for.
        size_bytes: Of all its files.
        own_bytes: Of those files that no other reading needs: what removing it frees.
        seconds: What reading the tokens took.
        model_name: Of the model that read them.
        label: What was read, such as names of documents.
        created_at: ISO 8601, UTC.
        last_used_at: The same.
        fingerprint: Of the model.
        sources: Where its words are from, as whoever had them read named it; empty where nobody did.
        knows_sources: Whether that is all; an earlier version wrote nothing down.
    """

    id: str
    n_tokens: int
    size_bytes: int
    own_bytes: int
    seconds: float
    model_name: str
    label: str
    created_at: str
    last_used_at: str
    fingerprint: str
    sources: tuple[str, ...] = ()
    knows_sources: bool = True


class ReadingStore:
    """Readings of any number of models in one folder, with a budget. Several processes may use it at once.

        store = ReadingStore(home / "readings")
        reading = store.find(prompt, model.new_state())
        state = reading.state if reading else model.new_state()
        ...                                                       # read the rest of the document
        store.keep(state, seconds=time_taken + (reading.seconds if reading else 0))

    Args:
        folder: Made as needed; may be deleted at any time.
        budget_bytes: Room on disk. While a reading is written it may be exceeded by that reading.
        min_tokens: Shorter readings are not kept.
        segment_tokens: Segments end at multiples of it, so that texts that part later share what comes before. A
            multiple of the cache's block, so that blocks are used as they lie in the file.
    """

    def __init__(
        self, folder: Path, *, budget_bytes: int = 20 * 2**30, min_tokens: int = 256, segment_tokens: int = 16384
    ) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes
        self.min_tokens = max(min_tokens, 1)
        self.segment_tokens = segment_tokens

    def find(self, token_ids: Sequence[int], empty: DecoderState, longer_than: int = 0) -> Reading | None:
        """The longest reading that the prompt begins with and goes on from.

        Files that are damaged, or not this model's, are deleted with a warning, and the next shorter reading is tried.

        Args:
            token_ids: The whole prompt.
            empty: From `Decoder.new_state` of the model that will go on; it is filled and becomes the reading's state.
            longer_than: Tokens that the caller has read already; no shorter reading is loaded.

        Returns:
            A reading of at most `len(token_ids) - 1` tokens, or None; `empty` is then as it was.
        """
        if empty.n_tokens:
            raise ValueError(f"a state of {empty.n_tokens} tokens can't be filled from disk; hand in a new one")
        ids = as_array(token_ids)
        there = list(snapshot_files(self._folder_of(empty.fingerprint)))
        digests = digests_at(seed(empty.fingerprint), ids[:-1], (n for _, n, _ in there))
        for path, n_tokens, digest in sorted(there, key=lambda file: -file[1]):
            if n_tokens <= longer_than or digests.get(n_tokens) != digest:
                continue
            try:
                seconds, label = load_reading(path, n_tokens, ids, empty)
            except (StateError, FileNotFoundError) as exc:
                if path.exists():  # otherwise another process has just removed it
                    logger.warning("a reading of %d tokens can't be used and is deleted: %s", n_tokens, exc)
                    delete(path)
            except (StorageError, OSError) as exc:
                logger.warning("a reading of %d tokens is passed over: %s", n_tokens, exc)
            else:
                touch(path)
                return Reading(digest, empty, seconds, label)
        return None

    def keep(
        self,
        state: DecoderState,
        *,
        seconds: float,
        label: str = "",
        model_name: str = "",
        sources: Iterable[str] = (),
    ) -> bool:
        """Write a reading; what other readings have on disk already is not written again.

        Args:
            state: After a whole chunk.
            seconds: What reading all its tokens took, those that were taken from another reading included.
            label: What was read, such as names of documents.
            model_name: Of the model that read it.
            sources: Where its words are from, such as ids of documents; `remove_where` finds it by them.

        Returns:
            Whether the reading is now in the store. If it could not be written a warning says why.
        """
        if state.n_tokens < self.min_tokens:
            return False
        ids = as_array(state.token_ids)
        n_bytes = state.nbytes + pack_token_ids(ids).nbytes
        if n_bytes > self.budget_bytes:
            logger.warning(
                "the reading of %d tokens is not kept: it takes %d bytes, and the budget is %d",
                state.n_tokens, n_bytes, self.budget_bytes,
            )  # fmt: skip
            return False
        about = {
            "seconds": repr(float(seconds)),
            "label": label,
            "model_name": model_name,
            "sources": json.dumps(sorted(set(sources))),
        }
        try:
            with self._locked():
                path = self._write(state, ids, about)
                self._evict(self.budget_bytes, spared=path)
        except (StorageError, StateError, OSError) as exc:
            logger.warning("the reading of %d tokens is not kept: %s", state.n_tokens, exc)
            return False
        return True

    def branch_point(self, token_ids: Sequence[int], fingerprint: str) -> int:
        """How many of the prompt's first tokens are also the first ones of some stored reading.

        Where two texts part, a third one may: a snapshot there serves it.
        """
        ids = as_array(token_ids)
        segments = segment_files(self._folder_of(fingerprint))
        digests = digests_at(seed(fingerprint), ids, (segment.start for segment in segments))
        longest = 0
        for segment in segments:
            if segment.end > longest and segment.start in digests:
                with suppress(StateError, StorageError, OSError):
                    parent, own = segment_tokens(segment.path)
                    if parent == digests[segment.start]:
                        longest = max(longest, segment.start + n_common(own, ids[segment.start :]))
        return longest

    def list(self) -> list[ReadingInfo]:
        """All whole readings, the last used first."""
        snapshots, _ = read_snapshots(self.folder)
        users = Counter(segment.path for snapshot in snapshots for segment in snapshot.segments)
        sizes = _sizes(users)
        snapshots.sort(key=lambda snapshot: snapshot.last_used, reverse=True)
        return [_info(snapshot, users, sizes) for snapshot in snapshots]

    def show(self, id_prefix: str) -> ReadingInfo:
        """The reading whose id begins so.

        Raises:
            StateError: There is none, or there are several.
        """
        return _named(id_prefix, self.list())

    def remove(self, ids: Iterable[str]) -> int:
        """Delete readings, those of their files that no other reading needs, and what is left over of others.

        Args:
            ids: Ids, or first characters of ids.

        Returns:
            Bytes freed.

        Raises:
            StateError: An id is unknown or stands for several readings; nothing is deleted then.
            StorageError: The folder can't be written.
        """
        listed = self.list()
        unwanted = {_named(prefix, listed).id for prefix in ids}
        return self.remove_where(lambda reading: reading.id in unwanted)[1] if unwanted else 0

    def remove_where(self, is_unwanted: Callable[[ReadingInfo], bool]) -> tuple[int, int]:
        """Delete the readings that are unwanted, and at once every file that no other reading needs.

        What a killed process left is among them: it may be of the same text, and does not say so.

        Args:
            is_unwanted: Asked of each reading, while nothing else is written.

        Returns:
            How many readings were deleted, and the bytes freed.

        Raises:
            StorageError: The folder can't be written.
        """
        if not self.folder.exists():
            return 0, 0
        with self._locked():
            snapshots, broken = read_snapshots(self.folder)
            users = Counter(segment.path for snapshot in snapshots for segment in snapshot.segments)
            sizes = _sizes(users)
            unwanted = [snapshot for snapshot in snapshots if is_unwanted(_info(snapshot, users, sizes))]
            freed = sum(_drop(snapshot, users) for snapshot in unwanted) + sum(map(delete, broken))
            return len(unwanted), freed + self._clean(users, spare_young=False)

    def prune(self, budget_bytes: int | None = None) -> int:
        """Delete what killed processes left, what can't be used, and readings until the rest fits the budget.

        Args:
            budget_bytes: Instead of the store's own.

        Returns:
            Bytes freed.

        Raises:
            StorageError: The folder can't be written.
        """
        if not self.folder.exists():
            return 0
        with self._locked():
            return self._evict(self.budget_bytes if budget_bytes is None else budget_bytes)

    def _folder_of(self, fingerprint: str) -> Path:
        return self.folder / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            lock.acquire()
        except (OSError, NotImplementedError) as exc:
            raise StorageError(f"{self.folder}: can't be written ({exc}); choose another folder") from exc
        try:
            yield
        finally:
            lock.release()

    def _write(self, state: DecoderState, ids: TokenIds, about: Mapping[str, str]) -> Path:
        """Write the segments that are missing, then the snapshot; on any failure nothing new is left."""
        check_whole(state)
        folder = self._folder_of(state.fingerprint)
        segments = stored_chain(folder, ids, state.fingerprint)
        n_stored, n_tokens = segments[-1].end if segments else 0, len(ids)
        next_cut = (n_stored // self.segment_tokens + 1) * self.segment_tokens
        cuts = sorted({n_stored, *range(next_cut, n_tokens, self.segment_tokens), n_tokens})
        digests = digests_at(seed(state.fingerprint), ids, cuts)
        path = folder / "snapshots" / f"{n_tokens}-{digests[n_tokens]}.safetensors"
        if n_stored == n_tokens and (
            known := next((s for s in read_snapshots(self.folder)[0] if s.path == path), None)
        ):
            # Two sources may have the same words: it then is of both.
            sources = {*json.loads(about["sources"]), *(known.sources or ())}
            if sources <= {*(known.sources or ())}:
                touch(path)
                return path
            about = {**about, "sources": json.dumps(sorted(sources))}
        written: list[Path] = []
        try:
            for start, end in pairwise(cuts):
                segment = folder / "kv" / f"{start}-{end}-{digests[end]}.safetensors"
                tensors = kv_tensors(state, start, end) | {"token_ids": pack_token_ids(ids[start:end])}
                segment.parent.mkdir(parents=True, exist_ok=True)
                write_tensors(segment, "segment", state.fingerprint, tensors, {"parent": digests[start]})
                written.append(segment)
                segments.append(Segment(segment, start, end, digests[end]))
            names = json.dumps([segment.path.name for segment in segments])
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(
                path, "snapshot", state.fingerprint, mamba_tensors(state),
                {**about, "segments": names, "created_at": _iso(time.time())},
            )  # fmt: skip
        except BaseException:
            for segment in written:
                delete(segment)
            raise
        return path

    def _evict(self, budget_bytes: int, spared: Path | None = None) -> int:
        """Under the lock: clean up, then delete the readings worth least per byte; the bytes freed."""
        whole, broken = read_snapshots(self.folder)
        left = set(whole)
        for path in broken:
            logger.warning("%s: can't be used and is deleted", path)
        freed = sum(delete(path) for path in broken)
        users = Counter(segment.path for snapshot in left for segment in snapshot.segments)
        freed += self._clean(users)
        sizes = _sizes(users)
        total = sum(snapshot.size_bytes for snapshot in left) + sum(sizes.values())
        if total > budget_bytes:
            _relate(whole)
        now = time.time()

        def worth(snapshot: Snapshot) -> tuple[float, float]:
            """Seconds saved per byte freed; then last use."""
            instead = max((s for s in snapshot.shorter if s in left), key=lambda s: s.n_tokens, default=None)
            saved = max(snapshot.seconds - (instead.seconds if instead else 0.0), 0.0)
            faded = 0.5 ** (max(now - snapshot.last_used, 0.0) / _HALF_LIFE_S)
            return saved * faded / _own_bytes(snapshot, users, sizes), snapshot.last_used

        while total > budget_bytes:
            candidates = [snapshot for snapshot in left if snapshot.path != spared]
            if not candidates:
                break
            victim = min(candidates, key=worth)
            left.remove(victim)
            n_bytes = _drop(victim, users)
            total -= n_bytes
            freed += n_bytes
            logger.info("evicted the reading of %d tokens of %s", victim.n_tokens, victim.metadata.get("label", ""))
        return freed

    def _clean(self, users: Mapping[Path, int], *, spare_young: bool = True) -> int:
        """Under the lock: delete half-written files, and segments that no snapshot needs; the bytes freed.

        Young segments can be spared: who reads the same text again need not write them again.
        """
        freed, now = 0, time.time()
        for folder in entries(self.folder):
            for path in (*entries(folder / "kv"), *entries(folder / "snapshots")):
                with suppress(OSError):
                    half_written = path.name.startswith(".")  # only who holds the lock writes, so its writer is dead
                    unused = Segment.at(path) is not None and not users.get(path)
                    if unused and spare_young:
                        unused = now - path.stat().st_mtime > _ORPHAN_AGE_S
                    if half_written or unused:
                        freed += delete(path)
        return freed


def _relate(snapshots: Sequence[Snapshot]) -> None:
    """Note for each snapshot the shorter ones whose tokens it begins with; each segment is hashed once."""
    known = {(snapshot.n_tokens, snapshot.digest): snapshot for snapshot in snapshots}
    lengths = sorted({snapshot.n_tokens for snapshot in snapshots})
    hashed: dict[Path, tuple[list[Snapshot], _Hash]] = {}  # the snapshots that end inside, the hash at its end
    for snapshot in snapshots:
        running = seed(snapshot.fingerprint)
        for segment in snapshot.segments:
            if segment.path not in hashed:
                try:
                    _, ids = segment_tokens(segment.path)
                except (StateError, StorageError, OSError):
                    break
                inside = lengths[bisect_right(lengths, segment.start) : bisect_right(lengths, segment.end)]
                running = running.copy()
                digests = digests_at(running, ids, [*(n - segment.start for n in inside), len(ids)])
                ends = ((segment.start + n, digest) for n, digest in digests.items())
                hashed[segment.path] = [known[end] for end in ends if end in known], running
            found, running = hashed[segment.path]
            snapshot.shorter += (other for other in found if other is not snapshot)


def _info(snapshot: Snapshot, users: Mapping[Path, int], sizes: Mapping[Path, int]) -> ReadingInfo:
    sources = snapshot.sources
    return ReadingInfo(
        id=snapshot.digest,
        n_tokens=snapshot.n_tokens,
        size_bytes=snapshot.size_bytes + sum(sizes[segment.path] for segment in snapshot.segments),
        own_bytes=_own_bytes(snapshot, users, sizes),
        seconds=snapshot.seconds,
        model_name=snapshot.metadata.get("model_name", ""),
        label=snapshot.metadata.get("label", ""),
        created_at=snapshot.metadata.get("created_at", ""),
        last_used_at=_iso(snapshot.last_used),
        fingerprint=snapshot.fingerprint,
        sources=sources or (),
        knows_sources=sources is not None,
    )


def _named(id_prefix: str, listed: Sequence[ReadingInfo]) -> ReadingInfo:
    found = [info for info in listed if info.id.startswith(id_prefix)]
    if len(found) != 1:
        raise StateError(
            f"{len(found)} readings have an id that begins with {id_prefix!r}; longleaf readings list shows the ids"
        )
    return found[0]


def _sizes(paths: Iterable[Path]) -> dict[Path, int]:
    sizes = {}
    for path in paths:
        try:
            sizes[path] = path.stat().st_size
        except OSError:
            sizes[path] = 0
    return sizes


def _own_bytes(snapshot: Snapshot, users: Mapping[Path, int], sizes: Mapping[Path, int]) -> int:
    return snapshot.size_bytes + sum(sizes[s.path] for s in snapshot.segments if users[s.path] == 1)


def _drop(snapshot: Snapshot, users: Counter[Path]) -> int:
    """Delete a snapshot, then the segments that it was the last to need; the bytes freed."""
    users.subtract(segment.path for segment in snapshot.segments)
    unused = [segment.path for segment in snapshot.segments if not users[segment.path]]
    return sum(map(delete, (snapshot.path, *unused)))


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
