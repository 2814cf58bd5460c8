"""A request's turn in a queue, as an event loop sees it: events that come, or a reason why they don't.

Work goes on in a queue's thread. Whoever goes away, waits too long, or is turned away when the server ends gives its
place back at once where it waits, and as soon as the work looks up where it runs: within a chunk of the reader's.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from longleaf.app.work_queue import Control, Job, WorkQueue, WorkStopped

from .errors import ApiError, ClientGoneError, as_api_error, stopping

__all__ = ["Line", "Turn"]

T = TypeVar("T")
Receive = Callable[[], Awaitable[Any]]
Work = Callable[[Control, Callable[[T], None]], None]
"""Does the work: is given what stops it, and what takes its events."""


class _Over:
    """The end of a turn, and why where that is no good one."""

    def __init__(self, error: ApiError | None = None) -> None:
        self.error = error


class Turn(Generic[T]):
    """One request's turn; made by `Line.take`, used on the event loop.

        async for event in turn.events(request.receive): ...

    Attributes:
        job: The work, in its queue.
        begun: Whether it is being done, or was.
        waited_s: Seconds until then; None while it waits.
    """

    job: Job[None]

    def __init__(self, line: "Line", deadline: float) -> None:
        self.begun = False
        self.waited_s: float | None = None
        self._asked_at = time.monotonic()
        self._line, self._deadline = line, deadline
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[T | _Over] = asyncio.Queue()
        self._given_up = False

    @property
    def place(self) -> int | None:
        """How many are to be begun before it is, counting itself; None once it has begun."""
        return self.job.view().place

    def give_up(self, error: ApiError | None = None) -> None:
        """Ends it, for the given reason; nothing happens where it has ended."""
        if not self._given_up:
            self._given_up = True
            self._events.put_nowait(_Over(error))
            self.job.stop()

    async def events(self, receive: Receive, tick_s: float = 10.0) -> AsyncGenerator[T | None, None]:
        """What the work hands out; it is stopped where this is closed.

        Args:
            receive: Of the request, whose body was read; tells that the client went away.
            tick_s: Seconds after which None is handed out where nothing else came.

        Raises:
            ApiError: It failed, took too long, or the server ends.
            ClientGoneError: Nobody listens any more.
        """
        watching = asyncio.create_task(self._watch(receive))
        alarm = self._loop.call_at(self._deadline, self.give_up, self._line.too_late())
        try:
            while True:
                try:
                    async with asyncio.timeout(tick_s):
                        event = await self._events.get()
                except TimeoutError:
                    yield None
                    continue
                if isinstance(event, _Over):
                    if event.error is not None:
                        raise event.error
                    return
                yield event
        finally:
            alarm.cancel()
            watching.cancel()
            self.give_up()

    def _begin(self) -> None:
        self.begun, self.waited_s = True, time.monotonic() - self._asked_at

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.give_up(ClientGoneError())

    def _put(self, event: T | _Over) -> None:
        """Takes an event from the queue's thread."""
        with suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Line:
    """Requests that wait for one queue, of which there may be so many.

        turn = line.take("chat", owner, work)

    Args:
        name: Of the queue, for metrics and messages.
        queue: Does the work.
        max_waiting: Requests that may wait.
        timeout_s: Seconds that a request may take.
    """

    def __init__(self, name: str, queue: WorkQueue, *, max_waiting: int, timeout_s: float) -> None:
        self.name = name
        self._queue = queue
        self._max_waiting, self._timeout_s = max_waiting, timeout_s
        self._turns: set[Turn[Any]] = set()  # those whose work has not ended
        self._closed = False
        self._mean_s = 1.0

    @property
    def n_waiting(self) -> int:
        """Requests whose turn has not come."""
        return sum(not turn.begun for turn in list(self._turns))

    @property
    def n_running(self) -> int:
        """Requests that are being worked on."""
        return sum(turn.begun for turn in list(self._turns))

    def check(self) -> None:
        """Makes sure that there is room for one more.

        Raises:
            ApiError: There is none (429), or the server ends (503).
        """
        if self._closed:
            raise stopping()
        if (waiting := self.n_waiting) >= self._max_waiting:
            after = min(60, max(1, math.ceil(self._mean_s * waiting / self._queue.n_workers)))
            raise ApiError(
                429,
                f"{waiting} requests wait already, and this server takes no more; try again in {after} s",
                kind="requests",
                code="rate_limit_exceeded",
                headers={"retry-after": str(after)},
            )

    def take(self, kind: str, owner: str, work: Work[T]) -> Turn[T]:
        """Puts work into the queue.

        Args:
            kind: What sort of work it is, for logs.
            owner: Whose turn it takes.
            work: Does it, in the queue's thread.

        Raises:
            ApiError: As for `check`.
        """
        self.check()
        turn: Turn[T] = Turn(self, asyncio.get_running_loop().time() + self._timeout_s)

        def run(control: Control) -> None:
            turn._loop.call_soon_threadsafe(turn._begin)
            begun = time.monotonic()
            try:
                work(control, turn._put)
            except WorkStopped:
                raise
            except BaseException as exc:
                # Told here, as the queue's own log would quote the message.
                turn._put(_Over(as_api_error(exc, kind)))
                raise WorkStopped from exc
            finally:
                self._mean_s = 0.8 * self._mean_s + 0.2 * (time.monotonic() - begun)
            control.stop_if_asked()

        def on_change(job: Job[None]) -> None:
            view = job.view()
            if view.finished:
                turn._put(_Over(None if view.state == "answered" else stopping()))
                with suppress(RuntimeError):
                    turn._loop.call_soon_threadsafe(self._turns.discard, turn)

        self._turns.add(turn)
        try:
            turn.job = self._queue.submit(kind, kind, run, owner=owner, on_change=on_change)
        except RuntimeError as exc:
            self._turns.discard(turn)
            raise stopping() from exc
        return turn

    def too_late(self) -> ApiError:
        """What is told to whom there is no answer in time."""
        return ApiError(
            504,
            f"there was no answer within the {self._timeout_s:g} s that a request may take here, waiting included",
            kind="timeout",
            code="timeout",
            headers={"x-should-retry": "false"},
        )

    def close(self) -> None:
        """Takes no more, and turns those away that wait."""
        self._closed = True
        for turn in list(self._turns):
            if not turn.begun:
                turn.give_up(stopping())

    def stop(self) -> None:
        """Stops what is being done."""
        for turn in list(self._turns):
            turn.give_up(stopping())
