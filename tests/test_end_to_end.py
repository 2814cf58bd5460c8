"""The sample document, the embedded models, the command line: what `make demo` shows, as assertions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longleaf.model import is_installed

SAMPLE = Path(__file__).parent.parent / "examples" / "tamarack-valley-water-2024.pdf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed("embedded"), reason="no weights here: run `longleaf model pull embedded`"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("end to end")


def run(home: Path, *command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGLEAF_")} | {"LONGLEAF_HOME": str(home)}
    ran = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def ask(home: Path, question: str, file: Path = SAMPLE) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run(home, "-m", "longleaf", "ask", str(file), question, "--json"))
    return answer


def test_a_question_is_answered_from_a_table_with_the_right_page(home: Path) -> None:
    answer = ask(home, "What was the total operating revenue in fiscal year 2024?")
    assert answer["found"] is True
    assert "77,197" in answer["answer"]
    assert {27, 6, 24, 39}.intersection(c["page"] for c in answer["citations"])
    assert all(c["verified"] and c["boxes"] for c in answer["citations"])
    assert answer["receipt"]["pages_total"] == 40
    assert answer["receipt"]["pages_dropped"] == 0


def test_a_question_without_an_answer_is_not_found_and_the_nearest_passages_are_shown(home: Path) -> None:
    answer = ask(home, "What was the salary of the general manager in fiscal year 2024?")
    assert answer["found"] is False
    assert answer["citations"] == []
    assert answer["nearest"]


def test_a_document_within_the_context_is_read_whole(home: Path, tmp_path: Path) -> None:
    memo = tmp_path / "memo.txt"
    memo.write_text(
        "Memo of 3 May. The pump house roof leaks. Repairs are to begin on 14 June and will cost 8,250 crowns.\n\f"
        "The key to the pump house is kept by Ingrid Dahl in the north office.\n"
    )
    answer = ask(home, "Who keeps the key to the pump house?", memo)
    assert answer["route"]["name"] == "whole-document"
    assert "Ingrid Dahl" in answer["answer"]
    assert [c["page"] for c in answer["citations"]] == [2]


def test_answering_connects_to_nothing(home: Path) -> None:
    code = (
        "import socket, sys\n"
        "class Refused(socket.socket):\n"
        "    def connect(self, address):\n"
        "        if self.family != socket.AF_UNIX: raise SystemExit(f'connected to {address}')\n"
        "        return super().connect(address)\n"
        "    def listen(self, *backlog):\n"
        "        if self.family != socket.AF_UNIX: raise SystemExit(f'listened on {self.getsockname()}')\n"
        "        return super().listen(*backlog)\n"
        "socket.socket = Refused\n"
        "sys.argv = ['longleaf', 'ask', sys.argv[1], 'What is the name of the auditor?', '--json']\n"
        "from longleaf.app.cli import main\n"
        "main()\n"
    )
    assert json.loads(run(home, "-c", code, str(SAMPLE)))["model"]
