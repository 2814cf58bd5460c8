"""The vector index at a size: building, searching, its recall, its memory and file, and how it follows changes.

    python -m benchmarks.vector_index [--sizes 10000 100000 1000000] [--random] [--json]

The vectors stand in a real library's tables, in half precision as always, and the index is built from there. They are
synthetic, shaped like those of MiniLM on passages of annual reports: the mean of all has length 0.51 (any two passages
have a cosine of 0.26), the variances along the principal axes fall as they do there (a seventh in the first, 30 in all
that count), and passages come in groups of 50 whose members have a cosine of 0.70 with each other (the tenth nearest of
a passage lies at 0.66 in the reports). Questions are drawn around the same groups, farther out. The groups themselves
lie without any order, which is harder than text: k-means lists cut through them. With --random the vectors are uniform
on the sphere, the worst case of any index that is not exact: no vector is nearer than others by much.

Each size runs in a process of its own. The questions are searched one at a time, as people ask; recall@10 is against
all vectors by numpy. Changes go through SQLite: 1,000 texts are added and 1,000 deleted, and the clock stops when a
search has seen them. A search of part of the library is given a tenth of all keys. Opening is what a later process
does, and resident what its memory grows by.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np

from benchmarks.measuring import Figures, conditions, forget_peak, in_fresh_process, judged, memory_bytes, report
from benchmarks.measuring import seconds as seconds_of
from longleaf.ingestion import Library
from longleaf.retrieval.faiss_index import FaissIndex
from longleaf.retrieval.vector_index import SqliteVectors

D = 384
N_QUESTIONS = 200
N_CHANGED = 1000
BLOCK = 20_000
EMBEDDER, COLLECTION = "synthetic", "benchmark"
MEAN_LENGTH, GROUP_SIZE = 0.51, 50
WITHIN, WITHIN_QUESTIONS = 0.4, 0.6
"""Share of the variance that is not the group's."""


class Vectors:
    """Draws vectors, [n, D] fp32 of length 1, always the same ones in the same order."""

    def __init__(self, n_vectors: int, *, random: bool) -> None:
        self._rng = np.random.default_rng(20)
        self._random = random
        axis = np.arange(D)
        variances = (axis + 1.0) ** -0.7 * np.exp(-axis / 120)
        self._deviations = np.sqrt(variances / variances.sum() * (1 - MEAN_LENGTH**2)).astype(np.float32)
        self._groups = self._drawn(max(1, n_vectors // GROUP_SIZE))

    def _drawn(self, n: int) -> np.ndarray:
        return self._rng.standard_normal((n, D), np.float32) * self._deviations

    def draw(self, n: int, within: float = WITHIN) -> np.ndarray:
        """The next vectors."""
        if self._random:
            vectors = self._rng.standard_normal((n, D), np.float32)
        else:
            groups = self._groups[self._rng.integers(0, len(self._groups), n)]
            vectors = np.sqrt(1 - within) * groups + np.sqrt(within) * self._drawn(n)
            vectors[:, -1] += MEAN_LENGTH  # the axis of the least variance
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(first_key: int, vectors: np.ndarray) -> Iterator[tuple[int, str, str, bytes]]:
    for key, vector in enumerate(vectors.astype(np.float16), first_key):
        yield key, COLLECTION, str(key), vector.tobytes()


def insert(library: Library, first_key: int, vectors: np.ndarray) -> None:
    with library.transaction() as connection:
        connection.executemany(
            "INSERT INTO texts (key, collection, id, text, metadata, embedder, vector)"
            f" VALUES (?, ?, ?, '', '{{}}', '{EMBEDDER}', ?)",
            rows(first_key, vectors),
        )


def delete(library: Library, keys: range) -> None:
    with library.transaction() as connection:
        connection.executemany("DELETE FROM texts WHERE key = ?", [(key,) for key in keys])


def ten_nearest(source: SqliteVectors, questions: np.ndarray) -> np.ndarray:
    """The keys of the exactly nearest, by numpy, [questions, 10]."""
    best_keys = np.zeros((len(questions), 10), np.int64)
    best = np.full((len(questions), 10), -2.0, np.float32)
    for keys, matrix in source.all_blocks():
        scores = np.concatenate([best, questions @ matrix.T], axis=1)
        candidates = np.concatenate([best_keys, np.broadcast_to(keys, (len(questions), len(keys)))], axis=1)
        order = np.argpartition(-scores, 9, axis=1)[:, :10]
        best, best_keys = np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)
    return best_keys


def searching(index: FaissIndex, questions: np.ndarray, keys: np.ndarray | None = None) -> Figures:
    """How long one search takes by the clock, and of the processor, which others' work disturbs less."""
    for question in questions[:5]:
        index.search(question, 10, keys)
    wall, cpu = [], []
    for question in questions:
        begun, begun_cpu = time.perf_counter(), time.process_time()
        index.search(question, 10, keys)
        wall.append(1000 * (time.perf_counter() - begun))
        cpu.append(1000 * (time.process_time() - begun_cpu))
    p95 = float(np.percentile(wall, 95))
    return {
        "p50_ms": float(np.percentile(wall, 50)),
        "p95_ms": judged([p95], at_most=50) if keys is None else p95,
        "processor_p50_ms": float(np.percentile(cpu, 50)),
        "processor_p95_ms": float(np.percentile(cpu, 95)),
    }


def opening(home: Path) -> Figures:
    """What a later process pays for the saved index."""
    with Library(home) as library:
        index = FaissIndex(SqliteVectors.of_texts(library, COLLECTION, EMBEDDER), library.home / "vectors")
        library.connection().execute("SELECT count(*) FROM vector_changes").fetchone()
        before = memory_bytes("VmRSS")
        return {"opening_s": seconds_of(index.sync), "resident_mb": (memory_bytes("VmRSS") - before) / 1e6}


def measure(n_vectors: int, n_threads: int, *, random: bool) -> Figures:
    faiss.omp_set_num_threads(n_threads)
    with tempfile.TemporaryDirectory() as home, Library(Path(home)) as library:
        vectors = Vectors(n_vectors, random=random)

        def fill() -> None:
            for begin in range(0, n_vectors, BLOCK):
                insert(library, begin + 1, vectors.draw(min(BLOCK, n_vectors - begin)))

        figures: Figures = {"vectors": n_vectors, "filling_the_library_s": seconds_of(fill)}
        questions = vectors.draw(N_QUESTIONS, WITHIN_QUESTIONS)
        source = SqliteVectors.of_texts(library, COLLECTION, EMBEDDER)
        folder = library.home / "vectors"
        forget_peak()
        built = FaissIndex(source, folder)
        figures["building_and_saving_s"] = seconds_of(built.sync)
        figures["peak_while_building_mb"] = memory_bytes("VmHWM") / 1e6
        figures["file_mb"] = built.path.stat().st_size / 1e6
        del built
        figures |= in_fresh_process("benchmarks.vector_index", "--open", home)
        index = FaissIndex(source, folder)
        figures["method"] = index.describe()
        exact = ten_nearest(source, questions)
        found = [index.search(question, 10).keys for question in questions]
        recall = float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, exact, strict=True)]))
        figures["recall_at_10"] = judged([recall], at_least=0.95)
        figures["search"] = searching(index, questions)
        part = np.sort(np.random.default_rng(0).choice(n_vectors, n_vectors // 10, replace=False)) + 1
        figures["search_of_a_tenth"] = searching(index, questions[:50], part)
        added = vectors.draw(N_CHANGED)

        def add() -> None:
            insert(library, n_vectors + 1, added)
            assert index.search(added[0], 1).keys[0] == n_vectors + 1

        def remove() -> None:
            delete(library, range(n_vectors + 1, n_vectors + 1 + N_CHANGED))
            assert index.search(added[0], 1).keys[0] <= n_vectors

        changing = [seconds_of(add), seconds_of(remove)]
        figures["adding_1000_s"], figures["deleting_1000_s"] = changing
        figures["adding_and_deleting_1000_s"] = judged([sum(changing)], at_most=2)
        figures["saving_s"] = seconds_of(index.save)
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of vectors")
    parser.add_argument("--random", action="store_true", help="vectors without any structure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the processes that are started
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        report(opening(args.open), as_json=True)
        return
    if args.one:
        report(measure(args.one, args.threads, random=args.random), as_json=True)
        return
    options = ["--threads", args.threads, *["--random"] * args.random]
    sizes = {
        f"{size:,} vectors": in_fresh_process("benchmarks.vector_index", "--one", size, *options) for size in args.sizes
    }
    about = {"dimensions": D, "vectors": "uniform on the sphere" if args.random else "like passages of reports"}
    report({"conditions": conditions(args.threads, "faiss-cpu") | about, **sizes}, as_json=args.json)


if __name__ == "__main__":
    main()
