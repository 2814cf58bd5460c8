"""A server with OpenAI's interface: which models it has, how much each takes, and how many tokens a text has there.

Beyond OpenAI's own paths it asks what vLLM, llama.cpp and `longleaf serve` tell of a model's context, and the
tokenizers of the first two. It writes no replies; that is `endpoint.py`.
"""

import contextlib
import difflib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from longleaf.errors import LongleafError, MissingExtraError, ReaderError, UnknownModelError

from .endpoint_errors import in_words

__all__ = ["CONNECT_S", "OPENAI_URL", "EndpointServer"]

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_S = 10.0
_RETRIES_AT_FIRST = 2
"""Somebody waits for the command to begin: a wrong address is told within two seconds."""
_SLOW_COUNT_S = 0.05
"""A summary counts each passage of its document, a thousand and more: with a slower server that takes minutes, and
tokens are estimated."""
_MAX_COUNTS_KEPT = 4_096
_CONTEXT_FIELDS = ("max_model_len", "context_tokens", "context_length", "context_window", "max_context_length")
"""vLLM and SGLang; `longleaf serve`; several hosts of models."""
_PROBE = "How many tokens does this sentence have?"

Count = Callable[[str], int]


class EndpointServer:
    """One server. Several threads may ask it; connections are kept open between calls.

        server = EndpointServer("http://127.0.0.1:8000/v1")
        server.find_model("")["id"]

    Args:
        base_url: Its address, mostly ending in /v1.
        api_key: Sent with each request; None where it asks for none.
        timeout_s: Seconds that it may send nothing.
        max_retries: How often a request is sent again that found no connection or was answered with 408, 409, 429 or
            5xx: after half a second, twice as long each time up to 8 s, or when the server's Retry-After says.

    Raises:
        MissingExtraError: The client library is not installed.
        ReaderError: The address is none.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, *, timeout_s: float = 600.0, max_retries: int = 4
    ) -> None:
        try:
            import openai
        except ImportError as exc:
            raise MissingExtraError(
                "a reader on a server needs OpenAI's client: pip install 'longleaf[endpoints]'"
            ) from exc
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ReaderError(f"{base_url!r} is no address of a server: give one like http://127.0.0.1:8000/v1")
        self.base_url = base_url.rstrip("/")
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
        """The address as it may be shown."""
        self.timeout_s, self.max_retries = timeout_s, max_retries
        self.timeout = openai.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        self.http = openai.DefaultHttpxClient(timeout=self.timeout)
        weakref.finalize(self, self.http.close)
        self.client = openai.OpenAI(
            http_client=self.http,
            base_url=self.base_url,
            api_key=api_key or "none",  # the client asks for one; a server without keys passes over it
            timeout=self.timeout,
            max_retries=max_retries,
        )

    @contextlib.contextmanager
    def errors(self, model: str = "") -> Iterator[None]:
        """Says in our words what goes wrong inside.

        Raises:
            ReaderError: It can't be reached, or refuses.
            ContextOverflowError: A prompt is too long for it.
            UnknownModelError: It has no such model.
        """
        try:
            yield
        except LongleafError:
            raise
        except Exception as exc:
            raise in_words(exc, self.url, model, self.timeout_s) from exc

    def models(self) -> list[dict[str, Any]]:
        """What it tells of each of its models; `id` is the name.

        Raises:
            ReaderError: It can't be reached, refuses, or is no such server.
        """
        client = self.client.with_options(max_retries=min(self.max_retries, _RETRIES_AT_FIRST))
        with self.errors():
            told = client.get("/models", cast_to=object)
        entries = told.get("data") if isinstance(told, dict) else None
        if not isinstance(entries, list):
            kind = "a web page" if isinstance(told, str) and "<" in told[:200] else "something else"
            hint = "see that --base-url is right" if self.url.endswith("/v1") else f"the address may be {self.url}/v1"
            raise ReaderError(f"{self.url}/models brings {kind} in place of the list of its models: {hint}")
        return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]

    def find_model(self, name: str) -> dict[str, Any]:
        """What it tells of one model.

        Args:
            name: As the server has it; "" is its only one.

        Raises:
            UnknownModelError: It has no such model, or "" is asked for and it has several.
            ReaderError: As `models`.
        """
        models = {entry["id"]: entry for entry in self.models()}
        if name in models:
            return models[name]
        for entry in models.values():
            if name and name in (entry.get("aliases") or ()):
                return entry
        if not models:
            raise UnknownModelError(f"{self.url} has no model now: load one there")
        if not name:
            # `longleaf serve` lists its embedder too, and tells the context of its reader alone.
            readers = [entry for entry in models.values() if any(entry.get(field) for field in _CONTEXT_FIELDS)]
            for found in (readers, list(models.values())):
                if len(found) == 1:
                    return found[0]
        asked = f"has no model {name!r}" if name else "has several models"
        raise UnknownModelError(f"{self.url} {asked}: name one with --model openai:NAME; it has {_named(models, name)}")

    def context_tokens(self, model: Mapping[str, Any]) -> int | None:
        """Tokens of prompt and reply together that the server runs a model with; None where it does not tell."""
        meta = model.get("meta") if isinstance(model.get("meta"), Mapping) else {}
        stated = [model.get(field) for field in _CONTEXT_FIELDS] + [(meta or {}).get("n_ctx")]
        if model.get("owned_by") == "llamacpp" and not any(stated):  # an older one tells it elsewhere
            told = self._beside("GET", "/props")
            settings = told.get("default_generation_settings") if isinstance(told, dict) else None
            stated.append(settings.get("n_ctx") if isinstance(settings, dict) else None)
        return next((value for value in stated if isinstance(value, int) and value > 0), None)

    def counter(self, model: str) -> Count | None:
        """What counts a text's tokens by the server's own tokenizer; None where it has none to ask, or a slow one.

        Counts are kept, so that a text is sent once.
        """
        if self.base_url == OPENAI_URL:
            return None
        body = {"model": model, "prompt": _PROBE, "content": _PROBE, "add_special_tokens": False, "add_special": False}
        told = self._beside("POST", "/tokenize", body)
        if (kind := _kind_of_count(told)) is None:
            return None
        ask = self._count_by_vllm if kind == "count" else self._count_by_llama_cpp
        with contextlib.suppress(LongleafError):
            begun = time.monotonic()
            ask(model, _PROBE)  # over the connection that is now open
            if time.monotonic() - begun <= _SLOW_COUNT_S:
                return lru_cache(_MAX_COUNTS_KEPT)(lambda text: ask(model, text) if text else 0)
        return None

    def _count_by_vllm(self, model: str, text: str) -> int:
        return self._counted(model, {"model": model, "prompt": text, "add_special_tokens": False})

    def _count_by_llama_cpp(self, model: str, text: str) -> int:
        return self._counted(model, {"content": text, "add_special": False})

    def _counted(self, model: str, body: dict[str, Any]) -> int:
        with self.errors(model):
            told: Any = self.client.post(self._root("/tokenize"), cast_to=object, body=body)
        kind = _kind_of_count(told)
        if kind is None:
            raise ReaderError(f"{self._root('/tokenize')} no longer tells how many tokens a text has: ask again")
        return int(told["count"]) if kind == "count" else len(told["tokens"])

    def _beside(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the server has beside OpenAI's paths; None where it has nothing there."""
        client = self.client.with_options(max_retries=0, timeout=CONNECT_S)
        try:
            if method == "GET":
                return client.get(self._root(path), cast_to=object)
            return client.post(self._root(path), cast_to=object, body=body)
        except Exception:  # any refusal says that it has no such thing
            return None

    def _root(self, path: str) -> str:
        return self.base_url.removesuffix("/v1") + path


def _kind_of_count(told: Any) -> str | None:
    if not isinstance(told, dict):
        return None
    if isinstance(told.get("count"), int):
        return "count"
    return "tokens" if isinstance(told.get("tokens"), list) else None


def _named(models: Mapping[str, Any], name: str) -> str:
    """The names, those first that are like the one asked for; not all where they are many."""
    near = difflib.get_close_matches(name, models, n=8, cutoff=0.3)
    names = [*near, *sorted(set(models) - set(near))]
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
