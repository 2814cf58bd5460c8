"""Child process of `test_faiss_index.py`: forks a writer for each line that it reads, to be killed at any moment.

A line is `home space_collection exact_limit seed`. The parent process gets the writer's pid, and "gone" when it has
ended. Forking spares each writer the second that the imports take; this process makes no threads.
"""

import os
import sys
from pathlib import Path

import numpy as np

from longleaf.ingestion import Library
from longleaf.retrieval.faiss_index import FaissIndex
from longleaf.retrieval.vector_index import SqliteVectors

D = 16
N_KEYS = 3000


def unit_vectors(rng: np.random.Generator, n: int, d: int = D) -> np.ndarray:
    """Random directions around a few centres, as half-precision numbers, [n, d]."""
    centres = np.random.default_rng(1).standard_normal((12, d))
    vectors = centres[rng.integers(0, 12, n)] + 0.4 * rng.standard_normal((n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def put(library: Library, collection: str, keys: np.ndarray, vectors: np.ndarray) -> None:
    """Add texts with these vectors, or overwrite them."""
    with library.transaction() as connection:
        connection.executemany(
            "INSERT INTO texts (key, collection, id, text, metadata, embedder, vector)"
            " VALUES (?, ?, ?, '', '{}', 'random', ?)"
            " ON CONFLICT (collection, embedder, id) DO UPDATE SET vector = excluded.vector",
            [(int(key), collection, str(key), vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)],
        )


def drop(library: Library, keys: np.ndarray) -> None:
    """Delete these texts."""
    with library.transaction() as connection:
        connection.executemany("DELETE FROM texts WHERE key = ?", [(int(key),) for key in keys])


def write_for_ever(home: str, collection: str, exact_limit: int, seed: int) -> None:
    """Add, overwrite and delete; search and save in between."""
    rng = np.random.default_rng(seed)
    with Library(home) as library:
        source = SqliteVectors.of_texts(library, collection, "random")
        index = FaissIndex(source, library.home / "vectors", exact_limit=exact_limit)
        while True:
            keys = rng.choice(N_KEYS, rng.integers(1, 120), replace=False) + 1
            if rng.random() < 0.5:
                put(library, collection, keys, unit_vectors(rng, len(keys)))
            else:
                drop(library, keys)
            if rng.random() < 0.7:
                index.search(unit_vectors(rng, 1)[0], 5)
            if rng.random() < 0.7:
                index.save()


def main() -> None:
    for line in sys.stdin:
        home, collection, exact_limit, seed = line.split()
        pid = os.fork()
        if pid == 0:
            write_for_ever(str(Path(home)), collection, int(exact_limit), int(seed))
        print(pid, flush=True)  # noqa: T201  (how it answers)
        os.waitpid(pid, 0)
        print("gone", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
