"""What Prometheus is told: requests, seconds, who waits, tokens, and the room that readings take."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics"]

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """The figures of one server; nothing is shared with another in the same process.

    Args:
        readings_dir: Folder of the readings, measured when the figures are asked for.
    """

    def __init__(self, readings_dir: Path) -> None:
        self._readings_dir = readings_dir
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "longleaf_requests", "Requests by endpoint and status.", ["endpoint", "code"], registry=registry
        )
        self.seconds = Histogram(
            "longleaf_request_seconds",
            "Seconds from a request to the end of its response.",
            ["endpoint"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._waiting = Gauge("longleaf_waiting", "Requests that wait for their turn.", ["queue"], registry=registry)
        self._running = Gauge("longleaf_running", "Requests that are being worked on.", ["queue"], registry=registry)
        self.tokens_read = Counter("longleaf_tokens_read", "Tokens of prompts that were read.", registry=registry)
        self.tokens_reused = Counter(
            "longleaf_tokens_reused", "Tokens of prompts that a reading spared.", registry=registry
        )
        self.tokens_written = Counter("longleaf_tokens_written", "Tokens of answers.", registry=registry)
        self._readings = Gauge("longleaf_readings_bytes", "Room that readings take on disk.", registry=registry)

    def watch(self, queue: str, waiting: Callable[[], int], running: Callable[[], int]) -> None:
        """Has a queue counted from now on."""
        self._waiting.labels(queue).set_function(waiting)
        self._running.labels(queue).set_function(running)

    def count_tokens(self, prompt: int, reused: int, written: int) -> None:
        """Adds what one answer took."""
        self.tokens_read.inc(max(0, prompt - reused))
        self.tokens_reused.inc(reused)
        self.tokens_written.inc(written)

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        self._readings.set(_folder_bytes(self._readings_dir))
        return generate_latest(self._registry)


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # removed meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total
