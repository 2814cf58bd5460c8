"""Errors as OpenAI's clients know them: a status and `{"error": {"message", "type", "param", "code"}}`."""

import json
import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from longleaf.errors import (
    ContextOverflowError,
    DocumentError,
    DocumentNotFoundError,
    LongleafError,
    MissingExtraError,
    ModelNotInstalledError,
    QuestionError,
    ReaderError,
    StorageError,
)

__all__ = [
    "ApiError",
    "ClientGoneError",
    "add_handlers",
    "as_api_error",
    "internal_error",
    "invalid",
    "json_bytes",
    "json_response",
    "stopping",
]

logger = logging.getLogger(__name__)

CLIENT_GONE = 499
"""nginx's status for a client that did not wait for the answer; it is only seen in logs and metrics."""
_NO_RETRY = {"x-should-retry": "false"}  # OpenAI's clients try again on their own after a 5xx


class ApiError(HTTPException):
    """A request that gets no answer, and why.

    Args:
        status: Of HTTP.
        message: What is wrong and what to do.
        kind: OpenAI's `type`.
        param: The field that is wrong.
        code: For programs.
        headers: More headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.kind, self.param, self.code = kind, param, code

    @property
    def body(self) -> dict[str, Any]:
        """What the response, or the last event of a stream, says."""
        return {"error": {"message": self.detail, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The response."""
        return json_response(self.body, self.status_code, self.headers)


class ClientGoneError(ApiError):
    """Nobody listens any more."""

    def __init__(self) -> None:
        super().__init__(CLIENT_GONE, "the client closed the connection", code="client_gone")


def json_bytes(value: Any) -> bytes:
    """JSON on one line; half characters, which JSON can say and UTF-8 can't, are escaped again."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def json_response(value: Any, status: int = 200, headers: Any = None) -> Response:
    """A response of JSON."""
    return Response(json_bytes(value), status, headers, "application/json")


def invalid(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> ApiError:
    """A request that is wrong."""
    return ApiError(status, message, param=param, code=code)


def stopping() -> ApiError:
    """What is told to those whom a server that ends does not answer any more."""
    message = "the server is being stopped and takes nothing in; try again in a moment"
    return ApiError(503, message, kind="server_error", code="server_stopping", headers={"retry-after": "5"})


def internal_error(error: BaseException, doing: str) -> ApiError:
    """An error that was not foreseen. The log gets its traceback without its message, which may quote a prompt."""
    place = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed: %s\n%s", doing, type(error).__name__, place)
    message = f"An error that Longleaf did not foresee ({type(error).__name__}); the server's log has the details."
    return ApiError(500, message, kind="server_error", code="internal_error", headers=_NO_RETRY)


def as_api_error(error: BaseException, doing: str) -> ApiError:
    """Any error as a client is told of it.

    Args:
        error: What was raised.
        doing: What failed, for the log; no words of a user's.
    """
    if isinstance(error, ApiError):
        return error
    message = str(error)
    match error:
        case ContextOverflowError():
            return invalid(message, "messages", "context_length_exceeded")
        case QuestionError():
            return invalid(message, "question")
        case DocumentNotFoundError():
            return invalid(message, code="document_not_found", status=404)
        case DocumentError():
            return invalid(message, code="document_unreadable", status=422)
        case ModelNotInstalledError() | MissingExtraError():
            return ApiError(503, message, kind="server_error", code="not_installed", headers=_NO_RETRY)
        case ReaderError():
            return ApiError(502, message, kind="server_error", code="reader_failed")
        case StorageError():
            return ApiError(507, message, kind="server_error", code="storage", headers=_NO_RETRY)
        case LongleafError():
            return ApiError(500, message, kind="server_error", code="model_error", headers=_NO_RETRY)
    return internal_error(error, doing)


def add_handlers(app: FastAPI) -> None:
    """Has every error of an app answered in this form."""

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, ApiError):
            return answered(request, error)
        message = str(error.detail)
        if error.status_code == 404:
            message = f"Invalid URL ({request.method} {request.url.path})"
        elif error.status_code == 405:
            message = f"Not allowed to {request.method} on {request.url.path}"
        return answered(request, ApiError(error.status_code, message, headers=dict(error.headers or {})))

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answered(request, _from_validation(error.errors()[0]))

    async def on_ours(request: Request, error: Exception) -> Response:
        return answered(request, as_api_error(error, "a request"))

    def answered(request: Request, error: ApiError) -> Response:
        request.scope["longleaf"].note(error)
        return error.response()

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(LongleafError, on_ours)


def _from_validation(problem: dict[str, Any]) -> ApiError:
    """What pydantic found, in OpenAI's words."""
    kind, place = problem["type"], [str(part) for part in problem["loc"][1:]]
    param = place[0] + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in place[1:]) if place else None
    if kind == "json_invalid":
        return invalid("The body of the request is not valid JSON.", code="invalid_json")
    if param is None:
        return invalid("The body must be a JSON object, with the header Content-Type: application/json.")
    if kind == "extra_forbidden":
        return invalid(f"Unrecognized request argument supplied: {param}", param, "unknown_parameter")
    if kind == "missing":
        return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    return invalid(f"Invalid value for '{param}': {problem['msg']}.", param, "invalid_value")
