"""Works a job off: workers claim items until none is left, and what comes of each is kept at once.

The database decides who does what, so the workers may be threads, processes, or actors of a Ray cluster; each runs
`work_off`. A run ends early, and loses nothing, when it is asked to stop, when the disk is full, or when the reader
can't be reached any more.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from longleaf.app.process_identity import identity
from longleaf.app.work_queue import WorkStopped, error_text
from longleaf.errors import (
    ContextOverflowError,
    DocumentError,
    DocumentNotFoundError,
    LongleafError,
    QuestionError,
    ReaderError,
)
from longleaf.retrieval import Answerer

from .meter import TokenBudget
from .store import Item, Job, JobStore
from .work import Control, do_item

__all__ = ["Pulse", "RunOptions", "Worker", "run_job", "work_off"]

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""A file is tried so often in one run while the reader's server fails."""
MAX_FAILURES_IN_A_ROW = 5
"""After so many failures of the reader's server, and no success between them, the run ends: it is the server."""
FIRST_WAIT_S, MOST_WAIT_S = 2.0, 60.0
"""Before the next try after such a failure; doubled with each."""
_LOOK_EVERY_S = 0.5
SIGN_EVERY_S = 20.0
_LASTING = (DocumentError, ContextOverflowError, QuestionError)
"""Errors of one document; it fails again until something is done about it."""

Watch = Callable[[Item, str, int, int], None]
"""Told what is being done with an item: stage, parts done, parts in all."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a job is worked off; no part of what the work is.

    Attributes:
        workers: Documents that are worked on side by side.
        max_tokens_per_minute: For all workers together; None for no limit.
        password: Opens encrypted PDFs; never stored.
    """

    workers: int = 1
    max_tokens_per_minute: int | None = None
    password: str | None = None


@dataclass(slots=True)
class Worker:
    """One claimant of items.

    Attributes:
        store: Where the job is.
        job: Which one.
        answerer: Reads.
        node: Names the machine.
        should_stop: True ends it within a page, or a chunk that the reader reads.
        watch: Told what is done.
        budget: Tokens, shared with others of the process.
        password: Opens encrypted PDFs.
        fetch: Where the file of an item is on this machine; the path itself where the disk is shared.
        trouble: Failures of the reader's server, shared with others of the process.
    """

    store: JobStore
    job: Job
    answerer: Answerer
    node: str
    should_stop: Callable[[], bool]
    watch: Watch = lambda _item, _stage, _done, _total: None
    budget: TokenBudget | None = None
    password: str | None = None
    fetch: Callable[[str], Path] = Path
    trouble: "Trouble" = field(default_factory=lambda: Trouble())


class Trouble:
    """Counts the failures of a reader's server that follow each other."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._of: Counter[str] = Counter()
        self._lock = threading.Lock()

    def none(self) -> None:
        """It has worked."""
        with self._lock:
            self._in_a_row = 0

    def one_more(self, source: str) -> tuple[int, int]:
        """It has failed: so often in a row, and so often with this file."""
        with self._lock:
            self._in_a_row += 1
            self._of[source] += 1
            return self._in_a_row, self._of[source]


def work_off(worker: Worker) -> None:
    """Claims items and works on them until all are done by somebody, or asked to stop.

    Raises:
        LongleafError: What no item is to blame for: full disk, the reader's weights are gone, its server does not
            answer. The items not done wait for the next run.
    """
    store, job = worker.store, worker.job
    while not worker.should_stop():
        item = store.claim(job, identity(), worker.node)
        if item is not None:
            _do(worker, item)
        elif not store.take_back(job):
            if not store.counts(job).open:
                return
            time.sleep(_LOOK_EVERY_S)  # somebody else works on the rest; if they go away it is ours


def _do(worker: Worker, item: Item) -> None:
    begun = time.monotonic()
    store = worker.store
    control = Control(
        worker.should_stop,
        lambda stage, done, total: worker.watch(item, stage, done, total),
        item.draft,
        lambda draft: store.keep_draft(item, draft),
        worker.budget,
        worker.password,
    )

    def failed(reason: str, *, lasting: bool) -> None:
        store.fail(item, reason, lasting=lasting, seconds=time.monotonic() - begun)

    try:
        outcome = do_item(worker.answerer, worker.job.spec, worker.fetch(item.source), control)
    except WorkStopped:
        store.give_back(item)
    except ReaderError as exc:
        _server_failed(worker, item, exc, failed)
    except DocumentNotFoundError as exc:  # it was removed from the library while it was read
        failed(str(exc), lasting=False)
    except _LASTING as exc:
        failed(exc.reason if isinstance(exc, DocumentError) else str(exc), lasting=True)
    except LongleafError:
        with suppress(LongleafError):  # where the disk is full, the next run finds that this process is gone
            store.give_back(item)
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception):
            store.give_back(item)
            raise
        failed(error_text(exc, f"working on {item.name!r}"), lasting=False)
    else:
        worker.trouble.none()
        if not store.finish(item, outcome, time.monotonic() - begun):
            logger.info("%s: done too late; it was cancelled, changed or given to another", item.name)


def _server_failed(worker: Worker, item: Item, exc: ReaderError, failed: Callable[..., None]) -> None:
    n, n_of_item = worker.trouble.one_more(item.source)
    if n >= MAX_FAILURES_IN_A_ROW:
        worker.store.give_back(item)
        raise exc
    if n_of_item >= MAX_ATTEMPTS:
        failed(str(exc), lasting=False)
    else:
        worker.store.give_back(item)
        logger.warning("%s: %s; it is tried again", item.name, exc)
    ending = time.monotonic() + min(FIRST_WAIT_S * 2 ** (n - 1), MOST_WAIT_S)
    while time.monotonic() < ending and not worker.should_stop():
        time.sleep(_LOOK_EVERY_S)


class Pulse:
    """Says that this process is there while it works on a job, and finds out whether the job was cancelled.

    with Pulse(store, job) as pulse:
        ... pulse.cancelled() ...
    """

    def __init__(self, store: JobStore, job: Job) -> None:
        self._store, self._job = store, job
        self._ended, self._cancelled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="longleaf-pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def cancelled(self) -> bool:
        """Whether somebody cancelled the job."""
        return self._cancelled.is_set()

    def _beat(self) -> None:
        due = time.monotonic() + SIGN_EVERY_S
        while not self._ended.wait(2.0):
            with suppress(LongleafError):  # such as a database that is away for a moment; workers notice if it stays
                if self._store.is_cancelled(self._job):
                    self._cancelled.set()
                if time.monotonic() >= due:
                    due = time.monotonic() + SIGN_EVERY_S
                    self._store.sign_of_life(self._job, identity())


class Crew(Protocol):
    """Workers at one job, wherever they run."""

    def begin(self) -> None:
        """Sets them to work."""

    def busy(self) -> bool:
        """Whether any of them still works.

        Raises:
            LongleafError: One of them ended with it.
        """

    def stop(self) -> None:
        """Asks them to end soon; may be called again."""


class Threads:
    """Workers in this process.

    Args:
        make: Gives each its `Worker`, told when to stop.
        n: How many.
    """

    def __init__(self, make: Callable[[Callable[[], bool]], Worker], n: int) -> None:
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(make,), name=f"longleaf-job-{number}", daemon=True)
            for number in range(n)
        ]

    def begin(self) -> None:
        """As `Crew` has it."""
        for thread in self._threads:
            thread.start()

    def busy(self) -> bool:
        """As `Crew` has it."""
        if any(thread.is_alive() for thread in self._threads):
            return True
        if self._errors:
            raise self._errors[0]
        return False

    def stop(self) -> None:
        """As `Crew` has it."""
        self._stop.set()

    def _run(self, make: Callable[[Callable[[], bool]], Worker]) -> None:
        try:
            work_off(make(self._stop.is_set))
        except BaseException as exc:
            self._errors.append(exc)
            self._stop.set()


def run_job(
    store: JobStore, job: Job, crew: Crew, *, on_look: Callable[[list[Item]], None], should_stop: Callable[[], bool]
) -> None:
    """Has a crew work a job off, and tells what was finished while it does.

    Args:
        store: Where the job is.
        job: Which one.
        crew: Not begun yet.
        on_look: Told, twice a second, the items that were finished since it was told last, by whomever.
        should_stop: True ends the run; what is under way ends within a page or a chunk.

    Raises:
        LongleafError: As `work_off` raises it.
    """
    store.take_back(job)
    seen = {(item.source, item.finished_at) for item in store.items(job) if item.finished_at}
    since = max((at for _, at in seen), default="")
    with Pulse(store, job) as pulse:
        crew.begin()
        try:
            busy = True
            while busy:
                time.sleep(_LOOK_EVERY_S)
                if should_stop() or pulse.cancelled():
                    crew.stop()
                try:
                    busy = crew.busy()
                finally:
                    new = [
                        i
                        for i in store.items(job, since=since)
                        if i.finished_at and (i.source, i.finished_at) not in seen
                    ]
                    seen |= {(item.source, item.finished_at) for item in new}
                    on_look(new)
        except KeyboardInterrupt:  # at once; the next run finds what was under way without an owner
            crew.stop()
            raise
        except BaseException:
            crew.stop()
            with suppress(LongleafError):
                while crew.busy():
                    time.sleep(_LOOK_EVERY_S)
            raise
