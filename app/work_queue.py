"""Long work of several people at one server: done one piece after the other in threads of the server's.

A job lives in the server, not in a browser: a page that is loaded again finds it by its id. Turns go round among the
people who wait, and each of them is served in the order of asking, so five pieces of work of one person do not hold up
the single one of another.

The queue knows nothing of what the work is and keeps nothing on disk; who wants to keep what becomes of a job is called
by `on_change`.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Generic, Literal, TypeVar

from longleaf.errors import LongleafError
from longleaf.retrieval import Answer

__all__ = ["Control", "Job", "JobView", "State", "WorkQueue", "WorkStopped", "error_text"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

State = Literal["waiting", "answering", "answered", "stopped", "failed"]
"""Of any kind of work: "answering" is being done, "answered" is done."""

KEEP_FINISHED = 200
"""Jobs that can still be found when they are over; the oldest go first."""


class WorkStopped(Exception):  # noqa: N818  it is no error
    """Raised by work that ends early because it was asked to stop.

    Args:
        result: What there is so far.
    """

    def __init__(self, result: Any = None) -> None:
        super().__init__("stopped as asked")
        self.result = result


def error_text(error: BaseException, doing: str) -> str:
    """What a person is told of an error; one that was not foreseen goes to the log with its traceback.

    Args:
        error: What was raised.
        doing: What failed, for the log: "asking 'How many cranes?'".
    """
    if isinstance(error, LongleafError):
        return str(error)
    logger.error("%s failed", doing, exc_info=error)
    return f"An error that Longleaf did not foresee ({type(error).__name__}); the server's log has the details."


@dataclass(frozen=True, slots=True)
class JobView(Generic[T]):
    """How a job stands at one moment.

    Attributes:
        id: Never given twice, not even by another run of the server.
        kind: "question", or what `WorkQueue.submit` was told.
        title: What is done, in a person's words: the question, a file's name.
        owner: Whose it is.
        state: Where it is on its way.
        place: How many jobs are to be begun before it is, counting itself; None when it does not wait.
        stopping: Whether it was asked to stop and has not ended yet.
        stage: What is being done, in a few words; "" before and after.
        done: Parts of the stage that are done.
        total: Parts of the stage in all; 0 where that is not known.
        seconds_left: Of the stage; None while that is not known.
        draft: What was written so far, of which nothing is checked.
        result: What came of it; a stopped job may have one too.
        error: Why it failed.
        asked_at: UTC, as are the others.
        started_at: When its turn came.
        finished_at: When it ended, in whatever way.
    """

    id: str
    kind: str
    title: str
    owner: str
    state: State
    place: int | None
    stopping: bool
    stage: str
    done: int
    total: int
    seconds_left: float | None
    draft: str
    result: T | None
    error: str
    asked_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def answer(self) -> Answer | None:
        """The result where it is an answer."""
        return self.result if isinstance(self.result, Answer) else None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("answered", "stopped", "failed")


class Job(Generic[T]):
    """Work that waits for its turn, is being done or is over. Made by a queue; any thread may use it.

    Attributes:
        id: As in `JobView`, and so are the other two.
        title: What is done.
        owner: Whose it is.
    """

    def __init__(
        self,
        queue: "WorkQueue",
        kind: str,
        title: str,
        owner: str,
        work: "Callable[[Control], T]",
        on_change: "Callable[[Job[T]], None] | None",
    ) -> None:
        self.id, self.kind, self.title, self.owner = uuid.uuid4().hex, kind, title, owner
        self._queue = queue
        self._work: Callable[[Control], T] | None = work
        self._on_change = on_change
        self._over = threading.Event()
        # All below is read and written under the queue's lock, but for the flag, which is only ever set.
        self._state: State = "waiting"
        self._stop_asked = False
        self._stage, self._done, self._total = "", 0, 0
        self._pace = _Pace()
        self._draft = ""
        self._result: T | None = None
        self._error = ""
        self._asked_at = _now()
        self._started_at: datetime | None = None
        self._finished_at: datetime | None = None

    def view(self) -> JobView[T]:
        """How it stands now."""
        with self._queue._lock:
            return self._view(self._queue._places())

    def stop(self) -> None:
        """Ends it: at once while it waits, as soon as its work looks up while it is being done."""
        self._queue._stop(self)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is over and `on_change` has been told; False where that took longer than `timeout_s`."""
        return self._over.wait(timeout_s)

    def _view(self, places: dict[str, int]) -> JobView[T]:
        """As `view`; the caller holds the lock and gives the place of each job that waits."""
        return JobView(
            id=self.id,
            kind=self.kind,
            title=self.title,
            owner=self.owner,
            state=self._state,
            place=places.get(self.id),
            stopping=self._stop_asked and self._state == "answering",
            stage=self._stage,
            done=self._done,
            total=self._total,
            seconds_left=self._pace.seconds_left() if self._state == "answering" else None,
            draft=self._draft,
            result=self._result,
            error=self._error,
            asked_at=self._asked_at,
            started_at=self._started_at,
            finished_at=self._finished_at,
        )

    def _tell(self) -> None:
        """Calls `on_change`, without the lock; what goes wrong there is not the job's fault."""
        if self._on_change is not None:
            try:
                self._on_change(self)
            except Exception:
                logger.exception("keeping what became of %r failed", self.title)


class Control:
    """What work is given to be stopped by, and to tell how far it is."""

    def __init__(self, job: Job[Any]) -> None:
        self._job = job
        self._lock = job._queue._lock

    def should_stop(self) -> bool:
        """Whether somebody wants it to end; to be asked at least once a second."""
        return self._job._stop_asked

    def stop_if_asked(self) -> None:
        """Ends the work here where somebody wants it to end.

        Raises:
            WorkStopped: Somebody does; not to be caught, unless there is a result to go with it.
        """
        if self.should_stop():
            raise WorkStopped

    def progress(self, stage: str, done: int, total: int, seconds_left: float | None = None) -> None:
        """Tells how far it is.

        Args:
            stage: What is being done, in a few words.
            done: Parts of the stage that are done.
            total: Parts of the stage in all; 0 where that is not known.
            seconds_left: Of the stage, where the work knows; else it is estimated from the stage's speed.
        """
        job = self._job
        with self._lock:
            job._pace.report(stage, done, total, seconds_left)
            job._stage, job._done, job._total = stage, done, total
        job._tell()

    def draft(self, text: str) -> None:
        """Adds to what is shown of the result before it is there."""
        with self._lock:
            self._job._draft += text
        self._job._tell()


class WorkQueue:
    """Does the work of several people one after the other, in turns among them.

        with_files = WorkQueue()
        job = with_files.submit("adding", "report.pdf", lambda control: add(path, control.progress), owner="anna")
        job.view().place
        job.stop()

    A newcomer's work comes before the second piece of work of everybody who was there before, and after their first.
    So nobody waits for ever, and the place of the next thing that a person waits for only gets better, but while
    something else of that person is being done: who is being served goes to the end of the line.

    Args:
        n_workers: Pieces of work done at the same time.

    Raises:
        ValueError: `n_workers` is below 1.
    """

    def __init__(self, *, n_workers: int = 1) -> None:
        if n_workers < 1:
            raise ValueError(f"n_workers must be at least 1, not {n_workers}")
        self.n_workers = n_workers
        self._lock = threading.RLock()
        self._arrival = threading.Condition(self._lock)
        self._jobs: dict[str, Job[Any]] = {}  # by id, in the order of asking
        self._waiting: dict[str, deque[Job[Any]]] = {}  # by owner, in the order of their turns; never an empty one
        self._running: list[Job[Any]] = []
        self._finished: deque[str] = deque()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"work queue {i + 1}", daemon=True) for i in range(n_workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        kind: str,
        title: str,
        work: Callable[[Control], T],
        *,
        owner: str,
        on_change: Callable[[Job[T]], None] | None = None,
    ) -> Job[T]:
        """Puts work into the line.

        Args:
            kind: What sort of work it is.
            title: What is done, in a person's words.
            work: Does it and returns the result, in a thread of the queue. It looks at `Control.should_stop`, and
                raises `WorkStopped` where it ends because of that.
            owner: Whose turn it takes.
            on_change: Called after each change but that of the place: when its turn comes, at each progress and each
                piece of draft, and when it is over. Calls for one job come one after the other, and hold up its work.

        Raises:
            RuntimeError: The queue is closed.
        """
        job = Job(self, kind, title, owner, work, on_change)
        with self._arrival:
            if self._closed:
                raise RuntimeError(f"the queue is closed: {title!r} can't be taken in any more")
            self._jobs[job.id] = job
            self._waiting.setdefault(owner, deque()).append(job)
            self._arrival.notify()
        return job

    def jobs(self, owner: str | None = None) -> list[Job[Any]]:
        """All jobs, or those of one owner, in the order of asking; of those that are over, the last 200."""
        with self._lock:
            return [job for job in self._jobs.values() if owner is None or job.owner == owner]

    def find(self, job_id: str) -> Job[Any] | None:
        """The job of this id; None where there is none, or it has long been over."""
        with self._lock:
            return self._jobs.get(job_id)

    def forget(self, job_id: str) -> None:
        """Has a job that is over no longer found; one that is not over, or not there, is left as it is."""
        with self._lock:
            if job_id in self._finished:
                self._finished.remove(job_id)
                del self._jobs[job_id]

    def views(self, owner: str | None = None) -> list[JobView[Any]]:
        """How all jobs, or those of one owner, stand at the same moment."""
        with self._lock:
            places = self._places()
            return [job._view(places) for job in self.jobs(owner)]

    def close(self, timeout_s: float | None = None) -> None:
        """Stops all work, takes in no more, and waits until the threads have ended.

        Args:
            timeout_s: Waits no longer than this for each thread: a model that is called over the network may not let
                go. By default, as long as it takes.
        """
        with self._arrival:
            self._closed = True
            jobs = [job for job in self._jobs.values() if not job._finished_at]
            self._arrival.notify_all()
        for job in jobs:
            self._stop(job)
        for thread in self._threads:
            if thread is not threading.current_thread():  # where work, or `on_change`, closes the queue
                thread.join(timeout_s)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)

    def _next(self) -> Job[Any] | None:
        """The job whose turn it is, waiting for one; None ends the thread."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            job = self._order()[0]
            self._take_out(job)
            self._running.append(job)
            job._state, job._started_at = "answering", _now()
            return job

    def _do(self, job: Job[Any]) -> None:
        job._tell()
        state: State = "answered"
        result, error = None, ""
        try:
            control = Control(job)
            control.stop_if_asked()
            assert job._work is not None  # it is let go of only when the job is over
            result = job._work(control)
        except WorkStopped as stopped:
            state, result = "stopped", stopped.result
        except BaseException as exc:  # whatever one job raises, the thread is there for the others
            state, error = "failed", error_text(exc, f"the {job.kind} {job.title!r}")
        with self._lock:
            self._running.remove(job)
            if job.owner in self._waiting:
                self._waiting[job.owner] = self._waiting.pop(job.owner)  # to the end of the line
            self._end(job, state, result, error)
        self._let_go(job)

    def _stop(self, job: Job[Any]) -> None:
        with self._lock:
            job._stop_asked = True
            if job._state != "waiting":
                return
            self._take_out(job)
            self._end(job, "stopped")
        self._let_go(job)

    def _take_out(self, job: Job[Any]) -> None:
        waiting = self._waiting[job.owner]
        waiting.remove(job)
        if not waiting:
            del self._waiting[job.owner]

    def _end(self, job: Job[Any], state: State, result: Any = None, error: str = "") -> None:
        """Writes down how a job ended; the caller holds the lock."""
        job._state, job._result, job._error, job._finished_at = state, result, error, _now()
        job._stage, job._done, job._total = "", 0, 0
        self._finished.append(job.id)
        if len(self._finished) > KEEP_FINISHED:
            del self._jobs[self._finished.popleft()]

    def _let_go(self, job: Job[Any]) -> None:
        """Tells that a job is over, and frees what it holds beside its result."""
        job._tell()
        job._work = job._on_change = None
        job._over.set()

    def _order(self) -> list[Job[Any]]:
        """The jobs that wait in the order of their turns, if nobody comes or goes; the caller holds the lock."""
        n_running = {owner: sum(job.owner == owner for job in self._running) for owner in self._waiting}
        turns = zip_longest(*(self._waiting[owner] for owner in sorted(self._waiting, key=n_running.__getitem__)))
        return [job for turn in turns for job in turn if job is not None]

    def _places(self) -> dict[str, int]:
        return {job.id: place for place, job in enumerate(self._order(), start=1)}


class _Pace:
    """How long a stage still takes, by its speed so far."""

    def __init__(self) -> None:
        self._stage = ""
        self._begun_s, self._begun_at = 0.0, 0  # what was done at the first report took no time that is known of
        self._told_s = 0.0
        self._left_s: float | None = None

    def report(self, stage: str, done: int, total: int, seconds_left: float | None) -> None:
        now = time.monotonic()
        if stage != self._stage or done < self._begun_at:
            self._stage, self._begun_s, self._begun_at = stage, now, done
        self._told_s, self._left_s = now, seconds_left
        if seconds_left is None and self._begun_at < done < total:
            self._left_s = (now - self._begun_s) / (done - self._begun_at) * (total - done)

    def seconds_left(self) -> float | None:
        """By the last report, less the time that has gone by since."""
        return None if self._left_s is None else max(0.0, self._left_s - (time.monotonic() - self._told_s))


def _now() -> datetime:
    return datetime.now(UTC)
