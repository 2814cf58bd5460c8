"""What every request passes: who it is from, how much it sends, and a line in the log when it is over.

A plain ASGI middleware, so that streams and disconnects go through as they are.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, stopping
from .keys import ApiKeys
from .metrics import Metrics
from .options import ApiOptions, is_loopback

__all__ = ["Gate", "RequestRecord"]

access = logging.getLogger("longleaf.access")

_OPEN = ("/health", "/ready")
_WHILE_STOPPING = ("/health", "/ready", "/metrics")
_UPLOADS = "/v1/documents"


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request; `scope["longleaf"]`.

    Attributes:
        id: Told to the client as x-request-id.
        owner: Whose it is.
        status: Of the response; of the error that ended a stream.
        code: Of the error, if there was one.
        tokens_prompt: Tokens of the prompt.
        tokens_reused: Of these, those that a reading spared.
        tokens_written: Tokens of the answer.
        waited_s: Seconds until its turn came.
    """

    id: str
    owner: str = ""
    status: int = 0
    code: str | None = None
    tokens_prompt: int = 0
    tokens_reused: int = 0
    tokens_written: int = 0
    waited_s: float | None = None

    def note(self, error: ApiError) -> None:
        """Notes the error that ends it."""
        self.status, self.code = error.status_code, error.code


class Gate:
    """Lets requests in, or not.

    Args:
        app: What stands behind it.
        options: Limits.
        keys: Who may come in; where there are none, this machine's own programs.
        metrics: Counts requests.
        is_stopping: Whether the server ends, and takes nothing in.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: ApiOptions,
        keys: ApiKeys,
        metrics: Metrics,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._app, self._options, self._keys, self._metrics = app, options, keys, metrics
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and tells what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        record = scope["longleaf"] = RequestRecord(f"req_{uuid.uuid4().hex}")
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                record.status = message["status"]
                headers = [*message.get("headers", []), (b"x-request-id", record.id.encode())]
                if self._is_stopping():
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            try:
                record.owner = self._owner(scope)
                await self._app(scope, self._limited(scope, receive), answer)
            except ApiError as exc:
                if started:
                    raise
                record.note(exc)
                await exc.response()(scope, receive, answer)
        except asyncio.CancelledError:
            record.status, record.code = 503, "cancelled"
            raise
        except Exception:
            record.status = 500
            raise
        finally:
            self._tell(scope, record, time.monotonic() - begun)

    def _owner(self, scope: Scope) -> str:
        """Whose request it is.

        Raises:
            ApiError: It must not come in.
        """
        headers, path = Headers(scope=scope), scope["path"]
        if self._is_stopping() and path not in _WHILE_STOPPING:
            raise stopping()
        client = scope.get("client") or ("unknown", 0)
        if path in _OPEN or (path == "/metrics" and self._options.open_metrics):
            return f"address {client[0]}"
        if self._keys:
            owner = self._keys.owner(headers.get("authorization", ""))
            if owner is None:
                given = "authorization" in headers
                message = "Incorrect API key provided." if given else "You didn't provide an API key."
                message += " Send one of this server's keys in the header Authorization: Bearer KEY."
                raise ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
            return owner
        _refuse_other_sites(headers)
        return f"address {client[0]}"

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """`receive` that takes no body beyond the limit, and waits for one no longer than a request may take."""
        is_upload = scope["path"].rstrip("/") == _UPLOADS
        limit = self._options.max_upload_bytes if is_upload else self._options.max_body_bytes
        told = Headers(scope=scope).get("content-length", "")
        size, whole = 0, False
        until = time.monotonic() + self._options.timeout_s

        def too_large() -> ApiError:
            return ApiError(
                413, f"the body has more than the {limit:,} bytes that this server takes", code="body_too_large"
            )

        async def limited() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            if told.isdigit() and int(told) > limit:
                raise too_large()
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    message = await receive()
            except TimeoutError as exc:
                raise ApiError(408, "the body of the request did not come in time", kind="timeout") from exc
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > limit:
                raise too_large()
            return message

        return limited

    def _tell(self, scope: Scope, record: RequestRecord, seconds: float) -> None:
        """Counts a request, and writes it to the log, without a word of what was asked."""
        route = scope.get("route")
        endpoint = getattr(route, "path", None) or (scope["path"] if scope["path"] in _WHILE_STOPPING else "other")
        self._metrics.requests.labels(f"{scope['method'] if route else '-'} {endpoint}", str(record.status)).inc()
        self._metrics.seconds.labels(endpoint).observe(seconds)
        line: dict[str, Any] = {
            "request": record.id,
            "owner": record.owner,
            "method": scope["method"],
            "endpoint": endpoint,
            "status": record.status,
            "seconds": round(seconds, 3),
        }
        if record.code:
            line["code"] = record.code
        if record.waited_s is not None:
            line["waited_s"] = round(record.waited_s, 3)
        if record.tokens_prompt:
            line |= {
                "tokens_prompt": record.tokens_prompt,
                "tokens_reused": record.tokens_reused,
                "tokens_written": record.tokens_written,
            }
        # Who watches the server asks all the time.
        access.log(logging.DEBUG if endpoint in _WHILE_STOPPING else logging.INFO, json.dumps(line))


def _refuse_other_sites(headers: Headers) -> None:
    """Keeps web pages out that a browser on this machine shows: they can reach its own address, and have no key.

    Raises:
        ApiError: The request was sent by a page of another site, or to a name that is not this machine's.
    """
    host, origin = _host_of(headers.get("host", "")), headers.get("origin", "")
    page_host = _host_of(origin.partition("://")[2])
    if not is_loopback(host) or (origin and not is_loopback(page_host)):
        raise ApiError(
            403,
            "this server asks for no API key and so answers only programs of its own machine, by the name localhost or "
            "127.0.0.1; start it with an API key to reach it by other names or from other sites' pages",
            code="not_local",
        )


def _host_of(place: str) -> str:
    """The host of HOST:PORT; "" where it is none."""
    try:
        return urlsplit(f"//{place}").hostname or ""
    except ValueError:
        return ""
