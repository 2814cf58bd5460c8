"""The values that chats are made of: a chat, a kept turn, and the answer that a turn holds, as objects again.

Knows what rows of the tables `chats` and `turns` hold, and nothing of how they are kept.
"""

import dataclasses
import json
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from longleaf.errors import LibraryError

if TYPE_CHECKING:
    from longleaf.retrieval import Answer

__all__ = ["Chat", "ChatDocument", "KeptTurn", "TurnState", "answer_of", "as_chat", "as_turn", "title_from"]

_T = TypeVar("_T")

TurnState = Literal["waiting", "answering", "answered", "stopped", "failed"]

TITLE_CHARS = 60
NEW_CHAT = "New chat"
"""What a chat without a title and without a question is called."""


@dataclass(frozen=True, slots=True)
class ChatDocument:
    """A document that a chat is about, which may no longer be in the library; the name is for display."""

    sha256: str
    name: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A row of questions about the same documents.

    Attributes:
        id: Never used twice.
        title: As given, or from the first question; "New chat" where there is neither.
        made_at: ISO 8601, UTC.
        changed_at: Of the last question asked or answered.
        parent_chat: The chat that this one branches off from, while that is kept.
        collection: The name of the collection that the documents were chosen by.
        documents: In the order chosen; those that were forgotten are no longer among them.
        n_turns: Questions asked.
    """

    id: int
    title: str
    made_at: str
    changed_at: str
    parent_chat: int | None
    collection: str | None
    documents: tuple[ChatDocument, ...]
    n_turns: int


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A question and what came of it, as it was when it was looked up.

    Attributes:
        id: Never used twice.
        chat_id: Its chat.
        position: In the chat, 1-based, without gaps.
        question: As typed, without blanks at its ends.
        state: "waiting" until somebody answers, "answering" while a draft is kept, then what it ended in.
        attempt: Grows when the question is asked again; who works on an earlier attempt can change nothing any more.
        draft: What the reader wrote so far, unchecked; "" once there is an answer.
        answer_json: The answer's dict as JSON; None where there is none.
        error: Why the turn failed.
        note: What happened to the turn since: interrupted, copied, or a document removed.
        asked_at: ISO 8601, UTC.
        answered_at: When the attempt ended, whatever it came to; None while it is open.
    """

    id: int
    chat_id: int
    position: int
    question: str
    state: TurnState
    attempt: int
    draft: str
    answer_json: str | None
    error: str
    note: str
    asked_at: str
    answered_at: str | None

    @property
    def is_open(self) -> bool:
        """Whether an answer is still to come."""
        return self.state in ("waiting", "answering")

    @property
    def answer(self) -> dict[str, Any] | None:
        """The answer as `Answer.to_dict` gives it, parsed anew at each call."""
        return None if self.answer_json is None else json.loads(self.answer_json)


def title_from(question: str) -> str:
    """A question as a title: on one line, cut at a word to 60 characters at most."""
    line = " ".join(question.split())
    if len(line) <= TITLE_CHARS:
        return line
    head = line[:TITLE_CHARS].rpartition(" ")[0]
    if len(head) < TITLE_CHARS // 2:  # a word without end
        head = line[: TITLE_CHARS - 1]
    return head.rstrip(" ,;:.–-") + "…"


def answer_of(turn: KeptTurn) -> "Answer | None":
    """The kept answer as the object that the pages draw; fields that this version does not know are left out.

    Raises:
        LibraryError: An earlier version kept it without a field that is needed now.
    """
    kept = turn.answer
    if kept is None:
        return None
    from longleaf.retrieval import Answer, Citation, Receipt, Route, Statement
    from longleaf.retrieval.support import Signals

    def citations(name: str) -> tuple[Citation, ...]:
        return tuple(_as(Citation, one | {"boxes": tuple(map(tuple, one["boxes"]))}) for one in kept[name])

    try:
        statements = [_as(Statement, one | {"citations": tuple(one["citations"])}) for one in kept["statements"]]
        rebuilt = {
            "route": _as(Route, kept["route"]),
            "citations": citations("citations"),
            "statements": tuple(statements),
            "nearest": citations("nearest"),
            "signals": kept["signals"] and _as(Signals, kept["signals"]),
            "receipt": _as(Receipt, kept["receipt"] | {"warnings": tuple(kept["receipt"]["warnings"])}),
        }
        return _as(Answer, kept | rebuilt)
    except (KeyError, TypeError) as exc:
        raise LibraryError(
            f"the answer to “{title_from(turn.question)}” was kept by another version of Longleaf ({exc}); "
            "ask the question again"
        ) from exc


def _as(kind: type[_T], values: dict[str, Any]) -> _T:
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in names})


def as_chat(row: sqlite3.Row) -> Chat:
    """A row of `chats`, with its documents as JSON and its number of turns."""
    documents = tuple(ChatDocument(sha256, name) for sha256, name in json.loads(row["documents"]))
    return Chat(
        id=row["id"],
        title=row["title"] or NEW_CHAT,
        made_at=row["made_at"],
        changed_at=row["changed_at"],
        parent_chat=row["parent_chat"],
        collection=row["collection"],
        documents=documents,
        n_turns=row["n_turns"],
    )


def as_turn(row: sqlite3.Row) -> KeptTurn:
    """A row of `turns`."""
    return KeptTurn(
        id=row["id"],
        chat_id=row["chat_id"],
        position=row["position"],
        question=row["question"],
        state=row["state"],
        attempt=row["attempt"],
        draft=row["draft"],
        answer_json=row["answer"],
        error=row["error"],
        note=row["note"],
        asked_at=row["asked_at"],
        answered_at=row["answered_at"],
    )
