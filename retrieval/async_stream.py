"""A chat model's stream for code that is not async, which can be left at any moment.

A plain stream can be left only when a piece comes, and from a server that reads a long document none comes for
minutes. Here the stream runs in an event loop of its own, where to leave it is to cancel it: its connection is closed
at once, and a server that looks at its connections ends its work. Knows nothing of any provider.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context
from typing import TypeVar

__all__ = ["read_stream"]

T = TypeVar("T")

_LOOK_EVERY_S = 0.05
_LEAVE_WITHIN_S = 5.0


def read_stream(
    open_stream: Callable[[], AsyncGenerator[T, None]], should_stop: Callable[[], bool] | None
) -> Generator[T, None, None]:
    """What an async stream yields, until `should_stop` says so or the iterator is closed; the stream is then cancelled.

    Args:
        open_stream: Called in the loop; what it opens should be closed by its own end.
        should_stop: Asked twenty times a second while nothing comes, and after each piece.

    Raises:
        BaseException: What the stream raised.
    """
    # A piece; or, at the end, what the stream raised, if it raised anything.
    pieces: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []
    begun, left = threading.Event(), threading.Event()

    async def pump() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        begun.set()
        async with contextlib.aclosing(open_stream()) as stream:
            async for piece in stream:
                pieces.put((piece,))
                if left.is_set():
                    # `asyncio.wait_for` forgets that it was cancelled where a piece came at that moment (Python 3.11).
                    return

    def run() -> None:
        try:
            asyncio.run(pump())
        except asyncio.CancelledError:
            pass  # it was left
        except BaseException as exc:  # it is raised where the stream is read
            pieces.put(exc)
        finally:
            begun.set()
            pieces.put(None)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="read a stream", daemon=True)
    thread.start()
    try:
        while True:
            try:
                piece = pieces.get(timeout=None if should_stop is None else _LOOK_EVERY_S)
            except queue.Empty:
                pass
            else:
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece[0]
            if should_stop is not None and should_stop():
                return
    finally:
        left.set()
        begun.wait(_LEAVE_WITHIN_S)
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # its loop is closed: the stream is over
                loop.call_soon_threadsafe(task.cancel)
        thread.join(_LEAVE_WITHIN_S)
