"""The library's tables, as ordered migrations counted by `PRAGMA user_version`.

A migration that was released is never changed; a new one is appended. All tables that hang on a document refer to it
with ON DELETE CASCADE. Character boxes have their own table: reading the text of a document must not drag them along.
"""

import sqlite3
from pathlib import Path

from longleaf.errors import SchemaVersionError

__all__ = ["JOB_TABLES", "MIGRATIONS", "migrate", "statements_of"]

MIGRATIONS: tuple[str, ...] = (
    # 1: documents and their pages
    """
    CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sha256 TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        title TEXT NOT NULL,
        media_type TEXT NOT NULL,
        suffix TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        n_pages INTEGER NOT NULL,
        n_pages_ocr INTEGER NOT NULL DEFAULT 0,
        n_pages_unread INTEGER NOT NULL DEFAULT 0,
        n_chars INTEGER NOT NULL DEFAULT 0,
        added_at TEXT NOT NULL,
        metadata TEXT NOT NULL,
        labels TEXT NOT NULL,
        outline TEXT NOT NULL,
        warnings TEXT NOT NULL,
        is_damaged INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL CHECK (state IN ('adding', 'ready')),
        revision INTEGER NOT NULL DEFAULT 0
    );

    CREATE TABLE pages (
        document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        label TEXT NOT NULL,
        text TEXT NOT NULL,
        width REAL NOT NULL,
        height REAL NOT NULL,
        source TEXT NOT NULL CHECK (source IN ('text', 'ocr', 'none')),
        note TEXT NOT NULL DEFAULT '',
        needs_ocr INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (document_id, number)
    );

    CREATE TABLE page_boxes (
        document_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        boxes BLOB NOT NULL,
        PRIMARY KEY (document_id, number),
        FOREIGN KEY (document_id, number) REFERENCES pages (document_id, number) ON DELETE CASCADE
    );
    """,
    # 2: passages, their full text and vectors, and token counts (written by `longleaf.retrieval`)
    """
    CREATE TABLE passage_sets (
        document_id INTEGER PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
        cutter_version INTEGER NOT NULL,
        revision INTEGER NOT NULL,          -- of the document: OCR may add pages later
        n_passages INTEGER NOT NULL
    );
    CREATE TABLE passages (
        id INTEGER PRIMARY KEY,
        document_id INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
        page INTEGER NOT NULL,              -- 1-based
        start INTEGER NOT NULL,             -- span in the page's text
        end INTEGER NOT NULL,
        title TEXT NOT NULL,                -- searched with the text, never quoted
        section TEXT NOT NULL,
        text TEXT NOT NULL
    );
    CREATE INDEX passages_by_document ON passages(document_id, page, start);
    CREATE VIRTUAL TABLE passages_text USING fts5(
        text, section, title, content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
    );
    CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN
        INSERT INTO passages_text(rowid, text, section, title) VALUES (new.id, new.text, new.section, new.title);
    END;
    CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN
        INSERT INTO passages_text(passages_text, rowid, text, section, title)
        VALUES ('delete', old.id, old.text, old.section, old.title);
    END;
    CREATE TABLE embeddings (
        passage_id INTEGER NOT NULL REFERENCES passages(id) ON DELETE CASCADE,
        embedder TEXT NOT NULL,
        vector BLOB NOT NULL,               -- float16, L2-normalised
        PRIMARY KEY (passage_id, embedder)
    );
    CREATE TABLE token_counts (
        document_id INTEGER NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
        tokenizer TEXT NOT NULL,
        revision INTEGER NOT NULL,
        n_tokens INTEGER NOT NULL,
        PRIMARY KEY (document_id, tokenizer)
    );
    """,
    # 3: what vector indexes have to catch up with, texts of LangChain's vector store, collections of documents
    # (passages are cut anew: they get a header and a kind)
    """
    DELETE FROM passage_sets;
    DELETE FROM passages;
    DROP TRIGGER passages_added;
    DROP TRIGGER passages_removed;
    DROP TABLE passages_text;
    ALTER TABLE passages ADD COLUMN header TEXT NOT NULL DEFAULT '';   -- a table's title and column names: searched
    ALTER TABLE passages ADD COLUMN kind TEXT NOT NULL DEFAULT 'prose' CHECK (kind IN ('prose', 'table', 'footnote'));
    CREATE VIRTUAL TABLE passages_text USING fts5(
        text, header, section, title, content='passages', content_rowid='id',
        tokenize='porter unicode61 remove_diacritics 2'
    );
    CREATE TRIGGER passages_added AFTER INSERT ON passages BEGIN
        INSERT INTO passages_text(rowid, text, header, section, title)
        VALUES (new.id, new.text, new.header, new.section, new.title);
    END;
    CREATE TRIGGER passages_removed AFTER DELETE ON passages BEGIN
        INSERT INTO passages_text(passages_text, rowid, text, header, section, title)
        VALUES ('delete', old.id, old.text, old.header, old.section, old.title);
    END;

    CREATE TABLE vector_changes (           -- a key whose vector came, changed or went, in that order
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        space TEXT NOT NULL,                -- vectors that are compared with each other: an embedder's name, and whose
        key INTEGER NOT NULL                -- what the vector belongs to: a passage's id, a text's key
    );
    CREATE INDEX vector_changes_by_space ON vector_changes(space, seq);
    CREATE TABLE vector_logs (              -- changes up to here are in the saved index and no longer in the log
        space TEXT PRIMARY KEY,
        pruned_seq INTEGER NOT NULL
    );
    CREATE TRIGGER embedding_added AFTER INSERT ON embeddings BEGIN
        INSERT INTO vector_changes(space, key) VALUES (new.embedder, new.passage_id);
    END;
    CREATE TRIGGER embedding_changed AFTER UPDATE ON embeddings BEGIN
        INSERT INTO vector_changes(space, key) VALUES (new.embedder, new.passage_id);
    END;
    CREATE TRIGGER embedding_removed AFTER DELETE ON embeddings BEGIN
        INSERT INTO vector_changes(space, key) VALUES (old.embedder, old.passage_id);
    END;

    CREATE TABLE texts (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        text TEXT NOT NULL,
        metadata TEXT NOT NULL,             -- JSON
        embedder TEXT NOT NULL,
        vector BLOB NOT NULL,               -- float16, L2-normalised
        UNIQUE (collection, embedder, id)
    );
    CREATE TRIGGER text_added AFTER INSERT ON texts BEGIN
        INSERT INTO vector_changes(space, key) VALUES ('texts/' || new.collection || '/' || new.embedder, new.key);
    END;
    CREATE TRIGGER text_changed AFTER UPDATE ON texts BEGIN
        INSERT INTO vector_changes(space, key) VALUES ('texts/' || new.collection || '/' || new.embedder, new.key);
    END;
    CREATE TRIGGER text_removed AFTER DELETE ON texts BEGIN
        INSERT INTO vector_changes(space, key) VALUES ('texts/' || old.collection || '/' || old.embedder, old.key);
    END;

    CREATE TABLE collections (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        made_at TEXT NOT NULL
    );
    CREATE TABLE collection_documents (
        collection_id INTEGER NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
        document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        PRIMARY KEY (collection_id, document_id)
    );
    """,
    # 4: chats (written by `longleaf.app`), which outlive their documents, and summaries, which do not
    """
    CREATE TABLE chats (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,                -- '' until the first question gives it one
        made_at TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        parent_chat INTEGER REFERENCES chats (id) ON DELETE SET NULL,   -- that this one branches off from
        collection TEXT                     -- its name, where the documents were chosen by it
    );
    CREATE INDEX chats_by_change ON chats(changed_at);
    CREATE INDEX chats_by_parent ON chats(parent_chat);
    CREATE TABLE chat_documents (
        chat_id INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
        sha256 TEXT NOT NULL,               -- not the document's id: it may be removed, and come back
        position INTEGER NOT NULL,          -- 1-based; may have gaps
        name TEXT NOT NULL,
        PRIMARY KEY (chat_id, sha256)
    );
    CREATE INDEX chat_documents_by_sha256 ON chat_documents(sha256);
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        chat_id INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,          -- 1-based, without gaps
        question TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'answering', 'answered', 'stopped', 'failed')),
        attempt INTEGER NOT NULL DEFAULT 1, -- grows when the question is asked again: who answers an older one is late
        owner TEXT NOT NULL DEFAULT '',     -- the process that answers
        draft TEXT NOT NULL DEFAULT '',
        answer TEXT,                        -- JSON of an Answer
        error TEXT NOT NULL DEFAULT '',
        note TEXT NOT NULL DEFAULT '',      -- what happened to the turn since
        asked_at TEXT NOT NULL,
        seen_at TEXT NOT NULL,              -- the owner's last sign of life
        answered_at TEXT,
        UNIQUE (chat_id, position)
    );
    CREATE INDEX turns_open ON turns(state) WHERE state IN ('waiting', 'answering');

    CREATE TABLE summaries (
        document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        settings TEXT NOT NULL,
        model TEXT NOT NULL,
        made_at TEXT NOT NULL,
        summary TEXT NOT NULL,              -- JSON
        PRIMARY KEY (document_id, settings, model)
    );
    """,
    # 5: documents can be renamed
    """
    ALTER TABLE documents ADD COLUMN file_name TEXT NOT NULL DEFAULT '';    -- at first adding; '' while it is the name
    """,
    # 6: jobs over many documents (written by `longleaf.app.jobs`, in words that PostgreSQL understands as well)
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,                 -- 'summarize' or 'extract'
        output TEXT NOT NULL,               -- folder
        spec TEXT NOT NULL,                 -- JSON: what is to be done with each document
        state TEXT NOT NULL CHECK (state IN ('open', 'cancelled')),
        made_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    );
    CREATE TABLE job_items (
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        source TEXT NOT NULL,               -- path of the file
        position INTEGER NOT NULL,          -- in the order of adding; may have gaps
        output_name TEXT NOT NULL,          -- of the item's own file, without suffix
        sha256 TEXT NOT NULL,               -- of the file; '' where it could not be read
        work_key TEXT NOT NULL,             -- the same file and the same spec are the same work
        state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled')),
        attempts INTEGER NOT NULL DEFAULT 0,        -- grows with each claim: who works on an older one is late
        interrupted INTEGER NOT NULL DEFAULT 0,     -- times that the process went away in the middle
        owner TEXT NOT NULL DEFAULT '',     -- the process at work
        node TEXT NOT NULL DEFAULT '',      -- the machine that worked on it last: readings lie there
        seen_at TEXT NOT NULL DEFAULT '',   -- the owner's last sign of life
        draft TEXT NOT NULL DEFAULT '',     -- JSON: what is done of an item that is not
        result TEXT NOT NULL DEFAULT '',    -- JSON
        reason TEXT NOT NULL DEFAULT '',    -- of a failure
        lasting INTEGER NOT NULL DEFAULT 0, -- 1: it fails again with the same file
        model TEXT NOT NULL DEFAULT '',
        n_pages INTEGER NOT NULL DEFAULT 0,
        tokens_read INTEGER NOT NULL DEFAULT 0,
        tokens_reused INTEGER NOT NULL DEFAULT 0,
        tokens_written INTEGER NOT NULL DEFAULT 0,
        seconds DOUBLE PRECISION NOT NULL DEFAULT 0,
        finished_at TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (job_id, source)
    );
    CREATE INDEX job_items_by_state ON job_items (job_id, state, position);
    CREATE INDEX job_items_by_sha256 ON job_items (sha256);
    """,
)

JOB_TABLES = MIGRATIONS[5]
"""The tables of jobs alone, for a PostgreSQL that several machines share."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a database to the newest schema; each migration and its number are one transaction.

    Args:
        connection: In autocommit mode.
        path: For the error.

    Raises:
        SchemaVersionError: A newer Longleaf made it.
    """
    newest = len(MIGRATIONS)
    found = _version(connection)
    if found > newest:
        raise SchemaVersionError(
            f"{path}: the library has schema {found}, this Longleaf knows {newest}; update Longleaf, or use another "
            "folder (--home, LONGLEAF_HOME)"
        )
    if found == newest:
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may be migrating: look again behind the lock
    try:
        for version in range(_version(connection), newest):
            for statement in statements_of(MIGRATIONS[version]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def statements_of(script: str) -> list[str]:
    """Split a script; `executescript` would commit in the middle."""
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    if current.strip():
        found.append(current.strip())
    return found
