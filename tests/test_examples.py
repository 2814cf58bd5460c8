"""The sample document is what its script makes, and its questions have their answers on the pages they name."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from longleaf.ingestion import Library

EXAMPLES = Path(__file__).parent.parent / "examples"
SAMPLE = EXAMPLES / "tamarack-valley-water-2024.pdf"


def test_the_script_makes_the_document_byte_for_byte() -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "make_sample.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert SAMPLE.stat().st_size <= 500_000


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    with Library(tmp_path_factory.mktemp("home")) as library:
        document = library.add(SAMPLE, ocr="never").document
        assert document.n_pages == 40
        assert document.n_pages_unread == 1
        return {page.number: page.text for page in library.pages(document)}


def test_every_answer_in_figures_stands_on_each_page_that_it_names(pages: dict[int, str]) -> None:
    rows = [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text().splitlines()]
    assert len([row for row in rows if row["answer"]]) == 60
    checked = 0
    for row in rows:
        figures = re.findall(r"\d[\d,.]*\d|\d", row["answer"] or "")
        if figures and row["kind"] != "scanned":
            checked += 1
            for page in row["pages"]:
                assert any(figure in pages[page] for figure in figures), f"{row['id']}: {figures} not on page {page}"
    assert checked >= 30
