"""What the tests of several folders share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from longleaf.ingestion import Library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "home") as opened:
        yield opened
