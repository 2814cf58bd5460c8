"""`longleaf summarize`, `extract` and `jobs` as a user runs them, without a reader."""

import csv
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from longleaf.app.jobs import runner
from longleaf.app.jobs.session import open_jobs
from longleaf.app.jobs.sources import find_sources, with_sha256
from longleaf.app.settings import load_settings

from ..conftest import Ran, Run  # noqa: TID252
from .conftest import SPEC

CRANE = "The largest crane of the board lifts 120 tonnes and came by sea."
FEES = "Together all berth fees were 8,412 crowns in the year 2024."
LIGHT = "The keeper of the lighthouse wrote the wind into the log book."
GOOD, BAD = ("crane.txt", "fees.pdf", "light.md"), ("broken.pdf", "empty.txt")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command looks often whether it is done."""
    monkeypatch.setattr(runner, "_LOOK_EVERY_S", 0.02)


@pytest.fixture
def inbox(tmp_path: Path, home: Path) -> Path:
    """Three documents, and two files that are none."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "crane.txt").write_text(CRANE)
    canvas = Canvas(str(inbox / "fees.pdf"))
    for text in ("On the first page nothing is said of money, only of the tide.", FEES):
        canvas.drawString(72, 720, text)
        canvas.showPage()
    canvas.save()
    (inbox / "light.md").write_text(LIGHT)
    (inbox / "broken.pdf").write_bytes(b"%PDF-1.7\nand nothing more")
    (inbox / "empty.txt").touch()
    return inbox


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def shown(run: Run, ref: str | Path) -> dict[str, dict[str, Any]]:
    job = json.loads(run("jobs", "show", ref, "--json").out)
    return {Path(item["source"]).name: item for item in job["items"]}


def told(out: Path, name: str = "summaries") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{name}.jsonl").read_text().removesuffix("\n").split("\n")]


def table(out: Path, name: str) -> dict[str, dict[str, str]]:
    with (out / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["document"]: row for row in csv.DictReader(file)}


# summarize


def test_good_files_are_summarised_and_bad_ones_named_with_their_reason(run: Run, inbox: Path, out: Path) -> None:
    ran = run("summarize", inbox, "-o", out, "-m", "none")
    assert ran.code == 1
    assert "3 of 5 documents done" in ran.out
    assert "2 failed:" in ran.out
    assert "longleaf jobs retry" in ran.out
    words = " ".join(ran.out.split())
    for name in BAD:
        assert words.count(f"{inbox}/{name}: ") == 1
        assert f"{name}: failed: " in ran.err
    assert "crane.txt: 1 page, 0 tokens read" in ran.err
    assert "Traceback" not in ran.err
    assert sorted(path.name for path in out.iterdir()) == [
        "crane.md", "fees.md", "light.md", "summaries.csv", "summaries.jsonl",
    ]  # fmt: skip
    assert "120 tonnes" in (out / "crane.md").read_text()
    assert "p. 2" in (out / "fees.md").read_text()
    assert [Path(line["source"]).name for line in told(out)] == sorted((*GOOD, *BAD))
    assert Counter(line["state"] for line in told(out)) == {"done": 3, "failed": 2}
    assert FEES in table(out, "summaries")["fees.pdf"]["summary"]
    assert table(out, "summaries")["empty.txt"]["reason"] == shown(run, out)["empty.txt"]["reason"] != ""


def test_the_same_command_again_does_nothing_anew_and_says_the_same(run: Run, inbox: Path, out: Path) -> None:
    first = run("summarize", inbox, "-o", out)
    before, files = shown(run, out), {path.name: path.read_bytes() for path in out.iterdir()}
    assert {item["attempts"] for item in before.values()} == {1}
    again = run("summarize", inbox, "-o", out)
    assert (again.code, again.out) == (first.code, first.out)
    assert "5 of 5 documents were settled before" in again.err
    assert shown(run, out) == before
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    assert len(json.loads(run("jobs", "list", "--json").out)) == 1


def test_a_file_that_changed_or_is_new_is_done_and_the_others_stay(run: Run, inbox: Path, out: Path) -> None:
    run("summarize", inbox, "-o", out)
    before = shown(run, out)
    (inbox / "light.md").write_text(LIGHT.replace("wind", "tide"))
    (inbox / "new.txt").write_text("A new pier of granite was built by the board in that year.")
    run("summarize", inbox, "-o", out)
    after = shown(run, out)
    assert {name for name, item in after.items() if item != before.get(name)} == {"light.md", "new.txt"}
    assert "tide into the log" in (out / "light.md").read_text()
    assert "pier of granite" in (out / "new.md").read_text()
    assert "tide into the log" in table(out, "summaries")["light.md"]["summary"]


def test_other_options_are_other_work_and_another_template_is_not(
    run: Run, inbox: Path, out: Path, tmp_path: Path
) -> None:
    run("summarize", inbox / "crane.txt", "-o", out)
    assert run("summarize", inbox / "crane.txt", "-o", out, "--length", "short").code == 0
    item = shown(run, out)["crane.txt"]
    assert item["attempts"] == 3  # one more where the item was put back
    template = tmp_path / "t.md"
    template.write_text("This is {{ document }}")
    assert run("summarize", inbox / "crane.txt", "-o", out, "--length", "short", "--template", template).code == 0
    assert shown(run, out)["crane.txt"] == item
    assert (out / "crane.md").read_text() == "This is crane.txt\n"


def test_a_template_that_can_t_be_used_is_said_and_the_work_is_kept(
    run: Run, inbox: Path, out: Path, tmp_path: Path
) -> None:
    template = tmp_path / "t.md"
    words = ("summarize", inbox / "crane.txt", "-o", out, "--template", template)
    assert_one_line(run(*words), f"{template}: it can't be read: No such file or directory")
    template.write_text("{% if %}")
    assert_one_line(run(*words), "the template can't be understood in line 1")
    assert not out.exists()
    template.write_text("{{ sumary }}")
    ran = run(*words)
    assert ran.code == 1
    assert "the template does not work for crane.txt: 'sumary' is undefined" in ran.err
    assert "Traceback" not in ran.err
    template.write_text("{{ text }}")
    assert run(*words).code == 0
    assert CRANE in (out / "crane.md").read_text()
    assert shown(run, out)["crane.txt"]["attempts"] == 1


def test_files_may_be_listed_on_standard_input_and_left_out(
    run: Run, inbox: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(str(inbox / name) for name in (*GOOD, "missing.pdf"))))
    ran = run("summarize", "-", "-o", out, "--exclude", "*.md", "--json")
    assert ran.code == 1
    items = {Path(item["source"]).name: item for item in json.loads(ran.out)["items"]}
    assert {name: item["state"] for name, item in items.items()} == {
        "crane.txt": "done", "fees.pdf": "done", "missing.pdf": "failed",
    }  # fmt: skip
    assert "o such file" in items["missing.pdf"]["reason"]


def test_json_is_one_object_with_counts_and_items(run: Run, inbox: Path, out: Path) -> None:
    ran = run("summarize", inbox, "-o", out, "--json")
    assert (ran.code, ran.err) == (1, "")
    job = json.loads(ran.out)
    assert (job["kind"], job["output"], job["state"]) == ("summarize", str(out), "open")
    counts = {name: job["counts"][name] for name in ("waiting", "running", "done", "failed", "cancelled", "total")}
    assert counts == {"waiting": 0, "running": 0, "done": 3, "failed": 2, "cancelled": 0, "total": 5}
    assert job["counts"]["n_pages"] == 4
    assert job["spec"]["reader"]["reader"] == "none"
    assert [item["output_name"] for item in job["items"]] == ["broken", "crane", "empty", "fees", "light"]
    assert all(item["reason"] for item in job["items"] if item["state"] == "failed")
    assert json.loads(run("jobs", "show", job["id"], "--json").out) == job
    failed = json.loads(run("jobs", "show", job["id"], "--failed", "--json").out)
    assert [item["output_name"] for item in failed["items"]] == ["broken", "empty"]


def assert_one_line(ran: Ran, said: str) -> None:
    assert (ran.code, ran.out) == (1, "")
    assert said in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_what_can_t_be_begun_is_said_in_one_line_and_leaves_nothing(
    run: Run, inbox: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    file = tmp_path / "a file"
    file.write_text("old")
    assert_one_line(run("summarize", tmp_path / "nothing", "-o", out), "the folder has no PDF")
    assert_one_line(run("summarize", inbox / "*.docx", "-o", out), "no file fits this pattern")
    assert_one_line(run("summarize", inbox, "-o", out, "--exclude", "*"), "there is no file to work on")
    assert_one_line(run("summarize", inbox, "-o", file), "this is a file; results need a folder")
    assert_one_line(run("summarize", inbox, "-o", out, "--price-in", "1"), "give both --price-in and --price-out")
    assert_one_line(run("summarize", inbox, "-o", out, "--price-cached", "1"), "give both --price-in and --price-out")
    assert_one_line(run("jobs", "show", "nothing"), "there is no job nothing; there are: none yet")
    assert not out.exists()
    assert file.read_text() == "old"
    assert json.loads(run("jobs", "list", "--json").out) == []


def test_a_markdown_that_can_t_be_written_is_said_and_what_was_done_is_kept(run: Run, inbox: Path, out: Path) -> None:
    (out / "crane.md").mkdir(parents=True)
    ran = run("summarize", inbox / "crane.txt", "-o", out)
    assert ran.code == 1
    assert "crane.md: the result can't be written: Is a directory. What was done is kept" in ran.err
    assert "Traceback" not in ran.err
    (out / "crane.md").rmdir()
    assert run("summarize", inbox / "crane.txt", "-o", out).code == 0
    assert "120 tonnes" in (out / "crane.md").read_text()
    assert shown(run, out)["crane.txt"]["attempts"] == 1


# --dry-run


def test_a_dry_run_counts_and_begins_nothing(run: Run, inbox: Path, out: Path) -> None:
    ran = run("summarize", inbox, "-o", out, "--dry-run", "--json")
    assert ran.code == 0
    made = json.loads(ran.out)
    assert (made["documents"], made["done"], made["pages"]) == (3, 0, 4)
    assert {Path(path).name for path in made["bad"]} == set(BAD)
    assert not any(str(inbox) in reason for reason in made["bad"].values())  # the path stands before it
    assert (made["tokens_read"], made["tokens_written"], made["cost"]) == (None, 0, None)  # nobody reads
    assert not out.exists()
    assert json.loads(run("jobs", "list", "--json").out) == []


def test_a_dry_run_with_other_options_leaves_a_done_job_done(run: Run, inbox: Path, out: Path) -> None:
    run("summarize", inbox, "-o", out)
    before = run("jobs", "show", out, "--json").out
    again = json.loads(run("summarize", inbox, "-o", out, "--dry-run", "--json").out)
    assert (again["documents"], again["done"], len(again["bad"])) == (0, 3, 2)
    other = json.loads(run("summarize", inbox, "-o", out, "--dry-run", "--json", "--length", "long").out)
    assert (other["documents"], other["done"]) == (3, 0)
    assert run("jobs", "show", out, "--json").out == before


# extract


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.txt"
    file.write_text("# of the harbour\nHow much does the largest crane lift?\nWhat were all berth fees in 2024?\n")
    return file


def test_extract_has_a_column_for_each_question_with_the_page_it_stands_on(
    run: Run, inbox: Path, out: Path, questions: Path
) -> None:
    files = [inbox / name for name in GOOD[:2]]
    ran = run("extract", *files, "-o", out, "--questions", questions, "-m", "none")
    assert ran.code == 0, ran.err
    crane, fees = table(out, "answers")["crane.txt"], table(out, "answers")["fees.pdf"]
    lift, paid = questions.read_text().splitlines()[1:]
    assert list(crane)[6:] == [q + end for q in (lift, paid) for end in ("", " (page)", " (quote)")]
    assert "120 tonnes" in crane[lift]
    assert (crane[f"{lift} (page)"], crane[f"{lift} (quote)"]) == ("1", CRANE)
    assert (fees[f"{paid} (page)"], fees[f"{paid} (quote)"]) == ("2", FEES)
    assert [cell["question"] for cell in told(out, "answers")[0]["cells"]] == [lift, paid]
    assert "## How much does the largest crane lift?" in (out / "crane.answers.md").read_text()
    before = shown(run, out)
    assert run("extract", *files, "-o", out, "--questions", questions).code == 0
    assert shown(run, out) == before


def test_another_question_is_other_work(run: Run, inbox: Path, out: Path, questions: Path) -> None:
    run("extract", inbox / "crane.txt", "-o", out, "--questions", questions)
    questions.write_text("How did the largest crane come?\n")
    run("extract", inbox / "crane.txt", "-o", out, "--questions", questions)
    assert [cell["question"] for cell in told(out, "answers")[0]["cells"]] == ["How did the largest crane come?"]


def test_a_schema_gives_columns_by_name(run: Run, inbox: Path, out: Path, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    fees = {"type": "number", "description": "What were all berth fees in 2024?"}
    schema.write_text(json.dumps({"type": "object", "properties": {"fees": fees}}))
    assert run("extract", inbox / "fees.pdf", "-o", out, "--schema", schema).code == 0
    assert table(out, "answers")["fees.pdf"]["fees (page)"] == "2"


def test_questions_come_from_one_file(run: Run, inbox: Path, out: Path, questions: Path) -> None:
    either = "give either --questions"
    assert_one_line(run("extract", inbox, "-o", out), either)
    assert_one_line(run("extract", inbox, "-o", out, "--questions", questions, "--schema", questions), either)
    assert_one_line(run("extract", inbox, "-o", out, "--schema", questions), "line 1: this is no JSON")
    assert not out.exists()


# jobs


def test_jobs_are_listed_and_shown(run: Run, inbox: Path, out: Path, questions: Path) -> None:
    assert "No jobs yet" in run("jobs", "list").out
    run("summarize", inbox, "-o", out)
    run("extract", inbox / "crane.txt", "-o", out.with_name("answers"), "--questions", questions)
    listed = " ".join(run("jobs", "list").out.split())
    assert "summarize 3 of 5 2 4" in listed
    assert listed.index("extract 1 of 1 0 1") < listed.index("summarize")  # the last one comes first
    words = " ".join(run("jobs", "show", out).out.split())
    assert "crane.txt done 1 0 0 0" in words
    assert "empty.txt failed" in words
    failed = run("jobs", "show", out, "--failed").out
    assert "crane.txt" not in failed
    assert "empty.txt" in failed


def planned(inbox: Path, out: Path) -> str:
    """A job that nobody has begun on."""
    with open_jobs(load_settings()) as (_, store):
        job = store.open(out, SPEC)
        store.plan(job, [with_sha256(path) for path in find_sources([str(inbox)])])
        return job.id


def test_a_cancelled_job_is_gone_on_with(run: Run, inbox: Path, out: Path) -> None:
    id_ = planned(inbox, out)
    assert json.loads(run("jobs", "cancel", id_, "--yes", "--json").out) == {"id": id_, "cancelled": 5}
    assert json.loads(run("jobs", "list", "--json").out)[0]["state"] == "cancelled"
    assert run("jobs", "cancel", out).out == "0 of 5 documents are left undone\n"
    assert {item["state"] for item in shown(run, id_).values()} == {"cancelled"}
    ran = run("jobs", "resume", id_[:6], "--json")
    assert ran.code == 1
    assert json.loads(ran.out)["state"] == "open"
    assert json.loads(ran.out)["counts"]["done"] == 3
    assert len(told(out)) == 5
    assert run("jobs", "cancel", id_, "--json").out.split()[-2] == "0"  # what is done stays
    assert json.loads(run("jobs", "show", id_, "--json").out)["counts"]["done"] == 3


def test_going_on_does_a_changed_file_anew_and_keeps_what_was_done_with_one_that_is_gone(
    run: Run, inbox: Path, out: Path
) -> None:
    run("summarize", inbox / "crane.txt", inbox / "light.md", "-o", out)
    before = shown(run, out)
    (inbox / "crane.txt").write_text((inbox / "crane.txt").read_text() + "\nThe north quay has a second crane.\n")
    (inbox / "light.md").unlink()
    assert run("jobs", "resume", out).code == 0
    after = shown(run, out)
    assert after["light.md"] == before["light.md"]
    assert after["crane.txt"]["attempts"] > before["crane.txt"]["attempts"]
    assert with_sha256(inbox / "crane.txt").sha256 in {line["sha256"] for line in told(out)}


def test_the_same_command_goes_on_with_a_cancelled_job(run: Run, inbox: Path, out: Path) -> None:
    run("jobs", "cancel", planned(inbox, out))
    ran = run("summarize", inbox / "crane.txt", inbox / "light.md", inbox, "-o", out, "--json")
    assert json.loads(ran.out)["counts"]["done"] == 3


def test_a_bad_file_is_tried_again_when_asked_and_is_done_once_mended(run: Run, inbox: Path, out: Path) -> None:
    run("summarize", inbox, "-o", out)
    before = shown(run, out)
    assert run("jobs", "resume", out).code == 1
    assert shown(run, out) == before  # it fails with the same file
    assert run("jobs", "retry", out).code == 1
    assert {name for name, item in shown(run, out).items() if item["attempts"] > 1} == set(BAD)
    (inbox / "empty.txt").write_text("The file was mended and tells now what there is to be told.")
    (inbox / "broken.pdf").write_bytes((inbox / "fees.pdf").read_bytes())
    ran = run("jobs", "retry", out)
    assert ran.code == 0, ran.err
    assert "was mended" in (out / "empty.md").read_text()
    mended = shown(run, out)
    assert {name: mended[name] for name in GOOD} == {name: before[name] for name in GOOD}
    assert mended["empty.txt"]["sha256"] == with_sha256(inbox / "empty.txt").sha256
    assert run("summarize", inbox, "-o", out).code == 0
    assert shown(run, out) == mended  # and is not done once more


def test_a_mended_file_is_done_by_the_same_command(run: Run, inbox: Path, out: Path) -> None:
    run("summarize", inbox, "-o", out)
    (inbox / "empty.txt").write_text(LIGHT)
    ran = run("summarize", inbox, "-o", out, "--json")
    assert json.loads(ran.out)["counts"]["done"] == 4
    assert run("summarize", inbox, "-o", out, "--retry-failed").code == 1
    assert shown(run, out)["broken.pdf"]["attempts"] == 3


def test_the_results_of_a_file_that_is_gone_stay(run: Run, inbox: Path, out: Path) -> None:
    run("summarize", inbox / "crane.txt", inbox / "light.md", "-o", out)
    before = shown(run, out)
    (inbox / "crane.txt").unlink()
    assert run("summarize", inbox / "crane.txt", inbox / "light.md", "-o", out).code == 0
    assert shown(run, out) == before


def test_results_do_not_go_where_the_documents_are(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "a.txt").write_text("One light burns.")
    for output in (folder, tmp_path, folder / "..", folder / "x" / ".."):
        ran = run("summarize", folder, "-o", output, "-m", "none")
        assert ran.code == 1
        assert "results can't go into the folder that is read" in " ".join(ran.err.split())
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
