"""What goes wrong at a server with OpenAI's interface, in our words: the server's address, what it said, the way out.

Works by what the client library's errors have in common (status, body, cause), as their classes change with its
version.
"""

import re
from typing import Any

from longleaf.errors import ContextOverflowError, LongleafError, ReaderError, UnknownModelError

__all__ = ["KEY_HINT", "in_words", "said"]

KEY_HINT = (
    "give its key as LONGLEAF_READER_KEY (OPENAI_API_KEY goes to OpenAI's own address alone), or check the one given"
)
_SHOWN_CHARS = 300
_OVERFLOW = re.compile(r"context[ _](length|size|window)|exceed_context|too many tokens|prompt is too long", re.I)


def in_words(exc: Exception, url: str, model: str, timeout_s: float) -> LongleafError:
    """The error to raise in place of one of the client library's.

    Args:
        exc: What was raised.
        url: The server's address, as it may be shown.
        model: The model that was asked, or "" where none was.
        timeout_s: How long a reply is waited for.
    """
    status = getattr(exc, "status_code", None)
    if status is not None:
        return _refused(status, said(exc), url, model)
    names = {kind.__name__ for error in _causes(exc) for kind in type(error).__mro__}
    reasons = [str(error) for error in _causes(exc)]
    if names & {"ConnectTimeout"} or (names & {"ConnectError", "ConnectionRefusedError"}):
        return ReaderError(
            f"{url} can't be reached ({_reason(reasons)}): see that the server runs and takes connections from here, "
            "and that --base-url (LONGLEAF_BASE_URL) is its address"
        )
    if any(name.endswith(("Timeout", "TimeoutError")) or name == "TimeoutException" for name in names):
        return ReaderError(
            f"{url} sent nothing for {timeout_s:,.0f} s: ask again when it has less to do, or wait longer for it "
            "(LONGLEAF_READER_TIMEOUT_S)"
        )
    if names & {"TransportError", "APIConnectionError", "ConnectionError", "StreamError"}:
        return ReaderError(
            f"{url} broke the connection off ({_reason(reasons)}): see in the server's log why, then ask again"
        )
    if "APIError" in names:  # an error that came as a piece of a stream
        text = said(exc)
        return _overflow(text, url) if _OVERFLOW.search(text) else ReaderError(f"{url} failed while it replied: {text}")
    return ReaderError(
        f"{url} does not reply as an OpenAI-compatible server does ({type(exc).__name__}: {_short(str(exc))}): see "
        "that --base-url (LONGLEAF_BASE_URL) is such a server's; it mostly ends in /v1"
    )


def said(exc: Exception) -> str:
    """What the server said of an error, in one line."""
    body: Any = getattr(exc, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message") or inner.get("detail") or inner if isinstance(inner, dict) else inner
    text = str(body or getattr(exc, "message", "") or exc)
    if re.match(r"\s*<(!doctype|html|head|\?xml)", text, re.I):
        return "it sent a web page"
    return _short(text)


def _refused(status: int, text: str, url: str, model: str) -> LongleafError:
    refused = f"{url} refuses ({status}: {text})"
    if status in (401, 403):
        return ReaderError(f"{refused}: {KEY_HINT}")
    if status in (400, 413, 422) and (status == 413 or _OVERFLOW.search(text)):
        return _overflow(text, url)
    if status == 404 and "model" in text.casefold():
        return UnknownModelError(f"{refused}: it has no model {model!r}; `curl {url}/models` lists those that it has")
    if status == 404:
        hint = "see that --base-url is right" if url.endswith("/v1") else f"the address may be {url}/v1"
        return ReaderError(f"{url} has nothing there ({status}: {text}): {hint}")
    if status == 429:
        return ReaderError(f"{url} limits how often it may be asked ({status}: {text}): wait, and ask again")
    if status >= 500:
        return ReaderError(f"{url} fails ({status}: {text}): see the server's log, or ask again later")
    return ReaderError(f"{refused}: see what the server expects for {model or 'this'}")


def _overflow(text: str, url: str) -> ContextOverflowError:
    return ContextOverflowError(
        f"the prompt is too long for {url} ({text}): say how many tokens it takes (--context-tokens), or run the "
        "server with a longer context"
    )


def _causes(exc: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    error: BaseException | None = exc
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _reason(reasons: list[str]) -> str:
    """The words of the innermost cause that has any."""
    return _short(next((reason for reason in reversed(reasons) if reason.strip()), "no reason given"))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"
