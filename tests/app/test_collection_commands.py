"""`longleaf collection` and asking one, on a real library."""

import json

from longleaf.ingestion import Collection, Library
from longleaf.ingestion.collections import Collections

from .conftest import Run


def test_a_collection_is_made_listed_asked_and_forgotten(run: Run, report, tmp_path) -> None:
    other = tmp_path / "ferry.txt"
    other.write_text("The ferry to the islands calls twice a day.")
    for file in (report, other):
        run("add", file, "--no-embed")
    assert run("collection", "list").out.startswith("There is no collection. Make one")
    assert run("collection", "add", "harbours", "harbour.txt").out == "harbours: harbour.txt\n"
    assert json.loads(run("collection", "list", "--json").out)[0]["documents"] == ["harbour.txt"]
    answer = json.loads(run("ask", "--collection", "harbours", "How many cranes does the board own?", "--json").out)
    assert {citation["document"] for citation in answer["citations"] + answer["nearest"]} == {"harbour.txt"}
    assert run("collection", "add", "harbours", "ferry.txt").out == "harbours: harbour.txt, ferry.txt\n"
    assert run("collection", "take-out", "harbours", "harbour.txt").out == "harbours: ferry.txt\n"
    assert run("collection", "rename", "harbours", "ferries").out == "ferries: ferry.txt\n"
    refused = run("collection", "remove", "ferries")
    assert (refused.code, "add --yes" in refused.err) == (1, True)
    assert run("collection", "remove", "ferries", "--yes").code == 0
    assert json.loads(run("list", "--json").out)  # the documents stay


def test_a_document_that_is_removed_while_collections_are_listed_is_left_out(
    run: Run, report, tmp_path, home, monkeypatch
) -> None:
    other = tmp_path / "ferry.txt"
    other.write_text("The ferry to the islands calls twice a day.")
    for file in (report, other):
        run("add", file, "--no-embed")
    run("collection", "add", "harbours", "harbour.txt", "ferry.txt")
    every = Collections.all

    def then_removed(self: Collections) -> list[Collection]:
        found = every(self)
        with Library(home) as library:
            library.remove(library.find("harbour.txt"))
        return found

    monkeypatch.setattr(Collections, "all", then_removed)
    listed = run("collection", "list", "--json")
    assert listed.code == 0, listed.err
    assert json.loads(listed.out)[0]["documents"] == ["ferry.txt"]


def test_a_collection_that_is_not_there_is_named_with_those_that_are(run: Run, report) -> None:
    run("add", report, "--no-embed")
    run("collection", "add", "a", "harbour.txt")
    failed = run("ask", "--collection", "b", "What?")
    assert (failed.code, failed.err) == (1, "longleaf: b: no such collection; there are: a\n")


def test_a_page_range_restricts_what_is_asked(run: Run, report) -> None:
    run("add", report, "--no-embed")
    answer = json.loads(
        run("ask", report, "How many tonnes does the largest crane lift?", "--pages", "2", "--json").out
    )
    assert {citation["page"] for citation in answer["citations"] + answer["nearest"]} <= {2}
    assert "no page range" in run("ask", report, "What?", "--pages", "x").err
    assert "there is no page 9" in run("ask", report, "What?", "--pages", "9-10").err
