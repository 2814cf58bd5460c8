"""One question of a browser session, and asking it; knows nothing of Streamlit."""

from collections.abc import Callable
from dataclasses import dataclass

from longleaf.ingestion import Library
from longleaf.retrieval import Answer, Answerer, Citation

from .question_queue import error_text

__all__ = ["Turn", "ask_turn"]


@dataclass(slots=True)
class Turn:
    """A question, and what came of it: an answer or an error; neither means that it is still to be asked.

    Attributes:
        question: As typed.
        documents: sha256 of each document asked.
        answer: What came of it.
        error: Why nothing came of it.
    """

    question: str
    documents: tuple[str, ...]
    answer: Answer | None = None
    error: str = ""

    @property
    def places(self) -> tuple[Citation, ...]:
        """What can be opened beside the answer: its citations, or the nearest passages where nothing was found."""
        return (self.answer.citations or self.answer.nearest) if self.answer else ()


def ask_turn(
    library: Library, answerer: Answerer, turn: Turn, *, top_k: int, progress: Callable[[str, int, int], None]
) -> None:
    """Asks the question and keeps in `turn` what came of it; an error too, so that it is not asked for again."""
    try:
        documents = [library.find(sha256) for sha256 in turn.documents]
        turn.answer = answerer.ask(turn.question, documents, top_k=top_k, progress=progress)
    except Exception as exc:
        turn.error = error_text(exc, f"asking {turn.question!r}")
