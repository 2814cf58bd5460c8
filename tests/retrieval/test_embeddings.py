"""Any embedding model of LangChain as our embedder: its numbers, its checks and the name its vectors are kept under."""

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from longleaf.errors import ModelError, ModelNotInstalledError
from longleaf.model import is_installed
from longleaf.retrieval import LongleafEmbeddings
from longleaf.retrieval.embeddings import Embedder, as_embedder


class Table(Embeddings):
    """Gives the vectors it was made with, and other ones to questions."""

    def __init__(self, vectors: dict[str, list[float]], question: list[float] | None = None, **attributes: object):
        self.vectors = vectors
        self.question = question or [1.0, 0.0]
        self.n_calls = 0
        vars(self).update(attributes)

    def embed_documents(self, texts):
        self.n_calls += 1
        return [self.vectors[text] for text in texts]

    def embed_query(self, text):
        return self.question


def test_vectors_are_those_of_the_model_at_length_1_and_questions_go_their_own_way():
    embedder = as_embedder(Table({"a": [3.0, 4.0], "b": [0.0, -2.0]}, question=[5.0, 12.0]))
    vectors = embedder.encode(["b", "a"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.0, -1.0], [0.6, 0.8]], rtol=1e-7)
    question = embedder.encode_question("a")
    assert question.dtype == np.float32
    np.testing.assert_allclose(question, [5 / 13, 12 / 13], rtol=1e-7)


def test_very_large_and_very_small_vectors_keep_their_direction():
    embedder = as_embedder(Table({"large": [3e30, 4e30], "small": [3e-30, 4e-30]}))
    np.testing.assert_allclose(embedder.encode(["large", "small"]), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_texts_go_to_the_model_in_batches_and_progress_is_told():
    names = [str(i) for i in range(300)]
    model = Table({name: [float(name) + 1, 1.0] for name in names})
    told: list[tuple[int, int]] = []
    vectors = as_embedder(model).encode(names, lambda done, total: told.append((done, total)))
    assert told == [(128, 300), (256, 300), (300, 300)]
    assert model.n_calls == 3
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], np.arange(1, 301), rtol=1e-5)  # in the order asked


def test_no_text_is_no_vector_and_no_call():
    model = Table({})
    assert as_embedder(model).encode([]).shape[0] == 0
    assert model.n_calls == 0


@pytest.mark.parametrize("vector", [[0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_a_vector_without_a_direction_is_refused_with_its_text(vector):
    embedder = as_embedder(Table({"good": [1.0, 0.0], "empty page": vector}, model="m"))
    with pytest.raises(ModelError, match=r"Table:m gave a vector that points nowhere .* 'empty page'"):
        embedder.encode(["good", "empty page"])


def test_vectors_of_two_lengths_are_refused_in_one_batch_and_in_two():
    table = {str(i): [1.0, 0.0] for i in range(128)} | {"odd": [1.0, 0.0, 0.0]}
    embedder = as_embedder(Table(table))
    with pytest.raises(ModelError, match="vectors of 2 and 3 numbers"):
        embedder.encode(["0", "odd"])
    with pytest.raises(ModelError, match="vectors of 2 numbers, then of 3"):
        embedder.encode(list(table))


def test_what_a_provider_raises_becomes_an_error_of_ours_with_its_words():
    class Refusing(Table):
        def embed_documents(self, texts):
            raise self.error

        def embed_query(self, text):
            raise self.error

    embedder = as_embedder(Refusing({}, model="m", error=ConnectionError("no route\n to host " + "x" * 400)))
    for ask in (lambda: embedder.encode(["a"]), lambda: embedder.encode_question("a")):
        with pytest.raises(ModelError, match=r"^Refusing:m: ConnectionError: no route to host x+; check the") as caught:
            ask()
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert len(str(caught.value)) < 500
    ours = ModelNotInstalledError("pull it")
    with pytest.raises(ModelNotInstalledError) as kept:
        as_embedder(Refusing({}, error=ours)).encode_question("a")
    assert kept.value is ours
    with pytest.raises(KeyboardInterrupt):
        as_embedder(Refusing({}, error=KeyboardInterrupt())).encode(["a"])


def test_a_model_that_loses_a_text_is_refused():
    class Losing(Table):
        def embed_documents(self, texts):
            return super().embed_documents(texts)[1:]

    with pytest.raises(ModelError, match="gave 1 vectors for 2 texts"):
        as_embedder(Losing({"a": [1.0, 0.0], "b": [1.0, 0.0]})).encode(["a", "b"])


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({}, "Table"),
        ({"model": "e5-small"}, "Table:e5-small"),
        ({"model_name": "e5-small"}, "Table:e5-small"),
        ({"model": object(), "model_name": "e5-small"}, "Table:e5-small"),  # a loaded model, and its name
        ({"model": None, "deployment": "ours"}, "Table:ours"),
        ({"model": "large", "dimensions": 256}, "Table:large:256"),
        ({"model": "large", "dimensions": None}, "Table:large"),
        ({"underlying_embeddings": DeterministicFakeEmbedding(size=4)}, "DeterministicFakeEmbedding"),
    ],
)
def test_the_name_tells_models_of_one_class_apart(attributes, name):
    assert as_embedder(Table({}, **attributes)).name == name


def test_a_name_can_be_given():
    assert as_embedder(Table({}, model="m"), name="mine@2").name == "mine@2"
    renamed = as_embedder(LongleafEmbeddings(), name="mine@2")
    assert renamed.name == "mine@2"


def test_our_own_embeddings_stay_what_they_are():
    ours = LongleafEmbeddings()
    assert as_embedder(ours) is ours
    assert ours.name.startswith("minilm@")
    assert as_embedder(ours, name=ours.name) is ours


def test_an_object_with_only_a_name_and_encode_gets_its_questions_embedded_as_texts():
    class Old:
        name = "old@1"

        def encode(self, texts, progress=None):
            return np.array([[len(text), 0.0] for text in texts], np.float32)

    class Derived(Embedder):
        name = "derived@1"

        def encode(self, texts, progress=None):
            return np.array([[0.0, len(text)] for text in texts], np.float32)

    old = as_embedder(Old())
    assert old.name == "old@1"
    np.testing.assert_array_equal(old.encode_question("four"), [4.0, 0.0])
    np.testing.assert_array_equal(old.encode(["four", "six..."]), [[4.0, 0.0], [6.0, 0.0]])
    np.testing.assert_array_equal(Derived().encode_question("four"), [0.0, 4.0])


@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`")
def test_the_adapter_agrees_with_our_embedder_where_both_can_be_asked():
    class Foreign(Embeddings):
        """The same model behind LangChain's interface alone."""

        def embed_documents(self, texts):
            return ours.embed_documents(texts)

        def embed_query(self, text):
            return ours.embed_query(text)

    ours = LongleafEmbeddings()
    foreign = as_embedder(Foreign())
    texts = ["net sales rose by four percent", "the harbour froze in February"]
    np.testing.assert_allclose(foreign.encode(texts), ours.encode(texts), atol=1e-6)
    np.testing.assert_allclose(foreign.encode_question(texts[0]), ours.encode_question(texts[0]), atol=1e-6)
