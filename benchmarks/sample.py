"""The text that benchmarks read when they are given no other: our own sample document, taken in as users' files are."""

import tempfile
from pathlib import Path

from longleaf.ingestion import Library

SAMPLE = Path(__file__).parent.parent / "examples" / "tamarack-valley-water-2024.pdf"


def page_texts(file: Path = SAMPLE) -> list[str]:
    """The pages' texts, in order, through a library in a temporary folder."""
    with tempfile.TemporaryDirectory() as home, Library(Path(home)) as library:
        return [page.text for page in library.pages(library.add(file).document)]
