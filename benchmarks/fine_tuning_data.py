"""Questions to passages with the answers wanted, for `benchmarks.fine_tuning`: data/fine_tuning.jsonl.

Written for this project; every name and figure in it is invented. A line is a passage of 54 to 78 words, as prose or
as a table in text lines, with questions for a number, a date, a name or a phrase, and some that it does not answer.
An answer stands in its passage letter for letter. 25 passages with 100 questions are for training; 20 others, from
other fields of life, with 100 questions (40 of them without an answer) are for the score, so that what is scored is
how to answer and not what was read.

The questions are put in the product's own words, with the product's own reply for "not stated".
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langchain_core.messages import BaseMessage

from longleaf.ingestion import Document
from longleaf.retrieval.evidence import Excerpt
from longleaf.retrieval.prompts import NOT_IN_TEXT, excerpt_messages

__all__ = ["DATA", "Item", "load_items", "question_messages", "wanted_reply"]

DATA = Path(__file__).parent / "data" / "fine_tuning.jsonl"


@dataclass(frozen=True)
class Item:
    """A question to a passage; `answer` is None where the passage does not give it."""

    field: str
    text: str
    question: str
    answer: str | None


def load_items(split: Literal["train", "test"]) -> list[Item]:
    """All questions of a part, passage by passage."""
    passages = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    items = [
        Item(passage["field"], passage["text"], question, answer)
        for passage in passages
        if passage["split"] == split
        for question, answer in passage["questions"]
    ]
    if wrong := [item.question for item in items if item.answer is not None and item.answer not in item.text]:
        raise ValueError(f"{DATA}: the passage does not hold the answer to {wrong[0]!r}")
    return items


def question_messages(item: Item) -> list[BaseMessage]:
    """What the reader is sent, as the retrieval route sends it."""
    document = Document(
        id=1,
        sha256="",
        name=item.field,
        title=item.field,
        media_type="text/plain",
        size_bytes=len(item.text),
        n_pages=1,
        n_pages_ocr=0,
        n_pages_unread=0,
        n_chars=len(item.text),
        added_at="",
        metadata={},
        outline=(),
        warnings=(),
        state="ready",
    )
    return excerpt_messages([Excerpt(document, 1, "", item.text)], item.question)


def wanted_reply(item: Item) -> str:
    """What the reader is to say."""
    return NOT_IN_TEXT if item.answer is None else item.answer
