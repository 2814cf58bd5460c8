"""What chats say of one document: takes it out of them, or has them call it by another name.

What an answer still says after a document was taken out rests on other documents alone.
"""

import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .chat_values import as_turn

__all__ = ["Forgotten", "forget_document", "rename_document"]

TAKEN_OUT = "A document of this chat was removed: what rested on it was taken out of this turn."
RESTED_ON_REMOVED = "What this answer rested on was removed with its document."
ERROR_TAKEN_OUT = "The question failed on a document that was removed since."


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting a document took away: whole chats, and turns of others that lost something."""

    chats: int
    turns: int


def forget_document(connection: sqlite3.Connection, sha256: str) -> Forgotten:
    """Deletes the chats about this document alone, and takes it out of the turns of the others.

    Args:
        connection: Inside a transaction that overwrites what it deletes.
        sha256: The document.
    """
    alone = connection.execute(
        "DELETE FROM chats WHERE id IN (SELECT chat_id FROM chat_documents GROUP BY chat_id "
        "HAVING count(*) = 1 AND max(sha256) = ?)",
        (sha256,),
    )
    rows = connection.execute(
        "SELECT turns.*, coalesce(name, '') AS name FROM turns LEFT JOIN chat_documents "
        "ON chat_documents.chat_id = turns.chat_id AND sha256 = ? WHERE sha256 IS NOT NULL "
        "OR instr(answer, ?) > 0 ORDER BY turns.id",
        (sha256, sha256),
    ).fetchall()
    n_changed = sum(_forget_in_turn(connection, row, sha256) for row in rows)
    connection.execute("DELETE FROM chat_documents WHERE sha256 = ?", (sha256,))
    return Forgotten(alone.rowcount, n_changed)


def rename_document(connection: sqlite3.Connection, sha256: str, name: str) -> None:
    """Has the chats about a document call it by this name, in their answers and errors as well.

    So there is one name only that forgetting has to look for.
    """
    rows = connection.execute(
        "SELECT turns.id, error, answer, name FROM turns JOIN chat_documents USING (chat_id) "
        "WHERE sha256 = ? AND name <> ? AND (error <> '' OR answer IS NOT NULL)",
        (sha256, name),
    ).fetchall()
    for row in rows:
        answer = row["answer"] and json.dumps(
            _with_name(json.loads(row["answer"]), sha256, row["name"], name), ensure_ascii=False
        )
        connection.execute(
            "UPDATE turns SET error = ?, answer = ? WHERE id = ?",
            (row["error"].replace(row["name"], name), answer, row["id"]),
        )
    connection.execute("UPDATE chat_documents SET name = ? WHERE sha256 = ?", (name, sha256))


def _with_name(answer: dict[str, Any], sha256: str, old: str, new: str) -> dict[str, Any]:
    """An answer's dict in which a document goes by another name."""

    def named(citations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [c | {"document": new} if c["sha256"] == sha256 else c for c in citations]

    warnings = [
        f"{new}: {warning.removeprefix(f'{old}: ')}" if warning.startswith(f"{old}: ") else warning
        for warning in answer["receipt"]["warnings"]
    ]
    return answer | {
        "citations": named(answer["citations"]),
        "nearest": named(answer["nearest"]),
        "receipt": answer["receipt"] | {"warnings": warnings},
    }


def _forget_in_turn(connection: sqlite3.Connection, row: sqlite3.Row, sha256: str) -> bool:
    """Takes a document out of one turn of a chat over several; returns whether that shows."""
    turn, name = as_turn(row), row["name"]
    old = turn.answer
    new = old and _without_document(old, sha256, name)
    error = ERROR_TAKEN_OUT if name and name in turn.error else turn.error
    shows = bool(turn.is_open or turn.draft or error != turn.error)
    shows = shows or (old or {}) | {"reply": ""} != (new or {}) | {"reply": ""}
    note = TAKEN_OUT if shows else turn.note
    state = "stopped" if turn.is_open else turn.state
    connection.execute(
        "UPDATE turns SET state = ?, attempt = attempt + ?, draft = '', answer = ?, error = ?, note = ?, "
        "answered_at = coalesce(answered_at, ?) WHERE id = ?",
        (
            state,
            turn.is_open,
            new and json.dumps(new, ensure_ascii=False),
            error,
            note,
            datetime.now(UTC).isoformat(timespec="microseconds"),
            turn.id,
        ),
    )
    return shows


def _without_document(answer: dict[str, Any], sha256: str, name: str) -> dict[str, Any]:
    """An answer's dict with nothing of this document, and nothing that may be of it."""
    names = {name} | {c["document"] for c in answer["citations"] + answer["nearest"] if c["sha256"] == sha256}
    left = [i for i, citation in enumerate(answer["citations"]) if citation["sha256"] != sha256]
    statements = [
        statement | {"citations": [left.index(i) for i in statement["citations"] if i in left]}
        for statement in answer["statements"]
        if any(i in left for i in statement["citations"])
    ]
    prefixes = tuple(f"{each}: " for each in names if each)
    warnings = [warning for warning in answer["receipt"]["warnings"] if not warning.startswith(prefixes)]
    text = " ".join(statement["text"] for statement in statements)
    new = answer | {
        "citations": [answer["citations"][i] for i in left],
        "statements": statements,
        "nearest": [citation for citation in answer["nearest"] if citation["sha256"] != sha256],
        "receipt": answer["receipt"] | {"warnings": warnings},
        "reply": text,
    }
    if not answer["found"]:
        return new
    if not statements:
        return new | {"answer": RESTED_ON_REMOVED, "found": False, "confidence": 0.0, "signals": None}
    return new | {"answer": text}
