"""What this machine has: cores and memory, as seen through the container's limits. Knows nothing of models."""

import os
from pathlib import Path

__all__ = ["physical_cores", "total_memory_bytes"]

_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CGROUP_FOLDER = Path("/sys/fs/cgroup")


def physical_cores() -> int:
    """Physical cores this process may use: hyper-threads counted once, never above a container's CPU quota."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_read(_CPU_FOLDER / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in usable}
    quota, _, period = _read(_CGROUP_FOLDER / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        return max(1, min(len(siblings), int(quota) // int(period)))
    return max(1, len(siblings))


def total_memory_bytes() -> int:
    """Memory of this machine, or of the container if that has less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(_CGROUP_FOLDER / "memory.max")
    return min(machine, int(limit)) if limit.isdigit() else machine


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
