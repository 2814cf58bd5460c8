"""The decoder: one loop over layers that reads prompts in chunks, writes tokens, and leaves its states with the caller.

    model = load_model("AI21-Jamba2-3B")
    state = model.new_state()
    logits = model.prefill(token_ids, state)
    for token_id in model.generate(question_ids, state, max_tokens=64): ...

Memory does not grow with the context beyond the state itself: a chunk at a time passes through the layers, and logits
are made of the last position only. Loading is in `loading.py`, the layers' mathematics in `layers.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longleaf.errors import ContextOverflowError, DamagedStateError, StateMismatchError

from .config import DecoderConfig
from .kernels import Kernels
from .layers import Layer, Rotation, Span
from .linear import Linear
from .rotary import Rotary
from .sampling import Sampler, SamplingOptions
from .state import DecoderState

__all__ = ["Decoder", "Embedding", "ReadProgress", "ReadingStopped"]

Embedding = Callable[[Tensor], Tensor]
"""Token ids (T,) int64 -> (T, D)."""
ReadProgress = Callable[[int, int, float], None]
"""Called after each chunk with (tokens read, tokens in all, seconds left)."""
ShouldStop = Callable[[], bool]

_CHUNK_TOKENS = 512
_LARGE_CHUNK_TOKENS = 2048
"""On CUDA, to keep it busy, and with experts, so that each gets tokens enough for a product at full speed."""


class ReadingStopped(Exception):  # noqa: N818  the caller asked for it
    """`should_stop` said so. The state is as it was after the last whole chunk; reading can go on from there."""


class Decoder:
    """A decoder of one of the three families, with its weights. Made by `load_model`.

    Not safe for two threads at once on the same state; different states may be used side by side.

    Args:
        config: The shape.
        embed: Token ids to vectors.
        layers: In order.
        final_norm: Weights of the last norm. (D,)
        output: D -> vocab_size.
        kernels: What runs between the products.
        dtype: Of activations.
        kv_dtype: Of kept keys and values.
        device: Where the weights are.
        fingerprint: Names the weights and settings; states carry it.
    """

    def __init__(
        self,
        config: DecoderConfig,
        embed: Embedding,
        layers: Sequence[Layer],
        final_norm: Tensor,
        output: Linear,
        *,
        kernels: Kernels,
        dtype: torch.dtype,
        kv_dtype: torch.dtype,
        device: torch.device,
        fingerprint: str,
    ) -> None:
        self.config = config
        self.layers = tuple(layers)
        self.kernels = kernels
        self.dtype = dtype
        self.kv_dtype = kv_dtype
        self.device = device
        self.fingerprint = fingerprint
        large = device.type == "cuda" or any(config.moe_layers)
        self.chunk_tokens = _LARGE_CHUNK_TOKENS if large else _CHUNK_TOKENS
        """Tokens read at once unless `prefill` is told otherwise."""
        self._embed = embed
        self._final_norm = final_norm
        self._output = output
        self._rotary = Rotary.of(config, device)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights in memory, those of products apart from the tied embedding counted once."""
        return _nbytes(self.layers) + _nbytes(self._output) + _nbytes(self._final_norm)

    # States

    def new_state(self) -> DecoderState:
        """The state before the first token."""
        return DecoderState.empty(self.config, self.fingerprint, self.dtype, self.kv_dtype, self.device)

    def load_state(self, path: str | PathLike[str]) -> DecoderState:
        """Read a state that `DecoderState.save` wrote.

        Raises:
            StateMismatchError: Another model, or other settings, made it.
            DamagedStateError: It is not whole.
        """
        from .state_file import load_state

        return load_state(Path(path), self.new_state())

    # Reading and writing

    def prefill(
        self,
        token_ids: Sequence[int],
        state: DecoderState,
        chunk_tokens: int | None = None,
        progress: ReadProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Tensor:
        """Read tokens in chunks; the state moves on.

        Args:
            token_ids: At least one.
            state: What was read before.
            chunk_tokens: Tokens read at once; any number gives the same result. `self.chunk_tokens` if not given. They
                end at multiples of it in the whole sequence, so that a reading that was interrupted goes on in the same
                steps, and comes to the same bits, as one that was not.
            progress: Told after each chunk.
            should_stop: Asked before each chunk and each layer.

        Returns:
            Logits after the last token. (vocab_size,) fp32

        Raises:
            ContextOverflowError: More tokens than the model was trained for.
            ReadingStopped: `should_stop` said so; the state is valid for what was read.
            StateMismatchError: The state is another model's.
        """
        self._check(state, token_ids)
        size = self.chunk_tokens if chunk_tokens is None else chunk_tokens
        if size < 1:
            raise ValueError(f"chunk_tokens must be at least 1, got {size}")
        begun, total = time.monotonic(), len(token_ids)
        done = 0
        while done < total:
            chunk = token_ids[done : done + size - state.n_tokens % size]
            done += len(chunk)
            before = state.fork()  # cheap beside a chunk
            try:
                hidden = self._forward([(chunk, state)], last_only=True, should_stop=should_stop)  # (1, D)
            except BaseException:  # Ctrl-C too: some layers have read the chunk and others have not
                state.go_back(before)
                raise
            if progress is not None:
                progress(done, total, (time.monotonic() - begun) / done * (total - done))
        return self._logits(hidden)[0]

    def decode(self, token_id: int, state: DecoderState) -> Tensor:
        """Read one token; the state moves on.

        Returns:
            Logits after it. (vocab_size,) fp32
        """
        self._check(state, [token_id])
        return self._logits(self._forward([([token_id], state)], last_only=True))[0]

    def forward_batch(self, token_ids: Sequence[Sequence[int]], states: Sequence[DecoderState]) -> Tensor:
        """Read the next tokens of several sequences at once, each on its own state.

        The sequences may have different lengths, and states may be forks of one reading.

        Args:
            token_ids: For each sequence at least one token, all of which go through the layers as one chunk.
            states: As many, all different.

        Returns:
            Logits after each sequence's last token. (batch, vocab_size) fp32
        """
        if len(token_ids) != len(states) or len({id(state) for state in states}) != len(states):
            raise ValueError(f"{len(token_ids)} sequences need as many states, each its own; got {len(states)}")
        for ids, state in zip(token_ids, states, strict=True):
            self._check(state, ids)
        return self._logits(self._forward(list(zip(token_ids, states, strict=True)), last_only=True))

    def logits_of_all(self, token_ids: Sequence[int], state: DecoderState) -> Tensor:
        """Read a chunk and keep the logits of every position: for scoring. (L, vocab_size) fp32."""
        self._check(state, token_ids)
        return self._logits(self._forward([(token_ids, state)], last_only=False))

    def generate(
        self,
        token_ids: Sequence[int],
        state: DecoderState,
        *,
        max_tokens: int,
        sampling: SamplingOptions | None = None,
        stop_tokens: Sequence[int] | None = None,
        chunk_tokens: int | None = None,
        progress: ReadProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[int]:
        """Read a prompt, then write token by token.

        The state has read all but the last token that was given out: it can be kept, or extended with more.

        Args:
            token_ids: The prompt, or what of it the state has not read.
            state: Moves on.
            max_tokens: Most tokens to write.
            sampling: Greedy if not given.
            stop_tokens: Tokens that end the answer and are not given out; the checkpoint's own if not given.
            chunk_tokens: See `prefill`.
            progress: Told while the prompt is read.
            should_stop: Asked before each chunk and each token; True ends the answer.
        """
        ends = set(self.config.eos_token_ids if stop_tokens is None else stop_tokens)
        options = sampling or SamplingOptions()
        sampler = Sampler(options)
        try:
            logits = self.prefill(token_ids, state, chunk_tokens, progress, should_stop)
        except ReadingStopped:
            return
        for written in range(max_tokens):
            token = sampler(logits, state.token_ids if options.repetition_penalty != 1 else ())
            if token in ends:
                return
            yield token
            if written + 1 == max_tokens or (should_stop is not None and should_stop()):
                return
            logits = self.decode(token, state)

    def generate_batch(
        self,
        prompts: Sequence[Sequence[int]],
        states: Sequence[DecoderState],
        *,
        max_tokens: int,
        sampling: SamplingOptions | None = None,
        stop_tokens: Sequence[int] | None = None,
        should_stop: ShouldStop | None = None,
    ) -> list[list[int]]:
        """Answer several prompts side by side: the weights are read once for a token of each.

        For several questions about one document, hand in forks of its reading: they share its keys and values.

            states = [reading.fork() for _ in questions]
            answers = model.generate_batch(questions, states, max_tokens=64)

        Args:
            prompts: For each what its state has not read.
            states: As many, each its own; they move on, and have read all but the last token of their answers.
            max_tokens: Most tokens of each answer.
            sampling: Greedy if not given. With a seed, the same one begins each answer.
            stop_tokens: See `generate`.
            should_stop: Asked before each step; True ends all answers.

        Returns:
            For each prompt its answer's tokens.
        """
        if len(prompts) != len(states):
            raise ValueError(f"{len(prompts)} prompts need as many states, got {len(states)}")
        ends = set(self.config.eos_token_ids if stop_tokens is None else stop_tokens)
        options = sampling or SamplingOptions()
        samplers = [Sampler(options) for _ in states]
        # Prompts are read one by one, in chunks: a long one must not make one chunk with all the others.
        rows = [self.prefill(ids, state, should_stop=should_stop) for ids, state in zip(prompts, states, strict=True)]
        logits = torch.stack(rows)  # (B, vocab_size)
        answers: list[list[int]] = [[] for _ in states]
        running = list(range(len(states)))
        while running and not (should_stop is not None and should_stop()):
            for i, row in zip(list(running), logits, strict=True):
                token = samplers[i](row, states[i].token_ids if options.repetition_penalty != 1 else ())
                if token not in ends:
                    answers[i].append(token)
                if token in ends or len(answers[i]) == max_tokens:
                    running.remove(i)
            if running:
                logits = self.forward_batch([answers[i][-1:] for i in running], [states[i] for i in running])
        return answers

    # The loop over layers

    @torch.inference_mode()
    def _forward(
        self,
        sequences: Sequence[tuple[Sequence[int], DecoderState]],
        *,
        last_only: bool,
        should_stop: ShouldStop | None = None,
    ) -> Tensor:
        """Hidden states after the last norm: of each sequence's last token, or of all. (B or T, D)."""
        ids = torch.tensor([token for tokens, _ in sequences for token in tokens], device=self.device)  # (T,)
        bounds, row = [], 0
        for tokens, _ in sequences:
            bounds.append((row, row + len(tokens)))
            row += len(tokens)
        rotation = self._rotation(sequences)
        x = self._embed(ids)  # (T, D)
        for _, state in sequences:
            state.is_whole = False
        delta: Tensor | None = None
        for index, layer in enumerate(self.layers):
            if should_stop is not None and should_stop():
                raise ReadingStopped
            spans = [
                Span(start, stop, state.layers[index])
                for (start, stop), (_, state) in zip(bounds, sequences, strict=True)
            ]
            normed = self.kernels.rms_norm(x, layer.mixer_norm, self.config.norm_eps, delta)
            delta = layer.mixer(normed, spans, rotation, self.kernels)  # (T, D)
            if layer.network is not None and layer.network_norm is not None:
                normed = self.kernels.rms_norm(x, layer.network_norm, self.config.norm_eps, delta)
                delta = layer.network(normed, self.kernels)  # (T, D)
        for tokens, state in sequences:
            state.note(tokens)
        if last_only:
            last = [stop - 1 for _, stop in bounds]
            x, delta = x[last], None if delta is None else delta[last]
        return self.kernels.rms_norm(x, self._final_norm, self.config.norm_eps, delta)

    def _rotation(self, sequences: Sequence[tuple[Sequence[int], DecoderState]]) -> Rotation:
        if self._rotary is None:
            return None
        return self._rotary.rows([(state.n_tokens, len(tokens)) for tokens, state in sequences])

    @torch.inference_mode()
    def _logits(self, hidden: Tensor) -> Tensor:
        return self._output(hidden).float()  # (B, vocab_size) fp32

    def _check(self, state: DecoderState, token_ids: Sequence[int]) -> None:
        if not token_ids:
            raise ValueError("there is no token to read")
        if min(token_ids) < 0 or max(token_ids) >= self.config.vocab_size:
            raise ValueError(
                f"token ids must be in [0, {self.config.vocab_size}), got {min(token_ids)} to {max(token_ids)}"
            )
        if not state.is_whole:
            raise DamagedStateError("reading was interrupted between two layers: go on from a fork of before")
        if state.fingerprint != self.fingerprint:
            raise StateMismatchError(
                f"the state was made by model {state.fingerprint[:12]} and this is {self.fingerprint[:12]}: "
                "read the text again"
            )
        limit = self.config.max_context_tokens
        if limit is not None and state.n_tokens + len(token_ids) > limit:
            raise ContextOverflowError(
                f"{state.n_tokens + len(token_ids):,} tokens are more than the {limit:,} this model was trained for"
            )


def _nbytes(part: Any) -> int:
    """Bytes of all tensors and products inside a layer."""
    if hasattr(part, "nbytes"):
        return int(part.nbytes)
    if isinstance(part, tuple):
        return sum(map(_nbytes, part))
    if is_dataclass(part):
        return sum(_nbytes(getattr(part, field.name)) for field in fields(part))
    return 0
