"""POST /v1/embeddings."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from tokenizers import Tokenizer

from longleaf.app.work_queue import Control
from longleaf.model import model_path
from longleaf.retrieval import LongleafEmbeddings
from longleaf.retrieval.embeddings import Embedder

from .errors import ApiError, invalid, json_response
from .state import ApiState, record_of, state_of
from .turns import Turn

__all__ = ["EmbeddingsRequest", "router"]

router = APIRouter()

MAX_TEXTS = 2048
MAX_TOKENS = 256
"""What the embedder reads of a text (`model.bert.MAX_TOKENS`); a longer one would be cut, so it is refused."""
_BATCH = 32
"""Texts that are embedded before it is looked whether somebody still waits for them."""


class EmbeddingsRequest(BaseModel):
    """The body of POST /v1/embeddings."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"model": "minilm", "input": ["net sales in 2021", "berth fees"]}},
    )

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: int | None = None
    user: str | None = None


@router.post("/v1/embeddings", summary="Vectors of texts")
async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
    """One vector of length 1 for each text."""
    state, record = state_of(request), record_of(request)
    embedder = _embedder(state)
    name = embedder.name.partition("@")[0]
    state.check_model(body.model, name)
    texts = _texts(body.input)
    state.embedding.check()
    n_tokens = await run_in_threadpool(_count_tokens, state, embedder, texts)

    def work(control: Control, put: Callable[[np.ndarray], None]) -> None:
        for begin in range(0, len(texts), _BATCH):
            control.stop_if_asked()
            put(embedder.encode(texts[begin : begin + _BATCH]))

    turn: Turn[np.ndarray] = state.embedding.take("embeddings", record.owner, work)
    parts = [part async for part in turn.events(request.receive) if part is not None]
    vectors = np.concatenate(parts).astype("<f4")  # (n, d) fp32
    record.waited_s = turn.waited_s
    if body.dimensions not in (None, vectors.shape[1]):
        raise invalid(f"{name} makes vectors of {vectors.shape[1]} dimensions, and no others", "dimensions")
    as_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _base64(vector) if as_text else vector.tolist()}
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return json_response({"object": "list", "data": data, "model": name, "usage": usage})


def _embedder(state: ApiState) -> Embedder:
    embedder = state.service.answerer.embedder
    if embedder is None:
        raise ApiError(
            503,
            "no embedder is installed here: run `longleaf model pull embedded`, and start the server again",
            kind="server_error",
            code="not_installed",
            headers={"x-should-retry": "false"},
        )
    return embedder


def _texts(given: str | list[Any]) -> list[str]:
    """The texts of a request.

    Raises:
        ApiError: There are none, too many, or they are no texts.
    """
    texts = [given] if isinstance(given, str) else given
    if any(isinstance(text, int | list) for text in texts):
        raise invalid(
            "input has token numbers, which are of another model's tokenizer: this server takes texts. With LangChain, "
            "OpenAIEmbeddings(check_embedding_ctx_length=False) sends texts",
            "input",
            "tokens_not_supported",
        )
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise invalid("input is a text or a list of texts, none of them empty", "input")
    if len(texts) > MAX_TEXTS:
        raise invalid(f"input has {len(texts):,} texts; up to {MAX_TEXTS:,} are taken at once", "input")
    return texts


def _count_tokens(state: ApiState, embedder: Embedder, texts: Sequence[str]) -> int:
    """Tokens of the texts; words, for an embedder that is not ours.

    Raises:
        ApiError: One of them is longer than what the embedder reads.
    """
    if not isinstance(embedder, LongleafEmbeddings):
        return sum(len(text.split()) for text in texts)
    folder = model_path(embedder.model, embedder.models_dir)
    tokenizer = state.cached("embedder's tokenizer", lambda: _tokenizer(str(folder / "tokenizer.json")))
    counts = [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]
    for i, count in enumerate(counts):
        if count > MAX_TOKENS:
            place = f"input[{i}]" if len(texts) > 1 else "input"
            raise invalid(
                f"This model's maximum input length is {MAX_TOKENS} tokens, and {place} has {count}; part it, as what "
                "is beyond would not be in its vector",
                "input",
                "context_length_exceeded",
            )
    return sum(counts)


def _tokenizer(path: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.tobytes()).decode("ascii")
