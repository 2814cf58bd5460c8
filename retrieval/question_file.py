"""Reads question files: questions with what is known about their answers, one JSON object a line.

Every mistake in a file is named with its line. Knows the documents by their names, and their numbers of pages; asks
nothing.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longleaf.errors import QuestionError
from longleaf.ingestion import Document

__all__ = ["Question", "check_pages", "read_questions"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with what is known about its answer.

    Attributes:
        id: Unique in its file.
        text: In plain words.
        document: Name of the document it is about; "" for an unanswerable one about none in particular.
        pages: Gold pages, 1-based; each of them may hold the answer or a part of it.
        answers: Gold answers; any of them will do.
        answerable: Whether the documents answer it.
        kind: The file's own grouping.
        line: In the file, 1-based.
    """

    id: str
    text: str
    document: str
    pages: tuple[int, ...] = ()
    answers: tuple[str, ...] = ()
    answerable: bool = True
    kind: str = ""
    line: int = 0


def read_questions(path: Path, names: Sequence[str], paragraphs: Mapping[str, int] | None = None) -> list[Question]:
    """The questions of a file with one JSON object a line.

    A row has `question` and, as far as they are known, `id`, `document` (a file name), `paragraph` (instead of document
    and pages), `pages`, `answer` or `answers`, and `kind`. One whose answer is null, or that has neither pages nor
    answers, is unanswerable.

    Args:
        path: The file, UTF-8.
        names: Names of the documents there are; where there is but one, rows need not name it.
        paragraphs: Page number of each paragraph's id, where the only document is made of paragraphs.

    Raises:
        QuestionError: The file can't be read, or a line of it is not a question about these documents; the message
            names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise QuestionError(f"{path}: the questions can't be read ({exc.strerror})") from exc
    except UnicodeDecodeError as exc:
        raise QuestionError(f"{path}: the questions are not UTF-8 text (byte {exc.start:,})") from exc
    questions: dict[str, Question] = {}
    for line, row in enumerate(text.split("\n"), 1):  # not splitlines: a JSON string may hold U+2028
        if row.strip():
            question = _Row(path, line, row).question(names, paragraphs)
            if question.id in questions:
                other = questions[question.id].line
                raise QuestionError(f"{path}, line {line}: the id {question.id!r} is already that of line {other}")
            questions[question.id] = question
    if not questions:
        raise QuestionError(f"{path}: there is no question in it; write one JSON object a line")
    return list(questions.values())


def check_pages(path: Path, questions: Iterable[Question], documents: Mapping[str, Document]) -> None:
    """Makes sure that every gold page exists.

    Raises:
        QuestionError: A page beyond its document; names file and line.
    """
    for question in questions:
        document = documents.get(question.document)
        beyond = [page for page in question.pages if document and page > document.n_pages]
        if document and beyond:
            raise QuestionError(
                f"{path}, line {question.line}: there is no page {beyond[0]}: {question.document} has "
                f"{document.n_pages} (pages count from 1, whatever is printed on them)"
            )


class _Row:
    """One line of a question file."""

    def __init__(self, path: Path, line: int, text: str) -> None:
        self.where = f"{path}, line {line}"
        self.line = line
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise QuestionError(f"{self.where}: this is not JSON ({exc}); write one object a line") from exc
        if not isinstance(row, dict):
            raise QuestionError(f'{self.where}: this is JSON, but no object such as {{"question": …}}')
        self.row: dict[str, Any] = row

    def question(self, names: Sequence[str], paragraphs: Mapping[str, int] | None) -> Question:
        text = " ".join(self._text("question").split())
        if not text:
            raise QuestionError(f"{self.where}: the field 'question' is missing or empty")
        answers = self._answers()
        document, pages = self._place(names, paragraphs)
        is_null = "answer" in self.row and self.row["answer"] is None and not answers
        answerable = bool(answers or pages) and not is_null
        if not document and answerable:
            raise QuestionError(f"{self.where}: the field 'document' is missing, and there are {len(names)} documents")
        return Question(
            id=self._text("id") or f"line-{self.line}",
            text=text,
            document=document,
            pages=pages if answerable else (),
            answers=answers if answerable else (),
            answerable=answerable,
            kind=self._text("kind"),
            line=self.line,
        )

    def _place(self, names: Sequence[str], paragraphs: Mapping[str, int] | None) -> tuple[str, tuple[int, ...]]:
        if paragraph := self._text("paragraph"):
            if paragraphs is None:
                raise QuestionError(
                    f"{self.where}: it names a paragraph, {paragraph!r}: give the paragraphs.jsonl as --documents"
                )
            if paragraph not in paragraphs:
                raise QuestionError(
                    f"{self.where}: there is no paragraph {paragraph!r}{_near(paragraph, list(paragraphs))}"
                )
            return names[0], (paragraphs[paragraph],)
        document = self._text("document") or (names[0] if len(names) == 1 else "")
        if document and document not in names:
            raise QuestionError(f"{self.where}: there is no document {document!r}{_near(document, names)}")
        return document, self._pages()

    def _pages(self) -> tuple[int, ...]:
        pages = self.row.get("pages") or []
        if not isinstance(pages, list) or not all(type(page) is int and page >= 1 for page in pages):
            raise QuestionError(f"{self.where}: 'pages' is {pages!r}, which is no list of page numbers from 1")
        return tuple(dict.fromkeys(pages))

    def _answers(self) -> tuple[str, ...]:
        given = self.row.get("answers", self.row.get("answer"))
        listed = given if isinstance(given, list) else [] if given is None else [given]
        if any(isinstance(answer, bool) or not isinstance(answer, str | int | float) for answer in listed):
            raise QuestionError(f"{self.where}: the answer is {given!r}, which is no text and no list of texts")
        return tuple(text for answer in listed if (text := _whole(str(answer)).strip()))

    def _text(self, name: str) -> str:
        value = self.row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise QuestionError(f"{self.where}: the field {name!r} is {value!r}, which is no text")
        return _whole("" if value is None else str(value))


def _whole(text: str) -> str:
    """Text that can be stored and written: JSON lets half a character through (a lone surrogate)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; near it: {', '.join(near)}" if near else f"; there are {len(names)} others"
