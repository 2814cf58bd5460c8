"""A job on a real Ray cluster of two workers on this machine, one of which is killed in the middle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from longleaf.app.jobs import JobStore
from longleaf.app.jobs.database import SqliteJobs
from longleaf.ingestion import Library

pytestmark = [pytest.mark.slow, pytest.mark.ray]
pytest.importorskip("ray", reason="Ray is not installed: pip install 'longleaf[ray]'")

N = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(N):
        lines = "\n".join(f"On day {day} the keeper of light {number} saw {day % 7} ships." for day in range(60))
        (folder / f"light {number}.txt").write_text(f"Log of light {number}.\n{lines}\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing that follows")
    return folder


def start(folder: Path, home: Path, *options: str) -> subprocess.Popen[str]:
    words = ["summarize", str(folder), "-o", str(folder.parent / "out"), "-m", "none", "--ray", "local", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "longleaf", *words, "--workers", "2", *options],
        env=os.environ | {"LONGLEAF_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.name().startswith("ray::") and "_Worker" in " ".join(child.cmdline())
    ]


def test_a_killed_worker_loses_nothing_and_doubles_nothing(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(folder, home)
    try:
        with Library(home) as library:
            store = JobStore(SqliteJobs(library))
            done: dict[str, str] = {}
            while len(done) < 5:
                assert process.poll() is None, process.communicate()
                done = {
                    item.source: item.finished_at
                    for job in store.jobs()
                    for item in store.items(job)
                    if item.state == "done"
                }
                time.sleep(0.05)
            workers = workers_of(process)
            assert len(workers) == 2
            workers[0].kill()
            out, err = process.communicate(timeout=300)
            assert process.returncode == 1, err  # the broken file
            assert out, err
            (job,) = store.jobs()
            assert (job.counts.done, job.counts.failed, job.counts.total) == (N, 1, N + 1)
            after = {item.source: item.finished_at for item in store.items(job)}
    finally:
        process.kill()
    assert all(after[source] == at for source, at in done.items()), "what was done is not done again"
    lines = [json.loads(line) for line in (tmp_path / "out" / "summaries.jsonl").read_text().splitlines()]
    assert len(lines) == len({line["source"] for line in lines}) == N + 1
    assert "keeper of light 7 saw" in (tmp_path / "out" / "light 7.md").read_text()
    assert json.loads(out)["counts"]["done"] == N, err
