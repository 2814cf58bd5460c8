"""The files of a job's results: made from what is kept, whole or not at all, and safe to open in a spreadsheet."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longleaf.app.jobs.database import SqliteJobs
from longleaf.app.jobs.files import ResultFiles, check_template, write_whole
from longleaf.app.jobs.runner import Worker, work_off
from longleaf.app.jobs.sources import with_sha256
from longleaf.app.jobs.spec import Column, ExtractSpec, SummarizeSpec
from longleaf.app.jobs.store import Item, Job, JobStore
from longleaf.app.settings import load_settings
from longleaf.app.workbench import open_answerer, open_library
from longleaf.errors import QuestionError, StorageError

from .conftest import SPEC

TEXTS = {
    "harbour.txt": (
        "The largest crane of the board lifts 120 tonnes and came by sea.\n\f"
        "Together all berth fees were 8,412 crowns in the year 2024.\n"
    ),
    "=light.txt": "The keeper wrote the wind into the log book.\n",
    "empty.pdf": "",
}
QUESTIONS = (
    Column(name="=How much does the crane lift?", question="How much does the largest crane lift?"),
    Column(name="fees", question="What were the berth fees in 2024?", form={"type": "number"}),
)


def worked_off(tmp_path: Path, spec: SummarizeSpec | ExtractSpec) -> tuple[Job, list[Item]]:
    settings = load_settings(home=tmp_path / "home", reader="none")
    with open_library(settings) as library:
        store = JobStore(SqliteJobs(library))
        job = store.open(tmp_path / "out", spec)
        for name, text in TEXTS.items():
            (tmp_path / name).write_text(text)
        store.plan(job, [with_sha256(tmp_path / name) for name in TEXTS])
        answerer = open_answerer(settings, library)
        try:
            work_off(Worker(store, job, answerer, "here", lambda: False))
        finally:
            answerer.close()
        return job, store.items(job)


@pytest.fixture
def summaries(home: Path, tmp_path: Path) -> tuple[Job, list[Item]]:
    return worked_off(tmp_path, SPEC)


@pytest.fixture
def answers(home: Path, tmp_path: Path) -> tuple[Job, list[Item]]:
    return worked_off(tmp_path, ExtractSpec(reader=SPEC.reader, columns=QUESTIONS))


def rows(files: ResultFiles) -> list[dict[str, str]]:
    with files.table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def lines(files: ResultFiles) -> list[dict[str, Any]]:
    return [json.loads(line) for line in files.lines.read_text().removesuffix("\n").split("\n")]


# Tables


def test_the_tables_of_summaries_have_each_item_once(summaries: tuple[Job, list[Item]], tmp_path: Path) -> None:
    job, items = summaries
    files = ResultFiles(job)
    for _ in range(2):
        files.write_tables(items)
    assert sorted(path.name for path in job.output.iterdir()) == ["summaries.csv", "summaries.jsonl"]
    harbour, light, empty = rows(files)
    assert list(harbour) == [
        "document", "source", "sha256", "state", "reason", "pages", "summary", "cited pages", "model",
    ]  # fmt: skip
    assert (harbour["document"], harbour["state"], harbour["pages"]) == ("harbour.txt", "done", "2")
    assert harbour["cited pages"] == "1, 2"
    assert "lifts 120 tonnes" in harbour["summary"]
    assert light["document"] == "'=light.txt"
    assert (empty["state"], empty["summary"], empty["pages"]) == ("failed", "", "")
    assert "empty" in empty["reason"]
    told = lines(files)
    assert [line["source"] for line in told] == [str(tmp_path / name) for name in TEXTS]
    assert told[0] == {"source": items[0].source, "sha256": items[0].sha256, "state": "done"} | items[0].result
    assert told[2]["reason"] == empty["reason"]


def test_the_table_of_answers_has_a_value_a_page_and_a_quote_for_each_question(
    answers: tuple[Job, list[Item]],
) -> None:
    job, items = answers
    files = ResultFiles(job)
    files.write_tables(items)
    harbour, light, empty = rows(files)
    first = QUESTIONS[0].name
    assert list(harbour)[6:] == [
        first, f"{first} (page)", f"{first} (quote)", "fees", "fees (page)", "fees (quote)",
    ]  # fmt: skip
    assert "120 tonnes" in harbour[first]
    assert (harbour[f"{first} (page)"], harbour["fees (page)"]) == ("1", "2")
    assert harbour["fees (quote)"] == "Together all berth fees were 8,412 crowns in the year 2024."
    assert [empty[name] for name in list(empty)[6:]] == [""] * 6
    assert set(light.values()) >= {"done", "1"}
    assert [cell["column"] for cell in lines(files)[0]["cells"]] == [column.name for column in QUESTIONS]


CELLS = [
    ("=1+1", "'=1+1"),
    ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("-2+3", "'-2+3"),
    ("\t=1", "'\t=1"),
    ("\r=1", "'\r=1"),
    ("-5", "-5"),
    ("-5.2", "-5.2"),
    ("+1,234.5", "+1,234.5"),
    (-5.2, "-5.2"),
    (0, "0"),
    (False, "False"),
    (None, ""),
    ("a=b", "a=b"),
    ('said "no",\nthen; left', 'said "no",\nthen; left'),
    (["=1", {"a": "ü"}], '["=1", {"a": "ü"}]'),
    ("\u2028 \U0001f6a2", "\u2028 \U0001f6a2"),
]


def test_no_cell_is_taken_for_a_formula_and_all_come_back_as_they_were(answers: tuple[Job, list[Item]]) -> None:
    job, (item, *_) = answers
    cells = item.result["cells"] if item.result else []
    several = []
    for n, (value, _) in enumerate(CELLS):
        changed = [cells[0], cells[1] | {"found": True, "value": value}]
        several.append(replace(item, source=f"/in/{n}.txt", result=item.result | {"cells": changed}))
    files = ResultFiles(job)
    files.write_tables(several)
    assert [row["fees"] for row in rows(files)] == [expected for _, expected in CELLS]
    assert [line["cells"][1]["value"] for line in lines(files)] == [value for value, _ in CELLS]


def test_a_quote_or_reason_is_no_formula_either(answers: tuple[Job, list[Item]]) -> None:
    job, (done, _, failed) = answers
    cell = done.result["cells"][0] if done.result else {}
    quoted = cell | {"citations": [cell["citations"][0] | {"quote": "=HYPERLINK(\n  1)"}]}
    files = ResultFiles(job)
    files.write_tables([replace(done, result=done.result | {"cells": [quoted]}), replace(failed, reason="@once")])
    first, second = rows(files)
    assert first[f"{QUESTIONS[0].name} (quote)"] == "'=HYPERLINK( 1)"
    assert first["fees"] == ""
    assert second["reason"] == "'@once"


# One Markdown for each


def test_each_document_has_a_markdown_with_its_pages(summaries: tuple[Job, list[Item]]) -> None:
    job, items = summaries
    ResultFiles(job).write_missing(items)
    assert sorted(path.name for path in job.output.iterdir()) == ["=light.md", "harbour.md"]
    text = (job.output / "harbour.md").read_text()
    assert "lifts 120 tonnes" in text
    assert "p. 1" in text
    assert text.endswith("\n")


def test_the_markdown_of_answers_has_their_pages_and_quotes(answers: tuple[Job, list[Item]]) -> None:
    job, (item, *_) = answers
    cells = item.result["cells"] if item.result else []
    cells[1] |= {"found": False, "text": None, "value": None}
    cells[0] |= {"text": "# 120 *tonnes* <b>"}
    text = ResultFiles(job).write_item(item).read_text()
    assert text.startswith("# harbour.txt\n\n## How much does the largest crane lift?\n\n")
    assert "\\# 120 \\*tonnes\\* " in text
    assert "<b>" not in text
    assert "- p. 1: “" in text
    assert text.endswith("## What were the berth fees in 2024?\n\nNot found in this document.\n")


def with_template(job: Job, template: str | None) -> ResultFiles:
    return ResultFiles(replace(job, spec=job.spec.model_copy(update={"template": template})))


def texts(job: Job) -> list[str]:
    return [(job.output / f"{name}.md").read_text() for name in ("harbour", "=light")]


def test_a_template_lays_out_the_markdown(summaries: tuple[Job, list[Item]]) -> None:
    job, items = summaries
    template = "{{ '*a*' | md }} {{ source }}: {{ citations | map(attribute='page') | unique | ranges }}\n\n"
    with_template(job, template).write_missing(items)
    assert texts(job)[0] == f"\\*a\\* {items[0].source}: 1\u20132\n"


def test_what_is_there_stays_and_what_is_missing_old_or_of_another_template_is_made_again(
    summaries: tuple[Job, list[Item]],
) -> None:
    job, items = summaries
    ResultFiles(job).write_missing(items)
    made = texts(job)
    (job.output / "harbour.md").write_text("edited")
    (job.output / "=light.md").unlink()
    ResultFiles(job).write_missing(items)
    assert texts(job) == ["edited", made[1]]

    ResultFiles(job).write_missing([replace(items[0], finished_at="2999-01-01T00:00:00+00:00"), items[1]])
    assert texts(job) == made

    with_template(job, "one {{ document }}").write_missing(items)
    assert texts(job) == ["one harbour.txt\n", "one =light.txt\n"]
    with_template(job, "two {{ document }}").write_missing(items)
    assert texts(job) == ["two harbour.txt\n", "two =light.txt\n"]
    (job.output / "harbour.md").write_text("edited")
    with_template(job, "two {{ document }}").write_missing(items)
    assert texts(job) == ["edited", "two =light.txt\n"]
    ResultFiles(job).write_missing(items)
    assert texts(job) == made


def test_the_file_of_a_template_that_was_not_followed_through_is_made_again(summaries: tuple[Job, list[Item]]) -> None:
    job, items = summaries
    ResultFiles(job).write_missing(items)
    with pytest.raises(QuestionError):
        with_template(job, "{% if document != 'harbour.txt' %}{{ unknown }}{% endif %}new").write_missing(items)
    with_template(job, "{% if document != 'harbour.txt' %}{% endif %}new").write_missing(items)
    assert texts(job) == ["new\n", "new\n"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("one\n{% for x in %}", "can't be understood in line 2: "),
        ("\n\n{{ text | nosuch }}", "can't be understood in line 3: .*nosuch"),
        ("{% if x %}", "can't be understood in line 1: "),
    ],
)
def test_a_broken_template_is_said_with_its_line(template: str, said: str) -> None:
    with pytest.raises(QuestionError, match=said):
        check_template(template)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ summary }}", "'summary' is undefined"),
        ("{{ text.nosuch.deeper }}", "nosuch"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ text + 1 }}", "can only concatenate str"),
        ("{{ text | ranges }}", "str"),
        ("{% for i in range(10**9) %}{% endfor %}", "too big"),
        ("{% include 'other.md' %}", "no loader"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_a_template_can_t_do_is_said_with_the_document(
    summaries: tuple[Job, list[Item]], template: str, said: str
) -> None:
    job, (item, *_) = summaries
    with pytest.raises(QuestionError, match=rf"the template does not work for harbour\.txt: .*{said}"):
        with_template(job, template).write_item(item)
    assert not job.output.exists()


def test_a_document_is_never_written_over(summaries: tuple[Job, list[Item]], tmp_path: Path) -> None:
    job, (item, *_) = summaries
    (tmp_path / "notes.md").write_text("mine")
    job.output.symlink_to(tmp_path)
    notes = replace(item, source=str(tmp_path / "notes.md"), output_name="notes")
    with pytest.raises(QuestionError, match=r"notes\.md: this is the document itself"):
        ResultFiles(job).write_item(notes)
    assert (tmp_path / "notes.md").read_text() == "mine"


# Writing


def entries(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.md"
    write_whole(path, "first\r\n")
    write_whole(path, "Ölstand \ud83d\n")
    assert path.read_bytes() == "Ölstand ?\n".encode()
    assert entries(path.parent) == ["a.md"]


def test_others_may_read_the_file_as_the_umask_has_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.md", "text")
        assert (tmp_path / "a.md").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_what_a_killed_process_left_is_cleared_away_when_nobody_can_be_at_it(
    summaries: tuple[Job, list[Item]],
) -> None:
    job, items = summaries
    job.output.mkdir()
    old, new = job.output / ".longleaf-old", job.output / ".longleaf-new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    ResultFiles(job).write_missing(items)
    assert entries(job.output) == [".longleaf-new", "=light.md", "harbour.md"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "read only"
    folder.mkdir()
    (folder / "a.md").write_text("old")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_in_a_read_only_folder_the_old_file_stays(read_only: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.md: the result can't be written: Permission denied\. What was done"):
        write_whole(read_only / "a.md", "new")
    assert (read_only / "a.md").read_text() == "old"
    assert entries(read_only) == ["a.md"]


def test_where_it_can_t_be_written_it_is_said_and_nothing_is_left_half(tmp_path: Path) -> None:
    (tmp_path / "a.md").mkdir()
    with pytest.raises(StorageError, match=r"a\.md: the result can't be written: Is a directory\."):
        write_whole(tmp_path / "a.md", "text")
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match=r"file/b\.md: the result can't be written: (Not a directory|File exists)\."):
        write_whole(tmp_path / "file" / "b.md", "text")
    assert entries(tmp_path) == ["a.md", "file"]
    assert (tmp_path / "file").read_text() == "old"


FULL = """
import resource, signal, sys
from pathlib import Path
from longleaf.app.jobs.files import write_whole
from longleaf.errors import StorageError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit then fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    write_whole(Path(sys.argv[1]), "new" * 100_000)
except StorageError as exc:
    print(exc)
"""


def test_on_a_full_disk_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "a.md")], capture_output=True, text=True, check=True
    )
    assert "a.md: the result can't be written: File too large. What was done is kept" in done.stdout
    assert (tmp_path / "a.md").read_text() == "old"
    assert entries(tmp_path) == ["a.md"]
