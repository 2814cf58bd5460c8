"""Server-sent events: blocks of text that go out as they come, and an error as the last of them where there is one."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .errors import ApiError, ClientGoneError, internal_error, json_bytes

__all__ = ["COMMENT", "DONE", "EventStream", "sse"]

DONE = b"data: [DONE]\n\n"
COMMENT = b": waiting\n\n"
"""Passed over by clients; keeps proxies from giving a silent connection up."""


def sse(value: Any, event: str = "") -> bytes:
    """One event with a JSON value."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + json_bytes(value) + b"\n\n"


class EventStream(Response):
    """Sends blocks as a generator makes them. It is closed in any case, and its errors end the stream in words.

    Args:
        blocks: Of bytes, each an event.
        error_event: Name of the event that an error makes; none by default, as OpenAI has it.
    """

    media_type = "text/event-stream"

    def __init__(self, blocks: AsyncGenerator[bytes, None], error_event: str = "") -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no"})
        self._blocks, self._error_event = blocks, error_event
        self.body = b""

    def init_headers(self, headers: Any = None) -> None:
        """As Response, which would add the length of a body that has none."""
        super().init_headers(headers)
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  `Turn` listens
        """Sends the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._blocks) as blocks:
            try:
                async for block in blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            except ClientGoneError:
                scope["longleaf"].status = ClientGoneError().status_code
            except ApiError as exc:
                scope["longleaf"].note(exc)
                await self._send_error(exc, send)
            except Exception as exc:
                error = internal_error(exc, "a stream")
                scope["longleaf"].note(error)
                await self._send_error(error, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_error(self, error: ApiError, send: Send) -> None:
        body = sse(error.body, self._error_event)
        await send({"type": "http.response.body", "body": body, "more_body": True})
