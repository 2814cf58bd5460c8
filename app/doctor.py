"""Checks what this machine has, and says what to do about what is missing."""

import importlib.util
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from longleaf.errors import LongleafError, ModelNotInstalledError
from longleaf.model import get_spec, model_path

from .render import human_bytes
from .settings import Settings
from .workbench import is_endpoint, is_path, open_library, open_server_reader, reader_name

__all__ = ["Check", "checks_view", "run_checks"]

_LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: "missing" stops the first answer, "optional" does not."""

    name: str
    state: Literal["ok", "optional", "missing"]
    found: str
    to_do: str = ""


def run_checks(settings: Settings) -> list[Check]:
    """All checks, in the order in which a question needs what they look at."""
    return [*_programs(), *_library(settings), *_models(settings), _ocr(), _app(), _device()]


def _programs() -> Iterator[Check]:
    cores = os.cpu_count() or 1
    yield Check(
        "longleaf",
        "ok",
        f"{version('longleaf')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{cores} cores",
    )
    with sqlite3.connect(":memory:") as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
            yield Check("sqlite", "ok", f"{sqlite3.sqlite_version} with FTS5")
        except sqlite3.OperationalError:
            yield Check(
                "sqlite", "missing", f"{sqlite3.sqlite_version} without FTS5", "use a Python whose sqlite3 has FTS5"
            )
    connection.close()


def _library(settings: Settings) -> Iterator[Check]:
    try:
        with open_library(settings) as library:
            documents = library.documents()
        size = sum(document.size_bytes for document in documents)
        yield Check("library", "ok", f"{settings.home}: {len(documents)} documents, {human_bytes(size)}")
    except LongleafError as exc:
        yield Check("library", "missing", str(exc), "set LONGLEAF_HOME to a folder that can be written")
        return
    free = shutil.disk_usage(settings.home).free
    low = free < _LOW_DISK_BYTES
    yield Check(
        "disk",
        "optional" if low else "ok",
        f"{human_bytes(free)} free",
        "make room: models and copies need it" if low else "",
    )


def _models(settings: Settings) -> Iterator[Check]:
    for role, name in (("reader", settings.reader), ("embedder", settings.embedder)):
        if name == "none":
            yield Check(role, "optional", "none: answers are the sentences found")
            continue
        if role == "reader" and is_endpoint(name):
            yield _server_reader(settings)
            continue
        try:
            name = reader_name(settings) if role == "reader" else name
            path = settings.reader if is_path(name) else model_path(name, settings.models_dir)
            context = (
                ""
                if is_path(name) or role != "reader"
                else f", context {settings.context_tokens or get_spec(name).default_context_tokens:,} tokens"
            )
            yield Check(role, "ok", f"{name} in {path}{context}")
        except ModelNotInstalledError:
            yield Check(role, "missing", f"{name} is not on this machine", f"longleaf model pull {name}")
        except LongleafError as exc:
            yield Check(role, "missing", str(exc), "longleaf model list names the models")


def _server_reader(settings: Settings) -> Check:
    try:
        reader = open_server_reader(settings)
    except LongleafError as exc:
        return Check("reader", "missing", str(exc), "docs/endpoints.md tells how readers on servers are set up")
    notes = "".join(f"; {note}" for note in reader.notes)
    found = f"{reader.model_name} at {reader.server.url}, context {reader.context_tokens:,} tokens{notes}"
    return Check("reader", "ok", found)


def _ocr() -> Check:
    to_do = "for scanned pages: pip install 'longleaf[ocr]' and apt install tesseract-ocr"
    if importlib.util.find_spec("pytesseract") is None:
        return Check("ocr", "optional", "the Python package pytesseract is not installed", to_do)
    program = shutil.which("tesseract")
    if program is None:
        return Check("ocr", "optional", "the program tesseract is not installed", to_do)
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    first = (told.stdout or told.stderr).splitlines()[:1]
    return Check("ocr", "ok", first[0] if first else program)


def _app() -> Check:
    if importlib.util.find_spec("streamlit") is None:
        return Check("browser app", "optional", "streamlit is not installed", "pip install 'longleaf[app]'")
    return Check("browser app", "ok", f"streamlit {version('streamlit')}")


def _device() -> Check:
    import torch

    from longleaf.model import native

    name = f"CUDA: {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "CPU"
    kernels = native.instruction_set()
    if kernels is None:
        return Check(
            "device",
            "optional",
            f"{name}, torch {torch.__version__}, without native CPU kernels: reading is many times slower",
            "install a C compiler (apt install gcc libc6-dev) and install longleaf again",
        )
    return Check("device", "ok", f"{name}, torch {torch.__version__}, native CPU kernels for {kernels}")


def checks_view(checks: list[Check]) -> RenderableType:
    """A line each, with what to do under those that need it."""
    table = Table.grid(padding=(0, 2))
    marks = {"ok": ("✓", "green"), "optional": ("–", "yellow"), "missing": ("✗", "red")}
    for check in checks:
        mark, style = marks[check.state]
        table.add_row(Text(mark, style=style), check.name, Text(check.found))
        if check.to_do:
            table.add_row("", "", Text(f"→ {check.to_do}", style=style))
    return table
