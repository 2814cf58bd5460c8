"""What a job will take: documents, pages, tokens, seconds and money, before a reader has read any of it.

The files are taken into the library for it, since only their text says how many tokens they have.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage

from longleaf.app.work_queue import WorkStopped
from longleaf.errors import DocumentError
from longleaf.model import ChatLongleaf
from longleaf.retrieval import Answerer
from longleaf.retrieval.prices import Prices
from longleaf.retrieval.summary import SENTENCE_TOKENS

from .spec import ExtractSpec, SummarizeSpec
from .store import JobStore
from .work import Control, take_in

__all__ = ["Estimate", "estimate"]

_ANSWER_TOKENS = 60
_PROBE = "The keeper wrote the wind, the tide and the ships that passed into the log book of the lighthouse. " * 24
"""Some 500 tokens, read to see how fast this machine reads."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take.

    Attributes:
        documents: That are still to be done.
        done: That are done already.
        bad: Files that can't be taken in, with the reason.
        pages: Of the documents to be done.
        tokens_read: Tokens to read; None without a reader.
        tokens_reused: Tokens of prompts that begin like earlier ones; a server may charge them less.
        tokens_written: Tokens to be written, at most.
        tokens_per_second: How fast it reads, as measured; None where that is not known.
        seconds: For reading and writing; None where the speed is not known.
        cost: None without prices.
    """

    documents: int
    done: int
    bad: dict[str, str]
    pages: int
    tokens_read: int | None
    tokens_reused: int
    tokens_written: int
    tokens_per_second: float | None
    seconds: float | None
    cost: float | None

    def to_dict(self) -> dict[str, Any]:
        """As `--dry-run --json` prints it."""
        return asdict(self)


def estimate(
    store: JobStore,
    answerer: Answerer,
    spec: SummarizeSpec | ExtractSpec,
    to_do: Sequence[Path],
    n_done: int,
    *,
    prices: Prices | None,
    progress: Callable[[str, int, int], None],
    should_stop: Callable[[], bool],
    password: str | None = None,
) -> Estimate:
    """Takes in what is not done yet and adds up what it will take.

    Args:
        store: Says how fast the reader was in earlier jobs.
        answerer: Counts tokens.
        spec: What is to be done.
        to_do: Files to do it with.
        n_done: Files that it is done with.
        prices: For the cost.
        progress: Called as files are taken in.
        should_stop: Ends it.
        password: Opens encrypted PDFs.

    Raises:
        WorkStopped: As asked; what was taken in stays.
        LongleafError: The reader's weights are not here, or its server can't be reached.
    """
    bad: dict[str, str] = {}
    pages = tokens = 0
    for number, path in enumerate(to_do):
        if should_stop():
            raise WorkStopped
        progress("taking in files", number, len(to_do))
        try:
            control = Control(should_stop, lambda _stage, _done, _total: None, password=password)
            document = take_in(answerer, path, control, ocr=spec.ocr)
        except DocumentError as exc:
            bad[str(path)] = exc.reason
            continue
        tokens += answerer.count_tokens([document]) or 0
        pages += document.n_pages
    n = len(to_do) - len(bad)
    n_questions = len(spec.columns) if isinstance(spec, ExtractSpec) else 1
    each = _ANSWER_TOKENS * n_questions if isinstance(spec, ExtractSpec) else SENTENCE_TOKENS * spec.options.n_sentences
    reused, written = tokens * (n_questions - 1), n * each
    reader = answerer.reader
    speed = None
    if reader is not None and n:
        speed = store.tokens_per_second(reader.model_name) or _measured(reader)
    return Estimate(
        documents=n,
        done=n_done,
        bad=bad,
        pages=pages,
        tokens_read=None if reader is None else tokens,
        tokens_reused=reused,
        tokens_written=0 if reader is None else written,
        tokens_per_second=speed,
        seconds=(tokens + written) / speed if speed else None,
        cost=prices.cost(tokens + reused, written, reused) if prices and reader is not None else None,
    )


def _measured(reader: object) -> float | None:
    """Tokens per second that a reader of this machine reads; reading takes most of the time."""
    if not isinstance(reader, ChatLongleaf):
        return None  # a server's time is money
    reader.load()
    begun = time.monotonic()
    usage = reader.invoke([HumanMessage(f"{time.time_ns()} {_PROBE}")], max_tokens=1).usage_metadata
    return usage["input_tokens"] / (time.monotonic() - begun) if usage else None
