"""Reads what `longleaf extract` is to ask: a text file with a question a line, or a JSON schema of properties."""

import json
from pathlib import Path
from typing import Any

from longleaf.errors import QuestionError

from .spec import Column

__all__ = ["columns_of_questions", "columns_of_schema", "text_of"]


def columns_of_questions(path: Path) -> tuple[Column, ...]:
    """A column for each question of a text file; blank lines and lines that begin with # are left out.

    Raises:
        QuestionError: The file can't be read, has no question, or has one twice.
    """
    lines = [" ".join(line.split()) for line in text_of(path).splitlines()]
    questions = [line for line in lines if line and not line.startswith("#")]
    if not questions:
        raise QuestionError(f"{path}: no question in it; write one a line")
    if twice := next((q for q in questions if questions.count(q) > 1), None):
        raise QuestionError(f"{path}: {twice!r} stands there twice")
    return tuple(Column(name=question, question=question) for question in questions)


def columns_of_schema(path: Path) -> tuple[Column, ...]:
    """A column for each property of a JSON schema of an object; its description is the question.

    A property without a description is asked for by its name: `net_sales` as "What is the net sales?".

    Raises:
        QuestionError: The file can't be read, or is no such schema; says where.
    """
    try:
        schema = json.loads(text_of(path))
    except json.JSONDecodeError as exc:
        raise QuestionError(f"{path}, line {exc.lineno}: this is no JSON: {exc.msg}") from exc
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties:
        raise QuestionError(
            f'{path}: a JSON schema of an object is expected, such as {{"type": "object", "properties": {{"net_sales": '
            '{"type": "number", "description": "What were net sales in 2023, in million dollars?"}}}'
        )
    return tuple(_column(path, name, form) for name, form in properties.items())


def _column(path: Path, name: str, form: Any) -> Column:
    if not isinstance(form, dict):
        raise QuestionError(f"{path}: the property {name!r} is no schema")
    described = " ".join(str(form.get("description", "")).split())
    question = described or f"What is the {name.replace('_', ' ').replace('-', ' ')}?"
    if _refers(form):
        raise QuestionError(
            f"{path}: the property {name!r} refers to another part of the schema; write it out in place"
        )
    return Column(name=name, question=question, form=form)


def _refers(form: Any) -> bool:
    """Whether a schema has a $ref in it."""
    if isinstance(form, dict):
        return isinstance(form.get("$ref"), str) or any(map(_refers, form.values()))
    return isinstance(form, list) and any(map(_refers, form))


def text_of(path: Path) -> str:
    """The text of a small file that the user wrote.

    Raises:
        QuestionError: It can't be read as UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise QuestionError(f"{path}: it can't be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise QuestionError(f"{path}: it is no UTF-8 text") from exc
