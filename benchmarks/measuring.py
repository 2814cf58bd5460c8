"""What the model's benchmarks share: timing, spread, targets, memory, fresh processes, and how figures are printed.

A block of figures is a dict: its keys become the lines of a table, and the same dict the JSON line at the end.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

Figures = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def spread(values: Sequence[float]) -> Figures:
    """Median, lowest and highest, to four digits."""
    return {"median": _four(statistics.median(values)), "low": _four(min(values)), "high": _four(max(values))}


def judged(values: Sequence[float], *, at_least: float | None = None, at_most: float | None = None) -> Figures:
    """The spread of a figure, its target, and whether the median meets it."""
    median = statistics.median(values)
    if at_least is not None:
        return spread(values) | {"target": f">= {at_least:g}", "met": median >= at_least}
    if at_most is None:
        raise ValueError("a target is at_least or at_most")
    return spread(values) | {"target": f"<= {at_most:g}", "met": median <= at_most}


def memory_bytes(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS is what is resident, VmHWM its peak."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}")


def forget_peak() -> None:
    """Let VmHWM begin anew from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def in_fresh_process(module: str, *arguments: object) -> Figures:
    """Run a module of this folder in a process of its own; the JSON object on its last line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def quiet_transformers() -> None:
    """No progress bars and no advice on CUDA kernels between the figures."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def conditions(n_threads: int, *libraries: str) -> Figures:
    """Where and when this runs, and with which versions."""
    from longleaf.model import native  # imports torch, which not every process that measures has

    try:
        versions = {name: version(name) for name in ("torch", *libraries)}
    except PackageNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed: pip install -e '.[dev]'")
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip() or "unknown",
        "cpu": f"{len(names)} × {names[0]}" if names else "unknown",
        "threads": n_threads,
        "kernels": native.instruction_set() or "none built",
        **versions,
    }


def report(figures: Figures, *, as_json: bool) -> None:
    """Print the table, unless only JSON is wanted, and the JSON line."""
    if not as_json:
        _print_block(figures, 0)
        print()
    print(json.dumps(figures))


def _print_block(figures: Figures, depth: int) -> None:
    for key, value in figures.items():
        label = "  " * depth + key.replace("_", " ")
        if isinstance(value, dict) and "median" not in value:
            print(f"\n{label}" if depth == 0 else label)
            _print_block(value, depth + 1)
        else:
            print(f"{label:44} {shown(value)}")


def shown(value: object) -> str:
    """A figure, a spread or a word as tables show it."""
    if isinstance(value, dict):
        text = shown(value["median"])
        if value["low"] != value["high"]:
            text += f" ({shown(value['low'])} to {shown(value['high'])})"
        if "target" in value:
            text += f"   target {value['target']}: {'met' if value['met'] else 'not met'}"
        return text
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _four(value: float) -> float:
    return float(f"{value:.4g}")


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
