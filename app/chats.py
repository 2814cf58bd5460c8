"""Chats: questions and what came of them, kept in the library's database so that refresh, restart and crash lose none.

Knows the tables `chats`, `chat_documents` and `turns` and the processes that answer; nothing of Streamlit, and nothing
of how a question is answered. A chat refers to its documents by sha256: it outlives them, and finds them again when
they come back. What a removed document leaves in chats goes with `Chats.forget_document`.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from longleaf.errors import DocumentNotFoundError, LibraryError, QuestionError
from longleaf.ingestion import Document, Library

from .chat_documents import Forgotten, forget_document, rename_document
from .chat_values import Chat, ChatDocument, KeptTurn, TurnState, answer_of, as_chat, as_turn, title_from
from .process_identity import identity, is_gone

if TYPE_CHECKING:
    from longleaf.retrieval import Answer

__all__ = ["Chat", "ChatDocument", "Chats", "Forgotten", "KeptTurn", "TurnState", "answer_of", "title_from"]

INTERRUPTED = "Interrupted: the program ended before the answer was complete. Ask again to have it answered."
COPIED_OPEN = "Not answered when this branch was made. Ask again to have it answered."

_IS_OPEN = "state IN ('waiting', 'answering')"
_CHATS = """
SELECT chats.*, (SELECT count(*) FROM turns WHERE chat_id = chats.id) AS n_turns, (
    SELECT json_group_array(json_array(sha256, name))
    FROM (SELECT sha256, name FROM chat_documents WHERE chat_id = chats.id ORDER BY position)
) AS documents FROM chats
"""


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

    def all(self, limit: int | None = None) -> list[Chat]:
        """The chats, or so many of them, the one that changed last first."""
        sql = f"{_CHATS} ORDER BY changed_at DESC, id DESC LIMIT ?"
        rows = self._library.connection().execute(sql, (-1 if limit is None else max(limit, 0),))
        return [as_chat(row) for row in rows.fetchall()]

    def find(self, chat_id: int) -> Chat:
        """The chat of this id.

        Raises:
            LibraryError: There is none (any more).
        """
        row = self._library.connection().execute(f"{_CHATS} WHERE id = ?", (chat_id,)).fetchone()
        if row is None:
            raise LibraryError(f"chat {chat_id}: no such chat; it may have been deleted. Choose one from the list")
        return as_chat(row)

    def with_document(self, sha256: str) -> list[Chat]:
        """The chats about a document, alone or among others; the one that changed last first."""
        asked_about = "WHERE id IN (SELECT chat_id FROM chat_documents WHERE sha256 = ?)"
        sql = f"{_CHATS} {asked_about} ORDER BY changed_at DESC, id DESC"
        return [as_chat(row) for row in self._library.connection().execute(sql, (sha256,)).fetchall()]

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
        return [as_turn(row) for row in self._library.connection().execute(sql, (chat.id,)).fetchall()]

    def turn(self, turn_id: int) -> KeptTurn:
        """A turn as it is now.

        Raises:
            LibraryError: There is none (any more).
        """
        row = self._library.connection().execute("SELECT * FROM turns WHERE id = ?", (turn_id,)).fetchone()
        if row is None:
            raise LibraryError(f"question {turn_id}: no longer there; its chat was deleted or the question changed")
        return as_turn(row)

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
                (identity(), now, now, last.id),
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
                (text, identity(), _now(), turn.id, turn.attempt),
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
            f"state = '{state}', answer = ?, draft = '', error = ''" + (", note = ''" if state == "answered" else ""),
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
        return [as_turn(row) for row in rows if is_gone(row["owner"], row["seen_at"])]

    def recover(self) -> list[KeptTurn]:
        """Ends the interrupted turns as "stopped", with a note; their drafts stay. To be called at start.

        Returns:
            Those turns. Turns of processes that live are left alone; two processes may recover at once.
        """
        with self._writing() as connection:
            return self._interrupt(connection, [turn.id for turn in self.interrupted()])

    def leave(self) -> list[KeptTurn]:
        """Ends the open turns of this process as `recover` would do later; to be called before its work is stopped.

        Returns:
            Those turns. What there is of their answers can still be kept with `finish`.
        """
        with self._writing() as connection:
            sql = f"SELECT id FROM turns WHERE {_IS_OPEN} AND owner = ? ORDER BY id"
            return self._interrupt(connection, [row["id"] for row in connection.execute(sql, (identity(),)).fetchall()])

    def forget_document(self, sha256: str) -> Forgotten:
        """Takes everything of a document out of the chats; call it before `Library.remove`.

        Chats about it alone go. In chats over several documents the questions stay, and of the answers what can be
        shown to rest on other documents: statements with a citation left. Drafts, unsupported statements and the
        reader's own wording may hold the document's words, so they go as well. A turn that lost something says so, and
        one that is still being answered is stopped.
        """
        with self._writing() as connection:
            forgotten = forget_document(connection, sha256)
        self._wipe()
        return forgotten

    def rename_document(self, sha256: str, name: str) -> None:
        """Has the chats about a document call it by another name, as after `Library.rename`."""
        with self._writing() as connection:
            rename_document(connection, sha256, name)

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

    def _interrupt(self, connection: sqlite3.Connection, turn_ids: Sequence[int]) -> list[KeptTurn]:
        connection.executemany(
            "UPDATE turns SET state = 'stopped', note = ?, answered_at = ? WHERE id = ?",
            ((INTERRUPTED, _now(), turn_id) for turn_id in turn_ids),
        )
        return [self.turn(turn_id) for turn_id in turn_ids]

    def _last(self, chat: Chat) -> KeptTurn:
        sql = "SELECT * FROM turns WHERE chat_id = ? ORDER BY position DESC LIMIT 1"
        row = self._library.connection().execute(sql, (chat.id,)).fetchone()
        if row is None:
            raise LibraryError(f"{self.find(chat.id).title}: nothing was asked in this chat yet; ask a question first")
        return as_turn(row)

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
                (chat.id, position, question, identity(), now, now),
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


def _touch(connection: sqlite3.Connection, chat_id: int, now: str) -> None:
    connection.execute("UPDATE chats SET changed_at = ? WHERE id = ?", (now, chat_id))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
