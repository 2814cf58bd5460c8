"""A real server on a free port with a real reader, asked by OpenAI's client, by LangChain's, and as curl does."""

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from longleaf.app.api.application import make_app
from longleaf.app.api.options import ApiOptions
from longleaf.app.api.server import ApiServer, listen
from longleaf.app.service import Service
from longleaf.app.settings import Settings
from longleaf.errors import LongleafError
from longleaf.model import is_installed

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.skipif(
        not (is_installed("smollm2-135m") and is_installed("minilm")),
        reason="no weights here: run `longleaf model pull smollm2-135m minilm`",
    ),
]

KEY = "a-key-of-twenty-chars"
MODEL = "smollm2-135m"


@dataclass
class Running:
    """A server in a thread of this process."""

    server: ApiServer
    thread: threading.Thread
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def state(self):
        return self.server._state

    def terminate(self) -> None:
        """As SIGTERM does, which comes to the main thread alone."""
        self.server.handle_exit(signal.SIGTERM, None)

    def get(self, path: str, method: str = "GET", body: str = "", **headers: str):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {KEY}"} | headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def running(service: Service, **options) -> Iterator[Running]:
    listening = listen("127.0.0.1", 0)
    server = ApiServer(make_app(service, ApiOptions(keys=(KEY,), **options)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    run = Running(server, thread, listening.getsockname()[1])
    try:
        ending = time.monotonic() + 20
        while run.get("/ready")[0] != 200:
            assert time.monotonic() < ending
            time.sleep(0.02)
        yield run
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("serve") / "home"
    opened = Service(Settings(home=home, reader=MODEL, n_threads=1))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Running]:
    with running(service) as run:
        yield run


@pytest.fixture(scope="module")
def openai_client(server: Running):
    import openai

    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


MONTH = [{"role": "user", "content": "Which month follows May? Answer with one word."}]


class City(BaseModel):
    name: str
    inhabitants: int


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
    },
}


def test_openais_client_chats_streams_and_lists_models(openai_client) -> None:
    whole = openai_client.chat.completions.create(model=MODEL, messages=MONTH, max_tokens=12, temperature=0)
    text = whole.choices[0].message.content
    assert text
    stream = openai_client.chat.completions.create(
        model=MODEL, messages=MONTH, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0  # the second time most was read already
    assert [model.id for model in openai_client.models.list()] == [MODEL, "minilm"]
    assert openai_client.models.retrieve(MODEL).owned_by == "longleaf"


def test_openais_client_gets_calls_and_answers_that_fit_their_schemas(openai_client) -> None:
    asked = [{"role": "user", "content": "What is the weather in Rome?"}]
    answer = openai_client.chat.completions.create(
        model=MODEL, messages=asked, tools=[TOOL], tool_choice="required", max_tokens=60
    )
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    told = [*asked, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    again = openai_client.chat.completions.create(
        model=MODEL, messages=told, tools=[TOOL], tool_choice="none", max_tokens=4
    )
    assert again.choices[0].message.tool_calls is None

    parsed = openai_client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "Rome has 3 inhabitants."}],
        response_format=City,
        max_tokens=60,
    )
    assert isinstance(parsed.choices[0].message.parsed, City)


def test_openais_client_sees_our_errors_as_its_own(openai_client, server) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.chat.completions.create(model="gpt-4o", messages=MONTH)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        openai_client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}])
    assert long.value.code == "context_length_exceeded"
    other = openai_client.with_options(api_key="wrong" * 5)
    with pytest.raises(openai.AuthenticationError):
        other.models.list()


def test_openais_client_embeds(openai_client) -> None:
    asked = {"model": "minilm", "input": ["berth fees", "a cat on a mat"]}
    as_base64 = openai_client.embeddings.create(**asked)  # what the client asks for by itself
    as_numbers = openai_client.embeddings.create(**asked, encoding_format="float")
    assert len(as_base64.data[0].embedding) == 384
    assert as_base64.data[1].embedding == pytest.approx(as_numbers.data[1].embedding, abs=1e-6)
    assert as_base64.usage.prompt_tokens > 4


def test_langchains_models_work_with_it(server) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    chat = ChatOpenAI(base_url=server.url, api_key=KEY, model=MODEL, max_tokens=40, max_retries=0)
    answer = chat.invoke("Which month follows May?")
    assert answer.content
    assert answer.usage_metadata["input_tokens"] > 5
    assert "".join(str(chunk.content) for chunk in chat.stream("Which month follows May?")) == answer.content
    city = chat.with_structured_output(City, method="json_schema").invoke("Rome has 3 inhabitants.")
    assert isinstance(city, City)
    vectors = OpenAIEmbeddings(
        base_url=server.url, api_key=KEY, model="minilm", check_embedding_ctx_length=False
    ).embed_documents(["berth fees", "a cat"])
    assert [len(vector) for vector in vectors] == [384, 384]


def test_raw_requests_as_curl_sends_them(server) -> None:
    body = json.dumps({"model": MODEL, "messages": MONTH, "max_tokens": 4, "stream": True})
    json_type = {"content-type": "application/json"}
    status, text = server.get("/v1/chat/completions", "POST", body, **json_type)
    assert (status, text.endswith("data: [DONE]\n\n")) == (200, True)
    assert all(block.startswith(("data: ", ": waiting")) for block in text.strip().split("\n\n"))
    texts = json.dumps({"model": "minilm", "input": ["short", "word " * 300]})
    status, text = server.get("/v1/embeddings", "POST", texts, **json_type)
    assert (status, json.loads(text)["error"]["code"]) == (400, "context_length_exceeded")
    status, text = server.get("/v1/documents?name=harbour.txt&wait=true", "POST", "The board owns four cranes.")
    assert status == 201
    question = json.dumps({"question": "How many cranes are there?", "documents": [json.loads(text)["id"]]})
    status, text = server.get("/v1/ask", "POST", question, **json_type)
    assert (status, json.loads(text)["model"]) == (200, MODEL)


def begin_long_stream(run: Running) -> socket.socket:
    """A stream of many tokens, of which the first has come."""
    numbers = {"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}, "minItems": 900}
    schema = {"type": "object", "properties": {"numbers": numbers}, "required": ["numbers"]}
    form = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": schema}}
    body = json.dumps({"model": MODEL, "messages": MONTH, "max_tokens": 2000, "stream": True, "response_format": form})
    connection = socket.create_connection(("127.0.0.1", run.port), timeout=20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def test_a_connection_that_is_cut_stops_the_reader(server) -> None:
    connection = begin_long_stream(server)
    assert server.state.reading.n_running == 1
    connection.close()
    ending = time.monotonic() + 2
    while server.state.reading.n_running:
        assert time.monotonic() < ending
        time.sleep(0.01)


def test_a_server_that_is_told_to_end_refuses_others_and_ends_streams_in_words(service) -> None:
    with running(service, grace_s=0.5) as run:
        connection = begin_long_stream(run)
        run.terminate()
        status, text = run.get("/v1/models")
        assert (status, json.loads(text)["error"]["code"]) == (503, "server_stopping")
        rest = b""
        while block := connection.recv(65536):
            rest += block
        connection.close()
        assert b'"code":"server_stopping"' in rest
        assert rest.endswith(b"0\r\n\r\n")  # not cut
        run.thread.join(10)
        assert not run.thread.is_alive()


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(LongleafError, match="choose another with --port"):
        listen("127.0.0.1", taken.getsockname()[1])
