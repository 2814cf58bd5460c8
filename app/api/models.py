"""GET /v1/models, and what tells whether the server lives and is ready."""

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from .errors import invalid, json_response
from .state import ApiState, state_of

__all__ = ["router"]

router = APIRouter()


@router.get("/v1/models", summary="Models of this server")
def list_models(request: Request) -> Response:
    """The reader, for chat completions, and the embedder, for embeddings."""
    state = state_of(request)
    return json_response({"object": "list", "data": [_model(state, name) for name in state.model_names()]})


@router.get("/v1/models/{model}", summary="One model")
def show_model(model: str, request: Request) -> Response:
    """One of these."""
    state = state_of(request)
    if model not in (names := state.model_names()):
        message = f"The model '{model}' does not exist here; this server has {' and '.join(names) or 'none'}."
        raise invalid(message, "model", "model_not_found", 404)
    return json_response(_model(state, model))


def _model(state: ApiState, name: str) -> dict[str, Any]:
    reader = state.service.answerer.reader
    context = {"context_tokens": reader.context_tokens} if reader and reader.model_name == name else {}
    return {"id": name, "object": "model", "created": state.started_at, "owned_by": "longleaf", **context}


@router.get("/health", summary="Whether the server lives")
async def health() -> Response:
    """Answers as long as the process lives."""
    return json_response({"status": "ok"})


@router.get("/ready", summary="Whether the server takes requests")
async def ready(request: Request) -> Response:
    """503 while the reader is being loaded, and when the server is being stopped."""
    state = state_of(request)
    why = "the server is being stopped" if state.stopping else state.not_ready
    return json_response({"status": "not ready", "reason": why}, 503) if why else json_response({"status": "ready"})


@router.get("/metrics", summary="Figures for Prometheus")
def metrics(request: Request) -> Response:
    """Requests, seconds, who waits, tokens, memory."""
    return Response(state_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
