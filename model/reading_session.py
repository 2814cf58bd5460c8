"""Reads prompts with one decoder so that nothing is read twice: from memory, from disk, and only the rest anew.

Snapshots are taken where another prompt may go on: at the end of each message, where a stored reading and this prompt
part, at a coarse grid of a long read so that an interrupted one resumes, and at the end of an answer. All of them stay
in memory for a while; those of long texts go to disk.

The places follow Marconi (Pan et al. 2024, arXiv:2411.19379): a snapshot of Mamba states costs as much as thousands of
tokens of keys and values, so there must be few.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .decoder import Decoder, ReadProgress
from .readings import ReadingStore
from .state import DecoderState

__all__ = ["ReadPrompt", "ReadingSession"]

logger = logging.getLogger(__name__)

_MIN_DISK_TOKENS = 1024
"""Shorter texts are read again sooner than a reading is worth its place on disk."""
_MIN_GRID_TOKENS = 2048
_MIN_BRANCH_TOKENS = 256
"""A branch point is worth a snapshot from so many tokens beyond the last one on."""
_MIN_REST_TOKENS = 16
"""A snapshot between the last message and the opening of the reply costs a pass of its own and saves hardly one."""
_MAX_IN_MEMORY = 8
_MAX_BYTES_IN_MEMORY = 128_000_000
"""The older of the recent states go beyond it, but for the last two: a chat goes on from the one, a summary of parts
and the question whether the text states the answer from the other. Long ones are on disk as well."""


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """A prompt that has been read.

    Attributes:
        logits: After its last token. (vocab_size,) fp32
        state: After its last token; the caller's to move on.
        seconds: What reading all of it takes, parts that were not read again included.
        cached_tokens: Tokens that were not read again.
        seconds_saved: What reading those had taken.
    """

    logits: Tensor
    state: DecoderState
    seconds: float
    cached_tokens: int
    seconds_saved: float


@dataclass(slots=True)
class _Kept:
    state: DecoderState
    seconds: float


class ReadingSession:
    """One decoder, its recent states, and the readings on disk.

    Not for two threads at once.

    Args:
        decoder: Reads.
        store: Readings on disk; None keeps them in memory alone.
        model_name: Readings are listed under it.
    """

    def __init__(self, decoder: Decoder, store: ReadingStore | None, model_name: str = "") -> None:
        self.decoder = decoder
        self._store = store
        self._model_name = model_name
        self._recent: list[_Kept] = []  # the last used comes last
        self._grid_tokens = _grid_tokens(decoder)

    def read(
        self,
        token_ids: Sequence[int],
        boundaries: Sequence[int] = (),
        *,
        label: str = "",
        sources: Sequence[str] = (),
        on_read: ReadProgress | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ReadPrompt:
        """Read a prompt, from the longest reading of its beginning on.

        Args:
            token_ids: The prompt.
            boundaries: Token counts at which another prompt may part from this one.
            label: What is read, for the list of readings.
            sources: Where its words are from; kept with the readings.
            on_read: Told after each chunk, in tokens of the whole prompt.
            should_stop: Asked before each chunk.

        Raises:
            ReadingStopped: `should_stop` said so; what was read is kept, and the same prompt goes on there.
        """
        total = len(token_ids)
        start = self._longest(token_ids)
        state, seconds = start.state, start.seconds
        cached, saved = state.n_tokens, start.seconds
        if on_read is not None and cached:
            on_read(cached, total, 0.0)
        stops = self._stops(token_ids, state.n_tokens, boundaries)
        logits: Tensor | None = None
        for stop in [*(at for at in stops if cached < at < total), total]:
            begun, before = time.monotonic(), state.n_tokens
            rate = seconds / before if before else 0.0

            def report(done: int, part: int, left: float, before: int = before, rate: float = rate) -> None:
                if on_read is not None:
                    per_token = left / (part - done) if done < part else rate
                    on_read(before + done, total, per_token * (total - before - done))

            try:
                logits = self.decoder.prefill(token_ids[before:stop], state, progress=report, should_stop=should_stop)
            except BaseException:  # stopped, or Ctrl-C: what was read so far is not lost
                seconds += time.monotonic() - begun
                if state.n_tokens > cached:
                    self.keep(state.fork(), seconds, label, sources)
                raise
            seconds += time.monotonic() - begun
            if stop < total:
                self.keep(state.fork(), seconds, label, sources)
        assert logits is not None  # a prompt has at least one token more than any reading of it
        return ReadPrompt(logits, state, seconds, cached, saved)

    def keep(self, state: DecoderState, seconds: float, label: str = "", sources: Sequence[str] = ()) -> None:
        """Keep a state for later prompts; the caller must not move it on any more."""
        self._recent = [kept for kept in self._recent if not kept.state.read_the_same(state)]
        self._recent.append(_Kept(state, seconds))
        del self._recent[:-_MAX_IN_MEMORY]
        while len(self._recent) > 2 and sum(kept.state.held_bytes for kept in self._recent) > _MAX_BYTES_IN_MEMORY:
            del self._recent[0]
        if self._store is not None and state.n_tokens >= _MIN_DISK_TOKENS:
            self._store.keep(state, seconds=seconds, label=label, model_name=self._model_name, sources=sources)

    def _longest(self, token_ids: Sequence[int]) -> _Kept:
        """A state of the caller's own that has read the longest known beginning of the prompt, but not all of it."""
        fits = [kept for kept in self._recent if kept.state.n_tokens < len(token_ids) and kept.state.starts(token_ids)]
        best = max(fits, key=lambda kept: kept.state.n_tokens, default=None)
        if self._store is not None and len(token_ids) > _MIN_DISK_TOKENS:
            in_memory = best.state.n_tokens if best else 0
            reading = self._store.find(token_ids, self.decoder.new_state(), longer_than=in_memory)
            if reading is not None:
                logger.info("going on from a reading of %d tokens (%s)", reading.state.n_tokens, reading.label)
                return _Kept(reading.state, reading.seconds)
        if best is None:
            return _Kept(self.decoder.new_state(), 0.0)
        self._recent.remove(best)
        self._recent.append(best)
        return _Kept(best.state.fork(), best.seconds)

    def _stops(self, token_ids: Sequence[int], n_read: int, boundaries: Sequence[int]) -> list[int]:
        """Token counts at which to take a snapshot, rising."""
        total = len(token_ids)
        *earlier, last = boundaries or (0,)
        stops = {*earlier, *range(self._grid_tokens, total, self._grid_tokens)}
        if total - last >= _MIN_REST_TOKENS:
            stops.add(last)
        if self._store is not None and total > _MIN_DISK_TOKENS:
            branch = self._store.branch_point(token_ids, self.decoder.fingerprint)
            near = any(branch <= at < branch + _MIN_BRANCH_TOKENS for at in stops)
            if branch - n_read >= _MIN_BRANCH_TOKENS and not near:
                stops.add(branch)
        return sorted(stops)


def _grid_tokens(decoder: Decoder) -> int:
    """Tokens between snapshots of a long read: so many that Mamba states take no more room than keys and values.

    Whole chunks, so that the grid adds no chunk of its own.
    """
    state = decoder.new_state()
    config = decoder.config
    per_token = 2 * len(config.attention_layers) * config.n_kv_heads * config.head_dim * decoder.kv_dtype.itemsize
    tokens = max(state.nbytes // per_token, _MIN_GRID_TOKENS) if per_token else 4 * _MIN_GRID_TOKENS
    return -(-tokens // decoder.chunk_tokens) * decoder.chunk_tokens
