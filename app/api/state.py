"""What the endpoints of one server share: the service, its limits, the lines of requests, and whether it is ready."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from fastapi import Request

from longleaf.app.service import Service
from longleaf.app.work_queue import WorkQueue
from longleaf.errors import LongleafError
from longleaf.model import ChatLongleaf

from .errors import ApiError, internal_error, invalid
from .gate import RequestRecord
from .keys import ApiKeys
from .metrics import Metrics
from .options import ApiOptions
from .turns import Line

__all__ = ["ApiState", "record_of", "state_of"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ApiState:
    """One server's.

    Args:
        service: The library with its models; closed by whoever opened it.
        options: Limits.
    """

    def __init__(self, service: Service, options: ApiOptions) -> None:
        self.service, self.options = service, options
        self.keys = ApiKeys(options.keys)
        self.metrics = Metrics(service.readings.folder)
        self.started_at = int(time.time())
        self.stopping = False
        self._cache: dict[str, Any] = {}
        self._cache_lock = threading.Lock()
        self.not_ready = "the reader is being loaded"
        # Vectors are made beside the answers, in milliseconds.
        self.vectors = WorkQueue()
        limits = {"max_waiting": options.max_waiting, "timeout_s": options.timeout_s}
        self.reading = Line("reader", service.questions, **limits)  # type: ignore[arg-type]
        self.embedding = Line("embedder", self.vectors, **limits)  # type: ignore[arg-type]
        for line in (self.reading, self.embedding):
            self.metrics.watch(line.name, lambda line=line: line.n_waiting, lambda line=line: line.n_running)  # type: ignore[misc]
        self.metrics.watch("files", lambda: self._files("waiting"), lambda: self._files("answering"))

    @property
    def reader(self) -> ChatLongleaf:
        """The reader.

        Raises:
            ApiError: There is none on this machine.
        """
        reader = self.service.answerer.reader
        if reader is not None and not isinstance(reader, ChatLongleaf):
            raise ApiError(
                503,
                f"{reader.model_name} is read from another server: ask that one, or use /v1/ask here",
                kind="server_error",
                code="not_installed",
                headers={"x-should-retry": "false"},
            )
        if reader is None:
            raise ApiError(
                503,
                "no reader is installed here: run `longleaf model pull embedded`, and start the server again",
                kind="server_error",
                code="not_installed",
                headers={"x-should-retry": "false"},
            )
        return reader

    def quiet(self) -> AbstractContextManager[object]:
        """Has what is embedded in the background wait, so that it does not slow the reader down."""
        background = self.service.answerer.background
        return background.paused() if background else contextlib.nullcontext()

    def model_names(self) -> list[str]:
        """The reader's and the embedder's, where there are any."""
        answerer = self.service.answerer
        reader, embedder = answerer.reader, answerer.embedder
        names = [reader.model_name] if reader else []
        return [*names, embedder.name.partition("@")[0]] if embedder else names

    def check_model(self, asked: str, there: str) -> None:
        """Makes sure that a request means the model that is there.

        Raises:
            ApiError: It names another.
        """
        if asked != there:
            raise invalid(
                f"The model '{asked}' does not exist here; this server has {' and '.join(self.model_names())}.",
                "model",
                "model_not_found",
                404,
            )

    def check_files(self) -> None:
        """Makes sure that there is room for one more file.

        Raises:
            ApiError: So many wait already (429).
        """
        if (waiting := self._files("waiting")) >= self.options.max_waiting:
            raise ApiError(
                429,
                f"{waiting} files wait already, and this server takes no more; try again in a minute",
                kind="requests",
                code="rate_limit_exceeded",
                headers={"retry-after": "60"},
            )

    def _files(self, state: str) -> int:
        return sum(view.state == state for view in self.service.work.views())

    async def load(self) -> None:
        """Loads the reader's weights; the server is ready when they are there, or where there are none."""
        reader = self.service.answerer.reader
        if isinstance(reader, ChatLongleaf):
            try:
                await asyncio.to_thread(reader.load)
            except LongleafError as exc:
                self.not_ready = str(exc)
                logger.error("the reader can't be loaded: %s", exc)  # noqa: TRY400  its message says all
                return
            except Exception as exc:
                self.not_ready = internal_error(exc, "loading the reader").detail
                return
        self.not_ready = ""

    async def drain(self) -> None:
        """Ends the requests: those that wait at once, those that run within `grace_s`."""
        self.stopping = True
        lines = (self.reading, self.embedding)
        for line in lines:
            line.close()
        until = time.monotonic() + self.options.grace_s
        while any(line.n_running for line in lines) and time.monotonic() < until:
            await asyncio.sleep(0.05)
        self.stop()

    def stop(self) -> None:
        """Stops what runs, and tells those who wait for it."""
        for line in (self.reading, self.embedding):
            line.stop()

    def cached(self, name: str, make: Callable[[], T]) -> T:
        """Something that is made once and kept as long as the server runs."""
        with self._cache_lock:
            if name not in self._cache:
                self._cache[name] = make()
            kept: T = self._cache[name]
            return kept

    def close(self) -> None:
        """Ends what is its own."""
        self.vectors.close()


def state_of(request: Request) -> ApiState:
    """The state of the server that a request came to."""
    state: ApiState = request.app.state.api
    return state


def record_of(request: Request) -> RequestRecord:
    """What is noted of a request."""
    record: RequestRecord = request.scope["longleaf"]
    return record
