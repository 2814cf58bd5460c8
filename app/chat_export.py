"""A chat as a file to keep or pass on: Markdown for people, JSON for programs; both with the citations.

Pure functions over kept turns. A document's words are data: in the Markdown they are escaped, on one line each, so that
no quote, file name or answer can open a heading, link, image, formula or HTML.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from longleaf.errors import LibraryError

from .chats import Chat, KeptTurn, answer_of
from .receipt import receipt_rows

__all__ = ["FORMAT_VERSION", "escaped", "file_name", "to_json", "to_markdown"]

FORMAT_VERSION = 1
"""Of the JSON; grows when a field changes its meaning or goes."""

SLUG_CHARS = 40

_SPECIAL = re.compile(
    r"([\\`*_{}\[\]<>#|~&$@])"
    r"|(?<=http)(:)(?=//)|(?<=https)(:)(?=//)|(?<=ftp)(:)(?=//)|(?<=www)(\.)",  # what becomes a link by itself
    re.IGNORECASE,
)
_AT_START = re.compile(r"^(\d*)([-+=.)])(?=[ =-]|$)")  # what would begin a list, a rule or an underlined heading
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def to_markdown(chat: Chat, turns: Sequence[KeptTurn]) -> str:
    """The chat as Markdown: questions, answers with their marks, citations or nearest passages, and receipts."""
    blocks = [f"# {escaped(chat.title)}", _about(chat)]
    for turn in turns:
        blocks += _turn_blocks(turn)
    return "\n\n".join(blocks) + "\n"


def to_json(chat: Chat, turns: Sequence[KeptTurn]) -> str:
    """The chat as JSON; each answer is the object that `longleaf ask --json` prints, or null."""
    return json.dumps(
        {
            "format": "longleaf-chat",
            "version": FORMAT_VERSION,
            "chat": asdict(chat),
            "turns": [_turn_object(turn) for turn in turns],
        },
        ensure_ascii=False,
        indent=2,
    )


def file_name(chat: Chat, suffix: Literal[".md", ".json"]) -> str:
    """A name for the file that every system takes: "chat-7-what-were-net-sales.md"."""
    words = re.findall(r"[^\W_]+", chat.title.lower())
    slug = "-".join(words)
    if len(slug) > SLUG_CHARS:
        slug = slug[:SLUG_CHARS].rpartition("-")[0] or slug[:SLUG_CHARS]
    return f"{'-'.join(filter(None, ('chat', str(chat.id), slug)))}{suffix}"


def _turn_object(turn: KeptTurn) -> dict[str, Any]:
    return {
        "position": turn.position,
        "question": turn.question,
        "state": turn.state,
        "asked_at": turn.asked_at,
        "answered_at": turn.answered_at,
        "answer": turn.answer,
        "draft": turn.draft,
        "error": turn.error,
        "note": turn.note,
    }


def _about(chat: Chat) -> str:
    names = "; ".join(escaped(document.name) for document in chat.documents)
    rows = [
        f"- documents: {names or 'none that is still kept'}",
        *([f"- collection: {escaped(chat.collection)}"] if chat.collection else []),
        f"- begun: {_time(chat.made_at)}",
    ]
    return "\n".join(rows)


def _turn_blocks(turn: KeptTurn) -> Iterator[str]:
    yield f"## {turn.position}. {escaped(turn.question)}"
    answer = turn.answer
    if answer is not None:
        yield from _answer_blocks(answer)
    else:
        yield {
            "waiting": "*Not answered yet.*",
            "answering": "*Not answered yet; what is written so far is not checked:*",
            "stopped": "*Stopped before the answer was complete.*",
            "failed": f"*No answer:* {escaped(turn.error)}",
            "answered": "*The answer was not kept.*",
        }[turn.state]
    unchecked = turn.draft or (answer["reply"] if answer and answer.get("stopped") else "")
    if unchecked.strip():
        yield f"> {escaped(unchecked)}"
    if turn.note:
        yield f"*{escaped(turn.note)}*"
    yield _receipt(turn)


def _answer_blocks(answer: dict[str, Any]) -> Iterator[str]:
    if answer["found"]:
        yield " ".join(_statement(statement) for statement in answer["statements"])
        yield "**Citations**"
        yield _listed(f"{number}. {_citation(one)}" for number, one in enumerate(answer["citations"], 1))
        return
    yield f"**{escaped(answer['answer'])}**"
    if answer["nearest"]:
        yield "**Nearest to the question, without answering it**"
        yield _listed(f"- {_citation(one)}" for one in answer["nearest"])


def _statement(statement: dict[str, Any]) -> str:
    text = escaped(statement["text"])
    if not statement["supported"]:
        return f"{text} *(no support found on the pages)*"
    return text + "".join(rf" \[{i + 1}\]" for i in statement["citations"])


def _citation(citation: dict[str, Any]) -> str:
    label, page = citation["page_label"], citation["page"]
    printed = "" if label in ("", str(page)) else f" (printed {escaped(label)})"
    heading = f" under “{escaped(citation['heading'])}”" if citation["heading"].strip() else ""
    unverified = "" if citation["verified"] else " (not found on the page)"
    quote = escaped(citation["quote"])
    return f"{escaped(citation['document'])}, p. {page}{printed}: “{quote}”{heading}{unverified}"


def _receipt(turn: KeptTurn) -> str:
    rows = [("asked", _time(turn.asked_at))]
    if turn.answered_at:
        rows.append(("answered" if turn.state == "answered" else turn.state, _time(turn.answered_at)))
    try:
        answer = answer_of(turn)
    except LibraryError:  # kept by another version: the rest of the chat is worth having without this receipt
        kept = turn.answer or {}
        rows.append(("model", str(kept.get("model", "unknown"))))
    else:
        rows += receipt_rows(answer) if answer else []
    return "**Receipt**\n\n" + _listed(f"- {name}: {escaped(text)}" for name, text in rows)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _time(stamp: str) -> str:
    """To the second, in UTC."""
    return datetime.fromisoformat(stamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line and wherever it is put."""
    line = _CONTROL.sub("\ufffd", " ".join(text.split()))
    return _AT_START.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", line))
