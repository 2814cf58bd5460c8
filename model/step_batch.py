"""Answers that are written at the same time go through the layers together: the weights are read once for all.

Each answer is written by a thread of its own, which hands in its next tokens and waits for what follows. Who hands in
while others compute is taken along by the next pass (iteration-level scheduling: Yu et al. 2022, "Orca", OSDI '22).
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from .arithmetic import post
from .decoder import Decoder
from .state import DecoderState

__all__ = ["StepBatch"]

T = TypeVar("T")

_MAX_BATCH = 8
"""Answers in one pass."""
_PATIENCE_S = 0.004
"""So long a pass waits for answers that were in the one before: a thread needs a fraction of it to hand in again."""


@dataclass(eq=False, slots=True)
class _Step:
    writer: object
    tokens: Sequence[int]
    state: DecoderState
    then: Callable[[Tensor], Any]
    over: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class StepBatch:
    """The next tokens of all answers that one decoder writes.

        chosen = steps.next(writer, [token_id], state, lambda logits: int(logits.argmax()))

    Args:
        decoder: Reads them.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._waiting: list[_Step] = []
        self._writing: set[object] = set()  # who took part in the last pass and has not left
        self._change = threading.Condition()

    def next(self, writer: object, tokens: Sequence[int], state: DecoderState, then: Callable[[Tensor], T]) -> T:
        """Reads the next tokens of an answer, with those of others that are there.

        Args:
            writer: Stands for the answer.
            tokens: At least one, few enough for one chunk.
            state: The answer's own; moves on.
            then: Given the logits after the last token, (vocab_size,) fp32, in the thread that computes; what it
                returns is returned.

        Raises:
            LongleafError: As `Decoder.forward_batch` raises it.
        """
        step = _Step(writer, tokens, state, then)
        with self._change:
            self._waiting.append(step)
            self._change.notify_all()
        post(lambda: self._run_until(step))
        interrupt: BaseException | None = None
        while not step.over.is_set():  # also after a Ctrl-C: the state is being moved on
            try:
                step.over.wait()
            except BaseException as exc:
                interrupt = exc
        if error := interrupt or step.error:
            raise error
        result: T = step.result
        return result

    def leave(self, writer: object) -> None:
        """The answer is over: no pass waits for it."""
        with self._change:
            self._writing.discard(writer)
            self._change.notify_all()

    def run_for(self, seconds: float) -> None:
        """Gives the answers that are being written so long, or until none is left; for the thread that computes."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._pass():
            pass

    def _run_until(self, step: _Step) -> None:
        while not step.over.is_set():  # others may be before it
            self._pass()

    def _pass(self) -> bool:
        """One pass with what has been handed in; whether there was anything."""
        with self._change:
            self._change.wait_for(lambda: self._writing <= {step.writer for step in self._waiting}, _PATIENCE_S)
            steps = self._waiting[:_MAX_BATCH]
            del self._waiting[:_MAX_BATCH]
            self._writing = {step.writer for step in steps}
        if not steps:
            return False
        try:
            rows = self._decoder.forward_batch([s.tokens for s in steps], [s.state for s in steps])  # (B, vocab_size)
            for step, row in zip(steps, rows, strict=True):
                try:
                    step.result = step.then(row)
                except BaseException as exc:
                    step.error = exc
        except BaseException as exc:
            for step in steps:
                step.error = exc
        for step in steps:
            step.over.set()
        return True
