"""The embedded embedder (all-MiniLM-L6-v2) behind LangChain's `Embeddings`.

The encoder itself is `longleaf.model.bert`; this file gives it a name that is stored beside every vector it makes.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from langchain_core.embeddings import Embeddings

from longleaf.model import default_models_dir, get_spec, model_path

if TYPE_CHECKING:
    from longleaf.model.bert import Bert

__all__ = ["Embedder", "LongleafEmbeddings"]


class Embedder(Protocol):
    """What search needs of an embedder."""

    @property
    def name(self) -> str:
        """Changes whenever the same text would get another vector; stored with the vectors."""

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """L2-normalised vectors, fp32 [n, d]."""


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

    @property
    def name(self) -> str:
        """Model name and the first digits of its weights' sha256."""
        return f"{self.model}@{get_spec(self.model).files[0].sha256[:8]}"

    @cached_property
    def _encoder(self) -> "Bert":
        from longleaf.model.bert import load_bert  # imports torch: a second and a half that only embedding pays

        return load_bert(model_path(self.model, self.models_dir))

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """L2-normalised vectors, fp32 [n, d], in the order of the texts."""
        return self._encoder.encode(texts, progress=progress)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One list of floats for each text."""
        return [[float(x) for x in vector] for vector in self.encode(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]
