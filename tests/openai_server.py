"""Servers with OpenAI's interface for tests: llama.cpp's own, and one that answers what a test tells it to.

with llama_server(path_of_a_gguf, n_ctx=2048) as base_url: ...
with scripted_server() as server: server.answers["/v1/models"] = [Reply(401)]
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def llama_server(
    model_path: Path, *, n_ctx: int = 2048, n_threads: int = 1, api_key: str | None = None, alias: str = "tiny"
) -> Iterator[str]:
    """llama.cpp's server in a process of its own on the loopback; yields its address, which ends in /v1.

    Args:
        model_path: A .gguf file.
        n_ctx: Its context, in tokens.
        n_threads: CPU threads.
        api_key: Asked for, where it is given.
        alias: The name that the model goes by.
    """
    options = {"path": str(model_path), "n_ctx": n_ctx, "n_threads": n_threads, "api_key": api_key, "alias": alias}
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next((line.strip() for line in lines if line.startswith("http://")), None)
        assert address, f"llama.cpp's server ended with {process.wait(10)}"
        yield f"{address}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _serve(options: dict[str, Any]) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = options["path"], options["n_ctx"], 1
    params.model_alias = {options["alias"]}
    params.warmup, params.verbosity, params.cache_ram_mib = False, -1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["n_threads"]
    params.hostnames, params.port = ["127.0.0.1"], 0
    if options["api_key"]:
        params.api_keys = [options["api_key"]]
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()  # until the test ends


@dataclass
class Reply:
    """What the scripted server says once.

    Attributes:
        status: HTTP's.
        body: As JSON, where it is no string or list; a list is a stream of server-sent events.
        headers: Beside the content's type.
        then: Called after the body of a stream; what it returns is ignored.
        cut: Whether the connection breaks at the end of a stream.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    then: Callable[[BaseHTTPRequestHandler], object] | None = None
    cut: bool = False


@dataclass
class Asked:
    """A request that came to the scripted server."""

    path: str
    body: Any
    headers: dict[str, str]


class ScriptedServer:
    """Says for each path what `answers` has, one after the other and the last one again and again; 404 elsewhere."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.answers: dict[str, list[Reply]] = {}
        self.asked: list[Asked] = []

    def next_answer(self, path: str) -> Reply:
        replies = self.answers.get(path) or [Reply(404, {"error": {"message": "Not Found"}})]
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def bodies(self, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]


@contextlib.contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """A server on the loopback that says what the test tells it to."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def log_message(self, *args: Any) -> None:
            pass

        def _reply(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            script.asked.append(Asked(self.path, json.loads(raw) if raw else None, headers))
            reply = script.next_answer(self.path)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if isinstance(reply.body, list):
                self._stream(reply)
                return
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            kind = "text/html" if isinstance(reply.body, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def _stream(self, reply: Reply) -> None:
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in reply.body:
                text = event if isinstance(event, str) else json.dumps(event)
                self._chunk(f"data: {text}\n\n".encode())
            if reply.then:
                reply.then(self)
            if reply.cut:
                self.close_connection = True
                return
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script = ScriptedServer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
