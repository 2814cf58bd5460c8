"""The HTTP API on a made-up reader and embedder, without a socket: requests go straight into the application."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from longleaf.app.api.application import make_app
from longleaf.app.api.options import ApiOptions
from longleaf.app.service import Service
from longleaf.app.settings import Settings
from longleaf.model import ChatLongleaf, Piece, Usage
from longleaf.model.tool_calls import ToolMarkup
from longleaf.retrieval.embeddings import Embedder

REPORT = """\
Annual Report of the Harbour Board

The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.
\f\
Results
Total revenue was 11,717 in 2024.
"""


class EchoEngine:
    """Says the last message back, word by word; each word waits while `go` is not set."""

    name = "echo"
    context_tokens = 64
    tool_markup = ToolMarkup()

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.cancelled = 0

    def token_ids(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def count_prompt_tokens(self, messages, tools=None) -> int:
        if any(message["content"] == "upside down" for message in messages):
            raise ValueError("the model's chat template does not take these messages: no")
        return sum(len(message["content"].split()) for message in messages)

    def stream(self, messages, **settings) -> Iterator[Piece]:
        self.calls.append({"messages": messages, **settings})
        words = messages[-1]["content"].split(" ")
        self.begun.release()
        if settings["on_read"]:
            settings["on_read"](1, 2, 0.5)
        for n, word in enumerate(words[: settings["max_tokens"]]):
            while not self.go.wait(0.01) or settings["should_stop"]():
                if settings["should_stop"]():
                    self.cancelled += 1
                    yield Piece("", "cancelled", Usage(len(words), n, 0))
                    return
            if word == "boom":
                raise RuntimeError(f"not these words: {words}")
            yield Piece("", reasoning=word[1:]) if word.startswith("?") else Piece(word)
        reason = "length" if len(words) > settings["max_tokens"] else "stop"
        yield Piece("", reason, Usage(len(words), min(len(words), settings["max_tokens"]), 2, seconds_saved=1.5))

    def choose(self, messages, options, **settings) -> dict[str, float]:
        return {option: float(option == "yes") for option in options}

    def close(self) -> None:
        pass


class LetterEmbedder(Embedder):
    """How often the letters a, b and c occur."""

    @property
    def name(self) -> str:
        return "letters@1"

    def encode(self, texts: Sequence[str], progress=None) -> np.ndarray:
        counts = np.array([[text.count(letter) + 0.25 for letter in "abc"] for text in texts], dtype=np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@dataclass
class Answered:
    """What an application sent, as it sent it."""

    status: int = 0
    blocks: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.blocks)


class Caller:
    """A client of which the test says when it goes away."""

    def __init__(self, app: Any, path: str, body: dict[str, Any], key: str = "") -> None:
        self.answered = Answered()
        self.gone = asyncio.Event()
        self.got_block = asyncio.Event()
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        if key:
            headers.append((b"authorization", f"Bearer {key}".encode()))
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers, "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.answered.status = message["status"]
            elif message["body"]:
                self.answered.blocks.append(message["body"].decode())
                self.got_block.set()

        self.task = asyncio.create_task(app(scope, receive, send))

    async def done(self) -> Answered:
        await asyncio.wait_for(self.task, 5)
        return self.answered


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def service(tmp_path: Path, engine: EchoEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("LONGLEAF_MODELS_DIR", "LONGLEAF_CONTEXT_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    # The folder is empty, so that no real embedder is found.
    opened = Service(Settings(home=tmp_path / "home", models_dir=tmp_path / "models", reader="none"))
    opened.answerer.use(reader=ChatLongleaf(model="smollm2-135m", engine=engine), embedder=LetterEmbedder())
    yield opened
    engine.go.set()
    opened.close()


@pytest.fixture
async def start(service: Service) -> AsyncIterator[Callable[..., Any]]:
    """Makes applications with limits of the test's choice, and ends them."""
    ends = []

    async def start(**options: Any) -> Any:
        app = make_app(service, ApiOptions(**({"timeout_s": 10.0} | options)))
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        ends.append(lifespan)
        return app

    yield start
    for lifespan in ends:
        await lifespan.__aexit__(None, None, None)


@pytest.fixture
async def app(start: Callable[..., Any]) -> Any:
    return await start()


def client_of(app: Any, key: str = "") -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=headers)


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


def chat(content: Any = "Hello there world", **fields: Any) -> dict[str, Any]:
    return {"model": "smollm2-135m", "messages": [{"role": "user", "content": content}], **fields}


def events(text: str) -> list[Any]:
    """The values of a stream's events; the words [DONE] as they stand."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
