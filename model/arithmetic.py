"""The one thread of a process that computes with tensors, whichever thread asks.

OpenMP keeps a team of threads for every thread that ever asks it for one. libgomp, which PyTorch uses, has the members
of a team wait for their next product in a short loop as long as all teams together have no more threads than there are
cores. With one more they sleep after each product and have to be woken, and writing a token, which is thousands of
small products, takes up to two and a half times as long (libgomp's team.c and env.c, `gomp_managed_threads` and
`gomp_throttled_spin_count_var`; `python -m benchmarks.threads` measures it). So there is one team, and this thread's.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal, ParamSpec, TypeVar

__all__ = ["Asker", "compute", "post"]

T = TypeVar("T")
P = ParamSpec("P")

_LOOK_UP_S = 1.0


class Asker:
    """The thread that waits for a piece of work, as the work sees it: what belongs to it is called there.

    Progress bars, and whatever else looks up which thread it is in, work as if all were done by the one that asked; and
    a Ctrl-C there is raised inside the work, where it next calls back, so that nothing goes on by itself.
    """

    # A signal may raise between any two steps of the thread that waits. So whose turn it is stands in one variable, a
    # turn that was cut off is taken again, and the events only save waiting: who misses one looks up a second later.

    def __init__(self) -> None:
        self._turn: Literal["work", "asker", "over"] = "work"
        self._wake_asker, self._wake_work = threading.Event(), threading.Event()
        self._call: Callable[[], Any]
        self._result: Any = None
        self._error: BaseException | None = None
        self._interrupt: BaseException | None = None
        self._left = False  # by an interrupt in the few steps that nothing can guard: the work must not wait for it

    def there(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, called in the thread that asked; what it raises is raised here."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            self._call = lambda: function(*args, **kwargs)
            self._wake_work.clear()
            self._give_turn("asker")
            while self._turn == "asker":
                if self._left:
                    raise KeyboardInterrupt
                self._wake_work.wait(_LOOK_UP_S)
            if self._error is not None:
                raise self._error
            result: T = self._result
            return result

        return call

    def _give_turn(self, to: Literal["asker", "over"]) -> None:
        self._turn = to
        self._wake_asker.set()

    def _attend(self) -> None:
        """Does what the work asks for, until it is over. Never leaves before: the work may be changing a state.

        Raises:
            KeyboardInterrupt: Or whatever else a signal's handler raised, unless the work was told of it.
        """
        while True:
            try:
                if self._turn == "over":
                    break
                if self._turn == "asker":
                    self._result, self._error = self._answer()
                    self._interrupt = None
                    self._turn = "work"
                    self._wake_work.set()
                else:
                    self._wake_asker.wait(_LOOK_UP_S)
                    self._wake_asker.clear()
            except BaseException as exc:
                self._interrupt = exc
        if self._interrupt is not None:
            raise self._interrupt

    def _answer(self) -> tuple[Any, BaseException | None]:
        if self._interrupt is not None:
            return None, self._interrupt
        try:
            return self._call(), None
        except BaseException as exc:
            return None, exc


_tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
_thread: threading.Thread | None = None
_starting = threading.Lock()


def compute(work: Callable[[Asker], T]) -> T:
    """Has work done by the thread that computes, after what others have asked for before, and waits for it.

        vectors = compute(lambda _: encoder.vectors(tokens))

    Args:
        work: Is given whom it can call back. Work that waits for other work of this kind is done on the spot.

    Raises:
        BaseException: What the work raises; and KeyboardInterrupt when it is over, where it was not told before.
    """
    asker = Asker()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(asker))
        except BaseException as exc:
            errors.append(exc)
        finally:
            asker._give_turn("over")

    if threading.current_thread() is _thread:
        return work(_Here())
    try:
        post(run)
        asker._attend()
    finally:
        asker._left = True
    if errors:
        raise errors[0]
    return results[0]


def post(work: Callable[[], None]) -> None:
    """Has work done by the thread that computes, without waiting; it must not raise."""
    global _thread
    with _starting:
        if _thread is None or not _thread.is_alive():  # after a fork the child has none
            _thread = threading.Thread(target=_work, name="longleaf arithmetic", daemon=True)
            _thread.start()
    _tasks.put(work)


class _Here(Asker):
    """Where the thread that computes asks itself."""

    def there(self, function: Callable[P, T]) -> Callable[P, T]:
        return function


def _work() -> None:
    while True:
        _tasks.get()()
