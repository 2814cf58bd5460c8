"""Runs a GGUF reader on llama.cpp through the prebuilt `xllamacpp` wheel: the engine for now.

xllamacpp's `Server` wants to listen on a port that answers anyone on the machine. Here it listens on a Unix socket
inside a private folder, which is deleted as soon as the server runs: no TCP port is opened, nobody can connect, and
nothing stays behind after a kill. We talk to it through direct calls only (checked in tests/model/test_llama_cpp.py).
"""

import logging
import queue
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from longleaf.errors import ContextOverflowError, ModelError, ModelNotInstalledError

from .chatml import chatml_prompt, is_chatml, plain_ids
from .engine import FinishReason, Message, Piece, ReadProgress, ShouldStop, Usage
from .gguf_tokenizer import load_tokenizer
from .machine import physical_cores

__all__ = ["LlamaCppEngine"]

logger = logging.getLogger(__name__)

_BATCH_TOKENS = (
    128  # one step of reading: the longest wait for a stop, 1.7 s at 74 tokens/s; 512 reads about 5 % faster
)
_PREFIX_CACHE_MIB = 512  # states of earlier prompts kept in memory (28 KB a token for the 1.5B)
_SILENT, _ALL = -1, 4  # llama.cpp's log verbosity
_POLL_S = 0.1
_SOCKET_NAME = "llama.sock"  # llama.cpp takes a host name that ends in .sock for a Unix socket
_MAX_SOCKET_PATH = 100  # of 108 bytes that Unix allows


class _Running:
    """What `close` needs, apart from the engine itself so that a finalizer can hold it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.closing = threading.Event()
        self.threads: set[threading.Thread] = set()
        self.used = False

    def complete(self, body: dict[str, Any], on_chunk: Callable[[Any], bool]) -> None:
        self.server.handle_completions(body, on_chunk)
        self.used = True

    def close(self) -> None:
        self.closing.set()
        for thread in list(self.threads):
            thread.join()
        if not self.used:
            # xllamacpp 2026.10: destroying a Server whose main loop has not begun waits for ever (the loop begins after
            # it was told to end). An answered request proves that it runs. Seen 2026-11-21; to see it again, remove
            # this and run test_an_engine_may_be_closed_at_once.
            self.complete({"prompt": [0], "n_predict": 1}, lambda _: True)
        self.server = None  # its destructor ends the main loop and frees the weights


class LlamaCppEngine:
    """A reader on llama.cpp; see `engine.Engine` for what it can do.

        engine = LlamaCppEngine(model_path("qwen2.5-1.5b"), context_tokens=4096)
        for piece in engine.stream([{"role": "user", "content": "Hello"}], max_tokens=64):
            ...

    Args:
        path: A GGUF file with a ChatML vocabulary.
        name: What to call the model; the file's stem if not given.
        context_tokens: Most tokens of prompt and answer together; memory grows with it.
        n_threads: Threads for the arithmetic; the physical cores if not given. With a busy neighbour fewer are faster.
        default_system: System message for conversations that have none.

    Raises:
        ModelNotInstalledError: No such file.
        ModelError: The file can't be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str | None = None,
        context_tokens: int = 4096,
        n_threads: int | None = None,
        default_system: str = "",
    ) -> None:
        if not path.is_file():
            raise ModelNotInstalledError(f"{path}: no such file")
        self.name = name or path.stem
        self.context_tokens = context_tokens
        self.n_threads = n_threads or physical_cores()
        self._default_system = default_system
        self._tokenizer = load_tokenizer(path)
        if not is_chatml(self._tokenizer):
            raise ModelError(f"{path}: its vocabulary has no <|im_start|>: only ChatML models are supported")
        self._running = _Running(_start_server(path, context_tokens, self.n_threads))
        self._finalizer = weakref.finalize(self, self._running.close)

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a text; text that looks like a control token is taken as text."""
        return plain_ids(self._tokenizer, text)

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.token_ids(text))

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens the prompt has that these messages make, control tokens included."""
        return len(chatml_prompt(self._tokenizer, messages, self._default_system))

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        should_stop: ShouldStop | None = None,
        on_read: ReadProgress | None = None,
    ) -> Iterator[Piece]:
        """Write the answer piece by piece; see `Engine.stream`."""
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        prompt = self._prompt(messages)
        body = {
            "prompt": prompt,
            "n_predict": min(max_tokens, self.context_tokens - len(prompt)),
            "temperature": temperature,
            "top_p": top_p,
            "top_k": 0,
            "min_p": 0.0,
            "seed": -1 if seed is None else seed,
            "stop": list(stop),
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,
            "cache_prompt": True,
        }
        return self._pieces(body, should_stop, on_read)

    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> dict[str, float]:
        """How likely each option is as the reply; see `Engine.choose`.

        The same bias on every option's first token leaves their ratio as it is and lifts them above all others, so
        that the server reports exactly their probabilities, renormalised, however unlikely they were.
        """
        firsts = {option: self.token_ids(option)[:1] for option in options}
        tokens = [ids[0] for ids in firsts.values() if ids]
        if len(options) < 2 or len(set(tokens)) != len(options):
            raise ValueError(f"options must be two or more that begin with different tokens, got {list(options)}")
        body = {
            "prompt": self._prompt(messages),
            "n_predict": 1,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "seed": 0,
            "logit_bias": [[token, 100.0] for token in tokens],
            "n_probs": len(tokens),
            "post_sampling_probs": True,
            "cache_prompt": True,
        }
        answer: dict[str, Any] = {}
        for chunk in self._chunks(body, None):
            answer = chunk or answer
        try:
            found = answer["choices"][0]["logprobs"]["content"][0]["top_probs"]
        except (KeyError, IndexError, TypeError) as exc:
            raise ModelError(f"{self.name}: llama.cpp gave no probabilities: {answer}") from exc
        by_token = {entry["id"]: float(entry["prob"]) for entry in found}
        weights = {option: by_token.get(ids[0], 0.0) for option, ids in firsts.items()}
        total = sum(weights.values())
        return {option: weight / total for option, weight in weights.items()}

    def close(self) -> None:
        """Stop what is being written and free the memory."""
        self._finalizer()

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        prompt = chatml_prompt(self._tokenizer, messages, self._default_system)
        if len(prompt) >= self.context_tokens:
            raise ContextOverflowError(
                f"{self.name}: the prompt has {len(prompt)} tokens and the context {self.context_tokens}, "
                "of which the answer needs some; shorten the prompt or raise context_tokens"
            )
        return prompt

    def _pieces(
        self, body: dict[str, Any], should_stop: ShouldStop | None, on_read: ReadProgress | None
    ) -> Iterator[Piece]:
        written, cached, reason, usage = 0, 0, None, None
        for chunk in self._chunks(body, should_stop):
            if chunk is None:
                yield Piece("", "cancelled", Usage(len(body["prompt"]), written, cached))
                return
            if progress := chunk.get("prompt_progress"):
                cached = progress["cache"]
                if on_read is not None:
                    on_read(progress["processed"], progress["total"])
                continue
            if counts := chunk.get("usage"):
                cached = counts.get("prompt_tokens_details", {}).get("cached_tokens", 0)
                usage = Usage(counts["prompt_tokens"], counts["completion_tokens"], cached)
            for choice in chunk.get("choices", ()):
                reason = choice.get("finish_reason") or reason
                if choice.get("text"):
                    written += 1
                    yield Piece(choice["text"])
        yield Piece("", _finish_reason(reason), usage)

    def _chunks(self, body: dict[str, Any], should_stop: ShouldStop | None) -> Iterator[dict[str, Any] | None]:
        """The server's chunks, made in a thread of their own; None, and then the end, once `should_stop` says so.

        A stop returns at once. The server notices it with its next chunk, within one step of reading or one token,
        and frees its slot; a request that comes in the meantime waits for that.
        """
        running = self._running
        if running.closing.is_set():
            raise ModelError(f"{self.name}: the engine is closed")
        chunks: queue.SimpleQueue[dict[str, Any] | BaseException | None] = queue.SimpleQueue()
        cancelled = threading.Event()

        def on_chunk(chunk: Any) -> bool:
            chunks.put(chunk)
            return cancelled.is_set() or running.closing.is_set()

        def work() -> None:
            try:
                running.complete(body, on_chunk)
            except BaseException as exc:  # handed to the caller
                chunks.put(exc)
            finally:
                chunks.put(None)
                running.threads.discard(thread)

        thread = threading.Thread(target=work, name="longleaf-reader", daemon=True)
        running.threads.add(thread)
        thread.start()
        try:
            while True:
                if should_stop is not None and should_stop():
                    yield None
                    return
                try:
                    chunk = chunks.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
                if chunk is None:
                    return
                if isinstance(chunk, BaseException):
                    raise ModelError(f"{self.name}: llama.cpp failed: {chunk}") from chunk
                if "error" in chunk:
                    raise ModelError(f"{self.name}: llama.cpp: {chunk['error'].get('message', chunk['error'])}")
                yield chunk
        finally:
            cancelled.set()


def _finish_reason(reason: str | None) -> FinishReason:
    if reason is None:
        return "cancelled"
    return "length" if reason == "length" else "stop"


def _start_server(path: Path, context_tokens: int, n_threads: int) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context_tokens
    params.n_batch = params.n_ubatch = _BATCH_TOKENS
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = n_threads
    params.warmup = False
    # Without weights packed anew for AVX2: with xllamacpp 2026.10 on an AVX-512 machine the 1.5B then loads in 1.1 s
    # instead of 2.6 (holding the GIL), reads 58 tokens/s instead of 48, and writes 14 instead of 16 (2026-11-22).
    params.no_extra_bufts = True
    params.ctx_shift = False  # a prompt that does not fit is an error, never cut
    params.fit_params = False  # the context is what was asked for
    params.cache_ram_mib = _PREFIX_CACHE_MIB
    params.verbosity = _ALL if logger.isEnabledFor(logging.DEBUG) else _SILENT
    params.api_keys = [secrets.token_urlsafe(32)]
    params.cors_origins = ""
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    folder = _socket_folder()
    try:
        params.hostnames = [str(folder / _SOCKET_NAME)]
        try:
            return xllamacpp.Server(params)
        except Exception as exc:
            raise ModelError(f"{path}: llama.cpp can't load it ({exc}); is it whole, and is there memory?") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _socket_folder() -> Path:
    """A private folder (0700) with a name short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="longleaf-"))
    if len(str(folder / _SOCKET_NAME)) > _MAX_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="longleaf-", dir="/tmp"))  # still made 0700 by mkdtemp
    return folder
