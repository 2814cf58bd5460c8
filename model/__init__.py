"""The models: names and weights, the reader behind LangChain's chat model, the embedder's encoder.

Importing this package loads neither torch nor langchain nor llama.cpp: the names that need them are loaded when first
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .engine import Engine, Message, Piece, Usage
from .machine import physical_cores, total_memory_bytes
from .pull import pull
from .registry import (
    EMBEDDED,
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
    from .llama_cpp import LlamaCppEngine

__all__ = [
    "EMBEDDED",
    "MODELS",
    "Bert",
    "ChatLongleaf",
    "Engine",
    "LlamaCppEngine",
    "Message",
    "ModelFile",
    "ModelSpec",
    "Piece",
    "Usage",
    "WheelSource",
    "default_models_dir",
    "get_spec",
    "is_installed",
    "load_bert",
    "model_path",
    "physical_cores",
    "pull",
    "resolve",
    "total_memory_bytes",
]

_LOADED_WHEN_USED = {"Bert": "bert", "load_bert": "bert", "ChatLongleaf": "chat", "LlamaCppEngine": "llama_cpp"}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LOADED_WHEN_USED[name]}", __name__), name)
