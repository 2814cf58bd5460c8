"""The command line as a user runs it, on a library in a temporary folder and without a reader."""

import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from longleaf.app.cli import main

REPORT = """\
Annual Report of the Harbour Board

The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.
\f\
Results
2024 2023
Berth fees 8,412 7,990
Total revenue 11,717 11,108
"""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("LONGLEAF_MODELS_DIR", "LONGLEAF_CONTEXT_TOKENS", "LONGLEAF_EMBEDDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    logger = logging.getLogger("longleaf")
    handlers, level = logger.handlers, logger.level
    yield tmp_path / "home"
    logger.handlers, logger.level = handlers, level  # a command's own write to a stream that ends with its test


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["longleaf", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "harbour.txt"
    file.write_text(REPORT)
    return file
