"""Opens what a job needs, runs it with its progress on standard error, and writes its files.

The command line's side of jobs: no rules about items stand here.
"""

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType, TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from longleaf.app.settings import Settings, load_settings
from longleaf.app.workbench import open_answerer, open_library
from longleaf.ingestion import Library
from longleaf.retrieval import Answerer

from .database import PostgresJobs, SqliteJobs
from .files import ResultFiles
from .meter import TokenBudget
from .runner import Crew, RunOptions, Threads, Trouble, Worker, run_job
from .spec import ReaderSpec
from .store import Item, Job, JobStore

__all__ = ["open_jobs", "reader_spec", "run_with_progress", "settings_of", "stop_signals"]

TABLES_EVERY_S = 30.0
"""The files of all results are written anew so often while a job runs, and at its end."""


@contextmanager
def open_jobs(settings: Settings) -> Iterator[tuple[Library, JobStore]]:
    """The library of these settings, and its jobs: beside it, or in the PostgreSQL that the settings name."""
    with open_library(settings) as library:
        if not settings.jobs_url:
            yield library, JobStore(SqliteJobs(library))
            return
        database = PostgresJobs(settings.jobs_url)
        try:
            yield library, JobStore(database)
        finally:
            database.close()


def reader_spec(settings: Settings, name: str) -> ReaderSpec:
    """What of the settings decides on what the reader writes.

    Args:
        settings: Of this run.
        name: The reader's own, in place of "embedded".
    """
    return ReaderSpec(
        reader=name,
        base_url=settings.base_url,
        context_tokens=settings.context_tokens,
        quantize=settings.quantize,
        device=settings.device,
    )


def settings_of(job: Job, settings: Settings) -> Settings:
    """These settings with the reader that the job was made with."""
    return load_settings(
        **settings.model_dump(exclude={"openai_api_key", *ReaderSpec.model_fields}), **job.spec.reader.model_dump()
    )


def run_with_progress(
    settings: Settings,
    library: Library,
    store: JobStore,
    job: Job,
    options: RunOptions,
    *,
    console: Console,
    quiet: bool = False,
    ray_address: str | None = None,
) -> list[Item]:
    """Works a job off and writes its files.

    Args:
        settings: With the job's own reader.
        library: Of these settings.
        store: Where the job is.
        job: Which one.
        options: How.
        console: For the progress.
        quiet: Shows none.
        ray_address: Of a Ray cluster whose workers do it; "local" starts one here.

    Returns:
        All items of the job, as they are now.

    Raises:
        KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; what was done is kept, and the files are written.
        LongleafError: What no single document is to blame for.
    """
    files = ResultFiles(job)
    files.write_missing(store.items(job))
    with _Display(console, store, job, quiet=quiet) as display, stop_signals(display.say) as stop:
        if ray_address:
            from .ray_cluster import RayCrew

            crew: Crew = RayCrew(settings, job, options, ray_address)
            answerer = None
        else:
            answerer = open_answerer(settings, library)
            crew = _threads(store, job, answerer, options, display)
        due = time.monotonic() + TABLES_EVERY_S

        def look(new: list[Item]) -> None:
            nonlocal due
            for item in new:
                if item.state == "done":
                    files.write_item(item)
            display.finished(new)
            if new and time.monotonic() >= due:
                files.write_tables(store.items(job))
                due = time.monotonic() + TABLES_EVERY_S

        try:
            run_job(store, job, crew, on_look=look, should_stop=stop.is_set)
        finally:
            items = store.items(job)
            files.write_missing(items)
            files.write_tables(items)
            if answerer is not None:
                answerer.close()
    if stop.is_set() and store.counts(job).open:
        raise KeyboardInterrupt
    return items


def _threads(store: JobStore, job: Job, answerer: Answerer, options: RunOptions, display: "_Display") -> Threads:
    budget = TokenBudget(options.max_tokens_per_minute) if options.max_tokens_per_minute else None
    shared = Worker(
        store, job, answerer, platform.node(), lambda: False, display.watch, budget, options.password, trouble=Trouble()
    )
    return Threads(lambda should_stop: replace(shared, should_stop=should_stop), options.workers)


@contextmanager
def stop_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that work ends in good order; a second one ends it at once."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping: what is under way ends after this page or chunk (once more to stop at once)")

    if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """Progress of a job: bars with the time left on a terminal, a line for each document elsewhere."""

    def __init__(self, console: Console, store: JobStore, job: Job, *, quiet: bool) -> None:
        self._console, self._store, self._job, self._quiet = console, store, job, quiet
        self._bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), console=console, transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()
        self._is_terminal = console.is_terminal and not quiet

    def __enter__(self) -> "_Display":
        counts = self._store.counts(self._job)
        if self._is_terminal:
            self._all = self._bars.add_task("documents", total=counts.total, completed=counts.total - counts.open)
            self._bars.start()
        if not self._quiet and (settled := counts.total - counts.open):
            self.say(f"{settled} of {counts.total} documents were settled before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line."""
        if not self._quiet:
            self._console.print(text, markup=False, highlight=False)

    def watch(self, item: Item, stage: str, done: int, total: int) -> None:
        """What a worker of this process is at."""
        if not self._is_terminal:
            return
        with self._lock:
            task = self._tasks.get(item.source)
            text = f"{item.name}: {stage}"
            if task is None:
                task = self._tasks[item.source] = self._bars.add_task(text, total=total or None)
            self._bars.update(task, description=text, completed=done, total=total or None)

    def finished(self, items: Sequence[Item]) -> None:
        """Items that were finished, by whomever."""
        if not items or self._quiet:
            return
        counts = self._store.counts(self._job)
        settled = counts.total - counts.open - len(items)
        for number, item in enumerate(items, settled + 1):
            with self._lock:
                if (task := self._tasks.pop(item.source, None)) is not None:
                    self._bars.remove_task(task)
            self.say(f"{number} of {counts.total}  {_told(item)}")
        if self._is_terminal:
            self._bars.update(self._all, completed=counts.total - counts.open, total=counts.total)


def _told(item: Item) -> str:
    if item.state == "failed":
        return f"{item.name}: failed: {item.reason}"
    pages = f"{item.n_pages:,} page{'' if item.n_pages == 1 else 's'}"
    reused = f" ({item.tokens_reused:,} more from readings)" if item.tokens_reused else ""
    return f"{item.name}: {pages}, {item.tokens_read:,} tokens read{reused}, {item.seconds:.1f} s"
