"""What `longleaf extract` asks: from a file of questions, or from a JSON schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longleaf.app.jobs.questions import columns_of_questions, columns_of_schema
from longleaf.app.jobs.spec import Column
from longleaf.errors import QuestionError

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        file = tmp_path / "asked"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return write


def test_each_line_is_a_question_but_for_comments_and_blanks(write: Write) -> None:
    file = write(
        "\ufeff# money\r\nWhat were   net\tsales?\r\n\r\n   \n  Who signed #3?  \n#Why?\nWie hoch ist der Ölstand?"
    )
    asked = ["What were net sales?", "Who signed #3?", "Wie hoch ist der Ölstand?"]
    assert columns_of_questions(file) == tuple(Column(name=q, question=q) for q in asked)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no question in it; write one a line"),
        ("# only\n\n# this\n", "no question in it; write one a line"),
        ("Who?\nWhat?\n Who? \n", "'Who?' stands there twice"),
        ("Who?\nWas hei\xdft das?".encode("latin-1"), "it is no UTF-8 text"),
    ],
)
def test_what_is_wrong_with_a_file_of_questions_is_said_with_its_name(
    write: Write, content: str | bytes, said: str
) -> None:
    file = write(content)
    with pytest.raises(QuestionError) as raised:
        columns_of_questions(file)
    assert str(raised.value) == f"{file}: {said}"


@pytest.mark.parametrize("read", [columns_of_questions, columns_of_schema])
def test_a_file_that_can_t_be_read_is_named(read: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=rf"^{tmp_path}/missing: it can't be read: No such file or directory$"):
        read(tmp_path / "missing")
    with pytest.raises(QuestionError, match=rf"^{tmp_path}: it can't be read: Is a directory$"):
        read(tmp_path)


def test_a_property_is_asked_by_its_description_or_else_by_its_name(write: Write) -> None:
    sales = {"type": "number", "description": " What were\n net sales? "}
    names = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"net_sales": sales, "signing-officers": names, "free": {}}}
    assert columns_of_schema(write(json.dumps(schema))) == (
        Column(name="net_sales", question="What were net sales?", form=sales),
        Column(name="signing-officers", question="What is the signing officers?", form=names),
        Column(name="free", question="What is the free?", form={}),
    )


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"properties": {}}', '{"properties": ["a"]}', '{"type": "number"}'])
def test_what_is_no_schema_of_an_object_is_said_with_an_example_that_is_one(write: Write, text: str) -> None:
    file = write(text)
    with pytest.raises(QuestionError, match="a JSON schema of an object is expected, such as ") as raised:
        columns_of_schema(file)
    assert str(raised.value).startswith(f"{file}: ")
    example = str(raised.value).partition("such as ")[2]
    assert [column.name for column in columns_of_schema(write(example))] == ["net_sales"]


def test_broken_json_is_said_with_its_line(write: Write) -> None:
    file = write('{\n  "properties": {\n    "a": {},\n  }\n}\n')
    with pytest.raises(QuestionError, match=rf"^{file}, line 4: this is no JSON: "):
        columns_of_schema(file)


def test_a_property_that_is_no_schema_is_named(write: Write) -> None:
    with pytest.raises(QuestionError, match="the property 'b' is no schema"):
        columns_of_schema(write('{"properties": {"a": {}, "b": "number"}}'))


@pytest.mark.parametrize(
    "form", [{"$ref": "#/$defs/money"}, {"type": "array", "items": {"anyOf": [{"type": "null"}, {"$ref": "#/x"}]}}]
)
def test_a_reference_is_refused_with_the_property_that_has_it(write: Write, form: dict[str, Any]) -> None:
    with pytest.raises(QuestionError, match="the property 'sum' refers to another part of the schema"):
        columns_of_schema(write(json.dumps({"properties": {"a": {}, "sum": form}})))


def test_words_that_only_look_like_a_reference_are_none(write: Write) -> None:
    form = {"type": "object", "description": "Which $refunds?", "properties": {"$ref": {"type": "string"}}}
    (column,) = columns_of_schema(write(json.dumps({"properties": {"a": form}})))
    assert column.form == form
