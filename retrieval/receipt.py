"""What a question comes to: the answer, its statements, and the receipt of what was read for it."""

from dataclasses import asdict, dataclass
from typing import Any

from .citations import Citation
from .route import Route
from .support import Signals

__all__ = ["Answer", "Receipt", "Statement"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the answer, and which citations (by index) support it."""

    text: str
    supported: bool
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was read for this answer.

    Attributes:
        pages_total: Pages of all documents asked; where a retriever was given, pages that it returned.
        pages_read: Pages that the reader saw text of.
        pages_searched: Pages whose text was searched.
        pages_ocr: Pages asked whose text came from OCR.
        pages_unread: Pages asked without usable text: images where OCR was not at hand.
        pages_dropped: Pages with text that were left out of what was searched or read; 0 on both routes.
        tokens_document: Tokens of all pages asked with their marks; None without a reader.
        tokens_budget: Tokens of the reader's context left for the document.
        tokens_prompt: Tokens that the reader was given.
        tokens_reused: Of these, tokens that it did not have to read again.
        seconds_saved: What reading those had taken before.
        passages: Passages found by the search.
        seconds: By step, and in all.
        warnings: What is known to be wrong with the documents.
        pages_not_asked: Pages that the user left out of the question.
        search: How the passages were found: "full text and vectors", "full text", the name of a retriever.
        passages_total: Passages in the documents asked.
        passages_embedded: Of these, the ones that could be found by their vectors.
    """

    pages_total: int
    pages_read: int
    pages_searched: int
    pages_ocr: int
    pages_unread: int
    pages_dropped: int
    tokens_document: int | None
    tokens_budget: int | None
    tokens_prompt: int
    tokens_reused: int
    seconds_saved: float
    passages: int
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    pages_not_asked: int = 0
    search: str = ""
    passages_total: int = 0
    passages_embedded: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with what stands behind it; `to_dict` gives the object that `ask --json` prints.

    Attributes:
        question: As it was asked.
        answer: The statements, or that nothing was found.
        found: Whether what was read supports an answer.
        route: The way taken, and why.
        citations: Quotes that were found on their pages; none where nothing supports an answer.
        statements: The answer's sentences, each with its citations.
        nearest: Where nothing was found: the passages that came nearest, which answer nothing.
        confidence: Trust in the best supported statement, in [0, 1].
        signals: What that trust rests on; None where no statement is supported.
        reply: What the reader wrote, whether or not it could be supported.
        receipt: What was read.
        model: Who wrote the answer.
        stopped: Whether the user stopped it before it was complete; then nothing is found.
        reasoning: What the reader thought before it replied, where it is one that reasons.
    """

    question: str
    answer: str
    found: bool
    route: Route
    citations: tuple[Citation, ...]
    statements: tuple[Statement, ...]
    nearest: tuple[Citation, ...]
    confidence: float
    signals: Signals | None
    reply: str
    receipt: Receipt
    model: str
    stopped: bool = False
    reasoning: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers, as they come back from JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
