"""Puts the parts together as the settings say: the library, the reader, the embedder, the answerer.

What only answering needs (LangChain, FAISS, torch: seconds of importing) is imported where it is used, so that listing
a library stays quick.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from longleaf.errors import ModelNotInstalledError, ReaderError
from longleaf.ingestion import Library, ParserLimits
from longleaf.model import model_path, resolve

from .settings import Settings

if TYPE_CHECKING:
    from longleaf.model import ChatLongleaf
    from longleaf.retrieval import Answerer, LongleafEmbeddings, PassageStore
    from longleaf.retrieval.endpoint import EndpointReader

__all__ = [
    "is_endpoint",
    "is_path",
    "load_models",
    "open_answerer",
    "open_library",
    "open_server_reader",
    "open_store",
    "reader_name",
]

logger = logging.getLogger(__name__)

ENDPOINT = "openai:"
"""Before the name of a model that a server with OpenAI's interface runs."""


@contextmanager
def open_library(settings: Settings) -> Iterator[Library]:
    """The library of these settings, closed at the end."""
    limits = ParserLimits(page_s=settings.page_timeout_s, ocr_s=2 * settings.page_timeout_s)
    with Library(settings.home, limits=limits) as library:
        yield library


def open_answerer(settings: Settings, library: Library, *, with_reader: bool = True) -> "Answerer":
    """An answerer with the models of these settings.

    The default reader and the embedder may be missing: answers are then the sentences found, found by full text alone,
    and a warning says what to pull.

    Raises:
        ModelNotInstalledError: A reader was named and is not on this machine.
        UnknownModelError: No reader or embedder of that name.
        ReaderError: The reader is a server's, which can't be reached or refuses.
        MissingExtraError: The reader is a server's, and the client for it is not installed.
    """
    reader = _reader(settings) if with_reader else None
    from longleaf.retrieval import Answerer

    return Answerer(
        library,
        reader,
        _embedder(settings),
        store=open_store(settings, library),
        evidence_tokens=settings.evidence_tokens,
    )


def load_models(settings: Settings, answerer: "Answerer") -> None:
    """Gives an answerer the models of these settings that it lacks: they may have been fetched since it was opened."""
    if answerer.reader is None:
        answerer.use(reader=_reader(settings))
    if answerer.embedder is None:
        answerer.use(embedder=_embedder(settings))


def open_store(settings: Settings, library: Library) -> "PassageStore":
    """The passages of a library, with the vector index of these settings."""
    from longleaf.retrieval.store import PassageStore, vector_index_for

    return PassageStore(library, vector_index_for(settings.vector_store))


def reader_name(settings: Settings) -> str:
    """The reader's own name: "embedded" is the one that suits this machine's memory."""
    if settings.reader == "none" or is_endpoint(settings.reader) or is_path(settings.reader):
        return settings.reader
    return next((spec.name for spec in resolve(settings.reader) if spec.role == "reader"), settings.reader)


def _reader(settings: Settings) -> "ChatLongleaf | EndpointReader | None":
    if settings.reader == "none":
        return None
    if is_endpoint(settings.reader):
        return open_server_reader(settings)
    name = reader_name(settings)
    try:
        if not is_path(name):
            model_path(name, settings.models_dir)
    except ModelNotInstalledError as exc:
        if settings.reader != "embedded":
            raise
        logger.warning("no reader, so answers are the sentences found: %s", exc)
        return None
    from longleaf.model import ChatLongleaf

    reader = ChatLongleaf(
        model=name,
        models_dir=settings.models_dir,
        context_tokens=settings.context_tokens,
        n_threads=settings.n_threads,
        device=settings.device,
        quantize=settings.quantize,
        readings_dir=settings.readings_dir,
        readings_budget_bytes=settings.readings_budget_bytes,
    )
    # Weights load while documents are parsed and searched; a failure shows when the reader is used.
    threading.Thread(target=reader.load, name="load reader", daemon=True).start()
    return reader


def open_server_reader(settings: Settings) -> "EndpointReader":
    """The reader of these settings where it is the model of a server, which is asked about it here.

    Raises:
        MissingExtraError: The client is not installed.
        ReaderError: The server's address is missing, or it can't be reached or refuses.
        UnknownModelError: The server has no such model.
        ContextOverflowError: More tokens are asked for than the server takes.
    """
    from longleaf.retrieval.endpoint import OPENAI_URL, open_endpoint

    own, given = settings.openai_api_key, settings.reader_key
    if not settings.base_url and not own:
        raise ReaderError(
            f"{settings.reader} is a model of a server, and its address is missing: give --base-url "
            "http://HOST:PORT/v1 (LONGLEAF_BASE_URL), or set OPENAI_API_KEY to ask OpenAI"
        )
    base_url = (settings.base_url or OPENAI_URL).rstrip("/")
    key = given or (own if base_url == OPENAI_URL else None)  # OpenAI's key is nobody else's to see
    return open_endpoint(
        settings.reader.removeprefix(ENDPOINT),
        base_url,
        key.get_secret_value() if key else None,
        context_tokens=settings.context_tokens,
        timeout_s=settings.reader_timeout_s,
    )


def is_endpoint(name: str) -> bool:
    """Whether a reader is the model of a server."""
    return name.startswith(ENDPOINT)


def is_path(name: str) -> bool:
    """Whether a reader is named by its file or folder."""
    if is_endpoint(name):
        return False  # though a server may name its model by a file
    return name.endswith(".gguf") or Path(name).expanduser().is_dir()


def _embedder(settings: Settings) -> "LongleafEmbeddings | None":
    try:
        model_path(settings.embedder, settings.models_dir)
    except ModelNotInstalledError as exc:
        logger.warning("no embedder, so search is by full text alone: %s", exc)
        return None
    from longleaf.retrieval import LongleafEmbeddings

    return LongleafEmbeddings(settings.embedder, settings.models_dir)
