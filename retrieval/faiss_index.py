"""The embedded vector index: faiss, kept in memory, saved beside the library, and always built from SQLite.

An index is an inverted file of half-precision vectors, the very bits that SQLite has. Up to `exact_limit` vectors it
has one list that is read whole, which makes it an exact search; beyond, k-means lists, of which as many are searched as
it takes to find `_RECALL` of the ten nearest of its own vectors (measured at every training, as it depends on the
vectors). Measured on synthetic passages (`benchmarks/vector_index.py`): 8-bit codes lose a tenth of the ten nearest,
and a flat scalar-quantizer index is several times slower than one list. HNSW is quick too, but faiss can't delete from
it.

SQLite is the truth: before each search the index reads what changed from the log, and applies it in memory, without a
rebuild. It saves itself when enough has changed; a process that is killed before has lost nothing, for the log still
has it. A file that is missing, damaged, of another library or behind the log is not used, and the index is built anew.
Building takes seconds from some 100,000 vectors on, and whoever calls `sync` or `search` waits for it: call `sync`
after adding documents, so that it is not the next question.

Where faiss has a GPU (faiss-gpu), searches of many lists over all vectors run there on a copy that is made after each
change. That was never run here.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from filelock import FileLock, Timeout

from longleaf.errors import LibraryError

from .index_file import DamagedIndexError, IndexHeader, read_header, read_index_file, write_index_file
from .vector_index import Neighbours, VectorSource

__all__ = ["FaissIndex", "index_path"]

_log = logging.getLogger(__name__)
_faiss: Any = faiss  # its type stubs lack what Python adds to the classes of SWIG (faiss 1.15.1)

_BATCH = 8192
"""Changed vectors applied at a time."""
_RECALL = 0.98
"""Of the 10 nearest of its own vectors; questions lie farther from passages than these from each other."""
_N_MEASURED = 128
_TRAINING_PER_LIST = 64
_GROWTH = 4
"""Lists are trained anew when there are this many times the vectors that they were trained on."""
_SLACK = 1.25
"""An exact index may grow so far beyond the limit before it gets lists."""
_SAMPLE = 2000
_SAVE_AFTER, _SAVE_SHARE = 1000, 0.05
_LOCK_TIMEOUT_S = 900
_BITMAP_KEYS = 1 << 27  # a bitmap of keys up to here takes 16 MiB


def index_path(folder: Path, space: str) -> Path:
    """The file of a space: its name as far as file names go, and a hash of all of it."""
    slug = re.sub(r"[^a-z0-9.]+", "-", space.lower()).strip("-.")[:48] or "space"
    return folder / f"{slug}-{hashlib.sha256(space.encode()).hexdigest()[:8]}.index"


class FaissIndex:
    """Nearest vectors of one space of a library; a `VectorIndex`.

        index = FaissIndex(SqliteVectors.of_passages(library, embedder.name), library.home / "vectors")
        found = index.search(embedder.encode([question])[0], top_k=12)

    It is read or built at the first use. Threads may share it; processes may have one each over the same folder.

    Args:
        source: The truth.
        folder: Where the index is saved; made as needed. Where it can't be written the index stays in memory, with a
            warning in the log.
        exact_limit: Up to so many vectors, or keys asked for, are searched exactly: some 7 ms on one core.
    """

    def __init__(self, source: VectorSource, folder: Path, *, exact_limit: int = 100_000) -> None:
        if exact_limit < 1:
            raise ValueError(f"exact_limit must be at least 1, not {exact_limit}")
        self.path = index_path(folder, source.space)
        self._source = source
        self._exact_limit = exact_limit
        self._lock = threading.RLock()
        self._file_lock = FileLock(f"{self.path}.lock")
        self._index: Any = None  # faiss.IndexIVFScalarQuantizer; None where there are no vectors
        self._is_open = False
        self._seq = 0
        self._n_trained = 0
        self._recall = 1.0
        self._n_unsaved = 0
        self._save_at = 0
        self._sample: np.ndarray | None = None
        self._n_unsampled = 0
        self._gpu: Any = None

    @property
    def n_vectors(self) -> int:
        """Vectors in the index, after catching up."""
        with self._lock:
            self.sync()
            return self._n

    def describe(self) -> str:
        """How it searches: "exact, 16,153 vectors" or "IVF 2,048 lists, 214 searched, 1,000,000 vectors"."""
        with self._lock:
            self.sync()
            if self._is_exact:
                return f"exact, {self._n:,} vectors"
            return f"IVF {self._index.nlist:,} lists, {self._index.nprobe:,} searched, {self._n:,} vectors"

    def search(self, vector: np.ndarray, top_k: int, keys: np.ndarray | None = None) -> Neighbours:
        """The `top_k` nearest by cosine, after catching up with the source.

        Args:
            vector: fp32 [d], of any length.
            top_k: At least 1; fewer come back where fewer are in scope.
            keys: int64, the scope; keys without a vector are passed over. None is all.

        Raises:
            ValueError: `top_k` below 1, or a vector of another length than those of the space.
            RuntimeError: Inside a transaction of this thread.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {top_k}")
        with self._lock:
            self.sync()
            if self._index is None or (keys is not None and not len(keys)):
                return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32), 0.0, 0.0)
            query = np.asarray(vector, np.float32).reshape(1, -1)  # [1, d]
            if query.shape[1] != self._index.d:
                raise ValueError(
                    f"a vector of {query.shape[1]} numbers can't be compared with those of {self._source.space}, which"
                    f" have {self._index.d}"
                )
            query = query / (np.linalg.norm(query) or 1.0)
            if self._is_exact or (keys is not None and len(keys) <= self._exact_limit):
                found, scores = self._all_scores(query, keys)
                return _nearest(found, scores, top_k, scores)
            found, scores = self._some_lists(query, top_k, keys)
            return _nearest(found, scores, top_k, self._sampled_scores(query, keys))

    def sync(self) -> int:
        """Catch up with the source, and save when enough has changed; how many changes were applied.

        Raises:
            RuntimeError: Inside a transaction of this thread.
        """
        with self._lock:
            if not self._is_open:
                self._open()
            n_changes = self._follow()
            if self._has_outgrown():
                with self._writing():
                    self._build()
            if self._n_unsaved >= max(self._save_at, _SAVE_AFTER, int(_SAVE_SHARE * self._n)):
                self._save()
            return n_changes

    def save(self) -> None:
        """Write what is only in memory to disk, and drop the log up to there.

        A full disk or a read-only folder is a warning in the log: nothing is lost, as SQLite has it all.
        """
        with self._lock:
            self.sync()
            if self._n_unsaved:
                self._save()

    def close(self) -> None:
        """Let go of the index; it is read again when it is needed."""
        with self._lock:
            self._index = self._gpu = self._sample = None
            self._is_open, self._n_unsaved = False, 0

    def contents(self) -> tuple[np.ndarray, np.ndarray]:
        """Everything in the index as it stands, for checks: keys int64 [n], ascending, and vectors fp32 [n, d]."""
        with self._lock:
            keys = np.sort(self._keys())
            return keys, self._index.reconstruct_batch(keys) if len(keys) else np.empty((0, 0), np.float32)

    @property
    def _n(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    @property
    def _is_exact(self) -> bool:
        return self._index is None or self._index.nlist == 1

    def _keys(self) -> np.ndarray:
        if self._index is None:
            return np.empty(0, np.int64)
        lists = self._index.invlists
        sizes = [(i, size) for i in range(self._index.nlist) if (size := lists.list_size(i))]
        parts = [_faiss.rev_swig_ptr(lists.get_ids(i), size) for i, size in sizes]
        return np.concatenate(parts, dtype=np.int64) if parts else np.empty(0, np.int64)

    # Searching

    def _all_scores(self, query: np.ndarray, keys: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Keys and cosines of all vectors in scope, in no order."""
        parameters = _faiss.SearchParametersIVF(nprobe=self._index.nlist, sel=_selector(keys))
        _, scores, found = self._index.range_search(query, -4.0, params=parameters)  # no cosine is that low
        return found, scores

    def _some_lists(self, query: np.ndarray, top_k: int, keys: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if keys is None:
            index = self._index
            if _faiss.get_num_gpus():
                if self._gpu is None:
                    self._gpu = _faiss.index_cpu_to_gpu(_faiss.StandardGpuResources(), 0, index)
                    self._gpu.nprobe = index.nprobe
                index = self._gpu
            scores, found = index.search(query, min(top_k, self._n))
        else:
            # Of a part of the vectors, the nearest lie in as many times more lists as it is smaller than the whole.
            n_probes = min(self._index.nlist, int(self._index.nprobe * max(1.0, self._n / len(keys))))
            parameters = _faiss.SearchParametersIVF(nprobe=n_probes, sel=_selector(keys))
            scores, found = self._index.search(query, min(top_k, self._n), params=parameters)
        is_there = found[0] >= 0
        return found[0][is_there], scores[0][is_there]

    def _sampled_scores(self, query: np.ndarray, keys: np.ndarray | None) -> np.ndarray:
        """Cosines of some vectors in scope, drawn by chance, but the same ones until 1 in 20 has changed."""
        rng = np.random.default_rng(self._n)
        if keys is not None:
            return self._all_scores(query, rng.choice(keys, min(_SAMPLE, len(keys)), replace=False))[1]
        if self._sample is None or self._n_unsampled > 0.05 * self._n:
            drawn = rng.choice(self._keys(), min(_SAMPLE, self._n), replace=False)
            self._sample, self._n_unsampled = self._index.reconstruct_batch(drawn), 0  # [sample, d]
        # Not by BLAS: on a busy machine the threads of so small a product wait for each other many times its length.
        scores: np.ndarray = np.einsum("nd,d->n", self._sample, query[0])
        return scores

    # Following the truth

    def _follow(self) -> int:
        """Apply what the log has; how many changes."""
        n_changes = 0
        while True:
            changes = self._source.changes_after(self._seq)
            if changes is None:  # another process saved a newer index and pruned the log, or the library was put back
                self._open()
                continue
            keys, seq = changes
            n_changes += len(keys)
            for begin in range(0, len(keys), _BATCH):
                if not self._apply(keys[begin : begin + _BATCH]):
                    break
            else:
                self._seq = seq
                return n_changes
            with self._writing():  # vectors of another length
                self._build()

    def _apply(self, keys: np.ndarray) -> bool:
        """Make these keys what they are in SQLite; False where the vectors are of another length than the index's."""
        present, matrix = self._source.vectors(keys)
        if self._index is None:
            if not len(present):
                return True
            self._index = _empty_index(matrix.shape[1], 1)
            self._index.train(matrix[:1])
        elif len(present) and matrix.shape[1] != self._index.d:
            return False
        self._index.remove_ids(keys)
        if len(present):
            self._index.add_with_ids(matrix, present)
        self._n_unsaved += len(keys)
        self._n_unsampled += len(keys)
        self._gpu = None
        return True

    def _has_outgrown(self) -> bool:
        """Whether another kind of index, or other lists, would suit what has become of it."""
        if self._is_exact:
            return self._n > _SLACK * self._exact_limit
        return self._n > _GROWTH * self._n_trained or self._n < self._exact_limit // 2

    # Opening, building, saving

    def _open(self) -> None:
        """Read the saved index, or build it."""
        self._is_open = False
        if not self._load():
            with self._writing():  # a second process waits here, and then finds what the first has saved
                if not self._load():
                    self._build()
        self._is_open = True

    def _load(self) -> bool:
        """Read the saved index if it can be believed; whether it was."""
        try:
            with read_index_file(self.path) as (header, file):
                if not self._is_ours(header):
                    return False
                index = _faiss.read_index(_faiss.PyCallbackIOReader(file.read)) if header.n_vectors else None
        except FileNotFoundError:
            return False
        except (OSError, DamagedIndexError, ValueError, TypeError, RuntimeError) as exc:  # the last from faiss
            _log.warning("%s: the saved index can't be used (%s); it is built anew from the library", self.path, exc)
            return False
        self._take(index, header.seq, header.n_trained, header.recall)
        if self._agrees():
            return True
        _log.warning("%s: the saved index is not that of the library's vectors; it is built anew", self.path)
        return False

    def _is_ours(self, header: IndexHeader) -> bool:
        ours = header.library == self._source.library_id() != "" and header.space == self._source.space
        return ours and self._source.reaches(header.seq)

    def _agrees(self) -> bool:
        """Whether a loaded index, brought up to date, has the keys that SQLite has, and some vectors bit by bit."""
        for _ in range(3):
            changes = self._source.changes_after(self._seq)
            if changes is None:
                return False
            for begin in range(0, len(changes[0]), _BATCH):
                if not self._apply(changes[0][begin : begin + _BATCH]):
                    return False
            self._seq = changes[1]
            tally = self._source.tally()
            if tally.last_seq == self._seq:
                keys = self._keys()
                if (tally.n_vectors, tally.key_sum) != (len(keys), int(keys.sum())):
                    return False
                drawn = np.random.default_rng().choice(keys, min(256, len(keys)), replace=False) if len(keys) else keys
                present, matrix = self._source.vectors(drawn)
                return not len(present) or np.array_equal(matrix, self._index.reconstruct_batch(present))
        return True  # others write all the time: there was no moment to compare

    def _build(self) -> None:
        """Build the index from SQLite, and save it."""
        seq = self._source.last_seq()  # before reading: what changes meanwhile is applied from the log afterwards
        n = self._source.count()
        n_lists = 1 if n <= self._exact_limit else _n_lists(n)
        index = None
        if n_lists > 1:
            training = self._drawn(n, n_lists * _TRAINING_PER_LIST)
            if len(training) >= n_lists:  # fewer only if they went while they were being read
                index = _empty_index(training.shape[1], n_lists)
                index.train(training)
        for keys, matrix in self._source.all_blocks():
            if index is None:
                index = _empty_index(matrix.shape[1], 1)
                index.train(matrix[:1])
            index.add_with_ids(matrix, keys)
        self._take(index, seq, n, 1.0)
        if not self._is_exact:
            self._choose_probes()
        self._n_unsaved = self._n
        if self._n or self.path.exists():
            self._save()

    def _take(self, index: Any, seq: int, n_trained: int, recall: float) -> None:
        self._index, self._seq, self._n_trained, self._recall = index, seq, n_trained, recall
        self._n_unsaved = self._save_at = 0
        self._sample, self._n_unsampled, self._gpu = None, 0, None

    def _drawn(self, n: int, n_wanted: int) -> np.ndarray:
        """About `n_wanted` of the source's vectors by chance, fp32 [m, d]."""
        rng = np.random.default_rng(0)
        parts = [matrix[rng.random(len(matrix)) < n_wanted / n] for _, matrix in self._source.all_blocks()]
        return np.concatenate(parts)

    def _choose_probes(self) -> None:
        """Search as many lists as find the nearest of the index's own vectors, compared with searching all."""
        rng = np.random.default_rng(0)
        drawn = rng.choice(self._keys(), min(_N_MEASURED, self._n), replace=False)
        queries = self._index.reconstruct_batch(drawn)  # [measured, d]
        n_lists = self._index.nlist

        def nearest(n_probes: int) -> list[set[int]]:
            found = self._index.search(queries, 11, params=_faiss.SearchParametersIVF(nprobe=n_probes))[1]
            return [set(row[row != own][:10].tolist()) for row, own in zip(found, drawn, strict=True)]

        exact, n_probes = nearest(n_lists), max(1, n_lists // 64)
        while True:
            pairs = zip(exact, nearest(n_probes), strict=True)
            self._recall = float(np.mean([len(a & b) / max(len(a), 1) for a, b in pairs]))
            if self._recall >= _RECALL or n_probes == n_lists:
                break
            n_probes = min(n_lists, -(-n_probes * 5 // 4))
        self._index.nprobe = n_probes
        _log.info("%s: %d of %d lists find %.3f of the ten nearest", self.path, n_probes, n_lists, self._recall)

    def _save(self) -> None:
        try:
            self._save_and_prune()
            self._n_unsaved = self._save_at = 0
        except (OSError, LibraryError) as exc:
            self._save_at = self._n_unsaved + max(_SAVE_AFTER, int(_SAVE_SHARE * self._n))  # not at every search
            _log.warning(
                "%s: the vector index can't be saved (%s); searches go on from memory, and the next start has to catch"
                " up with more or to build it: free some space, or make the folder writable",
                self.path,
                exc,
            )

    def _save_and_prune(self) -> None:
        with self._writing() as is_locked:
            if not is_locked:
                raise LibraryError("its lock can't be had")
            if not self._is_behind_file():
                self._write()
            self._source.forget_changes(self._seq)

    def _write(self) -> None:
        for left in self.path.parent.glob(f"{self.path.name}.*.tmp"):  # of a process that was killed; we have the lock
            left.unlink(missing_ok=True)
        library, index = self._source.library_id(), self._index
        if not library:
            raise LibraryError("the library can't be written")
        d, n_probes = (0, 0) if index is None else (index.d, index.nprobe)
        header = IndexHeader(
            library, self._source.space, d, self._n, self._seq, self._n_trained, n_probes, round(self._recall, 4)
        )

        def write_payload(write: Callable[[bytes], None]) -> None:
            failed: list[OSError] = []

            def piece(data: bytes) -> int:
                if not failed:
                    try:
                        write(data)
                    except OSError as exc:  # faiss would print it and raise one of its own
                        failed.append(exc)
                return len(data)

            if index is not None:
                _faiss.write_index(index, _faiss.PyCallbackIOWriter(piece))
            if failed:
                raise failed[0]

        write_index_file(self.path, header, write_payload)

    def _is_behind_file(self) -> bool:
        """Whether another process has saved a newer state of the same vectors."""
        with suppress(OSError, DamagedIndexError, ValueError, TypeError):
            header = read_header(self.path)
            return header.seq > self._seq and self._is_ours(header)
        return False

    @contextmanager
    def _writing(self) -> Iterator[bool]:
        """Hold the lock of the file, if it can be had; whether it is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file_lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except (OSError, NotImplementedError, Timeout):
            yield False
            return
        try:
            yield True
        finally:
            self._file_lock.release()


def _empty_index(d: int, n_lists: int) -> Any:
    """An untrained inverted file of half-precision vectors by inner product, from which keys can be deleted."""
    lists_of = _faiss.IndexFlatIP(d)
    half = _faiss.ScalarQuantizer.QT_fp16
    by_residual = False  # the vectors themselves, as SQLite has them, not what they differ from their list's centre
    index = _faiss.IndexIVFScalarQuantizer(lists_of, d, n_lists, half, _faiss.METRIC_INNER_PRODUCT, by_residual)
    index.set_direct_map_type(_faiss.DirectMap.Hashtable)
    index.cp.niter = 8
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = _TRAINING_PER_LIST + 1
    return index


def _n_lists(n: int) -> int:
    """About the square root of the number of vectors, to a power of two: searching lists and vectors cost alike."""
    return int(2 ** np.clip(round(np.log2(n) / 2), 2, 16))


def _selector(keys: np.ndarray | None) -> Any:
    """Lets only these keys pass: a bitmap where they are small numbers, as rows of SQLite have."""
    if keys is None:
        return None
    keys = np.asarray(keys, np.int64)
    if keys.min() < 0 or keys.max() >= _BITMAP_KEYS:
        return _faiss.IDSelectorBatch(keys)
    is_in = np.zeros(int(keys.max()) // 8 * 8 + 8, bool)
    is_in[keys] = True
    return _faiss.IDSelectorBitmap(np.packbits(is_in, bitorder="little"))


def _nearest(keys: np.ndarray, scores: np.ndarray, top_k: int, population: np.ndarray) -> Neighbours:
    """The best of these by score, equal ones by key, beside the mean and spread of the population."""
    if len(scores) > top_k:
        worst = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
        keys, scores = keys[scores >= worst], scores[scores >= worst]
    order = np.lexsort((keys, -scores))[:top_k]
    known = population.astype(np.float64)
    mean, spread = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
    return Neighbours(keys[order], scores[order], mean, spread)
