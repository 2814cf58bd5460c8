"""Jobs in the two databases that they may be kept in, and claimants that are processes of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longleaf.app.jobs.database import JobDatabase, PostgresJobs, SqliteJobs
from longleaf.app.jobs.sources import with_sha256
from longleaf.app.jobs.spec import ReaderSpec, SummarizeSpec
from longleaf.app.jobs.store import Job, JobStore
from longleaf.ingestion import Library

from ...retrieval.test_pgvector import Server, programs  # noqa: TID252

SPEC = SummarizeSpec(reader=ReaderSpec(reader="none"))

Planned = Callable[..., Job]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    found = programs()
    if isinstance(found, str):
        pytest.skip(found)
    server = Server(found)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture
def jobs_url(server: Server) -> Iterator[str]:
    """A PostgreSQL with nothing in it."""
    server.execute("CREATE DATABASE fresh")
    yield server.url("fresh")
    server.execute("DROP DATABASE fresh WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, library: Library) -> Iterator[JobDatabase]:
    if request.param == "sqlite":
        yield SqliteJobs(library)
        return
    database = PostgresJobs(request.getfixturevalue("jobs_url"))
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def store(database: JobDatabase) -> JobStore:
    return JobStore(database)


@pytest.fixture
def planned(store: JobStore, tmp_path: Path) -> Planned:
    """Makes the job of these files, by their names and texts, in the order given."""

    def planned(spec: SummarizeSpec = SPEC, **texts: str) -> Job:
        job = store.open(tmp_path / "results", spec)
        files = [tmp_path / f"{name}.txt" for name in texts]
        for file, text in zip(files, texts.values(), strict=True):
            file.write_text(text)
        store.plan(job, [with_sha256(file) for file in files])
        return store.find(job.id)

    return planned


@pytest.fixture
def elsewhere() -> Iterator[Callable[[], tuple[str, "subprocess.Popen[str]"]]]:
    """Starts processes that do nothing; gives what `identity` says there, and ends them with the test."""
    running: list[subprocess.Popen[str]] = []
    script = "from longleaf.app.process_identity import identity; print(identity(), flush=True); input()"

    def start() -> tuple[str, subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in running:
        process.kill()
        process.communicate()
