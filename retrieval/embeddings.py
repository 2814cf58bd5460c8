"""What turns text into vectors: the embedded embedder (all-MiniLM-L6-v2), and any `Embeddings` of LangChain.

An embedder has a name that is stored beside every vector it makes, so that two of them are never compared. Knows
nothing of where vectors are kept; the embedded encoder itself is `longleaf.model.bert`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from langchain_core.embeddings import Embeddings

from longleaf.errors import LongleafError, ModelError
from longleaf.model import default_models_dir, get_spec, model_path

if TYPE_CHECKING:
    from longleaf.model.bert import Bert

__all__ = ["Embedder", "LongleafEmbeddings", "as_embedder", "stoppable"]

_BATCH = 128
"""Texts handed to a LangChain embedding model at once; progress is told after each batch."""


class Embedder(Protocol):
    """What search needs of an embedder; a class that derives from this one has to give `name` and `encode` only."""

    @property
    def name(self) -> str:
        """Changes whenever the same text would get another vector; stored with the vectors."""

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """L2-normalised vectors, fp32 [n, d].

        Args:
            texts: What to embed.
            progress: Called with (texts done, texts in all) after each batch; what it raises ends the work.
        """

    def encode_question(self, text: str) -> np.ndarray:
        """L2-normalised vector of a question, fp32 [d]; some models embed questions in another way than texts."""
        return np.asarray(self.encode([text])[0])


class LongleafEmbeddings(Embeddings):
    """Embeds text with a model from the models folder; loads it at the first use.

        LongleafEmbeddings().embed_query("net sales in 2021")

    Args:
        model: Name of an embedder known to `longleaf model list`.
        models_dir: Folder of installed models; the user's data folder by default.

    Raises:
        ModelNotInstalledError: At the first use, when its weights are not on this machine.
    """

    def __init__(self, model: str = "minilm", models_dir: Path | None = None) -> None:
        self.model = model
        self.models_dir = models_dir or default_models_dir()
        self._loaded: Bert | None = None
        self._loading = threading.Lock()

    @property
    def name(self) -> str:
        """Model name and the first digits of its weights' sha256."""
        return f"{self.model}@{get_spec(self.model).files[0].sha256[:8]}"

    @property
    def _encoder(self) -> "Bert":
        from longleaf.model.arithmetic import compute
        from longleaf.model.bert import load_bert  # imports torch: a second and a half that only embedding pays

        with self._loading:
            if self._loaded is None:
                folder = model_path(self.model, self.models_dir)
                self._loaded = compute(lambda _: load_bert(folder))
            return self._loaded

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """L2-normalised vectors, fp32 [n, d], in the order of the texts."""
        return self._encoder.encode(texts, progress=progress)

    def encode_question(self, text: str) -> np.ndarray:
        """L2-normalised vector, fp32 [d]; this model makes no difference between questions and texts."""
        return np.asarray(self.encode([text])[0])

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One list of floats for each text."""
        return [[float(x) for x in vector] for vector in self.encode(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]


def as_embedder(embeddings: Embeddings | Embedder, name: str | None = None) -> Embedder:
    """Makes an embedder of any embedding model that LangChain knows; an embedder stays what it is.

        as_embedder(OpenAIEmbeddings(model="text-embedding-3-small")).name
        # "OpenAIEmbeddings:text-embedding-3-small"

    Args:
        embeddings: The model. An object that has only `name` and `encode` is taken too.
        name: What its vectors are stored under. Without it: the name of its class and its attribute `model`,
            `model_name` or `deployment`, and `dimensions` where that is set. Give one when two models of yours would
            share that name, as two fine-tuned ones behind one class may.
    """
    if not (hasattr(embeddings, "name") and hasattr(embeddings, "encode")):
        return _LangChainEmbedder(embeddings, name or _name_of(embeddings))
    embedder = cast("Embedder", embeddings)
    if hasattr(embedder, "encode_question") and name in (None, embedder.name):
        return embedder
    return _NamedEmbedder(embedder, name or embedder.name)


def stoppable(embedder: Embedder, stop_if_asked: Callable[[], None]) -> Embedder:
    """The embedder, which looks up between two batches: what `stop_if_asked` raises ends its work."""
    return _StoppableEmbedder(embedder, stop_if_asked)


class _LangChainEmbedder(Embedder):
    """A LangChain model as an embedder: its vectors are checked, and brought to length 1.

    Raises:
        ModelError: When it is used: the model can't be reached or refuses, or gives what are no vectors.
    """

    def __init__(self, embeddings: Embeddings, name: str) -> None:
        self._embeddings = embeddings
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        batches: list[np.ndarray] = []
        for begin in range(0, len(texts), _BATCH):
            batch = list(texts[begin : begin + _BATCH])
            with self._errors():
                vectors = self._embeddings.embed_documents(batch)
            batches.append(self._checked(vectors, batch))
            if batches[-1].shape[1] != batches[0].shape[1]:
                raise ModelError(
                    f"{self._name} gave vectors of {batches[0].shape[1]} numbers, then of {batches[-1].shape[1]}; "
                    "vectors of one embedder must have one length"
                )
            if progress:
                progress(begin + len(batch), len(texts))
        return np.concatenate(batches) if batches else np.empty((0, 0), np.float32)

    def encode_question(self, text: str) -> np.ndarray:
        with self._errors():
            vector = self._embeddings.embed_query(text)
        return np.asarray(self._checked([vector], [text])[0])

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What went wrong in a provider's own classes, as an error of ours."""
        try:
            yield
        except LongleafError:
            raise
        except Exception as exc:
            said = " ".join(str(exc).split())[:300] or "no message"
            raise ModelError(
                f"{self._name}: {type(exc).__name__}: {said}; check the network, the model's address and its key, then "
                "try again: vectors that were made before are kept"
            ) from exc

    def _checked(self, vectors: list[list[float]], texts: list[str]) -> np.ndarray:
        """The vectors with length 1, fp32 [n, d]."""
        if len(vectors) != len(texts):
            raise ModelError(f"{self._name} gave {len(vectors)} vectors for {len(texts)} texts; it must give one each")
        lengths = sorted({len(vector) for vector in vectors})
        if len(lengths) > 1 or lengths == [0]:
            raise ModelError(
                f"{self._name} gave vectors of {' and '.join(map(str, lengths))} numbers; "
                "vectors of one embedder must have one length"
            )
        matrix = np.asarray(vectors, np.float64)  # [n, d]; squares of large fp32 numbers would overflow
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)  # [n, 1]
        bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0.0))
        if bad.size:
            raise ModelError(
                f"{self._name} gave a vector that points nowhere (all zeros, or not finite) for the text "
                f"{texts[bad[0]][:60]!r}; leave out texts that it can't embed, such as empty ones"
            )
        return np.asarray(matrix / norms, np.float32)


class _NamedEmbedder(Embedder):
    """An embedder under another name, or one that has no way of its own to embed a question."""

    def __init__(self, embedder: Embedder, name: str) -> None:
        self._embedder = embedder
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        return self._embedder.encode(texts, progress)

    def encode_question(self, text: str) -> np.ndarray:
        own = getattr(self._embedder, "encode_question", None)
        return super().encode_question(text) if own is None else np.asarray(own(text))


class _StoppableEmbedder(Embedder):
    """See `stoppable`."""

    def __init__(self, embedder: Embedder, stop_if_asked: Callable[[], None]) -> None:
        self._embedder = embedder
        self._stop_if_asked = stop_if_asked

    @property
    def name(self) -> str:
        return self._embedder.name

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        def report(done: int, total: int) -> None:
            self._stop_if_asked()
            if progress:
                progress(done, total)

        self._stop_if_asked()
        return self._embedder.encode(texts, report)

    def encode_question(self, text: str) -> np.ndarray:
        self._stop_if_asked()
        return self._embedder.encode_question(text)


def _name_of(embeddings: object) -> str:
    # LangChain's cache in front of a model gives the vectors of the model behind it.
    behind = getattr(embeddings, "underlying_embeddings", None)
    if behind is not None:
        return _name_of(behind)
    values = (getattr(embeddings, key, None) for key in ("model", "model_name", "deployment"))
    model = next((value for value in values if isinstance(value, str) and value), None)
    size = getattr(embeddings, "dimensions", None)
    parts = (type(embeddings).__name__, model, str(size) if isinstance(size, int) else None)
    return ":".join(part for part in parts if part)
