"""The vector store on a real library: against LangChain's in-memory store, over processes, and beside documents."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore

from longleaf.errors import ModelError
from longleaf.ingestion import Library
from longleaf.retrieval import PassageStore, Scope, search
from longleaf.retrieval.embeddings import as_embedder
from longleaf.retrieval.vector_store import LongleafVectorStore


class Directions(Embeddings):
    """Numbers in a text are its vector: "3 4 north" points to (3, 4)."""

    def __init__(self, model: str = "compass") -> None:
        self.model = model
        self.n_embedded = 0

    def embed_documents(self, texts):
        self.n_embedded += len(texts)
        return [[float(part) for part in text.split() if part.lstrip("-").isdigit()] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.fixture
def store(library: Library) -> LongleafVectorStore:
    return LongleafVectorStore(Directions(), library=library)


def contents(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


# Adding, replacing, removing


def test_adding_an_id_again_replaces_text_metadata_and_vector(store: LongleafVectorStore) -> None:
    store.add_texts(["0 1 north", "1 0 east"], [{"n": 1}, {"n": 2}], ids=["a", "b"])
    assert contents(store.similarity_search("0 1", k=1)) == ["0 1 north"]
    assert store.add_texts(["0 -1 south"], [{"m": 3}], ids=["a"]) == ["a"]
    assert store.get_by_ids(["a"]) == [Document("0 -1 south", id="a", metadata={"m": 3})]
    assert contents(store.similarity_search("0 1", k=9)) == ["1 0 east", "0 -1 south"]


def test_of_texts_with_one_id_in_one_call_the_last_stays_and_is_the_only_one_embedded(
    store: LongleafVectorStore,
) -> None:
    ids = store.add_texts(["1 0 first", "0 1 other", "1 1 last"], [{"n": 1}, {"n": 2}, {"n": 3}], ids=["a", "b", "a"])
    assert ids == ["a", "b", "a"]
    assert store.embeddings.n_embedded == 2
    assert store.get_by_ids(["a", "b", "a"]) == [
        Document("1 1 last", id="a", metadata={"n": 3}),
        Document("0 1 other", id="b", metadata={"n": 2}),
    ]


def test_texts_without_an_id_get_one_each_and_equal_texts_stay_apart(store: LongleafVectorStore) -> None:
    ids = store.add_texts(["1 0", "1 0", "1 0"], ids=["mine", None, None])
    assert ids[0] == "mine"
    assert len(set(ids)) == 3
    assert {document.id for document in store.similarity_search("1 0", k=9)} == set(ids)


def test_removing_by_id_and_removing_all(store: LongleafVectorStore, library: Library) -> None:
    other = LongleafVectorStore(Directions(), library=library, collection="other")
    other.add_texts(["1 0 elsewhere"], ids=["a"])
    store.add_texts(["1 0", "0 1", "1 1"], ids=["a", "b", "c"])
    assert store.delete(["a", "never there"]) is True
    assert [document.id for document in store.similarity_search("1 0", k=9)] == ["c", "b"]
    store.delete([])
    assert len(store.similarity_search("1 0", k=9)) == 2
    assert store.delete() is True
    assert store.similarity_search("1 0", k=9) == []
    assert contents(other.similarity_search("1 0")) == ["1 0 elsewhere"]


def test_progress_is_logged_after_each_batch(store: LongleafVectorStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "longleaf.retrieval.vector_store"):
        store.add_texts(["1 0", "0 1", "1 1"], batch_size=2)
    assert [record.getMessage() for record in caplog.records] == [
        "langchain: 2 of 3 texts embedded",
        "langchain: 3 of 3 texts embedded",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [({1, 2}, "set"), (float("nan"), "nan"), (b"x", "bytes"), (np.int64(3), "int64"), ({"inner": object()}, "object")],
)
def test_metadata_that_json_does_not_have_is_refused_by_name_and_nothing_is_added(
    store: LongleafVectorStore, value: object, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"metadatas\[1\]\['colour'\].*{said}"):
        store.add_texts(["1 0", "0 1"], [{"colour": "red"}, {"page": 2, "colour": value}])
    assert store.embeddings.n_embedded == 0
    assert store.similarity_search("1 0") == []


def test_metadata_comes_back_as_it_was(store: LongleafVectorStore) -> None:
    metadata = {"a": None, "b": [1, {"c": 0.1}], "d": True, "é\"'.$[0]": "ü\u0000 \U0001f333", "big": 2**70, "e": {}}
    store.add_texts(["1 0"], [metadata], ids=["x"])
    assert store.get_by_ids(["x"])[0].metadata == metadata


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ids": ["a"]}, "2 texts, but 1 ids"),
        ({"metadatas": [{}, {}, {}]}, "2 texts, but 3 metadatas"),
        ({"metadatas": []}, "2 texts, but 0 metadatas"),
        ({"ids": ["a", 7]}, r"ids\[1\] is 7"),
        ({"metadatas": [{}, {7: 1}]}, r"metadatas\[1\] has the key 7"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_their_values(
    store: LongleafVectorStore, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        store.add_texts(["1 0", "0 1"], **arguments)
    assert store.similarity_search("1 0") == []


def test_half_a_character_is_refused_before_anything_is_embedded(store: LongleafVectorStore) -> None:
    with pytest.raises(ValueError, match=r"texts\[1\] has half a character"):
        store.add_texts(["1 0", "0 1 \ud835"])
    with pytest.raises(ValueError, match=r"ids\[0\] has half a character"):
        store.add_texts(["1 0"], ids=["\ud835"])
    assert store.embeddings.n_embedded == 0


def test_an_option_that_does_not_exist_is_refused(store: LongleafVectorStore) -> None:
    store.add_texts(["1 0"])
    with pytest.raises(TypeError, match="similarity_search has no option filtre"):
        store.similarity_search("1 0", filtre={"a": 1})
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        store.similarity_search("1 0", k=0)
    with pytest.raises(ValueError, match=r"lambda_mult must be in \[0, 1\], not 2"):
        store.max_marginal_relevance_search("1 0", lambda_mult=2)


def test_vectors_of_another_length_are_refused_when_adding_and_when_asking(store: LongleafVectorStore) -> None:
    store.add_texts(["1 0"])
    for call in (lambda: store.add_texts(["1 0 0"]), lambda: store.similarity_search("1 0 0")):
        with pytest.raises(ModelError, match="holds vectors of 2 numbers by Directions:compass, and this one has 3"):
            call()
    with pytest.raises(ValueError, match="a vector of finite numbers"):
        store.similarity_search_by_vector([0.0, 0.0])
    assert contents(store.similarity_search_by_vector([7.0, 0.0])) == ["1 0"]


# Filters

RECORDS: list[dict[str, Any]] = [
    {"page": 1, "kind": "table", "share": 0.1 + 0.2, "ok": True},
    {"page": 2, "kind": "prose", "share": 0.3, "ok": False},
    {"page": 3.0, "kind": "Prose", "share": 1e-300, "ok": None},
    {"page": "3", "kind": None, "share": -1},
    {"page": [3], "kind": {"page": 3}, "share": "0.3"},
    {"page": 2**53 + 1, "kind": "ünï", "share": 3, 'quo"ted': "yes", "a.b": "dot"},
    {},
]


def number(value: object) -> bool:
    return isinstance(value, int | float)


FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"page": 3}, lambda m: m.get("page") == 3),
    ({"page": "3"}, lambda m: m.get("page") == "3"),
    ({"page": "[3]"}, lambda m: m.get("page") == "[3]"),  # not the list
    ({"share": 0.1 + 0.2}, lambda m: m.get("share") == 0.1 + 0.2),
    ({"share": 0.3}, lambda m: m.get("share") == 0.3),
    ({"share": 1e-300}, lambda m: m.get("share") == 1e-300),
    ({"page": 2**53 + 1}, lambda m: m.get("page") == 2**53 + 1),
    ({"ok": True}, lambda m: m.get("ok") is True),
    ({"ok": None}, lambda m: m.get("ok") is None),
    ({"kind": "ünï"}, lambda m: m.get("kind") == "ünï"),
    ({'quo"ted': "yes"}, lambda m: m.get('quo"ted') == "yes"),
    ({"a.b": "dot"}, lambda m: m.get("a.b") == "dot"),
    ({"kind": "prose", "page": 2}, lambda m: m.get("kind") == "prose" and m.get("page") == 2),
    ({"kind": {"$eq": "prose"}}, lambda m: m.get("kind") == "prose"),
    ({"kind": {"$ne": "prose"}}, lambda m: m.get("kind") != "prose"),
    ({"kind": {"$ne": None}}, lambda m: m.get("kind") is not None),
    ({"page": {"$in": [1, "3", 9]}}, lambda m: m.get("page") in (1, "3", 9)),
    ({"page": {"$in": []}}, lambda m: False),
    ({"kind": {"$in": ["table", None]}}, lambda m: m.get("kind") in ("table", None)),
    ({"kind": {"$nin": ["table", None]}}, lambda m: m.get("kind") not in ("table", None)),
    ({"page": {"$gte": 2}}, lambda m: number(m.get("page")) and m["page"] >= 2),
    ({"page": {"$gt": 2, "$lt": 100}}, lambda m: number(m.get("page")) and 2 < m["page"] < 100),
    ({"share": {"$lte": 0.3}}, lambda m: number(m.get("share")) and m["share"] <= 0.3),
    ({"kind": {"$gte": "prose"}}, lambda m: isinstance(m.get("kind"), str) and m["kind"] >= "prose"),
    ({}, lambda m: True),
]


@pytest.mark.parametrize(("conditions", "function"), FILTERS, ids=[str(conditions) for conditions, _ in FILTERS])
def test_a_filter_of_conditions_lets_through_what_the_same_function_does(
    store: LongleafVectorStore, conditions: dict[str, Any], function: Callable[[dict[str, Any]], bool]
) -> None:
    store.add_texts([f"1 {i}" for i in range(len(RECORDS))], RECORDS, ids=[str(i) for i in range(len(RECORDS))])
    expected = [str(i) for i, metadata in enumerate(RECORDS) if function(metadata)]  # "1 0" is the nearest, and so on
    assert [document.id for document in store.similarity_search("1 0", k=99, filter=conditions)] == expected
    by_function = store.similarity_search("1 0", k=99, filter=lambda document: function(document.metadata))
    assert [document.id for document in by_function] == expected


def test_a_filter_is_applied_before_the_k_best_are_taken(store: LongleafVectorStore) -> None:
    store.add_texts([f"100 {i}" for i in range(50)], [{"n": i} for i in range(50)])
    assert contents(store.similarity_search("100 0", k=2, filter={"n": {"$gte": 40}})) == ["100 40", "100 41"]
    assert contents(store.similarity_search("100 0", k=2, filter=lambda d: d.metadata["n"] > 47)) == [
        "100 48",
        "100 49",
    ]
    assert contents(store.max_marginal_relevance_search("100 0", k=2, filter={"n": 49})) == ["100 49"]


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"$or": [{"a": 1}]}, r"begins with '\$or'"),
        ({"a": {"$like": "x"}}, r"operator '\$like'; there are: \$eq, \$ne"),
        ({"a": {"$in": "text"}}, r"\$in 'text'; it takes a list"),
        ({"a": {"$gt": None}}, r"\$gt None"),
        ({"a": [1, 2]}, r"compares with \[1, 2\]"),
        ({"a": float("nan")}, "compares with nan"),
    ],
)
def test_a_filter_that_is_not_understood_is_refused(
    store: LongleafVectorStore, conditions: dict[str, Any], said: str
) -> None:
    store.add_texts(["1 0"], [{"a": 1}])
    with pytest.raises(ValueError, match=said):
        store.similarity_search("1 0", filter=conditions)


# The same results as LangChain's in-memory store


class Stored(Embeddings):
    """The vectors that a store keeps, for another store to use the very same ones."""

    def __init__(self, store: LongleafVectorStore, questions: Embeddings) -> None:
        rows = store.library.connection().execute("SELECT text, vector FROM texts")
        self.vectors = {row["text"]: np.frombuffer(row["vector"], np.float16).astype(float).tolist() for row in rows}
        self.questions = questions

    def embed_documents(self, texts):
        return [self.vectors[text] for text in texts]

    def embed_query(self, text):
        return self.questions.embed_query(text)


@pytest.fixture
def pair(library: Library) -> tuple[LongleafVectorStore, InMemoryVectorStore]:
    """Sixty texts in ours and in LangChain's store, with the same vectors."""
    embedding = DeterministicFakeEmbedding(size=12)
    texts, metadatas = [f"text {i}" for i in range(60)], [{"n": i, "even": i % 2 == 0} for i in range(60)]
    ids = [str(i) for i in range(60)]
    ours = LongleafVectorStore.from_texts(texts, embedding, metadatas, ids=ids, library=library)
    theirs = InMemoryVectorStore(Stored(ours, embedding))
    theirs.add_texts(texts, metadatas, ids=ids)
    return ours, theirs


@pytest.mark.parametrize("question", ["harbour", "ice", "wages"])
def test_nearest_texts_and_scores_are_those_of_the_in_memory_store(pair, question: str) -> None:
    ours, theirs = pair
    found = ours.similarity_search_with_score(question, k=10)
    expected = theirs.similarity_search_with_score(question, k=60)
    # In half precision a vector's length is 1 within 5e-4: texts whose cosines differ by less may change places.
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected[:10]], atol=5e-4)
    cosines = {document.id: cosine for document, cosine in expected}
    np.testing.assert_allclose([score for _, score in found], [cosines[d.id] for d, _ in found], atol=5e-4)
    assert ours.similarity_search(question, k=10) == [document for document, _ in found]
    vector = DeterministicFakeEmbedding(size=12).embed_query(question)
    assert ours.similarity_search_with_score_by_vector(vector, k=10) == found
    assert ours.similarity_search_by_vector(vector, k=10) == [document for document, _ in found]


@pytest.mark.parametrize("lambda_mult", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("k", "fetch_k"), [(4, 20), (10, 60), (10, 5), (1, 1)])
def test_marginal_relevance_is_that_of_the_in_memory_store(pair, k: int, fetch_k: int, lambda_mult: float) -> None:
    ours, theirs = pair
    arguments = {"k": k, "fetch_k": fetch_k, "lambda_mult": lambda_mult}
    expected = theirs.max_marginal_relevance_search("harbour", **arguments)
    assert ours.max_marginal_relevance_search("harbour", **arguments) == expected
    vector = DeterministicFakeEmbedding(size=12).embed_query("harbour")
    assert ours.max_marginal_relevance_search_by_vector(vector, **arguments) == expected
    even = theirs.max_marginal_relevance_search("harbour", filter=lambda d: d.metadata["even"], **arguments)
    assert ours.max_marginal_relevance_search("harbour", filter={"even": True}, **arguments) == even


def test_relevance_is_the_cosine_with_nothing_below_zero(store: LongleafVectorStore) -> None:
    store.add_texts(["1 0 same", "3 4 near", "-1 0 opposite"])
    found = store.similarity_search_with_score("1 0", k=3)
    np.testing.assert_allclose([score for _, score in found], [1.0, 0.6, -1.0], atol=1e-3)
    relevance = [score for _, score in store.similarity_search_with_relevance_scores("1 0", k=3)]
    np.testing.assert_allclose(relevance, [1.0, 0.6, 0.0], atol=1e-3)
    assert max(relevance) <= 1.0


# In LangChain's hands


def test_retrievers_of_all_three_kinds(store: LongleafVectorStore) -> None:
    store.add_documents(
        [Document("1 0 a", metadata={"n": 1}), Document("3 4 b"), Document("-1 0 c"), Document("9 1 d")]
    )
    assert contents(store.as_retriever(search_kwargs={"k": 2}).invoke("1 0")) == ["1 0 a", "9 1 d"]
    near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.5})
    assert contents(near.invoke("1 0")) == ["1 0 a", "9 1 d", "3 4 b"]
    varied = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.2})
    assert contents(varied.invoke("1 0")) == ["1 0 a", "-1 0 c"]
    assert contents(store.as_retriever(search_kwargs={"filter": {"n": 1}}).invoke("1 0")) == ["1 0 a"]
    assert store.as_retriever().tags == ["LongleafVectorStore", "Directions"]


def test_langchains_indexing_skips_what_is_there_and_removes_what_went(store: LongleafVectorStore) -> None:
    records = InMemoryRecordManager("test")
    records.create_schema()

    def run(*texts: str) -> dict[str, int]:
        documents = [Document(text, metadata={"source": "s"}) for text in texts]
        arguments = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
        return {key: n for key, n in index(documents, records, store, **arguments).items() if n}

    assert run("1 0", "0 1") == {"num_added": 2}
    assert run("1 0", "0 1") == {"num_skipped": 2}
    assert run("1 0", "1 1") == {"num_added": 1, "num_skipped": 1, "num_deleted": 1}
    assert contents(store.similarity_search("0 1", k=9)) == ["1 1", "1 0"]


async def test_many_threads_may_add_and_search_at_once(store: LongleafVectorStore) -> None:
    async def one(i: int) -> list[Document]:
        await store.aadd_texts([f"{i + 1} 1", f"{i + 1} -1"], [{"i": i}, {"i": i}], ids=[f"{i}a", f"{i}b"])
        return await store.asimilarity_search(f"{i + 1} 1", k=2, filter={"i": i})

    found = await asyncio.gather(*(one(i) for i in range(12)))
    assert [contents(documents) for documents in found] == [[f"{i + 1} 1", f"{i + 1} -1"] for i in range(12)]
    assert len(store.similarity_search("1 0", k=99)) == 24


def test_from_documents_keeps_their_ids(library: Library) -> None:
    documents = [Document("1 0", id="mine", metadata={"n": 1}), Document("0 1")]
    store = LongleafVectorStore.from_documents(documents, Directions(), library=library, collection="notes")
    assert store.similarity_search("1 0", k=1) == [documents[0]]
    assert store.collection == "notes"


# Persistence, processes


def run_python(code: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


ADD = """
import os, sys
from langchain_core.embeddings import DeterministicFakeEmbedding
from longleaf.retrieval.vector_store import LongleafVectorStore

home, prefix, n, die_after = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

class Embedding(DeterministicFakeEmbedding):
    def embed_documents(self, texts):
        global die_after
        if die_after == 0:
            os.kill(os.getpid(), 9)
        die_after -= 1
        return super().embed_documents(texts)

Embedding.__name__ = "DeterministicFakeEmbedding"
store = LongleafVectorStore(Embedding(size=8), home=home)
names = [f"{prefix}{i}" for i in range(n)]
store.add_texts(names, [{"prefix": prefix}] * n, ids=names, batch_size=10)
assert store.similarity_search(names[-1], k=1)[0].id == names[-1]
"""


def open_store(home: Path) -> LongleafVectorStore:
    return LongleafVectorStore(DeterministicFakeEmbedding(size=8), home=home)


def test_another_process_finds_what_was_added_and_sees_changes_at_once(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add_texts(["own"], ids=["own"])
        assert [d.id for d in store.similarity_search("b3", k=9)] == [
            "own"
        ]  # the index is there before the others come
        done = run_python(ADD, tmp_path, "b", "25", "-1")
        assert done.returncode == 0, done.stderr
        assert store.similarity_search("b3", k=1)[0].id == "b3"
        assert len(store.similarity_search("b3", k=99)) == 26
        store.delete(["b3"])
    with open_store(tmp_path) as store:
        assert len(store.similarity_search("b3", k=99)) == 25
        assert store.get_by_ids(["b3"]) == []


def test_an_add_that_is_killed_leaves_whole_texts_and_can_be_done_again(tmp_path: Path) -> None:
    killed = run_python(ADD, tmp_path, "a", "25", "2")
    assert killed.returncode == -9
    with open_store(tmp_path) as store:
        found = store.similarity_search("a1", k=99)
        assert {document.id for document in found} == {f"a{i}" for i in range(20)}  # two batches of ten
        assert all(document.metadata == {"prefix": "a"} and document.page_content == document.id for document in found)
        names = [f"a{i}" for i in range(25)]
        store.add_texts(names, ids=names)
        assert len(store.similarity_search("a1", k=99)) == 25


def test_two_processes_may_add_at_once(tmp_path: Path) -> None:
    Library(tmp_path).close()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(tmp_path), prefix, "40", "-1"], stderr=subprocess.PIPE, text=True
        )
        for prefix in ("a", "b")
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    with open_store(tmp_path) as store:
        assert {document.id for document in store.similarity_search("a1", k=99)} == {
            f"{prefix}{i}" for prefix in "ab" for i in range(40)
        }


# Stores, embedders and documents side by side


def test_collections_and_embedders_do_not_see_each_other(library: Library) -> None:
    stores = [
        LongleafVectorStore(Directions(model), library=library, collection=collection)
        for model in ("one", "two")
        for collection in ("x", "y")
    ]
    for i, store in enumerate(stores):
        store.add_texts([f"1 {i}"], ids=["same"])
    for i, store in enumerate(stores):
        assert contents(store.similarity_search("1 0", k=9)) == [f"1 {i}"]
        assert contents(store.get_by_ids(["same"])) == [f"1 {i}"]
    stores[0].delete()
    assert [len(store.similarity_search("1 0", k=9)) for store in stores] == [0, 1, 1, 1]


def test_reembedding_takes_over_what_a_former_embedder_left(library: Library) -> None:
    old, new = (LongleafVectorStore(Directions(model), library=library) for model in ("old", "new"))
    other = LongleafVectorStore(Directions("old"), library=library, collection="other")
    other.add_texts(["1 0 stays"])
    old.add_texts(["1 0 a", "0 1 b", "1 1 c"], [{"n": 1}, {"n": 2}, {"n": 3}], ids=["a", "b", "c"])
    new.add_texts(["1 2 newer"], ids=["c"])
    assert len(old.similarity_search("1 0")) == 3  # its index is built, and has to hear of what goes
    assert new.reembed() == 2
    assert contents(new.similarity_search("1 0", k=9)) == ["1 0 a", "1 2 newer", "0 1 b"]
    assert new.get_by_ids(["b"])[0].metadata == {"n": 2}
    assert old.similarity_search("1 0", k=9) == []
    assert contents(other.similarity_search("1 0")) == ["1 0 stays"]
    assert new.reembed() == 0


def test_texts_and_passages_of_documents_do_not_mix(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "harbour.txt"
    file.write_text("1 0 the harbour froze.\f0 1 the ferry sails again.")
    document = library.add(file).document
    passages = PassageStore(library)
    passages.cut(document)
    embedder = as_embedder(Sloppy())
    passages.embed([document], embedder)
    store = LongleafVectorStore(Sloppy(), library=library)
    store.add_texts(["1 0 the harbour froze, says a note"], ids=["note"])

    hits = search("the harbour froze", Scope.of([document]), passages, embedder).hits
    assert {hit.stored.document_id for hit in hits} == {document.id}
    assert len(hits) == passages.n_passages([document])
    assert contents(store.similarity_search("the harbour froze", k=9)) == ["1 0 the harbour froze, says a note"]

    library.remove(document)
    assert [found.id for found in store.similarity_search("the harbour froze", k=9)] == ["note"]


class Sloppy(Embeddings):
    """Counts letters; takes any text."""

    def embed_documents(self, texts):
        return [[text.count(letter) + 0.1 for letter in "aefhorst"] for text in texts]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def test_an_embedder_of_ours_will_do_and_gives_its_name(library: Library) -> None:
    store = LongleafVectorStore(as_embedder(Directions(), name="mine@2"), library=library)
    store.add_texts(["1 0", "0 1"])
    assert contents(store.similarity_search("0 1", k=1)) == ["0 1"]
    assert store.embeddings is None
    assert LongleafVectorStore(Directions(), library=library).similarity_search("0 1") == []


def test_nothing_but_json_and_numbers_is_in_the_database(store: LongleafVectorStore, library: Library) -> None:
    store.add_texts(["3 4"], [{"a": [1]}], ids=["x"])
    row = library.connection().execute("SELECT * FROM texts").fetchone()
    assert json.loads(row["metadata"]) == {"a": [1]}
    np.testing.assert_allclose(np.frombuffer(row["vector"], np.float16), [0.6, 0.8], atol=1e-3)
    assert (row["collection"], row["embedder"], row["id"]) == ("langchain", "Directions:compass", "x")


def test_the_library_is_the_given_one_or_in_the_given_folder_not_both(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        LongleafVectorStore(Directions(), library=library, home=tmp_path)
    with pytest.raises(ValueError, match="a collection needs a name without a slash"):
        LongleafVectorStore(Directions(), library=library, collection="a/b")
    with LongleafVectorStore(Directions(), library=library) as store:
        store.add_texts(["1 0"])
    assert library.documents() == []  # a library that was given stays open
