import json
from pathlib import Path

import pytest
import torch

from longleaf.model.config import DecoderConfig
from longleaf.model.readings import ReadingStore
from longleaf.model.state import DecoderState

from .conftest import Run

CONFIG = DecoderConfig(
    family="mamba",
    vocab_size=1000,
    d_model=8,
    n_layers=1,
    layer_kinds=("mamba",),
    moe_layers=(False,),
    d_inner=16,
    d_state=2,
    d_conv=4,
    dt_rank=1,
)


@pytest.fixture
def store(home: Path) -> ReadingStore:
    """Two readings: the longer one took 90 s, the shorter one 4 s."""
    store = ReadingStore(home / "readings")
    for n_tokens, seconds, label in ((2000, 90.0, "harbour.pdf"), (300, 4.0, "letter [draft].pdf")):
        state = DecoderState.empty(CONFIG, "f" * 64, torch.float32, torch.float32, torch.device("cpu"))
        state.note(range(n_tokens, 2 * n_tokens))
        assert store.keep(state, seconds=seconds, label=label, model_name="jamba2-3b")
    return store


def test_without_readings_the_list_says_so_and_makes_no_folder(run: Run, home: Path) -> None:
    assert "No readings" in run("readings", "list").out
    assert json.loads(run("readings", "list", "--json").out) == []
    assert json.loads(run("readings", "prune", "--json").out) == {"freed_bytes": 0, "n_readings": 0}
    assert not (home / "readings").exists()


def test_list_shows_what_each_reading_stands_for(run: Run, store: ReadingStore) -> None:
    listed = json.loads(run("readings", "list", "--json").out)
    assert {(r["n_tokens"], r["seconds"], r["label"], r["model_name"]) for r in listed} == {
        (2000, 90.0, "harbour.pdf", "jamba2-3b"),
        (300, 4.0, "letter [draft].pdf", "jamba2-3b"),
    }
    assert all(r["size_bytes"] == r["own_bytes"] > 0 for r in listed)
    table = run("readings", "list").out
    assert "2,000" in table
    assert all(r["id"][:8] in table for r in listed)
    assert "[draft]" in table


def test_show_takes_the_first_characters_of_an_id(run: Run, store: ReadingStore) -> None:
    for reading in store.list():
        assert json.loads(run("readings", "show", reading.id[:8], "--json").out)["id"] == reading.id
        assert reading.label in run("readings", "show", reading.id[:8]).out
    missing = run("readings", "show", "nothing")
    assert (missing.code, missing.out) == (1, "")
    assert "longleaf readings list" in missing.err


def test_remove_asks_first_and_says_what_was_freed(run: Run, store: ReadingStore) -> None:
    reading = store.list()[0]
    assert run("readings", "remove", reading.id[:8]).code == 1  # no terminal to ask on
    assert len(store.list()) == 2
    removed = json.loads(run("readings", "remove", reading.id[:8], reading.id[:9], "--yes", "--json").out)
    assert removed == {"removed": [reading.id], "freed_bytes": reading.own_bytes}
    assert [r.label for r in store.list()] == [{"harbour.pdf", "letter [draft].pdf"}.difference([reading.label]).pop()]


def test_prune_keeps_what_saves_most_within_the_budget(
    run: Run, store: ReadingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {reading.label: reading.own_bytes for reading in store.list()}
    assert json.loads(run("readings", "prune", "--json").out) == {"freed_bytes": 0, "n_readings": 2}
    monkeypatch.setenv("LONGLEAF_READINGS_BUDGET_BYTES", str(sum(sizes.values()) - 1))
    assert json.loads(run("readings", "prune", "--json").out) == {
        "freed_bytes": sizes["letter [draft].pdf"],
        "n_readings": 1,
    }
    assert "readings left: 0" in run("readings", "prune", "--budget-bytes", "0").out
