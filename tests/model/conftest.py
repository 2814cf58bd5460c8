"""Weights for the tests: tiny random models, and real ones for the tests that need them, which are skipped, with what
to run, where they are missing."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from benchmarks.sides import post_json

from longleaf.model import is_installed, model_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _installed(name: str) -> Path:
    if not is_installed(name):
        pytest.skip(f"run: longleaf model pull {name}")
    return model_path(name)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a variant of tiny_models.py, once; the folder is not to be written to."""
    from .tiny_models import tiny_checkpoint  # imports transformers

    folder = tmp_path_factory.mktemp("tiny")
    return cache(lambda variant: tiny_checkpoint(variant, folder / variant))


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], "PreTrainedModel"]:
    """The transformers model that the variant's checkpoint was saved from."""
    from .tiny_models import tiny_model

    return cache(tiny_model)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models: on busy cores threads that wait for each other take fifty times as long as one alone."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return _installed("smollm2-135m")


@pytest.fixture(scope="session")
def qwen() -> Path:
    return _installed("qwen2.5-1.5b")


@pytest.fixture(scope="session")
def minilm() -> Path:
    return _installed("minilm")


class LlamaCppServer:
    """llama.cpp as it comes, asked over a Unix socket: the reference for tokens and prompts."""

    def __init__(self, path: Path, folder: str) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.warmup, params.verbosity = str(path), 256, False, -1
        params.cache_ram_mib = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # see `one_thread`
        self.address = tempfile.mktemp(suffix=".sock", dir=folder)
        params.hostnames = [self.address]
        self.server = xllamacpp.Server(params)

    def tokenize(self, text: str, parse_special: bool = False) -> list[int]:
        body = {"content": text, "parse_special": parse_special, "add_special": False}
        return post_json(self.address, "/tokenize", body)["tokens"]

    def prompt(self, messages: list[dict[str, str]]) -> str:
        return post_json(self.address, "/apply-template", {"messages": messages})["prompt"]

    def continuation(self, token_ids: list[int], n_tokens: int) -> list[int]:
        """The likeliest token, so many times."""
        body = {"prompt": token_ids, "n_predict": n_tokens, "temperature": 0, "return_tokens": True}
        return post_json(self.address, "/completion", body)["tokens"]


@pytest.fixture(scope="session")
def llama_cpp_server():
    folder = tempfile.mkdtemp(prefix="ll-", dir="/tmp")
    yield cache(lambda path: LlamaCppServer(path, folder))
    shutil.rmtree(folder, ignore_errors=True)
