"""What the tests of several folders share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from longleaf.ingestion import Library

_FIRST = (
    "browser/test_journey.py", "model/test_chat_integration.py", "app/jobs/test_interruptions.py",
    "browser/test_together.py", "test_docs.py", "test_end_to_end.py", "app/jobs/test_ray.py",
    "app/jobs/test_readers.py",
)  # fmt: skip
"""Files whose tests take long, ordered so that two processes, or three, do not run both of the browser's at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has several processes (`make test`) begin with what takes long, so that they end together."""
    here = Path(__file__).parent
    order = {here / name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))  # keeps the order within each file


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "home") as opened:
        yield opened
