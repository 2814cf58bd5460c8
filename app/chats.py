"""Chats: questions and what came of them, kept in the library's database so that refresh, restart and crash lose none.

Knows the tables `chats`, `chat_documents` and `turns` and the processes that answer; nothing of Streamlit, and nothing
of how a question is answered. A chat refers to its documents by sha256: it outlives them, and finds them again when
they come back. What a removed document leaves in chats goes with `Chats.forget_document`.
"""

import dataclasses
import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from longleaf.errors import DocumentNotFoundError, LibraryError, QuestionError
from longleaf.ingestion import Document, Library

if TYPE_CHECKING:
    from longleaf.retrieval import Answer

__all__ = ["Chat", "ChatDocument", "Chats", "Forgotten", "KeptTurn", "TurnState", "answer_of", "title_from"]

_T = TypeVar("_T")

TurnState = Literal["waiting", "answering", "answered", "stopped", "failed"]

TITLE_CHARS = 60
NEW_CHAT = "New chat"
"""What a chat without a title and without a question is called."""
UNSEEN_HOURS = 12
"""A turn of a process on another machine, or in another container, is given up after so long without a sign of it:
from here it can't be seen whether that process runs."""
INTERRUPTED = "Interrupted: the program ended before the answer was complete. Ask again to have it answered."
COPIED_OPEN = "Not answered when this branch was made. Ask again to have it answered."
TAKEN_OUT = "A document of this chat was removed: what rested on it was taken out of this turn."
RESTED_ON_REMOVED = "What this answer rested on was removed with its document."
ERROR_TAKEN_OUT = "The question failed on a document that was removed since."

_IS_OPEN = "state IN ('waiting', 'answering')"
_CHATS = """
SELECT chats.*, (SELECT count(*) FROM turns WHERE chat_id = chats.id) AS n_turns, (
    SELECT json_group_array(json_array(sha256, name))
    FROM (SELECT sha256, name FROM chat_documents WHERE chat_id = chats.id ORDER BY position)
) AS documents FROM chats
"""


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


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting a document took away: whole chats, and turns of others that lost something."""

    chats: int
    turns: int


class Chats:
    """The chats of one library. Several threads and processes may use them at once.

    A worker answers like this; `keep_draft` gives False once nobody wants the answer any more (stopped, asked anew,
    removed), be it in another process:

        turn = chats.ask(chat, "What were net sales in 2021?")
        wanted = chats.keep_draft(turn, "Net sales were")
        chats.finish(turn, answer)
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    def all(self) -> list[Chat]:
        """All chats, the one that changed last first."""
        rows = self._library.connection().execute(f"{_CHATS} ORDER BY changed_at DESC, id DESC")
        return [_chat(row) for row in rows.fetchall()]

    def find(self, chat_id: int) -> Chat:
        """The chat of this id.

        Raises:
            LibraryError: There is none (any more).
        """
        row = self._library.connection().execute(f"{_CHATS} WHERE id = ?", (chat_id,)).fetchone()
        if row is None:
            raise LibraryError(f"chat {chat_id}: no such chat; it may have been deleted. Choose one from the list")
        return _chat(row)

    def with_document(self, sha256: str) -> list[Chat]:
        """The chats about a document, alone or among others; the one that changed last first."""
        asked_about = "WHERE id IN (SELECT chat_id FROM chat_documents WHERE sha256 = ?)"
        sql = f"{_CHATS} {asked_about} ORDER BY changed_at DESC, id DESC"
        return [_chat(row) for row in self._library.connection().execute(sql, (sha256,)).fetchall()]

    def make(self, documents: Iterable[Document], title: str | None = None, *, collection: str | None = None) -> Chat:
        """Begins a chat.

        Args:
            documents: What its questions are about; one named twice counts once.
            title: None takes the first question.
            collection: The collection that they were chosen by.

        Raises:
            QuestionError: There is no document.
            DocumentNotFoundError: A document was removed meanwhile; nothing is made then.
        """
        chosen = list({document.sha256: document for document in documents}.values())
        if not chosen:
            raise QuestionError("a chat needs a document to ask about: choose one, or add one to the library")
        now = _now()
        with self._writing() as connection:
            for document in chosen:
                if not connection.execute("SELECT 1 FROM documents WHERE sha256 = ?", (document.sha256,)).fetchone():
                    raise DocumentNotFoundError(f"{document.name}: no longer in the library")
            added = connection.execute(
                "INSERT INTO chats (title, made_at, changed_at, collection) VALUES (?, ?, ?, ?)",
                (" ".join((title or "").split()), now, now, collection),
            )
            connection.executemany(
                "INSERT INTO chat_documents (chat_id, sha256, position, name) VALUES (?, ?, ?, ?)",
                ((added.lastrowid, document.sha256, at, document.name) for at, document in enumerate(chosen, 1)),
            )
            return self.find(added.lastrowid or 0)

    def rename(self, chat: Chat, title: str) -> Chat:
        """Gives a chat another title; its place in the list stays.

        Raises:
            QuestionError: The title is empty.
            LibraryError: The chat was removed.
        """
        if not (squeezed := " ".join(title.split())):
            raise QuestionError("a chat needs a title: type one, or keep the old one")
        with self._writing() as connection:
            connection.execute("UPDATE chats SET title = ? WHERE id = ?", (squeezed, chat.id))
            return self.find(chat.id)

    def remove(self, chat: Chat) -> None:
        """Deletes a chat with its turns; its branches stay. One that is gone already is no error."""
        with self._writing() as connection:
            connection.execute("DELETE FROM chats WHERE id = ?", (chat.id,))
        self._wipe()

    def turns(self, chat: Chat) -> list[KeptTurn]:
        """The turns of a chat in order; none once it is removed."""
        sql = "SELECT * FROM turns WHERE chat_id = ? ORDER BY position"
        return [_turn(row) for row in self._library.connection().execute(sql, (chat.id,)).fetchall()]

    def turn(self, turn_id: int) -> KeptTurn:
        """A turn as it is now.

        Raises:
            LibraryError: There is none (any more).
        """
        row = self._library.connection().execute("SELECT * FROM turns WHERE id = ?", (turn_id,)).fetchone()
        if row is None:
            raise LibraryError(f"question {turn_id}: no longer there; its chat was deleted or the question changed")
        return _turn(row)

    def ask(self, chat: Chat, question: str) -> KeptTurn:
        """Keeps a question behind those asked before; it waits for its answer.

        Raises:
            QuestionError: It is empty.
            LibraryError: The chat was removed.
        """
        return self._ask(chat, question, in_place_of_last=False)

    def replace_last(self, chat: Chat, question: str) -> KeptTurn:
        """Asks another question in place of the last one, which is forgotten with its answer.

        Raises:
            QuestionError: It is empty.
            LibraryError: The chat was removed, or nothing was asked in it.
        """
        return self._ask(chat, question, in_place_of_last=True)

    def regenerate(self, chat: Chat) -> KeptTurn:
        """Asks the last question again: its answer is forgotten, and it waits for another.

        Raises:
            LibraryError: The chat was removed, or nothing was asked in it.
        """
        now = _now()
        with self._writing() as connection:
            last = self._last(chat)
            connection.execute(
                "UPDATE turns SET state = 'waiting', attempt = attempt + 1, owner = ?, draft = '', answer = NULL, "
                "error = '', note = '', asked_at = ?, seen_at = ?, answered_at = NULL WHERE id = ?",
                (_identity(os.getpid()), now, now, last.id),
            )
            _touch(connection, chat.id, now)
            return self.turn(last.id)

    def keep_draft(self, turn: KeptTurn, text: str) -> bool:
        """Keeps all that the reader wrote so far, and that it is being answered here.

        Returns:
            False where the answer is no longer wanted; then nothing is kept, and the work can end.
        """
        with self._writing() as connection:
            done = connection.execute(
                "UPDATE turns SET draft = ?, state = 'answering', owner = ?, seen_at = ? "
                f"WHERE id = ? AND attempt = ? AND {_IS_OPEN}",
                (text, _identity(os.getpid()), _now(), turn.id, turn.attempt),
            )
            return done.rowcount == 1

    def finish(self, turn: KeptTurn, answer: "Answer | dict[str, Any]") -> bool:
        """Keeps the answer. One that came just after Stop is kept too: it is checked, and there.

        Args:
            turn: As `ask` gave it.
            answer: Where it says that it was stopped, the turn ends as "stopped".

        Returns:
            False where the question was asked anew, changed or removed meanwhile; then nothing is kept.
        """
        kept = answer if isinstance(answer, dict) else answer.to_dict()
        state = "stopped" if kept.get("stopped") else "answered"
        return self._end(
            turn,
            f"state = '{state}', answer = ?, draft = '', error = '', note = ''",
            (json.dumps(kept, ensure_ascii=False),),
            f"({_IS_OPEN} OR state = 'stopped')",
        )

    def fail(self, turn: KeptTurn, error: str) -> bool:
        """Keeps why nothing came of it, and the draft as far as it went; False as for `finish`, or after Stop."""
        return self._end(turn, "state = 'failed', error = ?", (error,), _IS_OPEN)

    def stop(self, turn: KeptTurn) -> bool:
        """Ends an open turn, whoever answers it; the draft stays. False where there was nothing to stop."""
        return self._end(turn, "state = 'stopped'", (), _IS_OPEN)

    def branch(self, chat: Chat, turn: KeptTurn) -> Chat:
        """Makes a chat that begins with copies of the turns up to and including this one.

        Raises:
            ValueError: The turn is of another chat.
            LibraryError: Chat or turn was removed.
        """
        if turn.chat_id != chat.id:
            raise ValueError(f"turn {turn.id} is of chat {turn.chat_id}, not of chat {chat.id}")
        now = _now()
        with self._writing() as connection:
            self.find(chat.id)
            up_to = self.turn(turn.id).position
            added = connection.execute(
                "INSERT INTO chats (title, made_at, changed_at, parent_chat, collection) "
                "SELECT title, ?, ?, id, collection FROM chats WHERE id = ?",
                (now, now, chat.id),
            )
            connection.execute(
                "INSERT INTO chat_documents (chat_id, sha256, position, name) "
                "SELECT ?, sha256, position, name FROM chat_documents WHERE chat_id = ?",
                (added.lastrowid, chat.id),
            )
            connection.execute(  # nobody answers the copy of an open turn
                "INSERT INTO turns (chat_id, position, question, state, draft, answer, error, note, asked_at, seen_at, "
                f"answered_at) SELECT ?, position, question, CASE WHEN {_IS_OPEN} THEN 'stopped' ELSE state END, "
                f"draft, answer, error, CASE WHEN {_IS_OPEN} THEN ? ELSE note END, asked_at, seen_at, "
                f"CASE WHEN {_IS_OPEN} THEN ? ELSE answered_at END "
                "FROM turns WHERE chat_id = ? AND position <= ? ORDER BY position",
                (added.lastrowid, COPIED_OPEN, now, chat.id, up_to),
            )
            return self.find(added.lastrowid or 0)

    def interrupted(self) -> list[KeptTurn]:
        """Open turns whose process is gone, so that nobody will answer them."""
        rows = self._library.connection().execute(f"SELECT * FROM turns WHERE {_IS_OPEN} ORDER BY id").fetchall()
        return [_turn(row) for row in rows if _is_gone(row["owner"], row["seen_at"])]

    def recover(self) -> list[KeptTurn]:
        """Ends the interrupted turns as "stopped", with a note; their drafts stay. To be called at start.

        Returns:
            Those turns. Turns of processes that live are left alone; two processes may recover at once.
        """
        with self._writing() as connection:
            left = self.interrupted()
            connection.executemany(
                "UPDATE turns SET state = 'stopped', note = ?, answered_at = ? WHERE id = ?",
                ((INTERRUPTED, _now(), turn.id) for turn in left),
            )
            return [self.turn(turn.id) for turn in left]

    def forget_document(self, sha256: str) -> Forgotten:
        """Takes everything of a document out of the chats; call it before `Library.remove`.

        Chats about it alone go. In chats over several documents the questions stay, and of the answers what can be
        shown to rest on other documents: statements with a citation left. Drafts, unsupported statements and the
        reader's own wording may hold the document's words, so they go as well. A turn that lost something says so, and
        one that is still being answered is stopped.
        """
        with self._writing() as connection:
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
        self._wipe()
        return Forgotten(alone.rowcount, n_changed)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction in which deleted words are overwritten: builds of SQLite differ in whether they do it."""
        self._library.connection().execute("PRAGMA secure_delete = ON")
        with self._library.transaction() as connection:
            yield connection

    def _wipe(self) -> None:
        """Gives the room of deleted rows back, and empties the write-ahead log that still holds them."""
        connection = self._library.connection()
        with suppress(sqlite3.OperationalError):  # somebody reads or writes: it is done another time
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _last(self, chat: Chat) -> KeptTurn:
        sql = "SELECT * FROM turns WHERE chat_id = ? ORDER BY position DESC LIMIT 1"
        row = self._library.connection().execute(sql, (chat.id,)).fetchone()
        if row is None:
            raise LibraryError(f"{self.find(chat.id).title}: nothing was asked in this chat yet; ask a question first")
        return _turn(row)

    def _ask(self, chat: Chat, question: str, *, in_place_of_last: bool) -> KeptTurn:
        question = question.strip()
        if not question:
            raise QuestionError("the question is empty: type one")
        now = _now()
        with self._writing() as connection:
            title = connection.execute("SELECT title FROM chats WHERE id = ?", (chat.id,)).fetchone()
            position, from_question = self.find(chat.id).n_turns + 1, ""
            if in_place_of_last:
                old = self._last(chat)
                position = old.position
                from_question = title_from(old.question) if position == 1 else ""
                connection.execute("DELETE FROM turns WHERE id = ?", (old.id,))
            added = connection.execute(
                "INSERT INTO turns (chat_id, position, question, state, owner, asked_at, seen_at) "
                "VALUES (?, ?, ?, 'waiting', ?, ?, ?)",
                (chat.id, position, question, _identity(os.getpid()), now, now),
            )
            if title["title"] in ("", from_question):
                connection.execute("UPDATE chats SET title = ? WHERE id = ?", (title_from(question), chat.id))
            _touch(connection, chat.id, now)
            return self.turn(added.lastrowid or 0)

    def _end(self, turn: KeptTurn, changes: str, values: Sequence[str], where: str) -> bool:
        now = _now()
        with self._writing() as connection:
            done = connection.execute(
                f"UPDATE turns SET {changes}, answered_at = ? WHERE id = ? AND attempt = ? AND {where}",
                (*values, now, turn.id, turn.attempt),
            )
            if done.rowcount:
                _touch(connection, turn.chat_id, now)
            return done.rowcount == 1


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


def _forget_in_turn(connection: sqlite3.Connection, row: sqlite3.Row, sha256: str) -> bool:
    """Takes a document out of one turn of a chat over several; returns whether that shows."""
    turn, name = _turn(row), row["name"]
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
        (state, turn.is_open, new and json.dumps(new, ensure_ascii=False), error, note, _now(), turn.id),
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


def _touch(connection: sqlite3.Connection, chat_id: int, now: str) -> None:
    connection.execute("UPDATE chats SET changed_at = ? WHERE id = ?", (now, chat_id))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


@lru_cache(maxsize=4)
def _identity(pid: int) -> str:
    """This process, told apart from an earlier or later one with its number; by `pid`, as a fork is another process."""
    return json.dumps([platform.node(), pid, _started(pid)])


def _started(pid: int) -> str | None:
    """When a process of this machine was started, in a form to compare.

    Returns:
        The boot and the clock ticks since then; "" where the system does not say; None where no such process runs.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # it runs, for somebody else
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a program's name may hold blanks
    except OSError:
        return ""
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"  # proc(5): state, starttime; Z and X are dead


def _is_gone(owner: str, seen_at: str) -> bool:
    if not owner:
        return True
    host, pid, started = json.loads(owner)
    if host != platform.node():
        return datetime.now(UTC) - datetime.fromisoformat(seen_at) > timedelta(hours=UNSEEN_HOURS)
    now = _started(pid)
    return now is None or bool(started and now and started != now)


def _chat(row: sqlite3.Row) -> Chat:
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


def _turn(row: sqlite3.Row) -> KeptTurn:
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
