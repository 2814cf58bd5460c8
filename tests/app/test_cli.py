import json
from pathlib import Path

import pytest

from longleaf.ingestion import Library
from longleaf.model import is_installed

from .conftest import Run

QUESTION = "How much does the largest crane lift?"


def test_a_question_about_a_file_is_answered_with_page_and_quote(run: Run, report: Path) -> None:
    ran = run("ask", report, QUESTION)
    assert ran.code == 0
    assert "p. 1" in ran.out
    assert "lifts 120 tonnes" in ran.out
    words = " ".join(ran.out.split())
    assert "✓ found on the page" in words
    assert "none (sentences as they stand)" in words


def test_ask_json_prints_the_promised_object_and_nothing_else(run: Run, report: Path) -> None:
    answer = json.loads(run("ask", report, QUESTION, "--json").out)
    assert answer["question"] == QUESTION
    assert answer["found"] is True
    assert set(answer["route"]) == {"name", "reason"}
    promised = {"document", "sha256", "page", "quote", "start", "end", "boxes", "verified"}
    assert promised <= set(answer["citations"][0])
    assert answer["citations"][0]["verified"] is True
    figures = "pages_total pages_read pages_ocr pages_dropped tokens_document tokens_budget tokens_reused seconds"
    assert set(figures.split()) <= set(answer["receipt"])
    assert answer["model"]


def test_a_document_in_the_library_is_asked_by_name_id_or_not_named_at_all(run: Run, report: Path) -> None:
    added = json.loads(run("add", report, "--json").out)
    sha256 = added[0]["document"]["sha256"]
    for named in ([report.name], [sha256[:8]], []):
        answer = json.loads(run("ask", *named, QUESTION, "--json").out)
        assert answer["citations"][0]["sha256"] == sha256


def test_adding_twice_is_adding_once(run: Run, report: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy of the report.txt"
    copy.write_bytes(report.read_bytes())
    run("add", report)
    again = json.loads(run("add", copy, "--json").out)
    assert again[0]["already_there"] is True
    assert [d["name"] for d in json.loads(run("list", "--json").out)] == ["harbour.txt"]


def test_one_bad_file_is_named_and_the_others_go_on(run: Run, report: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pdf"
    empty.touch()
    ran = run("add", empty, report)
    assert ran.code == 1
    assert "empty.pdf" in ran.err
    assert ran.err.count("longleaf:") == 1
    assert "harbour.txt" in ran.out
    assert len(json.loads(run("list", "--json").out)) == 1


def test_show_prints_a_page_as_it_was_read(run: Run, report: Path) -> None:
    run("add", report)
    assert "Berth fees 8,412 7,990" in run("show", "harbour.txt", "--page", "2").out
    missing = run("show", "harbour.txt", "--page", "3")
    assert (missing.code, missing.out) == (1, "")
    assert "there is no page 3" in missing.err


def test_remove_removes_and_asks_first(run: Run, report: Path, home: Path) -> None:
    run("add", report)
    assert run("remove", "harbour.txt").code == 1  # no terminal to ask on
    assert run("remove", "harbour.txt", "--yes").code == 0
    assert json.loads(run("list", "--json").out) == []
    assert not [file for file in (home / "files").rglob("*") if file.is_file()]
    assert report.exists()


def test_rename_gives_a_document_another_name_and_its_file_name_still_finds_it(run: Run, report: Path) -> None:
    run("add", report)
    ran = run("rename", "harbour.txt", "The [harbour]  board")
    assert (ran.code, ran.out.strip()) == (0, "harbour.txt is now The [harbour] board")
    renamed = json.loads(run("rename", "harbour.txt", "Harbour", "--json").out)
    assert (renamed["name"], renamed["file_name"]) == ("Harbour", "harbour.txt")
    assert "Harbour  (harbour.txt)" in run("list").out
    assert json.loads(run("ask", "Harbour", QUESTION, "--json").out)["citations"][0]["document"] == "Harbour"
    nameless = run("rename", "Harbour", " ")
    assert (nameless.code, nameless.out) == (1, "")
    assert "needs a name" in nameless.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ask", "report.pdf"], "no document"),  # one word is the question: asks the whole, empty, library
        (["ask", "missing.pdf", "Why?"], "missing.pdf"),
        (["add", "missing.pdf"], "missing.pdf"),
        (["show", "nothing"], "nothing"),
        (["model", "pull", "no-such-model"], "no-such-model"),
        (["ask", "--model", "no-such-model", "Why?"], "no-such-model"),
    ],
)
def test_errors_are_one_line_on_standard_error_and_exit_code_1(run: Run, words: list[str], said: str) -> None:
    ran = run(*words)
    assert ran.code == 1
    assert ran.out == ""
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert "Traceback" not in ran.err


def test_a_question_may_be_longer_than_any_file_name(run: Run, report: Path) -> None:
    question = f"{'Leave aside the ferries and the quays. ' * 12}{QUESTION}"
    assert json.loads(run("ask", report, question, "--json").out)["question"] == question


def test_a_forgotten_question_is_said(run: Run, report: Path) -> None:
    ran = run("ask", report)
    assert ran.code == 1
    assert "the question is missing" in ran.err


@pytest.mark.parametrize(
    "words", [["ask"], ["no-such-command"], ["add", "--no-such-option"], ["ask", "--route", "x", "q"]]
)
def test_what_is_not_understood_exits_with_2(run: Run, words: list[str]) -> None:
    assert run(*words).code == 2


def test_a_setting_that_is_no_good_names_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGLEAF_CONTEXT_TOKENS", "many")
    ran = run("list")
    assert ran.code == 1
    assert "LONGLEAF_CONTEXT_TOKENS = 'many'" in ran.err


def test_the_words_of_a_document_are_never_read_as_markup(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "[red]odd 'name' – 報告.txt"
    file.write_text("The [bold]code[/bold] of the door is [link=x]4711[/link].")
    ran = run("ask", file, "What is the code of the door?")
    assert "[bold]code[/bold]" in ran.out
    assert "[link=x]4711[/link]" in ran.out


def test_doctor_says_what_is_there_and_what_to_do(run: Run, home: Path) -> None:
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").out)}
    assert checks["library"]["state"] == "ok"
    assert str(home) in checks["library"]["found"]
    assert checks["reader"]["state"] == "optional"


def test_doctor_fails_without_the_reader_and_names_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_READER", "embedded")
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    ran = run("doctor")
    assert ran.code == 1
    assert "longleaf model pull" in ran.out


def test_without_models_a_question_is_still_answered_and_what_is_missing_is_said(
    run: Run, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_READER", "embedded")
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    ran = run("ask", report, QUESTION)
    assert ran.code == 0
    assert "lifts 120 tonnes" in ran.out
    assert "longleaf model pull" in ran.err


def test_a_library_that_cannot_be_written_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("not a folder")
    ran = run("list", "--home", blocked)
    assert ran.code == 1
    assert str(blocked) in ran.err
    assert "LONGLEAF_HOME" in ran.err


def test_model_list_names_what_is_here(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("model", "list", "--json").out)}
    assert {"qwen2.5-1.5b", "qwen2.5-0.5b", "smollm2-135m", "minilm"} <= set(rows)
    assert rows["minilm"]["default"] is True


@pytest.mark.skipif(not is_installed("minilm"), reason="no weights here: run `longleaf model pull minilm`")
def test_pulling_a_model_that_is_here_prints_its_path_and_needs_no_network(run: Run) -> None:
    (pulled,) = json.loads(run("model", "pull", "minilm", "--json").out)
    assert pulled["name"] == "minilm"
    assert (Path(pulled["path"]) / "model.safetensors").exists()


def test_a_home_given_on_the_command_line_wins(run: Run, report: Path, tmp_path: Path) -> None:
    run("add", report, "--home", tmp_path / "other")
    assert json.loads(run("list", "--json").out) == []
    with Library(tmp_path / "other") as other:
        assert [d.name for d in other.documents()] == ["harbour.txt"]
