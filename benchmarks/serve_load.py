"""Many clients at one HTTP server, some of whom hang up: errors by kind, seconds, and whether memory or places leak.

    python -m benchmarks.serve_load [--clients 32] [--seconds 120] [--model smollm2-135m] [--json]

A real server process on loopback with an empty library. Each client asks without a pause: streamed and whole chat
completions of a few tokens, embeddings, and the list of models. One request in seven is given up after a random time,
while it waits or is answered, by closing its connection. Seconds are mostly waiting, and grow with the clients; what is
looked for are errors, places that are not given back (the server must stand still two seconds after the last client),
and memory that grows from the middle to the end. A small reader makes many requests of it. `429` is no error where more
clients than --max-waiting ask. Needs the reader and `minilm`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from .app_server import free_port
from .measuring import Figures, conditions, report

SERVE = "import typer; from longleaf.app.api.command import serve; typer.run(serve)"
START_TIMEOUT_S = 90.0
HANG_UP = 1 / 7
LONGEST_BEFORE_HANGING_UP_S = 3.0
SETTLE_S = 2.0
GROWN_LIMIT_BYTES = 50_000_000
KINDS = {"stream": 0.5, "whole": 0.25, "embeddings": 0.15, "models": 0.1}


@dataclass
class Seen:
    """What the clients met."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    first_words_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    hung_up: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", default="smollm2-135m", help="the reader")
    parser.add_argument("--max-tokens", type=int, default=16, help="of each answer")
    parser.add_argument("--max-waiting", type=int, default=64, help="as for `longleaf serve`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), args))
    report({"conditions": conditions(0, "fastapi", "uvicorn") | {"model": args.model}} | figures, as_json=args.json)


async def measure(folder: Path, args: argparse.Namespace) -> Figures:
    """Starts a server, has the clients at it, and ends it."""
    port = free_port()
    log = folder / "server.log"
    words = ["--home", str(folder / "home"), "--port", str(port), "--model", args.model, "--grace-s", "2"]
    words += ["--max-waiting", str(args.max_waiting)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGLEAF_") or k == "LONGLEAF_MODELS_DIR"}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SERVE, *words], env=environment, stderr=output)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=args.clients)
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, limits=limits, timeout=600, trust_env=False) as client:
            await until_ready(client, process, log)
            seen = Seen()
            await one_request(client, "whole", args, seen, random.Random(0))
            await one_request(client, "embeddings", args, seen, random.Random(0))
            seen = Seen()
            memory = [memory_bytes(process)]
            ending = time.monotonic() + args.seconds
            clients = [asyncio.create_task(ask_until(ending, client, n, args, seen)) for n in range(args.clients)]
            await asyncio.sleep(args.seconds / 2)
            memory.append(memory_bytes(process))
            await asyncio.gather(*clients)
            await asyncio.sleep(SETTLE_S)
            memory.append(memory_bytes(process))
            stands_still, counted = await standing(client)
        process.send_signal(signal.SIGTERM)
        exit_code = process.wait(30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return figures_of(seen, memory, args) | {
        "requests_the_server_counted": counted,
        "stands_still_at_the_end": stands_still,
        "exit_code_after_sigterm": exit_code,
        "tracebacks_in_the_log": log.read_text(errors="replace").count("Traceback"),
        "bytes_grown": {
            "from_start_to_end": memory[2] - memory[0],
            "from_middle_to_end": memory[2] - memory[1],
            "target": f"<= {GROWN_LIMIT_BYTES} from middle to end",
            "met": memory[2] - memory[1] <= GROWN_LIMIT_BYTES,
        },
    }


async def until_ready(client: httpx.AsyncClient, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits until the server takes requests.

    Raises:
        RuntimeError: It ended, or took too long; quotes its log.
    """
    ending = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < ending:
        try:
            if (await client.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3_000:]}")


async def ask_until(ending: float, client: httpx.AsyncClient, n: int, args: argparse.Namespace, seen: Seen) -> None:
    """One client."""
    chance = random.Random(args.seed * 10_000 + n)
    while time.monotonic() < ending:
        kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
        patience = chance.uniform(0.01, LONGEST_BEFORE_HANGING_UP_S) if chance.random() < HANG_UP else None
        try:
            async with asyncio.timeout(patience):
                await one_request(client, kind, args, seen, chance)
        except TimeoutError:
            seen.hung_up += 1
        except httpx.HTTPError as exc:
            seen.errors[f"{kind}: {type(exc).__name__}"] += 1


async def one_request(
    client: httpx.AsyncClient, kind: str, args: argparse.Namespace, seen: Seen, chance: random.Random
) -> None:
    """Asks once, and notes how long it took or what went wrong."""
    begun = time.monotonic()
    if kind == "models":
        response = await client.get("/v1/models")
    elif kind == "embeddings":
        texts = [f"berth fees of quay {chance.randrange(1000)}" for _ in range(chance.randint(1, 8))]
        response = await client.post("/v1/embeddings", json={"model": "minilm", "input": texts})
    elif kind == "whole":
        response = await client.post("/v1/chat/completions", json=question(args, chance))
    else:
        await one_stream(client, args, seen, chance, begun)
        return
    if response.status_code == 200:
        seen.seconds[kind].append(time.monotonic() - begun)
    else:
        await wait_as_told(response, kind, seen)


async def one_stream(
    client: httpx.AsyncClient, args: argparse.Namespace, seen: Seen, chance: random.Random, begun: float
) -> None:
    """Asks for a stream, and reads it to its end."""
    body = question(args, chance) | {"stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            await response.aread()
            await wait_as_told(response, "stream", seen)
            return
        first, last = None, ""
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                first = first or time.monotonic() - begun
                last = line
    if last != "data: [DONE]":
        error = json.loads(last.removeprefix("data: ") or "{}").get("error", {})
        seen.errors[f"stream: {error.get('code') or 'cut'}"] += 1
        return
    seen.first_words_s.append(first or 0.0)
    seen.seconds["stream"].append(time.monotonic() - begun)


async def wait_as_told(response: httpx.Response, kind: str, seen: Seen) -> None:
    """Notes a refusal; whoever is told to come back later does."""
    seen.errors[f"{kind}: {response.status_code}"] += 1
    if after := response.headers.get("retry-after"):
        await asyncio.sleep(min(1.0, float(after)))


def question(args: argparse.Namespace, chance: random.Random) -> dict[str, Any]:
    """A short one, whose first message all have in common."""
    messages = [
        {"role": "system", "content": "You are the clerk of a harbour. Answer in one sentence."},
        {"role": "user", "content": f"What does berth number {chance.randrange(1000)} cost a day?"},
    ]
    return {"model": args.model, "messages": messages, "max_tokens": args.max_tokens}


async def standing(client: httpx.AsyncClient) -> tuple[bool, int]:
    """Whether nobody waits and nothing runs, and how many requests the server has counted."""
    lines = (await client.get("/metrics")).text.splitlines()
    busy = [line for line in lines if line.startswith(("longleaf_waiting{", "longleaf_running{"))]
    counted = sum(float(line.split()[-1]) for line in lines if line.startswith("longleaf_requests_total{"))
    return all(float(line.split()[-1]) == 0 for line in busy), int(counted)


def memory_bytes(process: "subprocess.Popen[bytes]") -> int:
    """Proportional resident memory of the server and what it started."""
    root = psutil.Process(process.pid)
    return sum(each.memory_full_info().pss for each in [root, *root.children(recursive=True)])


def figures_of(seen: Seen, memory: list[int], args: argparse.Namespace) -> Figures:
    """The figures of a run."""
    answered = sum(map(len, seen.seconds.values()))
    return {
        "clients": args.clients,
        "seconds": args.seconds,
        "answered": answered,
        "answered_per_second": round(answered / args.seconds, 2),
        "hung_up": seen.hung_up,
        "errors": dict(sorted(seen.errors.items())) or {"none": 0},
        "seconds_of_a_request": {
            kind: percentiles(values) for kind, values in [*seen.seconds.items(), ("first words", seen.first_words_s)]
        },
        "bytes": {"start": memory[0], "middle": memory[1], "end": memory[2]},
    }


def percentiles(values: list[float]) -> Figures:
    """Count, median and 95th percentile."""
    if len(values) < 2:
        return {"n": len(values)}
    return {
        "n": len(values),
        "p50": round(statistics.median(values), 3),
        "p95": round(statistics.quantiles(values, n=20)[-1], 3),
    }


if __name__ == "__main__":
    main()
