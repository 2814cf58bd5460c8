"""Jobs and their items, in SQLite and in PostgreSQL: nothing is lost, and nothing is done twice."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from longleaf.app.jobs.database import Execute, JobDatabase, PostgresJobs, SqliteJobs
from longleaf.app.jobs.sources import Source, with_sha256
from longleaf.app.jobs.spec import Column, ExtractSpec, ReaderSpec
from longleaf.app.jobs.store import MAX_INTERRUPTED, UNSEEN, Item, Job, JobStore, Outcome
from longleaf.app.process_identity import identity
from longleaf.errors import QuestionError, StorageError
from longleaf.ingestion import Library

from ...retrieval.test_pgvector import Server  # noqa: TID252
from .conftest import SPEC, Planned

SHORT = SPEC.model_copy(update={"length": "short"})
ABC = {"a": "Anchors", "b": "Buoys", "c": "Cranes"}


def states(store: JobStore, job: Job) -> dict[str, str]:
    return {item.output_name: item.state for item in store.items(job)}


def claim(store: JobStore, job: Job, owner: str = "", node: str = "here") -> Item:
    item = store.claim(job, owner or identity(), node)
    assert item is not None
    return item


def finish(store: JobStore, job: Job, text: str = "Told.") -> Item:
    item = claim(store, job)
    assert store.finish(item, Outcome({"text": text}, "m", n_pages=2, tokens_read=100, tokens_written=7), 0.5)
    return item


# Jobs


def test_the_same_folder_and_kind_are_the_same_job(store: JobStore, tmp_path: Path) -> None:
    job = store.open(tmp_path / "out", SPEC)
    again = store.open(tmp_path / "out", SHORT)
    assert (again.id, again.made_at, again.spec) == (job.id, job.made_at, SHORT)
    other = store.open(tmp_path / "other", SPEC)
    questions = ExtractSpec(reader=ReaderSpec(reader="none"), columns=(Column(name="q", question="q"),))
    assert len({job.id, other.id, store.open(tmp_path / "out", questions).id}) == 3
    assert store.jobs()[0].spec == questions  # the last one opened comes first


def test_a_job_is_found_by_its_id_or_how_it_begins_or_its_folder(store: JobStore, tmp_path: Path) -> None:
    job = store.open(tmp_path / "out", SPEC)
    for ref in (job.id, job.id[:5], str(tmp_path / "out")):
        assert store.find(ref) == job
    other = store.open(tmp_path / "other", SPEC)
    for ref in ("", "nothing", "~nobody-of-this-name", "x" * 300):
        with pytest.raises(QuestionError, match=rf"there is no job .*{job.id} \(summarize into {tmp_path}/out\)") as e:
            store.find(ref)
        assert other.id in str(e.value)
    store.open(tmp_path / "out", ExtractSpec(reader=SPEC.reader, columns=()))
    with pytest.raises(QuestionError, match="may be several jobs"):
        store.find(str(tmp_path / "out"))


# Planning


def test_what_is_done_stays_unless_the_file_or_the_work_changed(store: JobStore, planned: Planned) -> None:
    job = planned(**ABC)
    for text in ABC:
        finish(store, job, text)
    before = {item.output_name: item for item in store.items(job)}
    assert states(store, planned(**ABC)) == {"a": "done", "b": "done", "c": "done"}
    assert {item.output_name: item for item in store.items(job)} == before

    job = planned(**ABC | {"b": "Buoys, painted", "d": "Docks"})
    after = {item.output_name: item for item in store.items(job)}
    assert states(store, job) == {"a": "done", "b": "waiting", "c": "done", "d": "waiting"}
    assert (after["a"], after["c"]) == (before["a"], before["c"])
    assert (after["b"].result, after["b"].tokens_read, after["b"].finished_at) == (None, 0, "")
    assert after["b"].sha256 != before["b"].sha256
    assert [after[name].position for name in "abcd"] == [1, 2, 3, 4]

    job = planned(SHORT, **ABC)
    assert states(store, job) == dict.fromkeys("abcd", "waiting") | {"a": "waiting"}
    assert all(item.result is None for item in store.items(job))


def test_the_layout_of_results_is_no_part_of_the_work(store: JobStore, planned: Planned) -> None:
    job = planned(a="Anchors")
    finish(store, job)
    job = planned(SPEC.model_copy(update={"template": "{{ text }}"}), a="Anchors")
    assert states(store, job) == {"a": "done"}
    assert job.spec.template == "{{ text }}"


def test_what_was_done_stays_where_the_file_is_gone_and_what_was_not_is_tried(
    store: JobStore, planned: Planned, tmp_path: Path
) -> None:
    job = planned(a="Anchors", b="Buoys")
    finish(store, job)
    gone = [Source(tmp_path / "a.txt", ""), Source(tmp_path / "b.txt", ""), Source(tmp_path / "never.txt", "")]
    assert store.preview(job.output, SPEC, gone) == ([gone[1].path, gone[2].path], 1)
    store.plan(job, gone)
    assert states(store, job) == {"a": "done", "b": "waiting", "never": "waiting"}


def test_output_names_are_unique_also_where_a_file_system_ignores_case_and_composition(
    store: JobStore, tmp_path: Path
) -> None:
    job = store.open(tmp_path / "out", SPEC)
    names = ["1/Report.txt", "2/report.txt", "3/REPORT.pdf", "4/report-2.txt", "5/caf\u00e9.txt", "6/cafe\u0301.txt"]
    for name in names:  # one after the other, as in several runs
        store.plan(job, [Source(tmp_path / name, "0")])
    made = [item.output_name for item in store.items(job)]
    assert made == ["Report", "report-2", "REPORT-3", "report-2-2", "caf\u00e9", "cafe\u0301-2"]


def test_preview_tells_what_plan_would_leave_and_changes_nothing(
    store: JobStore, planned: Planned, tmp_path: Path
) -> None:
    job = planned(**ABC)
    finish(store, job)
    before = store.jobs(), store.items(job)
    (tmp_path / "c.txt").write_text("Cranes, painted")
    sources = [with_sha256(tmp_path / f"{name}.txt") for name in "abc"]
    assert store.preview(job.output, SPEC, sources) == ([sources[1].path, sources[2].path], 1)
    assert store.preview(job.output, SHORT, sources) == ([s.path for s in sources], 0)
    assert store.preview(tmp_path / "new", SPEC, sources) == ([s.path for s in sources], 0)
    assert (store.jobs(), store.items(job)) == before


def test_two_may_plan_a_job_at_once(store: JobStore, database: JobDatabase, tmp_path: Path) -> None:
    job = store.open(tmp_path / "out", SPEC)
    sources = [Source(tmp_path / f"{n}.txt", str(n)) for n in range(40)]
    others = [store, JobStore(another(database))] * 2
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda s: s.plan(job, sources), others))
    assert [item.source for item in store.items(job)] == [str(source.path) for source in sources]
    close(others)


# Claiming


def another(database: JobDatabase) -> JobDatabase:
    """As another process has it: a connection of its own."""
    if isinstance(database, PostgresJobs):
        return PostgresJobs(database._url)
    return SqliteJobs(database._library)


def close(stores: list[JobStore]) -> None:
    for store in stores[1:]:
        if isinstance(store._database, PostgresJobs):
            store._database.close()


def test_eight_claimants_at_once_get_each_item_once(store: JobStore, database: JobDatabase, tmp_path: Path) -> None:
    job = store.open(tmp_path / "out", SPEC)
    store.plan(job, [Source(tmp_path / f"{n}.txt", str(n)) for n in range(50)])
    stores = [store, *(JobStore(another(database)) for _ in range(7))]

    def claim_all(store: JobStore) -> list[str]:
        found = []
        while item := store.claim(job, identity(), "here"):
            found.append(item.source)
            time.sleep(0)
        return found

    with ThreadPoolExecutor(8) as pool:
        claimed = [source for several in pool.map(claim_all, stores) for source in several]
    assert Counter(claimed) == Counter(str(tmp_path / f"{n}.txt") for n in range(50))
    assert {item.attempts for item in store.items(job)} == {1}
    close(stores)


def test_what_a_machine_worked_on_comes_first_to_it_and_last_to_the_others(store: JobStore, planned: Planned) -> None:
    job = planned(**ABC | {"d": "Docks"})
    items = [claim(store, job, node="red"), claim(store, job, node="blue")]
    for item in items:
        assert store.give_back(item)
    assert [claim(store, job, node="blue").output_name for _ in range(4)] == ["b", "c", "d", "a"]


def test_another_job_knows_where_a_document_was_read(store: JobStore, planned: Planned, tmp_path: Path) -> None:
    read = planned(**ABC)
    for _ in ABC:
        claim(store, read, node="red")
    job = store.open(tmp_path / "other", SPEC)
    store.plan(job, [with_sha256(tmp_path / "a.txt"), Source(tmp_path / "new.txt", "9")])
    assert claim(store, job, node="blue").output_name == "new"
    assert claim(store, job, node="red").output_name == "a"


# What becomes of items


def test_a_result_is_kept_as_it_is_and_adds_up(store: JobStore, planned: Planned) -> None:
    job = planned(**ABC)
    result = {"text": "Ölstände: 5 < 6 \u2028 \U0001f6a2", "null": "a\0b", "half": "\ud83d!", "cells": [1, None, 2.5]}
    item = claim(store, job)
    assert store.finish(item, Outcome(result, "m", 3, 1_000, 4_000_000_000 // 2, 60), 2.0)
    finish(store, job)
    assert store.fail(claim(store, job), "it's \0 damaged", lasting=True, seconds=0.25)
    done, _, failed = store.items(job)
    assert done.result == result | {"half": "?!"}  # half a character is no text
    assert (done.state, done.model, done.tokens_reused, done.draft) == ("done", "m", 2_000_000_000, "")
    assert (failed.state, failed.reason, failed.lasting) == ("failed", "it's  damaged", True)
    counts = store.counts(job)
    assert (counts.done, counts.failed, counts.total, counts.open) == (2, 1, 3, 0)
    assert (counts.n_pages, counts.tokens_read, counts.tokens_written, counts.seconds) == (5, 1_100, 67, 2.75)
    assert store.jobs()[0].counts == counts
    assert store.tokens_per_second("m") == 1_100 / 2.5
    assert store.tokens_per_second("other") is None


def test_since_gives_what_was_finished_then_or_later(store: JobStore, planned: Planned) -> None:
    job = planned(**ABC)
    finish(store, job)
    (first,) = store.items(job, since="2")
    finish(store, job)
    assert len(store.items(job, since=first.finished_at)) == 2
    last = max(item.finished_at for item in store.items(job))
    assert [item.output_name for item in store.items(job, since=last)] == ["b"]


LATE: dict[str, Callable[[JobStore, Job, Item, Planned], object]] = {
    "cancelled": lambda store, job, item, planned: store.cancel(job),
    "cancelled and put back": lambda store, job, item, planned: (store.cancel(job), store.reopen(job)),
    "taken back": lambda store, job, item, planned: store.take_back(job),
    "given to another": lambda store, job, item, planned: (store.take_back(job), claim(store, job)),
    "changed": lambda store, job, item, planned: planned(a="Anchors, painted"),
    "changed and begun": lambda store, job, item, planned: (planned(a="Anchors, painted"), claim(store, job)),
    "given back": lambda store, job, item, planned: store.give_back(item),
    "failed": lambda store, job, item, planned: store.fail(item, "damaged", lasting=True),
    "forgotten": lambda store, job, item, planned: store.forget([item.sha256]),
}


@pytest.mark.parametrize("what", LATE)
def test_who_comes_too_late_changes_nothing(store: JobStore, planned: Planned, what: str, gone: str) -> None:
    job = planned(a="Anchors")
    item = claim(store, job, gone)
    LATE[what](store, job, item, planned)
    before = store.items(job)
    assert store.finish(item, Outcome({"text": "late"}), 1.0) is False
    assert store.fail(item, "late", lasting=True) is False
    assert store.give_back(item) is False
    store.keep_draft(item, "late")
    assert store.items(job) == before


def test_a_file_that_changed_after_it_was_planned_is_known_by_what_was_read(
    store: JobStore, planned: Planned, tmp_path: Path
) -> None:
    job = planned(a="half a fi")
    item = claim(store, job)
    (tmp_path / "a.txt").write_text("half a file no more")
    mended = with_sha256(tmp_path / "a.txt")
    assert store.finish(item, Outcome({"sha256": mended.sha256}), 1.0)
    store.plan(job, [mended])
    (item,) = store.items(job)
    assert (item.state, item.sha256, item.attempts) == ("done", mended.sha256, 1)


def test_a_result_of_old_settings_is_not_taken_for_one_of_the_new(
    store: JobStore, planned: Planned, tmp_path: Path
) -> None:
    job = planned(a="half a fi")
    item = claim(store, job)
    (tmp_path / "a.txt").write_text("half a file no more")
    mended = with_sha256(tmp_path / "a.txt")
    changed = store.open(job.output, SHORT)  # another run begins, and has not planned yet
    assert store.finish(item, Outcome({"sha256": mended.sha256}), 1.0)
    store.plan(changed, [mended])
    assert states(store, job) == {"a": "waiting"}


def test_a_draft_goes_to_who_goes_on_and_not_to_a_changed_file(store: JobStore, planned: Planned) -> None:
    job = planned(a="Anchors")
    item = claim(store, job)
    store.keep_draft(item, '{"question": 1}')
    store.give_back(item)
    again = claim(store, job)
    assert (again.draft, again.attempts) == ('{"question": 1}', 2)
    assert store.give_back(again)
    assert claim(store, planned(a="Anchors, painted")).draft == ""


def test_cancel_leaves_the_rest_undone_and_reopen_puts_it_back(store: JobStore, planned: Planned) -> None:
    job = planned(**ABC | {"d": "Docks", "e": "Eddies"})
    finish(store, job)
    store.fail(claim(store, job), "the server was away", lasting=False)
    store.fail(claim(store, job), "damaged", lasting=True)
    claim(store, job)
    assert not store.is_cancelled(job)
    assert store.cancel(job) == 2
    assert store.is_cancelled(job)
    assert store.claim(job, identity(), "here") is None
    assert states(store, job) == {"a": "done", "b": "failed", "c": "failed", "d": "cancelled", "e": "cancelled"}
    assert store.cancel(job) == 0

    assert store.reopen(job) == 3
    assert not store.is_cancelled(job)
    assert states(store, job) == {"a": "done", "b": "waiting", "c": "failed", "d": "waiting", "e": "waiting"}
    assert store.reopen(job, lasting=True) == 1
    assert (states(store, job)["c"], store.items(job)[2].reason) == ("waiting", "")
    assert store.items(job)[0].result == {"text": "Told."}
    assert store.reopen(job, lasting=True) == 0


def test_forget_removes_a_document_s_items_from_all_jobs(store: JobStore, planned: Planned, tmp_path: Path) -> None:
    job = planned(**ABC)
    other = store.open(tmp_path / "other", SPEC)
    store.plan(other, [with_sha256(tmp_path / "a.txt"), Source(tmp_path / "missing.txt", "")])
    sha256 = with_sha256(tmp_path / "a.txt").sha256
    assert store.forget([sha256, "", "0"]) == 2
    assert list(states(store, job)) == ["b", "c"]
    assert list(states(store, other)) == ["missing"]


# Processes that go away


@pytest.fixture
def gone(elsewhere: Callable[[], Any]) -> str:
    """A process that was killed."""
    owner, process = elsewhere()
    process.kill()
    process.wait()
    return owner


def test_items_of_a_killed_process_are_set_free_and_those_of_the_living_are_not(
    store: JobStore, planned: Planned, elsewhere: Callable[[], Any]
) -> None:
    job = planned(**ABC)
    (dying, process), (living, _) = elsewhere(), elsewhere()
    items = [claim(store, job, owner) for owner in (dying, living, identity())]
    assert store.take_back(job) == 0
    process.kill()
    process.wait()
    assert store.take_back(job) == 1
    assert states(store, job) == {"a": "waiting", "b": "running", "c": "running"}
    assert store.items(job)[0].interrupted == 1
    assert store.finish(claim(store, job), Outcome({}), 0)
    assert all(store.finish(item, Outcome({}), 0) for item in items[1:])


def test_a_killed_process_that_nobody_waited_for_is_gone_too(
    store: JobStore, planned: Planned, elsewhere: Callable[[], Any]
) -> None:
    job = planned(a="Anchors")
    owner, process = elsewhere()
    claim(store, job, owner)
    process.kill()
    for _ in range(100):  # a zombie now
        if store.take_back(job):
            break
        time.sleep(0.05)
    assert states(store, job) == {"a": "waiting"}


def test_a_process_on_another_machine_is_gone_when_it_gives_no_sign(
    store: JobStore, database: JobDatabase, planned: Planned
) -> None:
    job = planned(**ABC)
    quiet, alive = '["far", 1, "boot 1"]', '["far", 2, "boot 2"]'
    claim(store, job, quiet)
    claim(store, job, alive)
    assert store.take_back(job) == 0
    with database.transaction() as execute:
        long_ago = datetime.now(UTC) - UNSEEN - timedelta(seconds=1)
        execute("UPDATE job_items SET seen_at = ? WHERE job_id = ?", long_ago.isoformat(), job.id)
    store.sign_of_life(job, alive)
    assert store.take_back(job) == 1
    assert states(store, job) == {"a": "waiting", "b": "running", "c": "waiting"}


def test_a_file_that_ends_every_process_fails_and_is_tried_again_only_when_asked(
    store: JobStore, planned: Planned, gone: str
) -> None:
    job = planned(a="Anchors")
    for n in range(MAX_INTERRUPTED):
        assert states(store, job) == {"a": "waiting"}, n
        claim(store, job, gone)
        assert store.take_back(job) == 1
    (item,) = store.items(job)
    assert (item.state, item.lasting, item.interrupted) == ("failed", True, MAX_INTERRUPTED)
    assert f"went away {MAX_INTERRUPTED} times" in item.reason
    assert store.reopen(job) == 0
    assert store.reopen(job, lasting=True) == 1
    assert store.items(job)[0].interrupted == 0


class Between:
    """A database in which others do something right after the next statement that begins with `word`."""

    take_one = ""

    def __init__(self, database: JobDatabase, word: str, others: Callable[[], None]) -> None:
        self._database, self._word, self._others = database, word, others

    @contextmanager
    def transaction(self) -> Iterator[Execute]:
        with self._database.transaction() as execute:

            def execute_and(sql: str, *values: object) -> list[dict[str, Any]]:
                rows = execute(sql, *values)
                if sql.startswith(self._word):
                    self._others()
                return rows

            yield execute_and


@pytest.mark.postgres
def test_what_another_took_back_and_did_meanwhile_stays_done(jobs_url: str, tmp_path: Path, gone: str) -> None:
    mine, theirs = PostgresJobs(jobs_url), PostgresJobs(jobs_url)
    store = JobStore(theirs)
    job = store.open(tmp_path / "out", SPEC)
    store.plan(job, [Source(tmp_path / "a.txt", "0")])
    claim(store, job, gone)

    def others() -> None:
        assert store.take_back(job) == 1
        finish(store, job)

    assert JobStore(Between(mine, "SELECT", others)).take_back(job) == 0
    (item,) = store.items(job)
    assert (item.state, item.result, item.interrupted) == ("done", {"text": "Told."}, 1)
    mine.close()
    theirs.close()


# At random

STEPS = ["claim", "claim", "finish", "finish", "fail", "give back", "draft", "take back", "cancel", "reopen", "plan"]


@pytest.mark.parametrize("seed", range(6))
def test_at_random_each_item_is_in_one_state_and_what_is_done_stays_so(
    store: JobStore, planned: Planned, seed: int, gone: str
) -> None:
    """A model of what must hold beside the store: who may finish what, and what was kept."""
    rng = random.Random(seed)
    texts = {f"d{n}": f"Text {n}" for n in range(6)}
    job = planned(**texts)
    claims: list[tuple[Item, bool]] = []  # all there ever were, with whether its process is gone
    holder: dict[str, Item] = {}
    kept: dict[str, int] = {}  # of the items that are done, the attempt that did it
    for _ in range(120):
        step = rng.choice(STEPS)
        if step == "claim":
            is_gone = rng.random() < 0.4
            item = store.claim(job, gone if is_gone else identity(), rng.choice(["red", "blue"]))
            if item is not None:
                assert item.source not in holder
                assert item.source not in kept
                holder[item.source] = item
                claims.append((item, is_gone))
        elif step in ("finish", "fail", "give back", "draft") and claims:
            item, _ = rng.choice(claims)
            holds = holder.get(item.source) == item
            if step == "draft":
                store.keep_draft(item, "so far")
                continue
            if step == "finish":
                held = store.finish(item, Outcome({"attempt": item.attempts}), 1.0)
                if holds:
                    kept[item.source] = item.attempts
            elif step == "fail":
                held = store.fail(item, "bad", lasting=rng.random() < 0.5)
            else:
                held = store.give_back(item)
            assert held is holds
            if holds:
                del holder[item.source]
        elif step == "take back":
            lost = [item for item, is_gone in claims if is_gone and holder.get(item.source) == item]
            assert store.take_back(job) == len(lost)
            for item in lost:
                del holder[item.source]
        elif step == "cancel":
            store.cancel(job)
            holder.clear()
        elif step == "reopen":
            store.reopen(job, lasting=rng.random() < 0.5)
        elif step == "plan":
            if rng.random() < 0.3:
                name = rng.choice(list(texts))
                texts[name] += "."
                changed = str(job.output.parent / f"{name}.txt")
                holder.pop(changed, None)
                kept.pop(changed, None)
            planned(**texts)
        items = store.items(job)
        assert len(items) == 6
        assert {i.source for i in items if i.state == "running"} == set(holder)
        assert {i.source: i.result for i in items if i.state == "done"} == {
            source: {"attempt": attempt} for source, attempt in kept.items()
        }
        assert all(i.result is None for i in items if i.state != "done")
        counts = store.counts(job)
        assert {s: n for s in ("waiting", "running", "done", "failed", "cancelled") if (n := getattr(counts, s))} == (
            Counter(i.state for i in items)
        )


# Databases


@pytest.mark.postgres
def test_a_connection_that_was_ended_while_it_lay_idle_is_made_anew(
    server: Server, jobs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longleaf.app.jobs.database._TRUSTED_S", 0.0)
    database = PostgresJobs(jobs_url)
    store = JobStore(database)
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'fresh'")
    assert store.jobs() == []
    database.close()


def test_a_postgresql_that_is_not_there_is_said_and_its_password_is_not(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="where the jobs are kept") as raised:
        PostgresJobs(f"postgresql://longleaf:secret@/jobs?host={tmp_path}")
    assert "secret" not in str(raised.value)


def test_a_transaction_that_fails_leaves_nothing_behind(
    store: JobStore, database: JobDatabase, planned: Planned
) -> None:
    job = planned(a="Anchors")

    def change() -> None:
        with database.transaction() as execute:
            execute("UPDATE job_items SET state = 'done' WHERE job_id = ?", job.id)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change()
    assert states(store, job) == {"a": "waiting"}


def test_a_sqlite_of_two_processes_is_one(library: Library, tmp_path: Path) -> None:
    store = JobStore(SqliteJobs(library))
    job = store.open(tmp_path / "out", SPEC)
    store.plan(job, [Source(tmp_path / "a.txt", "0")])
    with Library(library.home) as opened:
        assert JobStore(SqliteJobs(opened)).items(job) == store.items(job)
        assert JobStore(SqliteJobs(opened)).find(job.id) == store.find(job.id)
