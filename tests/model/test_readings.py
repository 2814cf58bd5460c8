import errno
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from longleaf.errors import StateError
from longleaf.model import state as state_module
from longleaf.model import state_file
from longleaf.model.readings import ReadingInfo, ReadingStore
from longleaf.model.state import DecoderState

from .test_state_file import HYBRID, assert_same, empty, extend

ROOT = Path(__file__).parents[2]
F = "f" * 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "block_tokens_for", lambda device: 8)


@pytest.fixture
def store(tmp_path: Path) -> ReadingStore:
    return ReadingStore(tmp_path / "readings", min_tokens=4, segment_tokens=16)


def read(tokens: Sequence[int], state: DecoderState | None = None, step: int = 4) -> DecoderState:
    """A state whose values depend on the tokens before them, as a decoder's do."""
    state = empty() if state is None else state
    for start in range(state.n_tokens, len(tokens), step):
        chunk = list(tokens[start : start + step])
        extend(state, chunk, seed=zlib.crc32(repr(list(tokens[: start + step])).encode()))
    return state


def text(seed: int, n_tokens: int) -> list[int]:
    return torch.randint(0, 60_000, (n_tokens,), generator=torch.Generator().manual_seed(seed)).tolist()


def files(store: ReadingStore, what: str = "*") -> list[Path]:
    return sorted(store.folder.glob(f"*/{what}/*"))


def size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def info(store: ReadingStore, label: str) -> ReadingInfo:
    (found,) = [reading for reading in store.list() if reading.label == label]
    return found


@pytest.mark.parametrize("kinds", [("attention", "attention"), ("mamba",), HYBRID])
def test_a_reading_survives_a_restart_bit_for_bit(store: ReadingStore, kinds: tuple[str, ...]) -> None:
    tokens = text(0, 53)
    kept = extend(empty(kinds), tokens)
    assert store.keep(kept, seconds=12.5, label="report.pdf", model_name="jamba")
    found = ReadingStore(store.folder).find([*tokens, 7, 8], empty(kinds))
    assert found is not None
    assert (found.seconds, found.label, found.id) == (12.5, "report.pdf", store.list()[0].id)
    assert_same(found.state, kept)
    assert_same(extend(found.state, [7, 8], seed=1), extend(kept, [7, 8], seed=1))


def test_the_longest_reading_that_the_prompt_begins_with_is_found(store: ReadingStore) -> None:
    tokens = text(0, 60)
    state = empty()
    for n in (20, 40, 60):
        assert store.keep(read(tokens[:n], state), seconds=n)
    assert store.keep(read([*tokens[:30], *text(1, 30)]), seconds=1)

    def found(prompt: Sequence[int]) -> int:
        reading = store.find(prompt, empty())
        if reading is None:
            return 0
        assert_same(reading.state, read(tokens[: reading.state.n_tokens]))
        return reading.state.n_tokens

    assert found([*tokens, 1]) == 60
    assert found(tokens) == 40  # one token must be left to read
    assert found(tokens[:59]) == 40
    assert found(tokens[:41]) == 40
    assert found(tokens[:40]) == 20
    assert found([*tokens[:39], 1, *tokens[40:]]) == 20
    assert found(tokens[:20]) == 0
    assert found(tokens[1:]) == 0
    assert found([]) == 0


def test_another_models_reading_is_a_miss_and_stays(store: ReadingStore) -> None:
    tokens = text(0, 30)
    store.keep(read(tokens), seconds=1)
    for fingerprint in ("e" * 64, F[:16] + "e" * 48):
        assert store.find([*tokens, 1], empty(fingerprint=fingerprint)) is None
        assert store.branch_point(tokens, fingerprint) == 0
    assert store.find([*tokens, 1], empty()) is not None


def test_short_readings_and_those_over_the_budget_are_not_kept(
    store: ReadingStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert not store.keep(read(text(0, 3)), seconds=1)
    assert not caplog.records
    store.budget_bytes = 1000
    assert not store.keep(read(text(0, 30)), seconds=1)
    assert "the budget is 1000" in caplog.text
    assert files(store) == []


def test_keeping_twice_writes_once(store: ReadingStore) -> None:
    state = read(text(0, 40))
    assert store.keep(state, seconds=1)
    before = {path: path.stat().st_ino for path in files(store)}
    assert store.keep(state, seconds=1)
    assert {path: path.stat().st_ino for path in files(store)} == before


def test_readings_along_one_text_and_its_branches_share_their_keys_and_values(store: ReadingStore) -> None:
    tokens = text(0, 80)
    state = empty()
    for n in (24, 48, 80):
        store.keep(read(tokens[:n], state), seconds=n, label=str(n))
    ranges = [tuple(map(int, path.name.split("-")[:2])) for path in files(store, "kv")]
    assert sorted(ranges) == [(0, 16), (16, 24), (24, 32), (32, 48), (48, 64), (64, 80)]
    (snapshot,) = store.folder.glob("*/snapshots/80-*")
    assert info(store, "80").size_bytes == size([*files(store, "kv"), snapshot])

    branch = [*tokens[:40], *text(1, 20)]
    store.keep(read(branch), seconds=60, label="branch")
    assert len(files(store, "kv")) == len(ranges) + 2  # 32 to 48 and 48 to 60; up to 32 all is shared
    found = store.find([*branch, 1], empty())
    assert found is not None
    assert_same(found.state, read(branch))


def test_removing_a_reading_leaves_what_others_need(store: ReadingStore) -> None:
    tokens = text(0, 64)
    short = read(tokens[:32])
    store.keep(short, seconds=1, label="short")
    store.keep(read(tokens, short.fork()), seconds=2, label="long")
    store.keep(read(text(1, 32)), seconds=3, label="other")
    before = size(files(store))

    freed = info(store, "short").own_bytes
    assert store.remove([info(store, "short").id[:10]]) == freed == before - size(files(store))
    assert store.find(tokens[:33], empty()) is None
    found = store.find([*tokens, 1], empty())
    assert found is not None
    assert_same(found.state, read(tokens))

    assert store.remove([reading.id for reading in store.list()]) == before - freed
    assert files(store) == []
    assert store.list() == []


def test_a_reading_says_where_its_words_are_from_and_one_of_an_earlier_version_that_it_does_not_know(
    store: ReadingStore,
) -> None:
    store.keep(read(text(0, 30)), seconds=1, label="both", sources=["b", "a", "b"])
    store.keep(read(text(1, 30)), seconds=1, label="none")
    assert (info(store, "both").sources, info(store, "both").knows_sources) == (("a", "b"), True)
    assert (info(store, "none").sources, info(store, "none").knows_sources) == ((), True)
    path = next(
        path for path in files(store, "snapshots") if path.name.endswith(f"{info(store, 'both').id}.safetensors")
    )
    tensors, metadata = state_file.read_tensors(path, "snapshot", F)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    earlier = {key: metadata[key] for key in ("segments", "seconds", "label", "created_at")}
    state_file.write_tensors(path, "snapshot", F, tensors, earlier)
    assert (info(store, "both").sources, info(store, "both").knows_sources) == ((), False)
    assert store.keep(read(text(0, 30)), seconds=1, label="both", sources=["b"])
    assert (info(store, "both").sources, info(store, "both").knows_sources) == (("b",), True)


def test_the_same_tokens_of_two_sources_are_one_reading_of_both(store: ReadingStore) -> None:
    tokens = text(0, 40)
    for sources in (["a"], ["b"], [], ["a"]):
        assert store.keep(read(tokens), seconds=3, sources=sources)
    (reading,) = store.list()
    assert reading.sources == ("a", "b")
    found = store.find([*tokens, 1], empty())
    assert found is not None
    assert_same(found.state, read(tokens))


def test_removing_by_source_leaves_none_of_its_tokens_and_all_of_the_others(store: ReadingStore) -> None:
    shared, one, other = text(0, 20), text(1, 30), text(2, 30)
    state = empty()
    for n in (30, 50):
        store.keep(read([*shared, *one][:n], state), seconds=n, sources=["one"])
    store.keep(read([*shared, *other]), seconds=1, sources=["other"])
    store.keep(read([*shared, *other, *one]), seconds=1, sources=["one", "other"])
    before = size(files(store))
    n_removed, freed = store.remove_where(lambda reading: "one" in reading.sources)
    assert (n_removed, freed) == (3, before - size(files(store)))
    assert [reading.sources for reading in store.list()] == [("other",)]
    assert store.find([*shared, *other, 1], empty()) is not None
    left = {n for path in files(store, "kv") for n in state_file.read_token_ids(path).tolist()}
    assert left == {*shared, *other}


def test_removing_leaves_nothing_that_a_killed_process_began_and_nothing_that_is_damaged(store: ReadingStore) -> None:
    store.keep(read(text(0, 40)), seconds=1, label="whole")
    whole = files(store)
    store.keep(read(text(1, 40)), seconds=1, label="killed")
    store.keep(read(text(2, 40)), seconds=1, label="damaged")
    snapshot = {label: f"40-{info(store, label).id}.safetensors" for label in ("killed", "damaged")}
    for path in files(store, "snapshots"):
        if path.name == snapshot["killed"]:
            path.unlink()
        if path.name == snapshot["damaged"]:
            path.write_bytes(path.read_bytes()[:100])
    (store.folder / "0" / "kv").mkdir(parents=True)
    (store.folder / "0" / "kv" / ".tmp-half").write_bytes(b"half")
    n_removed, freed = store.remove_where(lambda reading: False)
    assert n_removed == 0
    assert freed > 0
    assert files(store) == whole


def test_removing_where_there_is_no_folder_makes_none(store: ReadingStore) -> None:
    assert store.remove_where(lambda reading: True) == (0, 0)
    assert not store.folder.exists()


def test_an_unknown_or_ambiguous_id_removes_nothing(store: ReadingStore) -> None:
    store.keep(read(text(0, 20)), seconds=1)
    (reading,) = store.list()
    assert store.show(reading.id[:6]) == reading
    with pytest.raises(StateError, match="0 readings"):
        store.remove([reading.id, "xyz"])
    store.keep(read(text(1, 20)), seconds=1)
    with pytest.raises(StateError, match="2 readings"):
        store.show("")
    assert len(store.list()) == 2


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-9] ^= 4
    path.write_bytes(whole)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 5),
    "cut to its header": lambda path: os.truncate(path, 200),
    "flipped": flip,
    "emptied": lambda path: os.truncate(path, 0),
    "text": lambda path: path.write_text("Annual Report\n" * 50),
    "pickle": lambda path: path.write_bytes(pickle.dumps([1, 2, 3])),
    "weights": lambda path: save_file({"x": torch.zeros(3)}, path),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["kv/40-48-*", "kv/48-64-*", "snapshots/64-*"])
def test_a_damaged_file_costs_only_the_readings_that_need_it(
    store: ReadingStore, damage: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = text(0, 64)
    state = empty()
    for n in (40, 64):
        store.keep(read(tokens[:n], state), seconds=n)
    (path,) = store.folder.glob(f"*/{what}")
    DAMAGES[damage](path)

    target = empty()
    found = store.find([*tokens, 1], target)
    assert found is not None
    assert found.state is target
    assert_same(target, read(tokens[:40]))
    # Removing a snapshot is what other processes do, and no reason to warn.
    assert len(caplog.records) == (0 if (damage, what) == ("gone", "snapshots/64-*") else 1)
    assert not path.exists()
    caplog.clear()
    assert store.find([*tokens, 1], empty()) is not None
    assert not caplog.records

    assert store.keep(read(tokens), seconds=64)
    again = store.find([*tokens, 1], empty())
    assert again is not None
    assert_same(again.state, read(tokens))


def test_where_the_first_segment_is_damaged_nothing_is_found(
    store: ReadingStore, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = text(0, 64)
    state = empty()
    for n in (40, 64):
        store.keep(read(tokens[:n], state), seconds=n)
    (path,) = store.folder.glob("*/kv/0-16-*")
    flip(path)
    target = empty()
    assert store.find([*tokens, 1], target) is None
    assert len(caplog.records) == 2
    assert_same(target, empty())
    assert store.list() == []


def test_a_whole_file_under_another_name_is_not_taken_for_it(store: ReadingStore) -> None:
    for seed in (0, 1):
        store.keep(read(text(seed, 32)), seconds=1, label=str(seed))
    one, other = (next(store.folder.glob(f"*/snapshots/*{info(store, label).id}*")) for label in "01")
    other.replace(one)
    assert store.find([*text(0, 32), 1], empty()) is None
    assert store.keep(read(text(0, 32)), seconds=1)
    found = store.find([*text(0, 32), 1], empty())
    assert found is not None
    assert_same(found.state, read(text(0, 32)))


def test_a_full_disk_is_a_warning_and_leaves_what_was_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        store = ReadingStore(disk / "readings", min_tokens=4, segment_tokens=512)
        tokens = text(0, 4096)
        state = read(tokens[:200], step=100)
        assert store.keep(state, seconds=1)
        before = files(store)
        assert not store.keep(read(tokens, state.fork(), step=1000), seconds=1)
        assert "No space left" in caplog.text
        assert files(store) == before
        found = store.find(tokens, empty())
        assert found is not None
        assert_same(found.state, state)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_snapshot_that_cant_be_written_takes_its_segments_along(
    store: ReadingStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        if metadata["longleaf"] == "snapshot":
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path, metadata)

    monkeypatch.setattr(state_file, "save_file", full)
    assert not store.keep(read(text(0, 40)), seconds=1)
    assert "No space left" in caplog.text
    assert files(store) == []


def test_a_folder_that_cant_be_made_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    store = ReadingStore(tmp_path / "file" / "readings", min_tokens=4)
    assert not store.keep(read(text(0, 20)), seconds=1)
    assert "can't be written" in caplog.text
    assert store.find(text(0, 20), empty()) is None
    assert store.list() == []
    assert store.prune() == 0


def test_a_state_broken_off_inside_a_chunk_is_not_kept(store: ReadingStore, caplog: pytest.LogCaptureFixture) -> None:
    state = read(text(0, 20))
    state.note([1])
    assert not store.keep(state, seconds=1)
    assert "middle of a chunk" in caplog.text
    assert files(store) == []


def evicted(store: ReadingStore) -> str:
    """The label of the one reading that goes when a byte too much is there."""
    before = {reading.label: reading for reading in store.list()}
    total = size(files(store))
    freed = store.prune(total - 1)
    (gone,) = before.keys() - {reading.label for reading in store.list()}
    assert freed == before[gone].own_bytes == total - size(files(store))
    return gone


def test_the_reading_that_saves_least_per_byte_goes_first(store: ReadingStore) -> None:
    tokens = text(0, 64)
    state = read(tokens[:32])
    store.keep(state, seconds=100, label="begun")
    store.keep(read(tokens, state.fork()), seconds=101, label="finished")  # 1 s more than from "begun"
    store.keep(read(text(1, 32)), seconds=40, label="other")
    store.keep(read(text(2, 64)), seconds=40, label="other, twice as long")
    snapshot = next(store.folder.glob(f"*/snapshots/*{info(store, 'begun').id}*"))
    assert info(store, "begun").own_bytes == size([snapshot])
    assert evicted(store) == "finished"
    assert info(store, "begun").own_bytes == info(store, "begun").size_bytes  # the segments are its own now
    assert evicted(store) == "other, twice as long"
    assert evicted(store) == "other"
    assert evicted(store) == "begun"
    assert files(store) == []


def test_without_the_shorter_one_a_reading_saves_all_its_seconds(store: ReadingStore) -> None:
    tokens = text(0, 64)
    state = read(tokens[:32])
    store.keep(state, seconds=100, label="begun")
    store.keep(read(tokens, state.fork()), seconds=101, label="finished")
    store.keep(read(text(1, 32)), seconds=40, label="other")
    store.remove([info(store, "begun").id])
    assert evicted(store) == "other"


def test_a_branch_inside_a_longer_segment_counts_as_the_shorter_reading(store: ReadingStore) -> None:
    tokens = text(0, 32)
    store.keep(read(tokens), seconds=50, label="long")
    store.keep(read(tokens[:24]), seconds=49, label="inside")  # written later, its tail is a segment of its own
    store.keep(read(text(1, 32)), seconds=20, label="other")
    assert evicted(store) == "long"


def test_what_nobody_used_for_long_counts_less(store: ReadingStore) -> None:
    store.keep(read(text(0, 32)), seconds=100, label="older")
    store.keep(read(text(1, 32)), seconds=100, label="newer")
    store.keep(read(text(2, 32)), seconds=30, label="smaller")
    for label, days in (("older", 2), ("newer", 1), ("smaller", 0)):
        path = next(store.folder.glob(f"*/snapshots/*{info(store, label).id}*"))
        os.utime(path, (then := time.time() - days * 24 * 3600, then))
    assert [reading.label for reading in store.list()] == ["smaller", "newer", "older"]
    assert store.find([*text(0, 32), 1], empty()) is not None
    assert store.list()[0].label == "older"  # a find is a use
    path = next(store.folder.glob(f"*/snapshots/*{info(store, 'newer').id}*"))
    os.utime(path, (then := time.time() - 60 * 24 * 3600, then))  # two half-lives: 25 of its 100 s
    assert evicted(store) == "newer"
    assert evicted(store) == "smaller"


def test_a_new_reading_takes_the_place_of_lesser_ones(store: ReadingStore) -> None:
    for seed in range(3):
        store.keep(read(text(seed, 32)), seconds=seed + 1, label=str(seed))
    store.budget_bytes = size(files(store))
    assert store.keep(read(text(3, 32)), seconds=0.1, label="3")  # the least per byte, but just read
    assert {reading.label for reading in store.list()} == {"1", "2", "3"}
    assert size(files(store)) <= store.budget_bytes


def test_what_killed_processes_left_is_cleaned(store: ReadingStore) -> None:
    store.keep(read(text(0, 32)), seconds=1)
    (folder,) = (path for path in store.folder.iterdir() if path.is_dir())
    half = [folder / "kv" / ".tmp-0", folder / "snapshots" / ".tmpAb3"]
    for path in half:
        path.write_bytes(b"x" * 100)
    segments = [folder / "kv" / f"0-16-{c * 64}.safetensors" for c in "ab"]
    for path, age in zip(segments, (3700, 3500), strict=True):
        path.write_bytes(b"x" * 10)
        os.utime(path, (time.time() - age,) * 2)
    broken = folder / "snapshots" / f"20-{'c' * 64}.safetensors"
    broken.write_bytes(b"x" * 1000)
    assert len(store.list()) == 1
    assert store.prune() == 1210
    assert [path.exists() for path in (*half, *segments, broken)] == [False, False, False, True, False]
    assert store.find([*text(0, 32), 1], empty()) is not None


@pytest.mark.parametrize("kinds", [("attention",), HYBRID])
def test_a_reading_takes_at_most_two_hundredths_more_than_its_state(
    store: ReadingStore, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...]
) -> None:
    monkeypatch.setattr(state_module, "block_tokens_for", lambda device: 1024)
    store = ReadingStore(store.folder)
    state = empty(kinds, n_kv_heads=1, n_heads=1, head_dim=64)
    tokens = text(0, 30_000)
    for n in (8192, 16384, 24576, 30_000):
        assert store.keep(extend(state, tokens[state.n_tokens : n]), seconds=n, label=str(n))
    last = info(store, "30000")
    assert last.size_bytes <= 1.02 * state.nbytes
    assert size(files(store)) == last.size_bytes + sum(r.own_bytes for r in store.list() if r != last)


CASES = st.lists(
    st.tuples(
        st.sampled_from(["keep", "keep", "remove", "find"]), st.lists(st.integers(0, 1), min_size=1, max_size=14)
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(CASES)
def test_find_and_branch_point_are_those_of_a_search_through_all_readings(cases: list[tuple[str, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(state_module, "block_tokens_for", lambda device: 3)
        patched.setattr(state_file, "sync", lambda path: None)
        store = ReadingStore(Path(folder), min_tokens=1, segment_tokens=5)
        kept: set[tuple[int, ...]] = set()
        for action, tokens in cases:
            if action == "keep":
                assert store.keep(read(tokens, step=1), seconds=len(tokens), label=repr(tokens))
                kept.add(tuple(tokens))
            elif action == "remove":
                store.remove([reading.id for reading in store.list() if reading.label == repr(tokens)])
                kept.discard(tuple(tokens))
            prefixes = [one for one in kept if len(one) < len(tokens) and tokens[: len(one)] == list(one)]
            found = store.find(tokens, empty())
            if found is None:
                assert prefixes == []
            else:
                assert_same(found.state, read(max(prefixes, key=len), step=1))
            common = [
                next(n for n in range(min(len(one), len(tokens)), -1, -1) if list(one[:n]) == tokens[:n])
                for one in kept
            ]
            assert store.branch_point(tokens, F) == max(common, default=0)
            assert {reading.label for reading in store.list()} == {repr(list(one)) for one in kept}
        assert size(files(store)) == store.prune(0)
        assert files(store) == []


PRELUDE = f"""
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from longleaf.model import state
state.block_tokens_for = lambda device: 8
from longleaf.model.readings import ReadingStore
from tests.model.test_readings import empty, read, text, assert_same
folder, seed = Path(sys.argv[1]), int(sys.argv[2])
def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            import traceback; traceback.print_exc()
        finally:
            os._exit(code)
    return pid
"""

KILLS = """
def work(store):
    state = empty(d_inner=2048)
    for n in range(20, 120, 20):
        store.keep(read(text(0, n), state), seconds=n)
        if n == 60:
            store.prune(200_000)
for i in range(14):
    store = ReadingStore(folder / str(i), min_tokens=4, segment_tokens=16)
    pid = child(lambda: work(store))
    until = time.monotonic() + 20
    while i % 2 and time.monotonic() < until and not list(store.folder.glob("*/snapshots/20-*")):
        time.sleep(0.001)  # every second one is killed after its first reading
    time.sleep(random.Random(seed + i).uniform(0.002, 0.06))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
"""

CROWD = """
def work(number):
    chance = random.Random(seed + number)
    store = ReadingStore(folder, min_tokens=4, segment_tokens=16)
    n_found = 0
    for _ in range(15):
        tokens = [*text(0, chance.choice([16, 24, 32])), *text(chance.randrange(4), chance.choice([8, 16]))]
        assert store.keep(read(tokens), seconds=chance.random())
        if chance.random() < 0.4:
            store.prune(chance.choice([0, 20_000, 60_000]))
        reading = store.find([*tokens, 1], empty())
        if reading:
            n_found += 1
            assert_same(reading.state, read(tokens[: reading.state.n_tokens]))
    assert n_found, "never found anything"
pids = [child(lambda: work(number)) for number in range(2)]
sys.exit(any([os.waitpid(pid, 0)[1] for pid in pids]))
"""


def run_script(script: str, folder: Path) -> None:
    """Run in a process of its own, which forks: this one has threads."""
    seed = int.from_bytes(os.urandom(3), "big")
    ran = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, folder, str(seed)], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, f"seed {seed}: {ran.stderr}"


def test_a_process_killed_while_it_keeps_leaves_only_whole_readings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_script(KILLS, tmp_path)
    n_found, tokens = 0, text(0, 120)
    for folder in tmp_path.iterdir():
        store = ReadingStore(folder, min_tokens=4, segment_tokens=16)
        for reading in store.list():
            found = store.find([*tokens[: reading.n_tokens], 1], empty(d_inner=2048))
            assert found is not None
            assert_same(found.state, read(tokens[: reading.n_tokens], empty(d_inner=2048)))
            n_found += 1
        store.prune()
        assert not [path for path in files(store) if path.name.startswith(".")]
    assert n_found
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_two_processes_keep_find_and_prune_at_once(tmp_path: Path) -> None:
    run_script(CROWD, tmp_path / "readings")
    store = ReadingStore(tmp_path / "readings")
    assert all(reading.size_bytes > 0 for reading in store.list())
    assert store.prune(0) > 0 or not files(store)
    assert not files(store, "snapshots")
