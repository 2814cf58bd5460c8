"""`longleaf eval` as a user runs it: files in, figures, results and a report out; no reader, no embedder."""

import hashlib
import json
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from langchain_core.messages import AIMessage

from longleaf.app import cli, workbench
from longleaf.app.eval_command import evaluate, paragraphs_as_text
from longleaf.app.eval_report import report_html
from longleaf.errors import QuestionError
from longleaf.model import is_installed
from longleaf.retrieval.evaluation import Case, Evaluation, Given, Outcome
from longleaf.retrieval.question_file import Question

from .conftest import REPORT, Ran

ABOUT = {"document": "harbour.txt"}
QUESTIONS: list[dict[str, Any]] = [
    ABOUT | {"id": "lift", "question": "How much does the largest crane lift?", "answer": "120 tonnes", "pages": [1]},
    ABOUT | {"id": "lost", "question": "What was the total revenue in 2024?", "answer": "99,999", "pages": [2]},
    ABOUT | {"id": "gone", "question": "Who paints the lighthouse?", "answer": None, "pages": []},
]

Eval = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "harbour.txt").write_text(REPORT)
    (folder / "quay.md").write_text("# The quay\n\nThe quay at Odense is 400 metres long.")
    (folder / "notes.docx").write_text("not a document that Longleaf takes")
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return file


@pytest.fixture
def run_eval(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Eval:
    command = typer.Typer()
    command.command("eval")(evaluate)
    command.callback()(lambda: None)
    monkeypatch.setattr(cli, "app", command)

    def run(*words: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["longleaf", "eval", *map(str, words), "--embedder", "none"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Ran(int(ended.value.code or 0), captured.out, captured.err)

    return run


class Page(HTMLParser):
    """The tags and words of a page; fails on a tag that closes another."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        self.ids |= {str(value) for name, value in attrs if name == "id"}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_whole_command_prints_figures_and_leaves_a_report(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = run_eval(questions, "--documents", folder, "--take-away", "pages", "--out", out, "--json")
    assert ran.code == 0, ran.err
    summary = json.loads(ran.out)
    assert (summary["questions"], summary["answerable"], summary["documents"], summary["pages"]) == (3, 2, 1, 2)
    assert summary["figures"]["retrieval"]["recall@1"]["value"] == 1.0
    assert summary["figures"]["answers"]["right"] == {"value": 0.5, "low": 0.0945, "high": 0.9055, "n": 2}
    assert summary["figures"]["not_found"]["recall"]["n"] == 3  # one unanswerable, two taken away
    assert "answers_reader_alone" not in summary["figures"]  # there is no reader
    assert "lost" in summary["lost"]["reader"]
    assert {"search", "total"} <= set(summary["seconds"])
    assert summary == json.loads((out / "figures.json").read_text())
    page = Page((out / "report.html").read_text())
    assert "script" not in page.tags
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    for words in ("What was the total revenue in 2024?", "99,999", "Total revenue 11,717 11,108", "harbour.txt p. 2"):
        assert words in page.words
    assert {f"case-{n}" for n in range(1, 6)} <= page.ids  # each of the three, and two without their pages
    order = [
        page.words.index(words) for words in ("the reply is wrong", "the right words", "How much does the largest")
    ]
    assert order == sorted(order), "what was lost comes first"


def test_two_runs_on_the_same_questions_are_compared(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path
) -> None:
    words = (questions, "--documents", folder, "--json")
    first = json.loads(run_eval(*words, "--out", tmp_path / "a").out)
    assert "compared" not in first
    lines = [json.loads(line) for line in (tmp_path / "a" / "results.jsonl").read_text().splitlines()]
    for line in lines[:1]:
        line["given"] |= {"found": False, "citations": []}  # as if the first one had not been answered
    (tmp_path / "a" / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run_eval(*words, "--out", tmp_path / "b", "--top-k", "3", "--compare", tmp_path / "a")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)["compared"]
    assert told == {"with": str(tmp_path / "a"), "cases": 3, "both": 1, "here": 1, "there": 0, "neither": 1, "p": 1.0}
    assert "of 3 asked in both, 1 right in both, 1 here alone" in (tmp_path / "b" / "report.html").read_text()
    told = run_eval(*words[:-1], "--out", tmp_path / "b", "--top-k", "3", "--compare", tmp_path / "a").out
    assert "1 here alone, 0 there alone, 1 in neither (McNemar's exact p 1.000)" in " ".join(told.split())
    ran = run_eval(*words, "--retrieval-only", "--compare", tmp_path / "a")
    assert ran.code == 1
    assert "pages found can't be compared with answers" in ran.err
    questions.write_text(json.dumps(QUESTIONS[0]))
    for there in (tmp_path / "a", tmp_path / "nowhere"):
        ran = run_eval(*words, "--compare", there)
        assert ran.code == 1
        assert str(there) in ran.err
        assert "compare" in ran.err


def test_the_table_names_every_section(run_eval: Eval, questions: Path, folder: Path) -> None:
    ran = run_eval(questions, "--documents", folder)
    assert ran.code == 0, ran.err
    words = " ".join(ran.out.split())
    assert "3 questions, 2 of them answerable; documents: 1, 2 pages; reader none" in words
    assert "recall@1 1.000 0.34 to 1.00 2" in words
    assert "right 0.500 0.09 to 0.91 2" in words
    assert "1 reader: the text was shown, yet the reply is wrong or a refusal" in words


def test_an_interrupted_run_goes_on_where_it_stopped(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = (questions, "--documents", folder, "--out", out, "--json")
    whole = json.loads(run_eval(*words).out)
    results = out / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True)
    assert [json.loads(line)["id"] for line in lines] == ["lift", "lost", "gone"]
    results.write_text(lines[0] + lines[1][:40])  # killed while it wrote the second
    asked: list[str] = []
    run = Evaluation.run

    def watched(self: Evaluation, question: Question) -> Outcome:
        asked.append(question.id)
        return run(self, question)

    monkeypatch.setattr(Evaluation, "run", watched)
    again = json.loads(run_eval(*words).out)
    assert asked == ["lost", "gone"]
    assert again["figures"] == whole["figures"]
    assert [json.loads(line)["id"] for line in results.read_text().splitlines()] == ["lift", "lost", "gone"]


def test_results_of_another_run_are_not_mixed_in(run_eval: Eval, questions: Path, folder: Path, tmp_path: Path) -> None:
    words = (questions, "--documents", folder, "--out", tmp_path / "out")
    assert run_eval(*words).code == 0
    ran = run_eval(*words, "--top-k", "3")
    assert ran.code == 1
    assert "top_k 12 and not 3" in ran.err
    questions.write_text(questions.read_text().replace("2024", "2023"))
    assert "questions" in run_eval(*words).err


def test_results_from_other_documents_or_settings_are_not_mixed_in(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = (questions, "--documents", folder, "--out", out, "--retrieval-only")
    assert run_eval(*words).code == 0
    assert json.loads((out / "run.json").read_text())["documents"] == [
        [name, hashlib.sha256((folder / name).read_bytes()).hexdigest()] for name in ("harbour.txt", "quay.md")
    ]
    (folder / "harbour.txt").write_text(REPORT.replace("120", "130"))  # as many bytes as before
    assert "it holds the results of another run (documents)" in run_eval(*words).err
    (folder / "harbour.txt").write_text(REPORT)
    assert run_eval(*words).code == 0
    monkeypatch.setenv("LONGLEAF_OCR", "false")
    assert "ocr True and not False" in run_eval(*words).err
    monkeypatch.delenv("LONGLEAF_OCR")
    monkeypatch.setenv(
        "LONGLEAF_VECTOR_STORE", "postgresql://me:secret@db.example/x?sslpassword=secret&sslmode=require"
    )
    refused = run_eval(*words).err
    assert "vector_store embedded and not postgresql://me@db.example/x?sslmode=require" in " ".join(refused.split())
    assert run_eval(*words[:-2], tmp_path / "other", "--retrieval-only").code == 0
    assert "secret" not in "".join(file.read_text() for file in (tmp_path / "other").iterdir())


def test_results_of_a_reader_with_another_context_or_rounding_are_not_mixed_in(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader:
        """A reader that replies the same to everything, whatever it is set to."""

        model_name = "same"

        def __init__(self, context_tokens: int) -> None:
            self.context_tokens = context_tokens

        def get_num_tokens(self, text: str) -> int:
            return len(text.split())

        def invoke(self, *_: object, **__: object) -> AIMessage:
            return AIMessage("Not in the text.")

        def choose(self, *_: object) -> dict[str, float]:
            return {"Yes": 0.1, "No": 0.9}

    monkeypatch.setattr(workbench, "_reader", lambda settings: Reader(settings.context_tokens or 4_096))
    words = (questions, "--documents", folder, "--out", tmp_path / "out")
    ran = run_eval(*words)
    assert ran.code == 0, ran.err
    monkeypatch.setenv("LONGLEAF_CONTEXT_TOKENS", "8192")
    assert "context_tokens 4096 and not 8192" in run_eval(*words).err
    monkeypatch.delenv("LONGLEAF_CONTEXT_TOKENS")
    monkeypatch.setenv("LONGLEAF_QUANTIZE", "int8")
    assert "quantize none and not int8" in run_eval(*words).err


def test_a_larger_sample_holds_the_smaller_one_and_goes_on(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = (questions, "--documents", folder, "--out", out, "--retrieval-only", "--limit")
    for n in (1, 2, 3):
        assert run_eval(*words, str(n)).code == 0
        assert len((out / "results.jsonl").read_text().splitlines()) == n


def test_a_kept_library_is_used_and_the_users_own_is_not_touched(
    run_eval: Eval, questions: Path, folder: Path, home: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    assert run_eval(questions, "--documents", folder, "--retrieval-only", "--home", kept).code == 0
    assert (kept / "longleaf.db").exists()
    assert not home.exists()


def test_all_documents_are_searched_where_the_scope_says_so(run_eval: Eval, questions: Path, folder: Path) -> None:
    ran = run_eval(questions, "--documents", folder, "--scope", "all", "--take-away", "document", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["documents"] == 2


def test_paragraphs_are_pages_of_one_document(run_eval: Eval, tmp_path: Path) -> None:
    paragraphs, questions = tmp_path / "paragraphs.jsonl", tmp_path / "q.jsonl"
    rows = [{"id": "a", "text": "Ice closed the\fharbour."}, {"id": "b", "text": "The crane lifts 120 tonnes."}]
    paragraphs.write_text("\n".join(map(json.dumps, rows)))
    questions.write_text(json.dumps({"id": "1", "paragraph": "b", "question": "What lifts?", "answers": ["crane"]}))
    summary = json.loads(run_eval(questions, "--documents", paragraphs, "--retrieval-only", "--json").out)
    assert summary["pages"] == 2
    assert summary["figures"]["retrieval"]["recall@1"]["value"] == 1.0


@pytest.mark.skipif(not is_installed("smollm2-135m"), reason="no weights here: run `longleaf model pull smollm2-135m`")
def test_a_whole_document_that_does_not_fit_is_told_with_the_way_out(
    run_eval: Eval, questions: Path, folder: Path
) -> None:
    (folder / "harbour.txt").write_text(REPORT * 40)
    questions.write_text(json.dumps({"question": "Who founded it?", "document": "harbour.txt", "pages": [1]}))
    words = (questions, "-d", folder, "--route", "whole-document", "-m", "smollm2-135m", "--context-tokens", "512")
    told = " ".join(run_eval(*words).out.split())
    assert "1 not asked: the question could not be asked at all" in told
    assert "such as: the whole document has" in told
    assert "or a larger --context-tokens" in told


@pytest.mark.parametrize("line", ["{", '{"id": 1}', '{"id": 1, "text": " "}', '{"id": "a", "text": "again"}', "[1]"])
def test_a_bad_paragraph_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "paragraphs.jsonl"
    file.write_text('{"id": "a", "text": "x"}\n' + line)
    with pytest.raises(QuestionError, match=r"paragraphs.jsonl, line 2"):
        paragraphs_as_text(file, tmp_path)


def test_errors_take_one_line_and_name_the_way_out(
    run_eval: Eval, questions: Path, folder: Path, tmp_path: Path
) -> None:
    ran = run_eval(questions, "--documents", tmp_path / "nowhere")
    assert (ran.code, ran.out) == (1, "")
    assert "there is no such file or folder" in ran.err
    questions.write_text(json.dumps(QUESTIONS[0] | {"document": "harbor.txt"}))
    assert "line 1: there is no document 'harbor.txt'; near it: harbour.txt" in run_eval(questions, "-d", folder).err
    questions.write_text(json.dumps(QUESTIONS[0] | {"pages": [9]}))
    assert "there is no page 9: harbour.txt has 2" in run_eval(questions, "-d", folder).err
    (tmp_path / "file").touch()
    questions.write_text(json.dumps(QUESTIONS[0]))
    ran = run_eval(questions, "-d", folder, "--out", tmp_path / "file")
    assert ran.code == 1
    assert "name another folder with --out" in ran.err


def test_a_file_that_cannot_be_read_stops_only_the_questions_about_it(
    run_eval: Eval, questions: Path, folder: Path
) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    ran = run_eval(questions, "-d", folder, "--scope", "all", "--retrieval-only")
    assert ran.code == 0
    assert "left out: " in ran.err
    assert "broken.pdf" in ran.err
    questions.write_text(json.dumps(QUESTIONS[0] | {"document": "broken.pdf"}))
    ran = run_eval(questions, "-d", folder, "--retrieval-only")
    assert ran.code == 1
    assert "broken.pdf" in ran.err


ODD = '<script>alert("1")</script> & \x00\x1b[31m \ud800 漢字 \u202e ' + "x" * 5_000


def test_the_report_escapes_whatever_it_is_given() -> None:
    question = Question(ODD, ODD, ODD, (1, 2), (ODD,), kind=ODD, line=3)
    given = Given(False, ODD, ODD + "!", False, 0.25, ODD, (), (), False, {})
    outcome = Outcome(ODD, ((1, 31), (2, None)), False, (1,), ((ODD, 1, True), (ODD, 2, False)), 0.1, given)
    summary = {
        "questions": 1, "answerable": 1, "documents": 1, "pages": 2, "figures": {}, "seconds": {},
        "run": dict.fromkeys(("model", "embedder", "scope", "top_k", "take_away", "version"), ODD),
    }  # fmt: skip
    html = report_html(
        [Case(question, outcome, given, "search"), Case(question, outcome, given, "false answer", True)], summary
    )
    page = Page(html.encode("utf-8").decode("utf-8"))
    assert "script" not in page.tags
    assert "\x00" not in html
    assert "page 1 at rank 31; page 2 not among the pages of the first 200 passages" in page.words


def test_odd_questions_are_asked_and_reported(run_eval: Eval, questions: Path, folder: Path, tmp_path: Path) -> None:
    row = QUESTIONS[1] | {"id": ODD[:60], "question": ODD[:200], "answer": ODD[:200]}
    questions.write_text(json.dumps(row))
    ran = run_eval(questions, "-d", folder, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    assert "script" not in Page((tmp_path / "out" / "report.html").read_text()).tags
