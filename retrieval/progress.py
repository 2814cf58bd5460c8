"""How long work tells how far it is."""

import inspect
from collections.abc import Callable

__all__ = ["Progress", "with_seconds_left"]

Progress = Callable[[str, int, int], None]
"""Called with (stage in a few words, done, in all); `in all` is 0 where that is not known.

One that has a parameter `seconds_left` is given the seconds that the stage still takes as well, where somebody knows:
`def tell(stage, done, total, seconds_left=None)`.
"""


def with_seconds_left(progress: Progress | None) -> Callable[[str, int, int, float | None], None]:
    """A progress that may be told the seconds left, whether the one given takes them or not."""
    if progress is None:
        return lambda _stage, _done, _total, _left: None
    told: Callable[..., None] = progress
    if not _takes_seconds_left(progress):
        return lambda stage, done, total, _left: told(stage, done, total)
    return lambda stage, done, total, left: told(stage, done, total, seconds_left=left)


def _takes_seconds_left(progress: Progress) -> bool:
    try:
        return "seconds_left" in inspect.signature(progress).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return False
