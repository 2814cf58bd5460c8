"""Tells one process from another, also after a restart and on other machines, and whether it is still there.

A process number alone is given again; with the boot and the moment of its start it names one process.
"""

import json
import os
import platform
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

__all__ = ["identity", "is_gone"]

UNSEEN_HOURS = 12
"""A process on another machine, or in another container, is given up after so long without a sign of it: from here it
can't be seen whether it runs."""


def identity() -> str:
    """This process, told apart from an earlier or later one with its number."""
    return _identity(os.getpid())  # by number, as a fork is another process


@lru_cache(maxsize=4)
def _identity(pid: int) -> str:
    return json.dumps([platform.node(), pid, _started(pid)])


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in a form to compare.

    Returns:
        The boot and the clock ticks since then; "" where the system does not say; None where no such process runs.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, for somebody else
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a program's name may hold blanks
    except OSError:
        return ""
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # proc(5): state, starttime; Z and X are dead


def is_gone(owner: str, seen_at: str, unseen: timedelta = timedelta(hours=UNSEEN_HOURS)) -> bool:
    """Whether a process has ended.

    Args:
        owner: What `identity` gave there; "" is nobody.
        seen_at: Its last sign of life: ISO 8601, UTC.
        unseen: After so long without one, a process on another machine has.
    """
    if not owner:
        return True
    host, pid, started = json.loads(owner)
    if host != platform.node():
        return datetime.now(UTC) - datetime.fromisoformat(seen_at) > unseen
    now = _started(pid)
    return now is None or bool(started and now and started != now)
