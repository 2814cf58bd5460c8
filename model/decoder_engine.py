"""Our decoder as an `Engine`: chat messages in, streamed text out, readings kept in between."""

import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from longleaf.errors import ContextOverflowError, ModelError

from .arithmetic import Asker, compute
from .chat_template import ChatTemplate, Prompt
from .constraint import AnswerGuide, Constraint, TokenVocabulary
from .decoder import Decoder, ReadingStopped
from .engine import FinishReason, Message, Piece, ReadProgress, ShouldStop, Tool, Usage
from .gguf_file import GGUFFile
from .gguf_tokenizer import load_tokenizer, plain_ids
from .loading import load_model
from .machine import physical_cores
from .reading_session import ReadingSession, ReadPrompt
from .readings import ReadingStore
from .safetensors_weights import Quantization
from .sampling import Sampler, SamplingOptions
from .state import DecoderState
from .step_batch import StepBatch
from .text_stream import ReasoningSplitter, TextStream
from .tool_calls import ToolMarkup, messages_for

__all__ = ["DecoderEngine", "load_chat_template"]

logger = logging.getLogger(__name__)


def load_chat_template(path: Path, default_system: str = "") -> ChatTemplate:
    """The chat template, with the tokenizer, of a model folder or a GGUF file.

    Args:
        path: The folder or file.
        default_system: System message for conversations that have none.

    Raises:
        ModelError: It has none, or it can't be read.
    """
    if path.is_dir():
        return ChatTemplate.from_folder(path, default_system=default_system)
    metadata = GGUFFile(path).metadata
    return ChatTemplate.from_gguf_metadata(metadata, load_tokenizer(path), where=path, default_system=default_system)


class DecoderEngine:
    """A reader on our decoder; see `engine.Engine` for what it can do.

        path = model_path("qwen2.5-1.5b")
        engine = DecoderEngine.load(path, load_chat_template(path), name="qwen", context_tokens=4096)
        for piece in engine.stream([{"role": "user", "content": "Hello"}], max_tokens=64, sampling=SamplingOptions()):
            ...

    Args:
        decoder: The model.
        template: Its chat template, with its tokenizer.
        name: What to call the model.
        context_tokens: Most tokens of prompt and answer together.
        store: Where readings are kept; None keeps them in memory alone.
    """

    def __init__(
        self,
        decoder: Decoder,
        template: ChatTemplate,
        *,
        name: str,
        context_tokens: int,
        store: ReadingStore | None = None,
    ) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self._template = template
        self._tokenizer: Tokenizer = template.tokenizer
        # What holds the weights: prompts are read by the one, answers written by the other.
        self._open: tuple[ReadingSession, StepBatch] | None = (ReadingSession(decoder, store, name), StepBatch(decoder))
        config = decoder.config
        # A model that begins a new text has ended its answer; GGUF files often name only one of two end tokens.
        self._ends = {*config.eos_token_ids, *([] if config.bos_token_id is None else [config.bos_token_id])}
        self._vocab_size = config.vocab_size
        self._vocabulary: TokenVocabulary | None = None  # made for the first constraint
        self._vocabulary_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: Path,
        template: ChatTemplate,
        *,
        name: str,
        context_tokens: int,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        quantize: Quantization | None = None,
        n_threads: int | None = None,
        store: ReadingStore | None = None,
    ) -> "DecoderEngine":
        """Load the weights; see `load_model` and the class.

        Args:
            path: A model folder or a .gguf file.
            template: From `load_chat_template` of the same path.
            name: What to call the model.
            context_tokens: Most tokens of prompt and answer together.
            device: "cpu" or "cuda".
            dtype: Of activations; chosen if not given.
            quantize: int8 weights.
            n_threads: Threads for the arithmetic, of the whole process; the physical cores that it may use if not
                given. With a busy neighbour fewer are faster.
            store: Where readings are kept.
        """

        def load(_: Asker) -> Decoder:
            # PyTorch counts the machine's cores, also where a container may use only some of them.
            torch.set_num_threads(n_threads or min(torch.get_num_threads(), physical_cores()))
            return load_model(path, device, dtype, quantize)

        decoder = compute(load)
        return cls(decoder, template, name=name, context_tokens=context_tokens, store=store)

    def token_ids(self, text: str) -> list[int]:
        """Tokens of a text; text that looks like a control token is taken as text."""
        return plain_ids(self._tokenizer, text)

    @property
    def tool_markup(self) -> ToolMarkup:
        """How tool calls stand in the answer's text."""
        return self._template.tool_markup

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> int:
        """How many tokens the prompt has that these messages and tools make, control tokens included."""
        return len(self._render(messages, tools).token_ids)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        sampling: SamplingOptions,
        stop: Sequence[str] = (),
        label: str = "",
        sources: Sequence[str] = (),
        should_stop: ShouldStop | None = None,
        on_read: ReadProgress | None = None,
        tools: Sequence[Tool] | None = None,
        constraint: Constraint | None = None,
    ) -> Iterator[Piece]:
        """Write the answer piece by piece; see `Engine.stream`."""
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        # Here, so that a prompt that does not fit and a constraint that is wrong are errors of this call.
        prompt = self._prompt(messages, tools)
        guide = None if constraint is None else self._guide(constraint, prompt)
        tags = {token_id: tag for tag, token_id in self.tool_markup.token_ids.items()} if tools else {}
        return self._stream(prompt, max_tokens, sampling, stop, label, sources, should_stop, on_read, guide, tags)

    def _stream(
        self,
        prompt: Prompt,
        max_tokens: int,
        sampling: SamplingOptions,
        stop: Sequence[str],
        label: str,
        sources: Sequence[str],
        should_stop: ShouldStop | None,
        on_read: ReadProgress | None,
        guide: AnswerGuide | None,
        tags: Mapping[int, str],
    ) -> Iterator[Piece]:
        n_prompt = len(prompt.token_ids)
        (session, steps), writer = self._opened(), object()
        sampler = Sampler(sampling)

        def choose(logits: Tensor, state: DecoderState) -> list[int]:
            previous = state.token_ids if sampling.repetition_penalty != 1 else ()
            return _next_tokens(sampler, logits, previous, guide, self._ends)

        def read_prompt(asker: Asker) -> tuple[ReadPrompt, list[int]]:
            read = self._read(session, steps, prompt, label, sources, should_stop, on_read, asker)
            return read, choose(read.logits, read.state)

        try:
            read, chosen = compute(read_prompt)
        except ReadingStopped:
            yield Piece("", "cancelled", Usage(n_prompt, 0, 0))
            return
        state = read.state
        text = TextStream(self._tokenizer, stop)
        splitter = ReasoningSplitter(starts_in_reasoning=prompt.opens_reasoning)
        reason: FinishReason | None = None
        written, room = 0, min(max_tokens, self.context_tokens - n_prompt)
        try:
            while reason is None:
                if should_stop is not None and should_stop():
                    reason = "cancelled"
                    break
                tokens = chosen[: room - written]
                for token in tokens:
                    if token in self._ends:
                        reason = "stop"
                        break
                    written += 1
                    # A tag of tool calls may be a control token, which is no text otherwise.
                    shown = text.flush() + tags[token] if token in tags else text.feed(token)
                    yield from _pieces(splitter.feed(shown))
                    if text.stopped:
                        reason = "stop"
                        break
                if reason is None and guide is not None and guide.finished and tokens == chosen:
                    reason = "stop"
                if reason is None and written == room:
                    reason = "length"
                if reason is None:
                    chosen = steps.next(writer, tokens, state, lambda logits: choose(logits, state))
        finally:
            steps.leave(writer)
        yield from _pieces(splitter.feed(text.flush()))
        yield from _pieces(splitter.flush())
        if reason != "cancelled":
            compute(lambda _: session.keep(state, read.seconds, label, sources))
        yield Piece("", reason, Usage(n_prompt, written, read.cached_tokens, read.seconds_saved))

    @staticmethod
    def _read(
        session: ReadingSession,
        steps: StepBatch,
        prompt: Prompt,
        label: str,
        sources: Sequence[str],
        should_stop: ShouldStop | None,
        on_read: ReadProgress | None,
        asker: Asker,
    ) -> ReadPrompt:
        """Reads a prompt; after each chunk the answers that are being written have as long as it took."""
        tell = None if on_read is None else asker.there(on_read)
        begun = time.monotonic()

        def after_chunk(done: int, total: int, seconds_left: float) -> None:
            nonlocal begun
            steps.run_for(time.monotonic() - begun)
            if tell is not None:
                tell(done, total, seconds_left)
            begun = time.monotonic()

        return session.read(
            prompt.token_ids,
            prompt.boundaries,
            label=label,
            sources=sources,
            on_read=after_chunk,
            should_stop=asker.there(should_stop or _never),  # where there is none, for the sake of Ctrl-C
        )

    def choose(
        self, messages: Sequence[Message], options: Sequence[str], *, label: str = "", sources: Sequence[str] = ()
    ) -> dict[str, float]:
        """How likely each option is as the reply; see `Engine.choose`."""
        firsts = [self.token_ids(option)[:1] for option in options]
        tokens = [ids[0] for ids in firsts if ids]
        if len(options) < 2 or len(set(tokens)) != len(options):
            raise ValueError(f"options must be two or more that begin with different tokens, got {list(options)}")
        prompt = self._prompt(messages)
        session, steps = self._opened()

        def likelihoods(asker: Asker) -> list[float]:
            read = self._read(session, steps, prompt, label, sources, None, None, asker)
            found: list[float] = torch.softmax(read.logits[tokens], dim=0).tolist()
            return found

        return dict(zip(options, compute(likelihoods), strict=True))

    def close(self) -> None:
        """Free the memory."""
        with self._vocabulary_lock:
            self._open = self._vocabulary = None

    def _guide(self, constraint: Constraint, prompt: Prompt) -> AnswerGuide:
        with self._vocabulary_lock:
            if self._vocabulary is None:
                self._vocabulary = TokenVocabulary(self._tokenizer, self._ends, self._vocab_size)
            vocabulary = self._vocabulary
        return vocabulary.guide(constraint, in_reasoning=prompt.opens_reasoning)

    def _opened(self) -> tuple[ReadingSession, StepBatch]:
        if self._open is None:
            raise ModelError(f"{self.name}: the engine is closed")
        return self._open

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> Prompt:
        told, own_tools = messages_for(self.tool_markup, messages, tools)
        return self._template.prompt(told, tools=own_tools)

    def _prompt(self, messages: Sequence[Message], tools: Sequence[Tool] | None = None) -> Prompt:
        prompt = self._render(messages, tools)
        if len(prompt.token_ids) >= self.context_tokens:
            raise ContextOverflowError(
                f"{self.name}: the prompt has {len(prompt.token_ids):,} tokens and the context "
                f"{self.context_tokens:,}, of which the answer needs some; shorten the prompt or raise context_tokens"
            )
        return prompt


def _next_tokens(
    sampler: Sampler, logits: Tensor, previous: Sequence[int], guide: AnswerGuide | None, ends: Collection[int]
) -> list[int]:
    """The token that is chosen and those that the guide makes follow, or those that it begins with."""
    if guide is None:
        return [sampler(logits, previous)]
    if forced := guide.forced():
        return forced
    token = sampler(guide.mask(logits), previous)
    if token in ends:
        return [token]
    guide.accept(token)
    return [token, *guide.forced()]


def _never() -> bool:
    return False


def _pieces(parts: Sequence[tuple[str, str]]) -> Iterator[Piece]:
    for kind, text in parts:
        yield Piece("", reasoning=text) if kind == "reasoning" else Piece(text)
