"""Progress of long work on standard error: a bar on a terminal, a plain line now and then elsewhere."""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["StageProgress"]

FIRST_LINE_AFTER_S = 2.0
LINE_EVERY_S = 10.0
"""Without a terminal: a stage is worth a line when it takes this long, and another each so often."""


class StageProgress:
    """Shows one stage of work at a time.

        with StageProgress(console) as progress:
            progress("reading pages of report.pdf", 12, 120)

    Args:
        console: Where to; standard error, so that results on standard output stay clean.
        quiet: Shows nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, transient=True,
        )  # fmt: skip
        self._task: TaskID | None = None
        self._stage = ""
        self._next_line = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> "StageProgress":
        if self._console.is_terminal and not self._quiet:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal and not self._quiet:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Shows that `done` of `total` parts of this stage are done; may be called from several threads."""
        if self._quiet:
            return
        with self._lock:
            if self._console.is_terminal:
                self._show(stage, done, total)
            else:
                self._line(stage, done, total)

    def _show(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or self._task is None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(stage, total=total or None)
            self._stage = stage
        self._bar.update(self._task, completed=done, total=total or None)

    def _line(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._next_line = stage, now + FIRST_LINE_AFTER_S
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY_S
            self._console.print(f"{stage}: {done} of {total}", markup=False, highlight=False)
