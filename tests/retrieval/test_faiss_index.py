"""The index says at every moment what SQLite says: after any changes, damage and kills, and beside other processes."""

import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.ingestion import Library
from longleaf.retrieval import PassageStore
from longleaf.retrieval.faiss_index import FaissIndex, index_path
from longleaf.retrieval.index_file import DamagedIndexError, read_index_file
from longleaf.retrieval.vector_index import SqliteVectors

from .index_killed import N_KEYS, D, drop, put, unit_vectors

C = "notes"


class CountingVectors(SqliteVectors):
    """Counts how often all vectors are read, which is when an index is built."""

    n_passes = 0

    def all_blocks(self):
        self.n_passes += 1
        yield from super().all_blocks()


def source_of(library: Library, collection: str = C) -> CountingVectors:
    source = CountingVectors.of_texts(library, collection, "random")
    assert isinstance(source, CountingVectors)
    return source


def open_index(library: Library, exact_limit: int = 10_000, collection: str = C) -> FaissIndex:
    return FaissIndex(source_of(library, collection), library.home / "vectors", exact_limit=exact_limit)


def truth(library: Library, collection: str = C) -> tuple[np.ndarray, np.ndarray]:
    """Keys and vectors straight from the table."""
    rows = library.connection().execute(
        "SELECT key, vector FROM texts WHERE collection = ? ORDER BY key", (collection,)
    )
    found = {row["key"]: np.frombuffer(row["vector"], np.float16).astype(np.float32) for row in rows}
    return np.array(list(found), np.int64), np.array(list(found.values()), np.float32).reshape(
        len(found), -1 if found else D
    )


def assert_agrees(index: FaissIndex, library: Library, collection: str = C) -> None:
    """The index, brought up to date, has the keys and vectors of the table, bit by bit."""
    index.sync()
    keys, vectors = index.contents()
    true_keys, true_vectors = truth(library, collection)
    assert keys.tolist() == true_keys.tolist()
    assert np.array_equal(vectors, true_vectors) or not len(keys)


def assert_finds_the_nearest(index: FaissIndex, library: Library, query: np.ndarray, scope: np.ndarray | None = None):
    """The search equals the one by numpy over the table: keys, cosines, mean and spread."""
    keys, vectors = truth(library)
    if scope is not None:
        vectors, keys = vectors[np.isin(keys, scope)], keys[np.isin(keys, scope)]
    found = index.search(query, 7, scope)
    scores = vectors @ (query.astype(np.float32) / np.linalg.norm(query.astype(np.float32)))
    order = np.lexsort((keys, -scores))[:7]
    assert found.scores == pytest.approx(scores[order], abs=1e-5)
    assert found.scores.dtype == np.float32
    assert found.keys.dtype == np.int64
    n_distinct = len(np.unique(np.round(scores, 4)))
    if n_distinct == len(scores):  # equal scores may come in another order of summing
        assert found.keys.tolist() == keys[order].tolist()
    assert found.mean == pytest.approx(scores.mean() if len(scores) else 0.0, abs=1e-5)
    assert found.spread == pytest.approx(scores.std() if len(scores) else 0.0, abs=1e-5)


def fill(library: Library, n: int, seed: int = 0, first: int = 1) -> np.ndarray:
    vectors = unit_vectors(np.random.default_rng(seed), n)
    put(library, C, np.arange(first, first + n), vectors)
    return vectors


def roll_back(library: Library, vectors: np.ndarray) -> None:
    """A change that never comes to be, though its number in the log is used again."""
    with suppress(KeyError), library.transaction():
        put(library, C, np.array([99]), vectors)
        raise KeyError


# What it finds

changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.integers(1, 60), min_size=1, max_size=40, unique=True)),
        st.tuples(st.just("drop"), st.lists(st.integers(1, 60), min_size=1, max_size=30, unique=True)),
        st.tuples(st.sampled_from(["search", "save", "reopen", "roll back"]), st.just([1])),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes, st.sampled_from([20, 1000]), st.integers(0, 2**16))
def test_after_any_changes_the_index_is_what_the_table_is(steps, exact_limit, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as home, Library(home) as library:
        index = open_index(library, exact_limit)
        for step, numbers in steps:
            keys = np.array(numbers, np.int64)
            if step == "put":
                put(library, C, keys, unit_vectors(rng, len(keys)))
            elif step == "drop":
                drop(library, keys)
            elif step == "search":
                index.search(unit_vectors(rng, 1)[0], 3)
            elif step == "save":
                index.save()
            elif step == "reopen":
                index = open_index(library, exact_limit)
            else:
                roll_back(library, unit_vectors(rng, 1))
        assert_agrees(index, library)
        assert_agrees(open_index(library, exact_limit), library)
        if exact_limit == 1000:
            assert_finds_the_nearest(index, library, unit_vectors(rng, 1)[0])


@pytest.mark.parametrize("exact_limit", [10_000, 600], ids=["one list", "many lists"])
@pytest.mark.parametrize("scope", [[5], [1, 2, 3, 77, 9000], range(100, 600), [2**40, 3, 4]], ids=str)
def test_a_small_scope_is_searched_exactly(library, exact_limit, scope):
    fill(library, 2000)
    query = unit_vectors(np.random.default_rng(5), 1)[0] * 3  # of any length
    assert_finds_the_nearest(open_index(library, exact_limit), library, query, np.array(scope))


def test_the_whole_scope_is_searched_exactly_below_the_limit(library):
    fill(library, 2000)
    assert_finds_the_nearest(open_index(library), library, unit_vectors(np.random.default_rng(5), 1)[0])


def test_many_lists_find_the_nearest_too(library):
    fill(library, 3000)
    index, exact = open_index(library, 500), open_index(library)
    assert index.describe().startswith("IVF 64 lists, ")
    assert exact.describe() == "exact, 3,000 vectors"
    queries = unit_vectors(np.random.default_rng(8), 100)
    scope = np.random.default_rng(9).choice(3000, 1500, replace=False) + 1
    for keys in (None, scope):
        pairs = [(index.search(query, 10, keys), exact.search(query, 10, keys)) for query in queries]
        assert np.mean([len(np.intersect1d(a.keys, b.keys)) / 10 for a, b in pairs]) >= 0.95
        assert keys is None or all(np.isin(a.keys, keys).all() for a, _ in pairs)
        for a, b in pairs:  # from 2,000 and 1,500 of the vectors: a mean is off by spread / 45 one time in three
            assert abs(a.mean - b.mean) < 0.1 * b.spread
            assert a.spread == pytest.approx(b.spread, rel=0.1)


def test_nothing_in_scope_is_nothing_found(library):
    index = open_index(library)
    empty = index.search(np.ones(3, np.float32), 5)
    assert (len(empty.keys), empty.mean, empty.spread, index.describe()) == (0, 0.0, 0.0, "exact, 0 vectors")
    fill(library, 20)
    for scope in ([], [500]):
        assert len(index.search(np.ones(D, np.float32), 5, np.array(scope, np.int64)).keys) == 0
    assert len(index.search(np.ones(D, np.float32), 50).keys) == 20


def test_what_cannot_be_compared_is_refused(library):
    fill(library, 20)
    index = open_index(library)
    with pytest.raises(ValueError, match="5 numbers can't be compared with those of texts/notes/random, which have 16"):
        index.search(np.ones(5, np.float32), 3)
    with pytest.raises(ValueError, match="top_k must be at least 1, not 0"):
        index.search(np.ones(D, np.float32), 0)
    with pytest.raises(RuntimeError, match="inside a transaction"), library.transaction():
        index.search(np.ones(D, np.float32), 3)


def test_passages_go_from_the_index_when_their_document_goes(library, tmp_path):
    store = PassageStore(library)
    documents = []
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_text(f"The {name} paragraph is about trees.\n\n" * 30)
        documents.append(library.add(tmp_path / f"{name}.txt").document)
        store.cut(documents[-1])
    ids = [row[0] for row in library.connection().execute("SELECT id FROM passages ORDER BY id")]
    with library.transaction() as connection:
        connection.executemany(
            "INSERT INTO embeddings (passage_id, embedder, vector) VALUES (?, ?, ?)",
            [
                (i, name, vector.tobytes())
                for name in ("random", "other")
                for i, vector in zip(ids, unit_vectors(np.random.default_rng(0), len(ids)), strict=True)
            ],
        )
    index = FaissIndex(SqliteVectors.of_passages(library, "random"), tmp_path / "vectors")
    assert index.search(np.ones(D, np.float32), len(ids)).keys.size == len(ids) == index.n_vectors
    library.remove(documents[0])
    left = {row[0] for row in library.connection().execute("SELECT id FROM passages")}
    assert 0 < len(left) < len(ids)
    assert set(index.search(np.ones(D, np.float32), len(ids)).keys.tolist()) == left


# How it grows


def test_it_changes_its_kind_with_its_size(library):
    fill(library, 300)
    index = open_index(library, 500)
    assert index.describe() == "exact, 300 vectors"
    fill(library, 300, first=301)
    assert index.describe() == "exact, 600 vectors"  # near enough to the limit
    fill(library, 100, first=601)
    assert index.describe().startswith("IVF 32 lists")
    fill(library, 2800, first=701)
    assert index.describe().startswith("IVF 64 lists")  # five times what its lists were trained on
    assert_agrees(index, library)
    drop(library, np.arange(201, 4000))
    assert index.describe() == "exact, 200 vectors"
    assert_agrees(index, library)


def test_a_change_is_applied_without_building_anew(library):
    fill(library, 2000)
    source = source_of(library)
    index = FaissIndex(source, library.home / "vectors", exact_limit=500)
    index.sync()
    built = source.n_passes
    fill(library, 500, seed=3, first=1800)
    drop(library, np.arange(1, 200))
    assert index.sync() == 500 + 199
    assert source.n_passes == built
    assert_agrees(index, library)


def test_it_saves_itself_after_a_thousand_changes_and_prunes_the_log(library):
    fill(library, 100)
    source = source_of(library)
    index = open_index(library)
    index.sync()  # built, hence saved
    assert source.pruned_seq() == source.last_seq() == 100
    fill(library, 999, first=200)
    index.sync()
    assert source.pruned_seq() == 100
    fill(library, 1, first=3000)
    index.sync()
    assert source.pruned_seq() == 1100
    assert library.connection().execute("SELECT count(*) FROM vector_changes").fetchone()[0] == 0
    again = source_of(library)
    assert FaissIndex(again, library.home / "vectors").n_vectors == 1100
    assert again.n_passes == 0


def test_spaces_have_files_of_their_own(tmp_path):
    names = ["minilm@53aa5117", "texts/a/minilm", "texts/a-minilm", "texts/A/minilm", "日本", "x" * 500]
    paths = {index_path(tmp_path, name) for name in names}
    assert len({str(path).lower() for path in paths}) == len(names)
    for path in paths:
        path.touch()  # a name that a file can have
        assert path.parent == tmp_path


# What is saved


def damage(library: Library, kind: str, path: Path) -> None:
    """Spoil the saved index in one of the ways in which it can be."""
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "longer":
        path.write_bytes(content + b"\0")
    elif kind == "another file":
        path.write_bytes(b"PK\3\4" * 5000)
    elif kind == "header altered":
        path.write_bytes(content.replace(b'"n_vectors": 500', b'"n_vectors": 501'))
    elif kind == "payload altered":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "another library":
        with Library(library.home / "other") as other:
            fill(other, 500)
            open_index(other).sync()
            shutil.copy(other.home / "vectors" / path.name, path)
    elif kind == "another space":
        put(library, "other", np.arange(5001, 5501), unit_vectors(np.random.default_rng(0), 500))
        open_index(library, collection="other").sync()
        shutil.copy(index_path(path.parent, "texts/other/random"), path)
    elif kind == "behind the log":
        fill(library, 100, seed=4)
        open_index(library).save()
        path.write_bytes(content)
    elif kind == "other vectors":
        fill(library, 500, seed=6)
        library.connection().execute("DELETE FROM vector_changes")  # as if the log had lost them
        library.connection().execute("UPDATE vector_logs SET pruned_seq = 500 WHERE space GLOB 'texts*'")
    elif kind == "other keys":
        drop(library, np.array([3]))
        library.connection().execute("DELETE FROM vector_changes")
    elif kind == "ahead of the log":
        library.connection().execute("UPDATE vector_logs SET pruned_seq = 400 WHERE space GLOB 'texts*'")
    elif kind == "another dimension":
        put(library, C, np.arange(1, 501), unit_vectors(np.random.default_rng(0), 500, 24))
    else:
        raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "empty",
        "cut",
        "longer",
        "another file",
        "header altered",
        "payload altered",
        "another library",
        "another space",
        "behind the log",
        "other vectors",
        "other keys",
        "ahead of the log",
        "another dimension",
    ],
)
def test_a_file_that_cannot_be_believed_is_built_anew(library, kind):
    fill(library, 500)
    index = open_index(library)
    index.sync()
    source = source_of(library)
    assert FaissIndex(source, library.home / "vectors").n_vectors == 500
    assert source.n_passes == 0  # the undamaged file is believed
    damage(library, kind, index.path)
    again = FaissIndex(source, library.home / "vectors")
    assert_agrees(again, library)
    assert source.n_passes == 1
    source = source_of(library)
    assert_agrees(FaissIndex(source, library.home / "vectors"), library)
    assert source.n_passes == 0  # what was built has been saved


def test_an_altered_byte_is_noticed_wherever_it_lies(library):
    fill(library, 20)
    index = open_index(library)
    index.sync()
    with read_index_file(index.path) as (header, file):
        assert len(file.read()) == header.payload_bytes
    content = index.path.read_bytes()
    for place in range(0, len(content), 17):
        index.path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DamagedIndexError), read_index_file(index.path):
            pass


def test_vectors_of_two_lengths_in_one_space_are_an_error_that_says_so(library):
    fill(library, 10)
    put(library, C, np.array([11]), unit_vectors(np.random.default_rng(0), 1, 24))
    with pytest.raises(Exception, match="texts/notes/random: its vectors have 16 and 24 numbers each") as caught:
        open_index(library).sync()
    assert type(caught.value).__name__ == "StorageError"


@contextmanager
def files_at_most(n_bytes: int) -> Iterator[None]:
    """Writing beyond fails with an OSError, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_nothing_but_the_saving(library, caplog, capfd):
    fill(library, 2000)
    index = open_index(library)
    index.sync()
    before = index.path.read_bytes()
    fill(library, 900, seed=3)
    source = source_of(library)
    with files_at_most(20_000), caplog.at_level(logging.WARNING):
        index.save()
    assert "the vector index can't be saved" in caplog.text
    assert capfd.readouterr().err == ""
    assert index.path.read_bytes() == before
    assert [p.name for p in index.path.parent.iterdir() if p.suffix == ".tmp"] == []
    assert source.pruned_seq() == 2000 < source.last_seq()  # the log still has what the file lacks
    assert_agrees(index, library)
    assert_agrees(open_index(library), library)
    caplog.clear()
    index.save()
    assert caplog.text == ""
    assert source.pruned_seq() == source.last_seq()


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_saving(library, caplog):
    fill(library, 50)
    (library.home / "vectors").write_text("not a folder")
    index = open_index(library)
    with caplog.at_level(logging.WARNING):
        assert_agrees(index, library)
    assert "can't be saved" in caplog.text
    caplog.clear()
    fill(library, 5, first=100)
    assert_agrees(index, library)
    assert caplog.text == ""  # it is not tried again at every search


# Others at work


def test_threads_share_an_index(library):
    fill(library, 1000)
    index = open_index(library, 300)
    failed = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(30):
                assert len(index.search(unit_vectors(rng, 1)[0], 5).keys) == 5
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for n in range(20):
        fill(library, 40, seed=n, first=1 + 40 * n)
    for thread in threads:
        thread.join()
    assert failed == []
    assert_agrees(index, library)


def test_an_index_whose_log_was_pruned_by_another_takes_the_other_ones_file(library):
    fill(library, 500)
    source = source_of(library)
    mine, other = FaissIndex(source, library.home / "vectors"), open_index(library)
    mine.sync()
    built = source.n_passes
    fill(library, 300, seed=2, first=400)
    drop(library, np.arange(1, 50))
    other.save()
    assert_agrees(mine, library)
    assert source.n_passes == built
    mine.save()
    assert_agrees(other, library)


def test_a_late_save_does_not_replace_a_newer_file(library):
    fill(library, 200)
    late, other = open_index(library), open_index(library)
    late.sync()
    fill(library, 50, first=300)
    other.save()
    newer = other.path.read_bytes()
    late._n_unsaved = 1
    late._save()  # as if the other had saved between its look at the log and its lock
    assert other.path.read_bytes() == newer
    assert_agrees(late, library)


@pytest.fixture(scope="module")
def writers() -> Iterator[subprocess.Popen]:
    """Forks a writing process for each line, see `index_killed.py`."""
    command = [sys.executable, str(Path(__file__).with_name("index_killed.py"))]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("exact_limit", [10_000, 400], ids=["one list", "many lists"])
def test_a_writer_killed_at_any_moment_leaves_an_index_that_agrees(library, writers, exact_limit):
    put(library, C, np.arange(1, N_KEYS), unit_vectors(np.random.default_rng(0), N_KEYS - 1))
    mine = open_index(library, exact_limit)
    n_written = 0
    for seed in range(10):  # twice, for the two kinds of index
        before = source_of(library).last_seq()
        writers.stdin.write(f"{library.home} {C} {exact_limit} {seed}\n")
        writers.stdin.flush()
        pid = int(writers.stdout.readline())
        until = time.monotonic() + random.Random(seed).uniform(0.05, 0.35)
        while time.monotonic() < until:  # beside it, and with it, until it dies
            mine.search(np.ones(D, np.float32), 5)
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        assert writers.stdout.readline() == "gone\n"
        n_written += source_of(library).last_seq() - before
        assert_agrees(open_index(library, exact_limit), library)
        assert_agrees(mine, library)
    assert n_written > 100
    mine.save()
    assert list(mine.path.parent.glob("*.tmp")) == []
