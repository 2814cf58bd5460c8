"""Questions of several people at one model: whose turn it is, what Stop stops, and what is told of it meanwhile."""

import gc
import logging
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, BaseMessage

from longleaf.app import work_queue as work_queue_module
from longleaf.app.question_queue import QuestionQueue
from longleaf.app.work_queue import KEEP_FINISHED, Control, Job, WorkQueue, WorkStopped
from longleaf.errors import ReaderError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer

PATIENCE_S = 5.0
CRANE = "Where was the largest crane built?"
REVENUE = "What was the total revenue in 2024?"


class GatedReader:
    """Reads and writes when it is let, and looks at `should_stop` while it is not."""

    model_name = "gated"
    context_tokens = 600

    def __init__(self) -> None:
        self.reading, self.writing = SimpleQueue[str](), SimpleQueue[str]()
        self.may_read, self.may_write = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def open(self) -> None:
        self.may_read.set()
        self.may_write.set()

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def invoke(self, messages: Sequence[BaseMessage], config: Any = None, **options: Any) -> AIMessageChunk:
        *_, last = self.stream(messages, config, **options)
        return last

    def stream(
        self, messages: Sequence[BaseMessage], config: Any = None, *, on_read: Any, should_stop: Any, **_: Any
    ) -> Iterator[AIMessageChunk]:
        if self.error:
            raise self.error
        cancelled = AIMessageChunk(content="", response_metadata={"finish_reason": "cancelled"})
        on_read(20, 80, 3.0)
        self.reading.put(str(messages[-1].content))
        if not _opened(self.may_read, should_stop):
            yield cancelled
            return
        on_read(80, 80, 0.0)
        yield AIMessageChunk(content="It was built in ")
        self.writing.put(str(messages[-1].content))
        if not _opened(self.may_write, should_stop):
            yield cancelled
            return
        yield AIMessageChunk(content="Odense in 1998.")

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        return {"yes": 0.9, "no": 0.1}


def _opened(gate: threading.Event, should_stop: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not gate.wait(0.005):
        if should_stop():
            return False
        assert time.monotonic() < end, "nobody opened the gate"
    return True


@pytest.fixture
def document(library: Library, report: Path) -> Document:
    return library.add(report).document


@pytest.fixture
def reader() -> GatedReader:
    return GatedReader()


@pytest.fixture
def answerer(library: Library, reader: GatedReader) -> Answerer:
    return Answerer(library, reader, embedder=None)


@pytest.fixture
def queue(answerer: Answerer) -> Iterator[QuestionQueue]:
    queue = QuestionQueue(answerer)
    yield queue
    queue.close(PATIENCE_S)


@pytest.fixture
def work_queue() -> Iterator[WorkQueue]:
    queue = WorkQueue()
    yield queue
    queue.close(PATIENCE_S)


def state(job: Job[Any]) -> str:
    return job.view().state


def titles(jobs: Sequence[Job[Any]]) -> list[str]:
    """In the order in which their turns came."""
    assert all(job.wait(PATIENCE_S) for job in jobs)
    begun = [(job.view().started_at, job.title) for job in jobs]
    return [title for at, title in sorted(begun) if at]


class Held:
    """Work that goes on until it is let go, or stopped."""

    def __init__(self) -> None:
        self.began, self.gate = threading.Event(), threading.Event()

    def __call__(self, control: Control) -> str:
        self.began.set()
        if not _opened(self.gate, control.should_stop):
            raise WorkStopped("half")
        return "whole"


# --- one question ---------------------------------------------------------------------------------------------------


def test_an_answered_question_has_the_answer_that_asking_directly_gives(
    queue: QuestionQueue, reader: GatedReader, answerer: Answerer, document: Document
) -> None:
    reader.open()
    job = queue.ask(CRANE, [document], owner="anna", route="retrieval", pages=(1, 1))
    assert job.wait(PATIENCE_S)
    view = job.view()
    assert (view.state, view.place, view.error, view.finished) == ("answered", None, "", True)
    assert view.answer is not None
    direct = answerer.ask(CRANE, [document], route="retrieval", pages=(1, 1))
    assert view.answer.citations == direct.citations != ()
    assert view.answer.route == direct.route
    assert view.answer.receipt.pages_not_asked == 1
    assert (view.title, view.owner, view.kind) == (CRANE, "anna", "question")
    assert view.started_at
    assert view.finished_at
    assert view.asked_at <= view.started_at <= view.finished_at


def test_what_is_read_and_what_is_written_shows_while_it_goes_on(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    job = queue.ask(CRANE, [document], owner="anna")
    assert CRANE in reader.reading.get(timeout=PATIENCE_S)
    view = job.view()
    assert (view.state, view.stage, view.done, view.total) == ("answering", "gated reads (tokens)", 20, 80)
    assert (view.draft, view.answer, view.finished_at) == ("", None, None)
    reader.may_read.set()
    reader.writing.get(timeout=PATIENCE_S)
    view = job.view()
    assert (view.stage, view.draft, view.finished) == ("gated answers", "It was built in ", False)
    reader.may_write.set()
    assert job.wait(PATIENCE_S)
    assert (job.view().stage, job.view().draft) == ("", "It was built in Odense in 1998.")


def test_a_job_is_found_by_its_id_as_a_page_does_that_is_loaded_again(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    anna = queue.ask(CRANE, [document], owner="anna")
    bo = queue.ask(CRANE, [document], owner="bo")
    assert queue.find(anna.id) is anna
    assert queue.find("no such id") is None
    assert queue.jobs() == [anna, bo]
    assert queue.jobs("bo") == [bo]
    assert [view.id for view in queue.views("bo")] == [bo.id]
    assert anna.id != bo.id


# --- turns and places -----------------------------------------------------------------------------------------------


def test_one_question_of_another_comes_before_the_second_of_five(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    of_a = [queue.ask(f"{CRANE} A{i}", [document], owner="a") for i in range(5)]
    reader.reading.get(timeout=PATIENCE_S)
    of_b = queue.ask(f"{CRANE} B0", [document], owner="b")
    assert [job.view().place for job in [*of_a, of_b]] == [None, 2, 3, 4, 5, 1]
    reader.open()
    assert [title[-2:] for title in titles([*of_a, of_b])] == ["A0", "B0", "A1", "A2", "A3", "A4"]


def test_turns_go_round_among_those_who_wait_and_places_go_down(work_queue: WorkQueue) -> None:
    first = Held()
    work_queue.submit("test", "C0", first, owner="c")
    assert first.began.wait(PATIENCE_S)
    held = {name: Held() for name in ("A0", "A1", "A2", "B0", "C1", "B1")}
    jobs = {name: work_queue.submit("test", name, work, owner=name[0]) for name, work in held.items()}
    order = ["A0", "B0", "C1", "A1", "B1", "A2"]
    running = first
    for n_begun, name in enumerate(order):
        assert [jobs[later].view().place for later in order[n_begun:]] == list(range(1, 7 - n_begun))
        running.gate.set()
        running = held[name]
        assert running.began.wait(PATIENCE_S)
        assert jobs[name].view().place is None
    assert [view.place for view in work_queue.views()] == [None] * 7
    running.gate.set()


def test_two_workers_do_two_things_at_once_and_serve_first_whoever_has_none_being_done() -> None:
    queue = WorkQueue(n_workers=2)
    held = [Held() for _ in range(4)]
    for work in held[:3]:
        queue.submit("test", "of a", work, owner="a")
    assert held[0].began.wait(PATIENCE_S)
    assert held[1].began.wait(PATIENCE_S)  # nobody else is there
    queue.submit("test", "of b", held[3], owner="b")
    held[0].gate.set()
    assert held[3].began.wait(PATIENCE_S)
    assert not held[2].began.is_set()
    held[1].gate.set()
    assert held[2].began.wait(PATIENCE_S)
    queue.close(PATIENCE_S)


def test_there_has_to_be_a_worker() -> None:
    with pytest.raises(ValueError, match="not 0"):
        WorkQueue(n_workers=0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "d", "next", "next", "drop"]), max_size=30), st.randoms())
def test_nobody_is_passed_twice_by_the_same_person_and_each_is_served_in_the_order_of_asking(
    events: list[str], chance: random.Random
) -> None:
    queue = WorkQueue()
    began, gate = SimpleQueue[str](), threading.Semaphore(0)

    def work(_: Control) -> None:
        began.put("")
        assert gate.acquire(timeout=PATIENCE_S)

    waiting: list[Job[None]] = []
    running: Job[None] | None = None
    passed_by: dict[str, Counter[str]] = {}  # who was begun since this owner's next thing stands at the head
    places: dict[str, int] = {}  # of each owner's next thing, when last seen

    def heads() -> dict[str, Job[None]]:
        return {job.owner: job for job in reversed(waiting) if not running or job.owner != running.owner}

    def go_on() -> None:
        """Let what is being done end, and see what is begun."""
        nonlocal running
        expected = min(waiting, key=lambda job: job.view().place or 0) if waiting else None
        if running:
            gate.release()
            assert running.wait(PATIENCE_S)
            running = None
        if expected is None:
            return
        began.get(timeout=PATIENCE_S)
        assert expected.view().state == "answering"  # the first place was the next turn
        running = expected
        assert running is next(job for job in waiting if job.owner == expected.owner)
        waiting.remove(running)
        passed_by.pop(running.owner, None)
        for counts in passed_by.values():
            counts[running.owner] += 1
            assert counts[running.owner] <= 1

    try:
        for event in [*events, *["next"] * (len(events) + 1)]:
            if event == "next":
                go_on()
            elif event == "drop" and waiting:
                dropped = chance.choice(waiting)
                dropped.stop()
                assert dropped.view().state == "stopped"
                waiting.remove(dropped)
            elif event != "drop":
                waiting.append(queue.submit("test", event, work, owner=event))
                if running is None:
                    go_on()
            now = heads()
            passed_by = {owner: passed_by.get(owner, Counter()) for owner in now}
            seen = {owner: job.view().place for owner, job in now.items()}
            if event != "drop":  # the next thing of somebody who drops one stands where that stood, or later
                for owner, place in seen.items():
                    assert place is not None
                    assert place <= places.get(owner, place)
            places = {owner: place for owner, place in seen.items() if place}
            assert sorted(job.view().place or 0 for job in waiting) == list(range(1, len(waiting) + 1))
        assert not waiting
        assert running is None
    finally:
        for _ in range(40):
            gate.release()
        queue.close(PATIENCE_S)


# --- stop -----------------------------------------------------------------------------------------------------------


def test_a_question_that_waits_is_stopped_at_once_and_the_others_move_up(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    first, second, third = (queue.ask(CRANE, [document], owner=owner) for owner in ("anna", "bo", "cleo"))
    reader.reading.get(timeout=PATIENCE_S)
    second.stop()
    assert second.wait(0)
    view = second.view()
    assert (view.state, view.place, view.started_at, view.answer) == ("stopped", None, None, None)
    assert view.finished_at
    assert third.view().place == 1
    reader.open()
    assert first.wait(PATIENCE_S)
    assert third.wait(PATIENCE_S)
    assert (state(first), state(second), state(third)) == ("answered", "stopped", "answered")
    assert reader.reading.qsize() == 1  # the third; the second was never read for


@pytest.mark.parametrize("while_writing", [False, True])
def test_a_question_being_answered_is_stopped_and_the_next_one_is_not(
    queue: QuestionQueue, reader: GatedReader, document: Document, while_writing: bool
) -> None:
    if while_writing:
        reader.may_read.set()
    first = queue.ask(CRANE, [document], owner="anna")
    second = queue.ask(CRANE, [document], owner="bo")
    (reader.writing if while_writing else reader.reading).get(timeout=PATIENCE_S)
    first.stop()
    assert first.wait(PATIENCE_S)
    view = first.view()
    assert (view.state, view.stopping, view.draft) == ("stopped", False, "It was built in " if while_writing else "")
    assert view.answer is not None
    assert view.answer.stopped
    assert view.answer.citations == ()
    reader.open()
    assert second.wait(PATIENCE_S)
    assert state(second) == "answered"


def test_work_that_was_asked_to_stop_says_so_until_it_has(work_queue: WorkQueue) -> None:
    began, gate = threading.Event(), threading.Event()

    def deaf(control: Control) -> str:
        began.set()
        assert gate.wait(PATIENCE_S)
        return "done all the same"

    job = work_queue.submit("test", "deaf", deaf, owner="anna")
    assert began.wait(PATIENCE_S)
    assert not job.view().stopping
    job.stop()
    assert (state(job), job.view().stopping) == ("answering", True)
    assert not job.wait(0)
    gate.set()
    assert job.wait(PATIENCE_S)
    assert (state(job), job.view().result, job.view().stopping) == ("answered", "done all the same", False)


def test_stopping_what_is_over_changes_nothing(queue: QuestionQueue, reader: GatedReader, document: Document) -> None:
    reader.open()
    job = queue.ask(CRANE, [document], owner="anna")
    assert job.wait(PATIENCE_S)
    before = job.view()
    job.stop()
    assert job.view() == before


def test_work_may_end_where_it_is_asked_to_and_keeps_what_there_is(work_queue: WorkQueue) -> None:
    held = Held()
    job = work_queue.submit("test", "held", held, owner="anna")
    assert held.began.wait(PATIENCE_S)
    job.stop()
    assert job.wait(PATIENCE_S)
    assert (state(job), job.view().result) == ("stopped", "half")

    ready = threading.Event()

    def polite(control: Control) -> None:
        ready.set()
        while True:
            control.stop_if_asked()
            time.sleep(0.001)

    job2 = work_queue.submit("test", "polite", polite, owner="anna")
    assert ready.wait(PATIENCE_S)
    job2.stop()
    assert job2.wait(PATIENCE_S)
    assert (state(job2), job2.view().result) == ("stopped", None)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_an_error_of_ours_is_told_as_it_stands_and_the_next_question_is_answered(
    queue: QuestionQueue, reader: GatedReader, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    reader.open()
    reader.error = ReaderError("gpt-9 can't be reached: check the network, then ask again")
    failed = queue.ask(CRANE, [document], owner="anna")
    assert failed.wait(PATIENCE_S)
    assert (state(failed), failed.view().error) == ("failed", str(reader.error))
    assert failed.view().answer is None
    assert not caplog.records
    reader.error = None
    job = queue.ask(CRANE, [document], owner="anna")
    assert job.wait(PATIENCE_S)
    assert state(job) == "answered"


@pytest.mark.parametrize("error", [KeyError("secret"), SystemExit(3), MemoryError()])
def test_an_unforeseen_error_is_named_and_logged_and_the_thread_goes_on(
    work_queue: WorkQueue, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def work(_: Control) -> None:
        raise error

    failed = work_queue.submit("summary", "harbour.pdf", work, owner="anna")
    assert failed.wait(PATIENCE_S)
    name = type(error).__name__
    expected = f"An error that Longleaf did not foresee ({name}); the server's log has the details."
    assert (state(failed), failed.view().error) == ("failed", expected)
    (record,) = caplog.records
    assert "summary 'harbour.pdf'" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[1] is error
    job = work_queue.submit("test", "after", lambda _: 7, owner="anna")
    assert job.wait(PATIENCE_S)
    assert job.view().result == 7


def test_a_question_that_can_not_be_asked_fails_when_its_turn_comes(
    queue: QuestionQueue, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [queue.ask("  ", [document], owner="anna"), queue.ask(CRANE, [], owner="anna")]
    assert all(job.wait(PATIENCE_S) for job in jobs)
    assert [state(job) for job in jobs] == ["failed", "failed"]
    assert "empty" in jobs[0].view().error
    assert "no document" in jobs[1].view().error
    assert not caplog.records


def test_a_document_removed_while_the_question_waited_is_named(
    queue: QuestionQueue, reader: GatedReader, library: Library, document: Document, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("The quay at Odense is 400 metres long.")
    gone = library.add(other).document
    first = queue.ask(CRANE, [document], owner="anna")
    reader.reading.get(timeout=PATIENCE_S)
    second = queue.ask("How long is the quay?", [document, gone], owner="bo")
    library.remove(gone)
    reader.open()
    assert second.wait(PATIENCE_S)
    assert second.view().error.startswith("other.txt: it was removed from the library")
    assert state(first) == "answered"


# --- what is told, and what is kept -----------------------------------------------------------------------------------


def test_on_change_is_told_each_step_in_order_and_before_waiting_ends(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    seen: list[tuple[str, str, str]] = []
    reader.open()

    def keep(job: Job[Any]) -> None:
        view = job.view()
        if view.finished:
            time.sleep(0.05)  # as slow as a disk
        seen.append((view.state, view.stage, view.draft))

    assert queue.ask(CRANE, [document], owner="anna", on_change=keep).wait(PATIENCE_S)
    assert seen == [
        ("answering", "", ""),
        ("answering", "searching", ""),
        ("answering", "cutting into passages", ""),
        ("answering", "counting tokens", ""),
        ("answering", "searching", ""),
        ("answering", "gated reads (tokens)", ""),
        ("answering", "gated answers", ""),
        ("answering", "gated answers", "It was built in "),
        ("answering", "gated answers", "It was built in Odense in 1998."),
        ("answered", "", "It was built in Odense in 1998."),
    ]


def test_on_change_hears_of_a_stop_while_waiting_and_its_own_errors_hurt_nobody(
    queue: QuestionQueue, reader: GatedReader, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def fail(job: Job[Any]) -> None:
        seen.append(state(job))
        raise OSError("disk full")

    first = queue.ask(CRANE, [document], owner="anna")
    reader.reading.get(timeout=PATIENCE_S)
    second = queue.ask(REVENUE, [document], owner="bo", on_change=fail)
    second.stop()
    assert seen == ["stopped"]
    assert second.wait(0)
    assert "disk full" in caplog.text
    reader.open()
    assert first.wait(PATIENCE_S)
    third = queue.ask(CRANE, [document], owner="bo", on_change=fail)
    assert third.wait(PATIENCE_S)
    assert state(third) == "answered"


def test_the_last_finished_jobs_are_kept_and_none_that_waits_is_dropped(work_queue: WorkQueue) -> None:
    done = [work_queue.submit("test", str(i), lambda _: None, owner="anna") for i in range(KEEP_FINISHED + 10)]
    assert all(job.wait(PATIENCE_S) for job in done)
    assert work_queue.jobs() == done[10:]
    assert work_queue.find(done[9].id) is None
    assert work_queue.find(done[10].id) is done[10]
    held = Held()
    running = work_queue.submit("test", "held", held, owner="anna")
    waiting = [work_queue.submit("test", str(i), lambda _: None, owner="bo") for i in range(KEEP_FINISHED + 5)]
    assert work_queue.jobs("bo") == waiting
    assert held.began.wait(PATIENCE_S)
    assert work_queue.find(running.id) is running
    held.gate.set()


def test_a_job_can_be_forgotten_when_it_is_over(work_queue: WorkQueue) -> None:
    gate = threading.Event()
    done = work_queue.submit("test", "done", lambda _: None, owner="anna")
    assert done.wait(PATIENCE_S)
    held = work_queue.submit("test", "held", lambda _: gate.wait(PATIENCE_S), owner="anna")
    for job in (done, held):
        work_queue.forget(job.id)
        work_queue.forget(job.id)
    assert work_queue.jobs() == [held]
    assert work_queue.find(done.id) is None
    gate.set()
    assert held.wait(PATIENCE_S)
    for n in range(KEEP_FINISHED + 1):
        assert work_queue.submit("test", f"number {n}", lambda _: None, owner="anna").wait(PATIENCE_S)
    assert len(work_queue.jobs()) == KEEP_FINISHED


def test_what_a_finished_job_was_made_of_is_let_go(work_queue: WorkQueue) -> None:
    class Large:
        pass

    large = Large()
    gone = weakref.ref(large)

    def work(_: Control, kept: Large = large) -> None: ...

    def on_change(_: Job[None], kept: Large = large) -> None: ...

    job = work_queue.submit("test", "large", work, owner="anna", on_change=on_change)
    del work, on_change
    assert job.wait(PATIENCE_S)
    del large
    gc.collect()
    assert gone() is None


def test_seconds_left_come_from_the_speed_since_the_first_report(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(work_queue_module, "time", SimpleNamespace(monotonic=lambda: now))
    pace = work_queue_module._Pace()
    pace.report("reading", 1_000, 5_000, None)  # so much came from an earlier reading: no speed is known
    assert pace.seconds_left() is None
    now = 110.0
    pace.report("reading", 2_000, 5_000, None)
    assert pace.seconds_left() == pytest.approx(30)
    now = 118.0
    assert pace.seconds_left() == pytest.approx(22)  # time goes by between two reports
    now = 200.0
    assert pace.seconds_left() == 0
    pace.report("embedding", 0, 10, None)
    assert pace.seconds_left() is None  # another stage has another speed
    pace.report("embedding", 1, 10, 7.0)
    assert pace.seconds_left() == 7  # the work knows better
    pace.report("embedding", 10, 10, None)
    assert pace.seconds_left() is None


def test_work_tells_its_progress_through_its_control(work_queue: WorkQueue) -> None:
    told, gate = threading.Event(), threading.Event()

    def work(control: Control) -> int:
        control.progress("section 2 of 5", 2, 5, seconds_left=60)
        control.draft("One. ")
        control.draft("Two.")
        told.set()
        assert gate.wait(PATIENCE_S)
        return 3

    job = work_queue.submit("summary", "harbour.pdf", work, owner="anna")
    assert told.wait(PATIENCE_S)
    view = job.view()
    assert (view.kind, view.title, view.stage, view.done, view.total) == (
        "summary",
        "harbour.pdf",
        "section 2 of 5",
        2,
        5,
    )
    assert view.seconds_left == pytest.approx(60, abs=PATIENCE_S)
    assert view.draft == "One. Two."
    gate.set()
    assert job.wait(PATIENCE_S)
    assert (job.view().result, job.view().answer, job.view().seconds_left) == (3, None, None)


# --- the end --------------------------------------------------------------------------------------------------------


def test_closing_while_a_question_is_answered_stops_it_and_all_that_wait(
    queue: QuestionQueue, reader: GatedReader, document: Document
) -> None:
    kept: dict[str, str] = {}
    jobs = [
        queue.ask(CRANE, [document], owner=owner, on_change=lambda job: kept.update({job.owner: state(job)}))
        for owner in ("anna", "bo", "cleo")
    ]
    reader.reading.get(timeout=PATIENCE_S)
    queue.close()
    assert [state(job) for job in jobs] == ["stopped"] * 3
    assert kept == dict.fromkeys(("anna", "bo", "cleo"), "stopped")
    assert not any(thread.is_alive() for thread in queue._threads)
    with pytest.raises(RuntimeError, match="closed"):
        queue.ask(CRANE, [document], owner="anna")
    assert len(queue.jobs()) == 3
    queue.close()


def test_closing_does_not_wait_longer_than_it_is_told(work_queue: WorkQueue) -> None:
    began, gate = threading.Event(), threading.Event()

    def deaf(_: Control) -> None:
        began.set()
        gate.wait(PATIENCE_S)

    work_queue.submit("test", "deaf", deaf, owner="anna")
    assert began.wait(PATIENCE_S)
    begun = time.monotonic()
    work_queue.close(0.05)
    assert time.monotonic() - begun < PATIENCE_S / 2
    gate.set()


def test_many_threads_that_submit_and_stop_leave_every_job_over_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    n_workers = 3
    queue = WorkQueue(n_workers=n_workers)
    guard, at_once, most = threading.Lock(), 0, 0
    ended: Counter[str] = Counter()

    def work(control: Control) -> None:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.0005)
        with guard:
            at_once -= 1
        control.progress("at it", 1, 2)
        control.stop_if_asked()

    def count(job: Job[None]) -> None:
        if job.view().finished:
            with guard:
                ended[job.id] += 1

    jobs: list[Job[None]] = []

    def person(seed: int) -> None:
        chance = random.Random(seed)
        mine = []
        for i in range(20):
            mine.append(queue.submit("test", str(i), work, owner=f"owner {seed % 4}", on_change=count))
            if chance.random() < 0.3:
                chance.choice(mine).stop()
            queue.views()
        with guard:
            jobs.extend(mine)

    people = [threading.Thread(target=person, args=(seed,)) for seed in range(8)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join(PATIENCE_S)
    assert len(jobs) == 160
    assert all(job.wait(PATIENCE_S) for job in jobs)
    states = Counter(state(job) for job in jobs)
    assert set(states) == {"answered", "stopped"}
    assert ended == Counter(job.id for job in jobs)
    assert 1 <= most <= n_workers
    assert not queue._waiting
    assert not queue._running
    queue.close(PATIENCE_S)
    assert not any(thread.is_alive() for thread in queue._threads)
    assert not caplog.records
