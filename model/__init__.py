"""The models: the decoder and its readings, names and weights, LangChain's chat model, the embedder's encoder.

Importing this package loads neither torch nor langchain: the names that need them are loaded when first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .machine import physical_cores, total_memory_bytes
from .pull import pull
from .registry import (
    EMBEDDED,
    HUB_MODELS,
    MODELS,
    ModelFile,
    ModelSpec,
    WheelSource,
    default_models_dir,
    get_spec,
    is_installed,
    model_path,
    resolve,
)

if TYPE_CHECKING:
    from .bert import Bert, load_bert
    from .chat import ChatLongleaf
    from .config import DecoderConfig
    from .decoder import Decoder, ReadingStopped
    from .decoder_engine import DecoderEngine
    from .engine import READING_LABEL, Engine, Message, Piece, Usage
    from .loading import load_model
    from .public_models import PUBLIC_MODELS
    from .readings import Reading, ReadingInfo, ReadingStore
    from .sampling import SamplingOptions
    from .state import DecoderState

__all__ = [
    "EMBEDDED",
    "HUB_MODELS",
    "MODELS",
    "PUBLIC_MODELS",
    "READING_LABEL",
    "Bert",
    "ChatLongleaf",
    "Decoder",
    "DecoderConfig",
    "DecoderEngine",
    "DecoderState",
    "Engine",
    "Message",
    "ModelFile",
    "ModelSpec",
    "Piece",
    "Reading",
    "ReadingInfo",
    "ReadingStopped",
    "ReadingStore",
    "SamplingOptions",
    "Usage",
    "WheelSource",
    "default_models_dir",
    "get_spec",
    "is_installed",
    "load_bert",
    "load_model",
    "model_path",
    "physical_cores",
    "pull",
    "resolve",
    "total_memory_bytes",
]

_LOADED_WHEN_USED = {
    "Bert": "bert",
    "ChatLongleaf": "chat",
    "Decoder": "decoder",
    "DecoderConfig": "config",
    "DecoderEngine": "decoder_engine",
    "DecoderState": "state",
    "Engine": "engine",
    "Message": "engine",
    "PUBLIC_MODELS": "public_models",
    "Piece": "engine",
    "READING_LABEL": "engine",
    "Reading": "readings",
    "ReadingInfo": "readings",
    "ReadingStopped": "decoder",
    "ReadingStore": "readings",
    "SamplingOptions": "sampling",
    "Usage": "engine",
    "load_bert": "bert",
    "load_model": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LOADED_WHEN_USED[name]}", __name__), name)
