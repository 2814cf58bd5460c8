"""Questions of several people at one answerer, in turns among them; the turns are those of `work_queue.py`."""

from collections.abc import Callable, Sequence

from longleaf.errors import DocumentNotFoundError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answer, Answerer
from longleaf.retrieval.steps import RouteAsked

from .work_queue import Control, Job, WorkQueue, WorkStopped

__all__ = ["QuestionQueue"]


class QuestionQueue(WorkQueue):
    """Asks the questions of several people of one answerer, whose model is loaded once.

        queue = QuestionQueue(answerer)
        job = queue.ask("How many cranes are there?", [document], owner="anna")
        job.wait()
        job.view().answer

    Args:
        answerer: Answers; it is not closed with the queue.
        n_workers: Questions answered at the same time. A reader of this machine reads for one after the other, and
            writes their answers together.

    Raises:
        ValueError: `n_workers` is below 1.
    """

    def __init__(self, answerer: Answerer, *, n_workers: int = 1) -> None:
        super().__init__(n_workers=n_workers)
        self._answerer = answerer

    def ask(
        self,
        question: str,
        documents: Sequence[Document],
        *,
        owner: str,
        route: RouteAsked = "auto",
        top_k: int = 12,
        pages: tuple[int, int] | None = None,
        on_change: Callable[[Job[Answer]], None] | None = None,
    ) -> Job[Answer]:
        """Puts a question into the line.

        What makes it impossible to answer is found when its turn comes, and is the job's `error`.

        Args:
            question: As for `Answerer.ask`, and so are `documents`, `route`, `top_k` and `pages`.
            documents: One or several.
            owner: Whose turn it takes.
            route: The way that it is to go.
            top_k: Passages searched.
            pages: First and last page.
            on_change: As for `submit`.

        Raises:
            RuntimeError: The queue is closed.
        """
        asked = tuple(documents)

        def work(control: Control) -> Answer:
            control.progress("searching", 0, 1)
            events = self._answerer.stream(
                question,
                [_as_it_is_now(self._answerer.library, document) for document in asked],
                route=route,
                top_k=top_k,
                pages=pages,
                progress=control.progress,
                should_stop=control.should_stop,
            )
            for event in events:
                if isinstance(event, Answer):
                    if event.stopped:
                        raise WorkStopped(event)
                    return event
                control.draft(event)
            raise AssertionError("a stream ends with the answer")

        return self.submit("question", question, work, owner=owner, on_change=on_change)


def _as_it_is_now(library: Library, document: Document) -> Document:
    """The document as the library has it when the question's turn has come."""
    try:
        return library.find(document.sha256)
    except DocumentNotFoundError as exc:
        raise DocumentNotFoundError(
            f"{document.name}: it was removed from the library before the question's turn came; add it again, or ask "
            "other documents"
        ) from exc
