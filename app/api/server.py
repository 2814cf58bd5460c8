"""Runs the application in a uvicorn of its own, and ends it so that nobody's answer is cut without a word."""

import asyncio
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from longleaf.errors import LongleafError

from .state import ApiState

__all__ = ["ApiServer", "listen"]

logger = logging.getLogger(__name__)

_LAST_WORDS_S = 5
"""For responses that are being sent when all work has ended."""
_KEEP_ALIVE_S = 30


class ApiServer(uvicorn.Server):
    """One server.

    The first SIGTERM or Ctrl-C has new requests refused and lets what runs go on for `grace_s`; the second ends it.

        ApiServer(make_app(service, options)).run(sockets=[listen("127.0.0.1", 8000)])

    Args:
        app: From `make_app`.
    """

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # the address of a client says whose turn it is
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_LAST_WORDS_S,
            )
        )
        self._state: ApiState = app.state.api
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Takes a signal."""
        if self._loop is None or self._state.stopping:
            self.should_exit = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._state.stop)
            return
        self._state.stopping = True
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        self._draining = asyncio.create_task(self._end())

    async def _end(self) -> None:
        logger.info("stopping: what runs may go on for %g s", self._state.options.grace_s)
        try:
            await self._state.drain()
        finally:
            self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        LongleafError: Another program has the port, or the address is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        reason = exc.strerror or exc
        raise LongleafError(f"can't listen on {host}, port {port}: {reason}; choose another with --port") from exc
