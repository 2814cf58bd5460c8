"""The benchmark scripts run and end with one line of JSON; whether their figures are good is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from longleaf.ingestion import Library
from longleaf.model import is_installed

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    file.stem
    for file in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
)


def output(script: str, *arguments: str) -> str:
    """What the script prints; what it says on standard error shows when it fails."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0
    return done.stdout


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What each script prints for --help; all in one process, as importing torch takes seconds."""
    program = """
import contextlib, importlib, io, json, sys
helps = {}
for script in sys.argv[1:]:
    sys.argv, shown = [script, "--help"], io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        importlib.import_module(f"benchmarks.{script}").main()
    helps[script] = shown.getvalue()
print(json.dumps(helps))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, *SCRIPTS], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=300
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_how_to_run_it(script: str, helps: dict[str, str]) -> None:
    assert f"python -m benchmarks.{script}" in helps[script]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "parts"), [("dense", "prefill,decode,long,products,memory,int8"), ("moe", "prefill,decode,products,int8")]
)
def test_the_decoder_benchmark_measures_every_part(shape: str, parts: str) -> None:
    options = ("--quick", "--json", "--repeats", "1", "--threads", "1", "--shape", shape, "--parts", parts)
    figures = json.loads(output("decoder", *options))
    assert figures.keys() == {"conditions", *parts.split(",")}
    assert figures["prefill"]["relative_difference_of_logits"] < 0.05  # both sides run the same model


@pytest.mark.slow
def test_the_readings_benchmark_reuses_the_whole_document_bit_for_bit() -> None:
    *table, line = output("readings", "--quick", "--repeats", "1", "--threads", "1").splitlines()
    second = json.loads(line)["second_process"]
    assert second["logits_bit_identical"]
    assert second["reused_tokens"]["met"]
    assert any("bit identical" in row and "True" in row for row in table)


FEES = "\n".join(f"Quay {n}  {1000 + 7 * n:,}  {900 + 5 * n:,}" for n in range(1, 61))
HARBOUR = f"""\
# Harbour Board

## Berths

The board owns four cranes. {"Ferries call every day of the week. " * 30}

## Fees

Fees by quay (in thousands of crowns):
Quay  2024  2023
{FEES}
"""
FILES = {"harbour.md": HARBOUR, "quay.txt": "The quay at Odense is 400 metres long.\fIce closed it for nine days."}
QUESTIONS = [
    {"document": "harbour.md", "question": "How many cranes does the board own?", "answer": "four", "pages": [1]},
    {"document": "quay.txt", "question": "How long is the quay at Odense?", "answer": "400 metres", "pages": [1]},
    {"document": "quay.txt", "question": "For how long did ice close the quay?", "answer": "nine days", "pages": [2]},
]


def stored(home: Path) -> list[dict[str, object]]:
    """The passages of a library with the number of their vectors, in order."""
    sql = (
        "SELECT (SELECT name FROM documents WHERE documents.id = document_id) AS document, page, start, end, text,"
        " title, section, header, (SELECT count(*) FROM embeddings WHERE passage_id = passages.id) AS n_vectors"
        " FROM passages ORDER BY document, page, start"
    )
    with Library(home) as library:
        return [dict(row) for row in library.connection().execute(sql)]


def page_text(home: Path) -> str:
    with Library(home) as library:
        return next(library.pages(library.find("harbour.md"))).text


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`")
def test_every_row_of_the_ablation_table_runs_over_passages_of_its_own(tmp_path: Path) -> None:
    folder, home = tmp_path / "financebench", tmp_path / "home"
    (folder / "pdfs").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "pdfs" / name).write_text(text)
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)))
    words = (str(tmp_path), "--only", "financebench", "--home", str(home))

    *table, line = output("retrieval", *words, "--ablation").splitlines()
    found = json.loads(line)["financebench"]
    rows = [
        "windows", "no header context", "full text", "vectors", "fused", "fused, places", "fused, places, documents",
        "all, reranked", "widened",
    ]  # fmt: skip
    for key in ("ablation_one_document", "ablation_all_documents"):
        assert list(found[key]) == rows
        for name, row in found[key].items():
            assert row["recall@1"] <= row["recall@5"] == row["recall@20"] == 1.0, name  # there are three pages in all
            assert 1 <= row["pages"] <= 3
            assert row["seconds"] > 0
            assert any(printed.split("  ")[2:3] == [name] for printed in table)
    assert sum("cutting and embedding" in printed for printed in table) == 6  # three cuts above each of two tables

    usual, windows, bare = stored(home), stored(home / "windows"), stored(home / "bare")
    assert [found["passages"], *(each["passages"] for each in found["other_passages"].values())] == [
        len(usual), len(windows), len(bare),
    ]  # fmt: skip
    assert {row["n_vectors"] for row in (*usual, *windows, *bare)} == {1}
    assert any(row["header"] for row in usual)
    assert any(row["section"] for row in usual)
    assert all(row["title"] for row in usual)
    assert {(row["title"], row["section"], row["header"]) for row in (*windows, *bare)} == {("", "", "")}
    assert "".join(str(row["text"]) for row in windows if row["document"] == "harbour.md") == page_text(home)
    assert [len(str(row["text"])) for row in windows[:2]] == [900, 900]
    where = ("document", "page", "start", "end", "text")
    assert [[row[name] for name in where] for row in bare] == [[row[name] for name in where] for row in usual]

    alone = json.loads(output("retrieval", *words, "--json"))["financebench"]
    for key in ("one_document", "all_documents"):
        figures = alone[key] | {"seconds": 0}
        assert figures == found[key] | {"seconds": 0} == found[f"ablation_{key}"]["all, reranked"] | {"seconds": 0}
    assert "other_passages" not in alone
