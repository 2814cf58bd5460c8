"""Question files: both forms are read, and every mistake is named with its file and line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from longleaf.errors import QuestionError
from longleaf.ingestion import Library
from longleaf.retrieval.question_file import Question, check_pages, read_questions

from .test_answer import REPORT

WriteQuestions = Callable[..., Path]


@pytest.fixture
def write_questions(tmp_path: Path) -> WriteQuestions:
    def write(*rows: object) -> Path:
        file = tmp_path / "questions.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


def test_both_forms_of_questions_are_read(write_questions: WriteQuestions) -> None:
    file = write_questions(
        {"id": "f1", "document": "a.pdf", "question": "How\n much?", "answer": "65.4%", "pages": [62, 7], "kind": "x"},
        {"id": "f2", "document": "b.pdf", "question": "Who?", "answer": None, "pages": []},
        "",
        {"question": "Where is it?", "document": "a.pdf", "answers": ["a", "b"]},
    )
    first, second, third = read_questions(file, ["a.pdf", "b.pdf"])
    assert first == Question("f1", "How much?", "a.pdf", (62, 7), ("65.4%",), True, "x", 1)
    assert (second.answerable, second.document) == (False, "b.pdf")
    assert (third.id, third.answers, third.pages, third.answerable) == ("line-4", ("a", "b"), (), True)

    file = write_questions({"id": "x", "paragraph": "p2", "question": "Q?", "answers": ["u\u2028v"]})
    (question,) = read_questions(file, ["paragraphs.txt"], {"p1": 1, "p2": 2})
    assert (question.document, question.pages, question.answers) == ("paragraphs.txt", (2,), ("u\u2028v",))


def test_the_only_document_need_not_be_named(write_questions: WriteQuestions) -> None:
    file = write_questions({"question": "Q?", "answer": "x", "pages": [3]})
    assert read_questions(file, ["a.pdf"])[0].document == "a.pdf"
    with pytest.raises(QuestionError, match="line 1: the field 'document' is missing"):
        read_questions(file, ["a.pdf", "b.pdf"])


GOOD = {"id": "1", "question": "Q?", "document": "annual-2023.pdf", "answer": "x", "pages": [1]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question": ', "this is not JSON"),
        ("[" * 100_000, "this is not JSON"),
        ("[1]", "no object"),
        (GOOD | {"question": " "}, "'question' is missing or empty"),
        (GOOD | {"document": "anual-2023.pdf"}, "no document 'anual-2023.pdf'; near it: annual-2023.pdf"),
        (GOOD | {"document": "zzz"}, "there are 2 others"),
        (GOOD | {"pages": [0]}, r"'pages' is \[0\]"),
        (GOOD | {"pages": "7"}, "'pages' is '7'"),
        (GOOD | {"answer": {"a": 1}}, "no text and no list of texts"),
        (GOOD | {"paragraph": "p1"}, "give the paragraphs.jsonl"),
        (GOOD | {"id": "0"}, "the id '0' is already that of line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_file(write_questions: WriteQuestions, row: object, message: str) -> None:
    file = write_questions(GOOD | {"id": "0"}, row)
    with pytest.raises(QuestionError, match=rf"questions.jsonl, line 2: .*{message}"):
        read_questions(file, ["annual-2023.pdf", "other.pdf"])


def test_a_page_beyond_the_document_is_named(write_questions: WriteQuestions, library: Library, tmp_path: Path) -> None:
    (tmp_path / "harbour.txt").write_text(REPORT)
    documents = {"harbour.txt": library.add(tmp_path / "harbour.txt").document}
    file = write_questions({"question": "Q?", "document": "harbour.txt", "answer": "x", "pages": [2, 3]})
    with pytest.raises(QuestionError, match=r"line 1: there is no page 3: harbour.txt has 2"):
        check_pages(file, read_questions(file, list(documents)), documents)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa", b"\n\n"])
def test_a_file_without_questions_is_an_error_of_ours(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "q.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QuestionError, match=r"q\.jsonl"):
        read_questions(file, ["a.pdf"])
