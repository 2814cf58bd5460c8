"""Gives memory that is free again back to the system; knows glibc's allocator, and does nothing with another.

A server takes in files of many megabytes in short-lived threads. glibc gives each thread a heap of its own and keeps
what is freed in it: after twenty uploads of 10 MB, 180 MB of nothing (`python -m benchmarks.app_memory`).
"""

import ctypes
import platform

__all__ = ["few_heaps", "give_back"]

_M_ARENA_MAX = -8  # malloc.h
_MAX_HEAPS = 2


def few_heaps() -> None:
    """Lets threads share heaps; to be called before there are many of them."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, _MAX_HEAPS)


def give_back() -> None:
    """Returns free memory to the system: milliseconds, so it is done when a piece of work is over."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
