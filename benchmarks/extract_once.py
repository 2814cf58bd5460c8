"""Twenty questions to one long document in one job, against asking each of them first: is the document read once?

    python -m benchmarks.extract_once FILES [--pages 100] [--questions 20] [--separate 2] [--model NAME] [--json]

The job is `longleaf extract` on one document, made of real pages that have so few words that a hundred of them fit the
context of the embedded reader. For comparison some of the questions are then asked each in a library and a process of
its own, as a person would who asks one question of a new document; the job's ratio is to so many first asks as it has
questions, each as long as those took on average. Counted are the tokens that the reader read: prompts less what it had
read before.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pypdf import PdfReader, PdfWriter

from .measuring import Figures, conditions, report

QUESTIONS = (
    "What is the name of the company?",
    "What does the company sell?",
    "In which state is the company incorporated?",
    "How many employees does the company have?",
    "Who is the chief executive officer?",
    "Who is the chief financial officer?",
    "Where are the company's headquarters?",
    "When does the fiscal year end?",
    "What was total revenue?",
    "What was net income?",
    "What were research and development expenses?",
    "What are the reportable segments?",
    "Who are the main competitors?",
    "On which stock exchange is the stock traded?",
    "How many shares are outstanding?",
    "What dividends were paid?",
    "Which acquisitions were made?",
    "What risks come from foreign currencies?",
    "Which legal proceedings are there?",
    "Who is the independent registered public accounting firm?",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--words", type=int, nargs=2, default=(80, 160), help="fewest and most words of a page")
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--separate", type=int, default=2, help="questions that are asked each by itself")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--context-tokens", type=int, default=32_768)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args)
    report({"conditions": conditions(os.cpu_count() or 1)} | figures, as_json=args.json)


def measure(folder: Path, args: argparse.Namespace) -> Figures:
    """The job, then the first asks."""
    document = folder / "document.pdf"
    n_pages = _make(document, args.files, args.pages, *args.words)
    questions = QUESTIONS[: args.questions]
    (folder / "questions.txt").write_text("\n".join(questions) + "\n")
    reader = ["-m", args.model, "--context-tokens", str(args.context_tokens)]
    words = ["extract", str(document), "-o", str(folder / "out"), "--questions", str(folder / "questions.txt")]
    job, seconds = _run([*words, *reader, "--json"], folder / "home")
    (item,) = job["items"]
    first = []
    n_document = n_first_read = 0
    for number, question in enumerate(questions[: args.separate]):
        asked, s = _run(["ask", str(document), question, *reader, "--json"], folder / f"home-{number}")
        first.append(s)
        n_document = asked["receipt"]["tokens_document"]
        n_first_read += asked["receipt"]["tokens_prompt"] - asked["receipt"]["tokens_reused"]
        route = asked["route"]["name"]
    n_questions = item["tokens_read"] - n_document
    separate = statistics.mean(first) * len(questions) if first else None
    return {
        "pages": n_pages,
        "questions": len(questions),
        "route": route if first else None,
        "tokens_document": n_document,
        "tokens_read": item["tokens_read"],
        "tokens_reused": item["tokens_reused"],
        "tokens_read_beyond_the_document_a_question": round(n_questions / len(questions), 1),
        "read_per_document": round(item["tokens_read"] / n_document, 4) if n_document else None,
        "job_s": round(seconds, 1),
        "first_ask_s": [round(s, 1) for s in first],
        "tokens_read_by_first_asks": n_first_read,
        "first_asks_of_all_s": round(separate, 1) if separate else None,
        "times_faster": round(separate / seconds, 2) if separate else None,
        "answered": sum(cell["found"] for cell in _cells(folder / "out")),
    }


def _make(target: Path, files: Sequence[Path], n_pages: int, fewest: int, most: int) -> int:
    """A document of the first pages of these files that have so many words; how many there are."""
    writer = PdfWriter()
    for file in files:
        for page in PdfReader(file).pages:
            if len(writer.pages) < n_pages and fewest <= len(page.extract_text().split()) <= most:
                writer.add_page(page)
        if len(writer.pages) == n_pages:
            break
    writer.write(target)
    return len(writer.pages)


def _cells(output: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads((output / "answers.jsonl").read_text())["cells"]
    return cells


def _run(words: list[str], home: Path) -> tuple[Any, float]:
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "longleaf", *words, "--home", str(home)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(ended.stdout), time.monotonic() - begun


if __name__ == "__main__":
    main()
