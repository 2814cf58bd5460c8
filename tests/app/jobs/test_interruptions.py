"""A job's process is stopped, cancelled or killed in the middle, and the next one goes on: each file is done once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longleaf.app.jobs.session import open_jobs
from longleaf.app.jobs.store import Item
from longleaf.app.settings import load_settings

from ..conftest import Run  # noqa: TID252

MAIN = "from longleaf.app.cli import main; main()"

N = 30

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def inbox(tmp_path: Path, home: Path) -> Path:
    """Some seconds of work."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for n in range(N):
        page = "".join(
            f"In the year {1900 + i} ship number {i * n} came into the harbour with grain. " for i in range(20)
        )
        (inbox / f"d{n:02}.txt").write_text(f"{page}\f{page}")
    return inbox


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def start(*words: str | Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", MAIN, *map(str, words)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def first_document(process: "subprocess.Popen[str]") -> None:
    """Returns once a document is done."""
    assert process.stderr is not None
    for line in process.stderr:
        if f" of {N}  " in line:
            return
    raise AssertionError("it ended before a document was done")


def items(out: Path) -> list[Item]:
    with open_jobs(load_settings()) as (_, store):
        jobs = [job for job in store.jobs() if job.output == out]
        return store.items(jobs[0]) if jobs else []


def results(found: list[Item]) -> dict[str, Any]:
    return {item.source: (item.attempts, item.finished_at, item.result) for item in found if item.state == "done"}


def check_all_done_once(out: Path, inbox: Path) -> None:
    told = [json.loads(line) for line in (out / "summaries.jsonl").read_text().splitlines()]
    assert [line["source"] for line in told] == [str(path) for path in sorted(inbox.iterdir())]
    assert {line["state"] for line in told} == {"done"}
    assert sorted(path.name for path in out.glob("*.md")) == [f"d{n:02}.md" for n in range(N)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_exits_with_130_and_the_next_one_does_the_rest(
    run: Run, start: Start, inbox: Path, out: Path, number: signal.Signals
) -> None:
    process = start("summarize", inbox, "-o", out)
    first_document(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopping: " in err
    assert "Traceback" not in err
    stopped = items(out)
    assert {item.state for item in stopped} == {"done", "waiting"}
    done = results(stopped)
    told = [json.loads(line) for line in (out / "summaries.jsonl").read_text().splitlines()]
    assert [line["state"] for line in told] == [item.state for item in stopped]
    assert {path.name for path in out.glob("*.md")} == {f"{i.output_name}.md" for i in stopped if i.state == "done"}

    ran = run("summarize", inbox, "-o", out)
    assert ran.code == 0
    assert f"{len(done)} of {N} documents were settled before" in ran.err
    check_all_done_once(out, inbox)
    assert results(items(out)).items() >= done.items()


@pytest.mark.slow
def test_a_job_that_is_cancelled_by_another_process_ends(run: Run, start: Start, inbox: Path, out: Path) -> None:
    process = start("summarize", inbox, "-o", out)
    first_document(process)
    n = json.loads(run("jobs", "cancel", out, "--json").out)["cancelled"]
    assert 0 < n < N
    told, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{n} left undone; go on with: longleaf jobs resume" in told
    assert "Traceback" not in err
    done = results(items(out))
    assert len(done) == N - n
    assert run("jobs", "resume", out).code == 0
    check_all_done_once(out, inbox)
    assert results(items(out)).items() >= done.items()


@pytest.mark.slow
@pytest.mark.parametrize("kept_in", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_process_killed_at_any_moment_loses_nothing_that_was_done(
    run: Run, start: Start, inbox: Path, out: Path, kept_in: str, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kept_in == "postgres":
        monkeypatch.setenv("LONGLEAF_JOBS_URL", request.getfixturevalue("jobs_url"))
    rng = random.Random(11)
    done: dict[str, Any] = {}
    n_killed = 0
    while len(done) < 20 and n_killed < 4:
        process = start("summarize", inbox, "-o", out, "--workers", "2")
        if n_killed % 3:
            first_document(process)
            time.sleep(rng.random())
        else:
            time.sleep(1.5 + 2 * rng.random())  # also before it has begun
        process.kill()
        process.wait()
        n_killed += 1
        found = items(out)
        assert results(found).items() >= done.items()
        done = results(found)
    ran = run("summarize", inbox, "-o", out)
    assert ran.code == 0, ran.err
    check_all_done_once(out, inbox)
    last = items(out)
    assert results(last).items() >= done.items()
    assert all(item.attempts == 1 + item.interrupted for item in last)
    assert sum(item.interrupted for item in last) <= 2 * n_killed


@pytest.mark.slow
def test_two_processes_share_a_job(start: Start, inbox: Path, out: Path) -> None:
    processes = [start("summarize", inbox, "-o", out, "--json") for _ in range(2)]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    check_all_done_once(out, inbox)
    assert {item.attempts for item in items(out)} == {1}


@pytest.mark.postgres
def test_the_jobs_of_a_shared_database_are_kept_there(
    run: Run, inbox: Path, out: Path, jobs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_JOBS_URL", jobs_url)
    assert run("summarize", inbox / "d00.txt", "-o", out).code == 0
    (job,) = json.loads(run("jobs", "list", "--json").out)
    assert job["counts"]["done"] == 1
    before = run("jobs", "show", out, "--json").out
    assert run("summarize", inbox / "d00.txt", "-o", out).code == 0
    assert json.loads(run("jobs", "show", out, "--json").out)["items"] == json.loads(before)["items"]
    monkeypatch.delenv("LONGLEAF_JOBS_URL")
    assert json.loads(run("jobs", "list", "--json").out) == []
    monkeypatch.setenv("LONGLEAF_JOBS_URL", jobs_url)
    assert run("remove", "d00.txt", "--yes").code == 0
    assert json.loads(run("jobs", "show", out, "--json").out)["items"] == []
