"""Counts the tokens of an item's calls to the reader, and holds calls back where so many a minute are allowed."""

import threading
import time
from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

__all__ = ["Meter", "TokenBudget"]

_LOOK_EVERY_S = 0.2


class TokenBudget:
    """So many tokens a minute, for all workers of a process together.

    What a call takes is known when it is over, so a call may overdraw; those after it then wait until a minute's share
    has paid for it. Over any time the mean is kept, also where one document is larger than a minute's share.

    Args:
        per_minute: Tokens read and written; those that the provider has in its cache count as well.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_second = per_minute / 60
        self._most = float(per_minute)
        self._left = float(per_minute)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, should_stop: Callable[[], bool]) -> None:
        """Waits until nothing is owed, or until asked to stop."""
        while self._owed() > 0 and not should_stop():
            time.sleep(min(_LOOK_EVERY_S, self._owed() / self._per_second + 0.001))

    def spend(self, tokens: int) -> None:
        """Takes what a call took."""
        with self._lock:
            self._refill()
            self._left -= tokens

    def _owed(self) -> float:
        with self._lock:
            self._refill()
            return max(0.0, -self._left)

    def _refill(self) -> None:
        at = time.monotonic()
        self._left = min(self._most, self._left + (at - self._at) * self._per_second)
        self._at = at


class Meter(BaseCallbackHandler):
    """A LangChain callback that adds up the tokens of the calls it is given to.

    Args:
        budget: Makes calls wait; None lets them go.
        should_stop: Ends the waiting.

    Attributes:
        prompt: Tokens of all prompts.
        reused: Of these, tokens that the reader had read before.
        written: Tokens written.
    """

    run_inline = True  # calls wait here, on their own thread

    def __init__(self, budget: TokenBudget | None, should_stop: Callable[[], bool]) -> None:
        self.prompt = self.reused = self.written = 0
        self._budget, self._should_stop = budget, should_stop
        self._lock = threading.Lock()

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Before a call."""
        if self._budget:
            self._budget.wait(self._should_stop)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        """After a call."""
        for generation in (g for several in response.generations for g in several):
            message = getattr(generation, "message", None)
            usage = message.usage_metadata if isinstance(message, AIMessage) else None
            if not usage:
                continue
            with self._lock:
                self.prompt += usage["input_tokens"]
                self.written += usage["output_tokens"]
                self.reused += (usage.get("input_token_details") or {}).get("cache_read") or 0
            if self._budget:
                self._budget.spend(usage["total_tokens"])
