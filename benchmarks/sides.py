"""One implementation in a process of its own, told over a pipe what to do: the sides of `benchmarks.against_others`.

Each process imports its own library and no other, so that its memory is what that library needs. It reads one JSON
object a line and answers with one. A turn is: read the prompt from nothing, save the state, write on, load the state
into a fresh one, and write the first tokens once more, which must come out the same.

llama.cpp is the server of the wheel `xllamacpp`, asked over a Unix socket: seconds of reading and writing are those
that it gives itself, without the socket; those of saving and loading are taken around the request, as for the others
around the call.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measuring import ROOT, Figures, memory_bytes

_CHECKED_TOKENS = 8
_ENDS_WITHIN_S = 10
_AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def post_json(address: str, path: str, body: Figures) -> Figures:
    """What a server on a Unix socket answers."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    found: Figures = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    return found


class Side:
    """A process that runs one implementation; a context.

    Args:
        kind: longleaf, transformers or llama.cpp.
        path: A folder with config.json and .safetensors files, or a .gguf file.
        n_threads: Of the arithmetic.
        n_context: Tokens that there has to be room for.
        avx2: Keep to AVX2 (Longleaf alone): what the wheel of llama.cpp is compiled for.
    """

    def __init__(self, kind: str, path: Path, n_threads: int, n_context: int, *, avx2: bool = False) -> None:
        about = {"kind": kind, "path": str(path), "n_threads": n_threads, "n_context": n_context, "avx2": avx2}
        environment = os.environ | {"OMP_NUM_THREADS": str(n_threads)} | (_AVX2_ONLY if avx2 else {})
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.sides import serve; serve()", json.dumps(about)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Side":
        self.loaded = self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # it then removes its folder and ends
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def turn(self, ids: list[int], n_written: int) -> Figures:
        """See the top.

        Returns:
            `read_s`, `write_s` of all tokens but the first, `save_s`, `restore_s`, `state_bytes`, `tokens`, and whether
            it went on the `same` after loading.
        """
        return self._ask({"do": "turn", "ids": ids, "n_written": n_written})

    def choices(self, ids: list[int], following: list[int]) -> list[int]:
        """The token that it would have written in the place of each of the following ones, given all before it."""
        found: list[int] = self._ask({"do": "choices", "ids": ids, "following": following})["choices"]
        return found

    def peak_bytes(self) -> int:
        """The most memory that the process has had."""
        peak: int = self._ask({"do": "peak"})["bytes"]
        return peak

    def _ask(self, what: Figures) -> Figures:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with exit code {self._process.wait()}; what it said is above")
        answer: Figures = json.loads(line)
        return answer


class _Implementation(Protocol):
    def turn(self, ids: list[int], n_written: int, file: Path) -> Figures: ...

    def choices(self, ids: list[int], following: list[int]) -> list[int]: ...


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def _turn(
    read: Callable[[], Any],
    save: Callable[[], object],
    write: Callable[[int, int], list[int]],
    load: Callable[[], object],
    n_written: int,
    file: Path,
) -> Figures:
    """The turn of an implementation that is called and not asked. `write`: a token, and how many to write after it."""
    read_s, first = _timed(read)
    save_s, _ = _timed(save)
    write_s, tokens = _timed(lambda: write(first, n_written - 1))
    restore_s, _ = _timed(load)
    again = write(first, min(_CHECKED_TOKENS, n_written) - 1)
    return {
        "read_s": read_s,
        "write_s": write_s,
        "save_s": save_s,
        "restore_s": restore_s,
        "state_bytes": file.stat().st_size,
        "tokens": [first, *tokens],
        "same": again == tokens[: len(again)],
    }


class _Longleaf:
    def __init__(self, path: Path, n_threads: int, *, avx2: bool) -> None:
        import torch

        from longleaf.model import load_model, native

        if avx2:
            native._SETS = ("avx2", "generic")  # before the library is looked for
        torch.set_num_threads(n_threads)
        self.model = load_model(path, dtype=torch.bfloat16 if path.is_dir() else None)
        self.about = {"kernels": native.instruction_set() or "none built"}

    def turn(self, ids: list[int], n_written: int, file: Path) -> Figures:
        self.state = self.model.new_state()

        def write(token: int, n: int) -> list[int]:
            written = []
            for _ in range(n):
                token = int(self.model.decode(token, self.state).argmax())
                written.append(token)
            return written

        def load() -> None:
            self.state = self.model.load_state(file)

        return _turn(
            lambda: int(self.model.prefill(ids, self.state).argmax()),
            lambda: self.state.save(file),
            write,
            load,
            n_written,
            file,
        )

    def choices(self, ids: list[int], following: list[int]) -> list[int]:
        state = self.model.new_state()
        first = int(self.model.prefill(ids, state).argmax())
        rest: list[int] = self.model.logits_of_all(following[:-1], state).argmax(-1).tolist()
        return [first, *rest]


class _Transformers:
    def __init__(self, path: Path, n_threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()
        torch.set_num_threads(n_threads)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
        self.about: Figures = {}

    def turn(self, ids: list[int], n_written: int, file: Path) -> Figures:
        self.past: Any = None

        def write(token: int, n: int) -> list[int]:
            written = []
            for _ in range(n):
                token = self._forward([token], 1)[-1]
                written.append(token)
            return written

        def load() -> None:
            # Its caches have no file of their own: whoever keeps one pickles it. This one we wrote ourselves just now.
            self.past = self.torch.load(file, weights_only=False)

        return _turn(
            lambda: self._forward(ids, 1)[-1],
            lambda: self.torch.save(self.past, file),
            write,
            load,
            n_written,
            file,
        )

    def choices(self, ids: list[int], following: list[int]) -> list[int]:
        self.past = None
        return self._forward(ids + following[:-1], len(following))

    def _forward(self, ids: list[int], n_kept: int) -> list[int]:
        """The likeliest token after each of the last `n_kept`."""
        with self.torch.inference_mode():
            out = self.model(
                input_ids=self.torch.tensor([ids]), past_key_values=self.past, use_cache=True, logits_to_keep=n_kept
            )
        self.past = out.past_key_values
        likeliest: list[int] = out.logits[0].argmax(-1).tolist()
        return likeliest


class _LlamaCpp:
    def __init__(self, path: Path, n_threads: int, n_context: int, folder: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel, params.verbosity = str(path), n_context, 1, -1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
        params.cache_ram_mib, params.n_ctx_checkpoints = 0, 0  # nothing is kept but what we ask for
        params.slot_save_path = f"{folder}/"
        self.address = f"{folder}/llama.sock"  # the ending tells it that this is no host
        params.hostnames = [self.address]
        self.server = xllamacpp.Server(params)
        self.about = {"built_for": xllamacpp.get_system_info().strip(" |")}

    def turn(self, ids: list[int], n_written: int, file: Path) -> Figures:
        read = self._complete(ids, 1, fresh=True)
        (first,) = read["tokens"]
        save_s, saved = _timed(lambda: self._post("/slots/0?action=save", {"filename": file.name}))
        written = self._complete([*ids, first], n_written - 1)
        self._post("/slots/0?action=erase", {})
        restore_s, restored = _timed(lambda: self._post("/slots/0?action=restore", {"filename": file.name}))
        again = self._complete([*ids, first], min(_CHECKED_TOKENS, n_written) - 1)
        for answer, key in ((saved, "n_saved"), (restored, "n_restored")):
            if answer.get(key) != len(ids):
                raise SystemExit(f"llama.cpp's slot has not the {len(ids)} tokens of the prompt: {answer}")
        reused = again["timings"]["cache_n"]
        timings = written["timings"]
        return {
            "read_s": read["timings"]["prompt_ms"] / 1000,
            # A token is sampled before the first step and not read after the last: n tokens are n - 1 steps.
            "write_s": timings["predicted_ms"] / 1000 * (n_written - 1) / (timings["predicted_n"] - 1),
            "save_s": save_s,
            "restore_s": restore_s,
            "state_bytes": saved["n_written"],
            "tokens": [first, *written["tokens"]],
            "same": again["tokens"] == written["tokens"][: len(again["tokens"])] and reused == len(ids),
        }

    def choices(self, ids: list[int], following: list[int]) -> list[int]:
        raise NotImplementedError("its server gives the likeliest token of the last place only")

    def _complete(self, ids: list[int], n: int, *, fresh: bool = False) -> Figures:
        body = {"prompt": ids, "n_predict": n, "temperature": 0, "return_tokens": True, "ignore_eos": True}
        return self._post("/completion", body | {"cache_prompt": not fresh, "id_slot": 0})

    def _post(self, path: str, body: Figures) -> Figures:
        found = post_json(self.address, path, body)
        if "error" in found:
            raise SystemExit(f"llama.cpp: {found['error']}")
        return found


def serve() -> None:
    """Do what comes in, until it ends. Only JSON goes to the standard output: libraries print to the other."""
    about: Figures = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    path = Path(about["path"])
    with tempfile.TemporaryDirectory(prefix="ll-") as name:
        folder = Path(name)
        side: _Implementation
        if about["kind"] == "longleaf":
            side = _Longleaf(path, about["n_threads"], avx2=about["avx2"])
        elif about["kind"] == "transformers":
            side = _Transformers(path, about["n_threads"])
        else:
            side = _LlamaCpp(path, about["n_threads"], about["n_context"], folder)
        answer: Figures = {"about": side.about}  # type: ignore[attr-defined]
        print(json.dumps(answer), file=answers, flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["do"] == "turn":
                answer = side.turn(asked["ids"], asked["n_written"], folder / "state")
            elif asked["do"] == "choices":
                answer = {"choices": side.choices(asked["ids"], asked["following"])}
            else:
                answer = {"bytes": memory_bytes("VmHWM")}
            print(json.dumps(answer), file=answers, flush=True)
            (folder / "state").unlink(missing_ok=True)
