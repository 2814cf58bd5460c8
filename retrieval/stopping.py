"""Ends work that somebody wants to end: between two steps, and around calls that can't look up themselves."""

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Stopped", "stopper", "unless_stopped"]

T = TypeVar("T")

_LOOK_EVERY_S = 0.05


class Stopped(Exception):  # noqa: N818  it is no error
    """The work was asked to stop."""


def stopper(should_stop: Callable[[], bool] | None) -> Callable[[], None]:
    """What to call between two pieces of work: it raises `Stopped` once `should_stop` says so."""

    def stop_if_asked() -> None:
        if should_stop is not None and should_stop():
            raise Stopped

    return stop_if_asked


def unless_stopped(call: Callable[[], T], should_stop: Callable[[], bool] | None) -> T:
    """What the call returns, waited for no longer than until `should_stop` says so.

    The call runs in a thread of its own where it may be stopped, and then goes on there to its end with nobody waiting
    for it: it has to be one that does no harm by that.

    Raises:
        Stopped: It was asked to stop before the call had ended.
        BaseException: What the call raised.
    """
    if should_stop is None:
        return call()
    stop_if_asked = stopper(should_stop)
    stop_if_asked()
    results: list[T] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as exc:  # it is raised where the call is waited for
            errors.append(exc)
        finally:
            over.set()

    threading.Thread(target=run, name="call that may be left", daemon=True).start()
    while not over.wait(_LOOK_EVERY_S):
        stop_if_asked()
    if errors:
        raise errors[0]
    return results[0]
