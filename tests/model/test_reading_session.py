"""Nothing is read twice: from memory, from disk, after a stop, after kill -9; and the logits stay the same bits."""

import json
import random
import subprocess
import sys

import pytest
import torch

from longleaf.model import ReadingStopped, ReadingStore, load_model
from longleaf.model.reading_session import ReadingSession

CHUNK, GRID, MIN_DISK = 32, 64, 100


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Grid and thresholds of a size for tiny texts."""
    monkeypatch.setattr("longleaf.model.reading_session._MIN_GRID_TOKENS", GRID)
    monkeypatch.setattr("longleaf.model.reading_session._MIN_DISK_TOKENS", MIN_DISK)
    monkeypatch.setattr("longleaf.model.reading_session._MIN_BRANCH_TOKENS", 8)
    monkeypatch.setattr("longleaf.model.reading_session._MIN_REST_TOKENS", 2)


@pytest.fixture(scope="module", params=["jamba-3b", "jamba-mini", "qwen2", "mamba"])
def model(request, tiny):
    model = load_model(tiny(request.param), dtype=torch.float32)
    model.chunk_tokens = CHUNK
    return model


def store(folder):
    return ReadingStore(folder, min_tokens=1, segment_tokens=64)


def tokens(n, seed=0):
    return random.Random(seed).choices(range(3, 300), k=n)


DOCUMENT, FIRST, SECOND = tokens(250, 1), tokens(20, 2), tokens(23, 3)


def unbroken(model, ids, boundaries=()):
    """The logits of a session that has nothing to go on from."""
    return ReadingSession(model, None).read(ids, boundaries).logits


def test_a_second_question_goes_on_from_the_document_in_memory(model):
    session = ReadingSession(model, None)
    first = session.read(DOCUMENT + FIRST, [250])
    second = session.read(DOCUMENT + SECOND, [250])
    assert (first.cached_tokens, second.cached_tokens) == (0, 250)
    assert second.seconds_saved > 0
    assert torch.equal(second.logits, unbroken(model, DOCUMENT + SECOND, [250]))


def test_a_second_session_goes_on_from_the_document_on_disk(model, tmp_path):
    ReadingSession(model, store(tmp_path)).read(DOCUMENT + FIRST, [250], label="report.pdf")
    again = ReadingSession(model, store(tmp_path)).read(DOCUMENT + FIRST, [250])
    assert 250 <= again.cached_tokens < 270  # the end of the document, or of the grid within the question
    assert torch.equal(again.logits, unbroken(model, DOCUMENT + FIRST, [250]))
    assert {info.label for info in store(tmp_path).list()} == {"report.pdf"}


def test_every_reading_that_a_prompt_leaves_says_where_its_words_are_from(model, tmp_path):
    session = ReadingSession(model, store(tmp_path))
    read = session.read(DOCUMENT + FIRST, [250], sources=["a"])
    session.keep(read.state, read.seconds, "", ["a"])
    begun = []
    with pytest.raises(ReadingStopped):
        session.read(
            DOCUMENT + SECOND + tokens(200, 7),
            on_read=lambda done, total, left: begun.append(done),
            should_stop=lambda: len(begun) > 3,
            sources=["a", "b"],
        )
    found = store(tmp_path).list()
    assert {reading.sources for reading in found} == {("a",), ("a", "b")}


def test_older_states_leave_memory_when_they_hold_too_much(model, monkeypatch):
    monkeypatch.setattr("longleaf.model.reading_session._MAX_IN_MEMORY", 100)
    for limit, still_there in ((10**12, True), (1, False)):
        monkeypatch.setattr("longleaf.model.reading_session._MAX_BYTES_IN_MEMORY", limit)
        session = ReadingSession(model, None)
        texts = (DOCUMENT, tokens(250, 11), tokens(250, 12))
        for text in texts:
            read = session.read(text + FIRST, [250])
            assert read.state.held_bytes >= read.state.nbytes > 0
        assert session.read(texts[-1] + SECOND, [250]).cached_tokens >= 250
        assert (session.read(DOCUMENT + SECOND, [250]).cached_tokens >= 250) is still_there


def test_what_is_in_memory_is_not_loaded_from_disk_again(model, tmp_path, monkeypatch):
    session = ReadingSession(model, store(tmp_path))
    session.read(DOCUMENT + FIRST, [250])
    loaded = []
    monkeypatch.setattr("longleaf.model.readings.load_reading", lambda *arguments: loaded.append(arguments))
    assert session.read(DOCUMENT + SECOND, [250]).cached_tokens == 250
    assert loaded == []


def test_an_answer_that_was_kept_is_where_the_next_turn_begins(model, tmp_path):
    session = ReadingSession(model, store(tmp_path))
    read = session.read(DOCUMENT + FIRST, [250])
    for token in SECOND:
        model.decode(token, read.state)
    session.keep(read.state, read.seconds)
    for reader in (session, ReadingSession(model, store(tmp_path))):
        assert reader.read(DOCUMENT + FIRST + SECOND + FIRST).cached_tokens == 250 + 20 + 23


def test_the_whole_prompt_again_leaves_tokens_to_make_logits_from(model, tmp_path):
    ids = DOCUMENT + FIRST
    session = ReadingSession(model, store(tmp_path))
    session.keep(session.read(ids).state, 1.0)
    for reader in (session, ReadingSession(model, store(tmp_path))):
        again = reader.read(ids)
        assert again.cached_tokens < len(ids)
        torch.testing.assert_close(again.logits, unbroken(model, ids), rtol=1e-4, atol=1e-4)


def test_a_new_edition_is_read_from_the_last_shared_snapshot_on_and_leaves_one_where_they_part(model, tmp_path):
    ReadingSession(model, store(tmp_path)).read(DOCUMENT + FIRST, [250])
    edited = DOCUMENT[:200] + tokens(60, 9)
    session = ReadingSession(model, store(tmp_path))
    grid = session._grid_tokens
    first = session.read(edited)
    assert first.cached_tokens == 200 // grid * grid
    third = ReadingSession(model, store(tmp_path)).read(DOCUMENT[:200] + tokens(60, 10))
    assert third.cached_tokens == (200 if 200 - first.cached_tokens >= 8 else first.cached_tokens)


def test_a_stopped_read_goes_on_where_it_stopped(model, tmp_path):
    read = []
    session = ReadingSession(model, store(tmp_path))
    with pytest.raises(ReadingStopped):
        session.read(DOCUMENT, on_read=lambda done, total, left: read.append(done), should_stop=lambda: len(read) == 5)
    assert read[-1] < 250
    from_disk = ReadingSession(model, store(tmp_path)).read(DOCUMENT)
    from_memory = session.read(DOCUMENT)
    assert from_disk.cached_tokens == read[-1]
    assert from_memory.cached_tokens >= read[-1]  # or what the other session has read meanwhile
    for again in (from_disk, from_memory):
        assert torch.equal(again.logits, unbroken(model, DOCUMENT))


def test_progress_counts_the_whole_prompt_up(model):
    told = []
    session = ReadingSession(model, None)
    session.read(DOCUMENT + FIRST, [250], on_read=lambda *now: told.append(now))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1] == (270, 270, 0.0)
    told.clear()
    session.read(DOCUMENT + SECOND, [250], on_read=lambda *now: told.append(now))
    assert told[0][0] == 250
    assert all(left >= 0 for _, _, left in told)


def test_the_caller_may_move_the_state_on_without_touching_what_is_kept(model):
    session = ReadingSession(model, None)
    first = session.read(DOCUMENT + FIRST, [250])
    for token in SECOND:
        model.decode(token, first.state)
    assert torch.equal(session.read(DOCUMENT + SECOND, [250]).logits, unbroken(model, DOCUMENT + SECOND, [250]))


KILLING = """
import dataclasses, json, os, random, signal, sys, time, torch
from pathlib import Path
import longleaf.model.reading_session as session
from longleaf.model import ReadingStore, load_model

session._MIN_DISK_TOKENS = 64
torch.set_num_threads(1)  # a child of fork has no other threads
model = load_model(sys.argv[1], dtype=torch.float32)
model.chunk_tokens = 32
model.config = dataclasses.replace(model.config, max_context_tokens=None)
ids = random.Random(4).choices(range(3, 300), k=3000)
store = ReadingStore(Path(sys.argv[2]), min_tokens=1, segment_tokens=64)

def read():
    reader = session.ReadingSession(model, store)
    reader._grid_tokens = 64
    begun = time.monotonic()
    return reader.read(ids), time.monotonic() - begun

unbroken = session.ReadingSession(model, None).read(ids).logits
_, seconds = read()
store.remove([info.id for info in store.list()])
rng, kept = random.Random(0), []
for _ in range(20):
    child = os.fork()
    if child == 0:
        read()
        os._exit(0)
    time.sleep(rng.uniform(0, seconds / 12))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for info in store.list():  # all of them are whole
        assert store.find(ids[: info.n_tokens + 1], model.new_state()).state.n_tokens == info.n_tokens
    kept.append(max((info.n_tokens for info in store.list()), default=0))
last, _ = read()
leftover = [path.name for path in Path(sys.argv[2]).rglob("*") if ".tmp" in path.name]
same = torch.equal(last.logits, unbroken)
print(json.dumps({"kept": kept, "cached": last.cached_tokens, "same": same, "left": leftover}))
"""


@pytest.mark.slow
def test_kill_9_while_reading_at_twenty_random_moments(tiny, tmp_path):
    """After each the store has whole readings only; the next start goes on, and ends with the same logits."""
    command = [sys.executable, "-c", KILLING, str(tiny("jamba-3b")), str(tmp_path / "readings")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert len(result["kept"]) == 20
    assert result["kept"] == sorted(result["kept"])
    assert 0 < result["cached"] == result["kept"][-1], "no start went on from an earlier one"
    assert result["same"]
    assert result["left"] == []
