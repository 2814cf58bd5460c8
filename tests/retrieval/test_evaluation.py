"""The walk of whole evaluations over a document of two pages: answers, stages where they are lost, and figures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longleaf.errors import QuestionError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer, Scope
from longleaf.retrieval.evaluation import (
    Cited,
    Evaluation,
    Given,
    Options,
    Outcome,
    cases,
    compare,
    figures,
    seconds,
    stage_of,
    without_pages,
)
from longleaf.retrieval.question_file import Question

from .test_answer import REPORT, ScriptedReader

OTHER = "The quay at Odense is 400 metres long. The quay has two railway tracks."
CRANE = Question("crane", "Where was the largest crane built?", "harbour.txt", (1,), ("Odense",))
REVENUE = Question("revenue", "What was the total revenue in 2024?", "harbour.txt", (2,), ("11,717",))
NOWHERE = Question("nowhere", "Who paints the lighthouse?", "harbour.txt", answerable=False)


@pytest.fixture
def documents(library: Library, tmp_path: Path) -> dict[str, Document]:
    texts = {"harbour.txt": REPORT, "quay.txt": OTHER}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: library.add(tmp_path / name).document for name in texts}


@pytest.fixture
def evaluate(library: Library, documents: dict[str, Document]) -> Callable[..., Outcome]:
    def evaluate(question: Question, reply: str, says_yes: float = 0.9, **options: Any) -> Outcome:
        answerer = Answerer(library, ScriptedReader(reply, says_yes), embedder=None)
        with Evaluation(answerer, documents, Options(**options)) as evaluation:
            evaluation.prepare()
            return evaluation.run(question)

    return evaluate


# --- The run


def test_a_right_answer_is_right_at_every_stage(evaluate: Callable[..., Outcome]) -> None:
    outcome = evaluate(REVENUE, "11,717")
    assert outcome.ranks == ((2, 1),)
    assert outcome.pages[0] == ("harbour.txt", 2, True)
    assert outcome.given is not None
    assert [(c.page, c.gold) for c in outcome.given.citations] == [(2, True)]
    assert stage_of(REVENUE, outcome) is None
    answers = {name: figure.value for name, figure in figures([(REVENUE, outcome)])["answers"].items()}
    assert answers["answered"] == answers["right"] == answers["citation_page_hit"] == 1
    assert answers["quote_contains_gold"] == answers["exact_match"] == answers["f1"] == 1


def test_retrieval_only_asks_no_reader(library: Library, documents: dict[str, Document]) -> None:
    reader = ScriptedReader("11,717")
    with Evaluation(Answerer(library, reader, None), documents, Options(retrieval_only=True)) as evaluation:
        evaluation.prepare()
        outcome = evaluation.run(REVENUE)
    assert reader.shown == []
    assert outcome.given is None
    assert set(figures([(REVENUE, outcome)])) == {"retrieval"}
    assert set(seconds([outcome])) == {"search"}


def test_the_scope_of_all_documents_counts_only_the_pages_of_the_right_one(evaluate: Callable[..., Outcome]) -> None:
    question = Question("quay", "How long is the quay at Odense?", "quay.txt", (1,), ("400 metres",))
    outcome = evaluate(question, "400 metres", scope="all")
    assert {(name, page): gold for name, page, gold in outcome.pages} == {
        ("quay.txt", 1): True,
        ("harbour.txt", 1): False,
    }


def test_with_the_gold_page_taken_away_nothing_is_found_and_the_library_stays_as_it_was(
    library: Library, documents: dict[str, Document]
) -> None:
    answerer = Answerer(library, ScriptedReader("11,717"), None)
    answerer.prepare(list(documents.values()))
    before = list(library.connection().iterdump())
    for route in ("retrieval", "whole-document"):
        with Evaluation(answerer, documents, Options(take_away="pages", route=route)) as evaluation:
            outcomes = [evaluation.run(REVENUE), evaluation.run(REVENUE)]
        for outcome in outcomes:  # the second time the page was back in its place
            assert outcome.given is not None
            assert outcome.absent is not None
            assert (outcome.given.found, outcome.absent.found) == (True, False)
            assert all(place.page == 1 for place in outcome.absent.nearest)
    # Token counts are all that asking leaves in the library.
    after = [line for line in library.connection().iterdump() if "token_counts" not in line]
    assert after == [line for line in before if "token_counts" not in line]


def test_with_its_page_away_a_question_is_asked_as_before(library: Library, documents: dict[str, Document]) -> None:
    reader = ScriptedReader("11,717", context_tokens=4_000)
    shown = {}
    for evidence_tokens in (0, 1_000):
        reader.shown.clear()
        answerer = Answerer(library, reader, None, evidence_tokens=evidence_tokens)
        with Evaluation(answerer, documents, Options(take_away="pages", route="retrieval")) as evaluation:
            evaluation.prepare()
            evaluation.run(replace(REVENUE, text="What did crane hire bring the board that owns the largest crane?"))
        shown[evidence_tokens] = [len(str(messages)) for messages in reader.shown]
    # Single sentences, then whole sections: of page 1, where page 2 is away, too.
    assert [wide > narrow for wide, narrow in zip(shown[1_000], shown[0], strict=True)] == [True, True]


def test_pages_taken_out_come_back_with_passages_vectors_and_words(
    library: Library, documents: dict[str, Document]
) -> None:
    document, store = documents["harbour.txt"], Answerer(library, None, None).store
    store.cut(document)
    rows = library.connection().execute("SELECT id FROM passages WHERE page = 2").fetchall()
    for row in rows:
        library.connection().execute("INSERT INTO embeddings VALUES (?, 'e', x'00')", (row["id"],))
    tables = ("pages", "page_boxes", "passages", "embeddings")

    def dump() -> list[list[tuple[object, ...]]]:
        return [
            [tuple(row) for row in library.connection().execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()]
            for table in tables
        ]

    before, words = dump(), store.full_text(["revenue", "cranes"], Scope.of([document]))
    with without_pages(library, document, [2]):
        assert not library.page(document, 2).text
        assert library.page(document, 1).text
        assert not store.full_text(["revenue"], Scope.of([document])).scores
        assert not library.connection().execute("SELECT 1 FROM embeddings").fetchone()
    assert dump() == before
    assert store.full_text(["revenue", "cranes"], Scope.of([document])) == words


def test_with_pages_out_passages_and_tokens_are_counted_anew(library: Library, documents: dict[str, Document]) -> None:
    document, answerer = documents["harbour.txt"], Answerer(library, ScriptedReader("11,717"), None)
    store, scope = answerer.store, Scope.of([document])
    n_passages = store.cut(document)
    n_there = library.connection().execute("SELECT count(*) FROM passages WHERE page = 1").fetchone()[0]
    assert 0 < n_there < n_passages
    store.keep_token_count(document, "t", 900)
    with without_pages(library, document, [2]):
        assert store.count(scope) == n_there
        assert store.cut(document) == n_there  # and is not cut again
        assert answerer.search(answerer.pose(REVENUE.text, [document])).found.n_passages == n_there
        assert store.token_count(document, "t") is None
        store.keep_token_count(document, "t", 400)
        store.keep_token_count(document, "u", 300)
    assert store.count(scope) == n_passages
    assert (store.token_count(document, "t"), store.token_count(document, "u")) == (900, None)


def test_a_document_taken_away_leaves_the_others_to_be_asked(evaluate: Callable[..., Outcome]) -> None:
    question = replace(CRANE, text="Which crane stands on the quay at Odense?")
    absent = evaluate(question, "Not in the text.", scope="all", take_away="document").absent
    assert absent is not None
    assert {place.document for place in (*absent.nearest, *absent.citations)} == {"quay.txt"}


def test_the_only_document_cannot_be_taken_away(library: Library, documents: dict[str, Document]) -> None:
    with pytest.raises(QuestionError, match="scope 'all'"):
        Evaluation(Answerer(library, None, None), documents, Options(take_away="document"))


def test_an_outcome_survives_json(evaluate: Callable[..., Outcome]) -> None:
    outcome = evaluate(REVENUE, "11,717", take_away="pages")
    assert Outcome.from_dict(json.loads(json.dumps(outcome.to_dict()))) == outcome


def test_a_question_that_cannot_be_asked_is_lost_alone(library: Library, documents: dict[str, Document]) -> None:
    answerer = Answerer(library, ScriptedReader("x", context_tokens=240), None)
    with Evaluation(answerer, documents, Options(route="whole-document")) as evaluation:
        evaluation.prepare()
        outcome = evaluation.run(CRANE)
    assert "the whole document has" in outcome.error
    assert stage_of(CRANE, outcome) == "error"
    assert figures([(CRANE, outcome)])["answers"]["answered"].value == 0


# --- Stages


def test_a_wrong_reply_to_what_was_shown_is_the_readers_loss(evaluate: Callable[..., Outcome]) -> None:
    assert stage_of(REVENUE, evaluate(REVENUE, "Not in the text.")) == "reader"
    assert stage_of(REVENUE, evaluate(REVENUE, "7,990")) == "reader"


def test_a_right_reply_that_was_rejected_is_the_checks_loss(library: Library, documents: dict[str, Document]) -> None:
    answerer = Answerer(library, ScriptedReader("11,717"), None, min_confidence=1.0)
    with Evaluation(answerer, documents) as evaluation:
        evaluation.prepare()
        outcome = evaluation.run(REVENUE)
    assert stage_of(REVENUE, outcome) == "check"


def test_a_right_reply_from_another_page_is_the_citations_loss(evaluate: Callable[..., Outcome]) -> None:
    question = replace(CRANE, pages=(2,))
    assert stage_of(question, evaluate(question, "Odense")) == "citation"


def test_a_page_that_search_does_not_return_is_its_loss(evaluate: Callable[..., Outcome]) -> None:
    question = Question("q", "Where was the largest crane built?", "harbour.txt", (2,), ("11,717",))
    outcome = evaluate(question, "Not in the text.", top_k=1, route="retrieval")
    assert not outcome.reached
    assert stage_of(question, outcome) == "search"
    assert stage_of(question, evaluate(question, "", top_k=1, retrieval_only=True)) == "search"


def test_a_page_that_was_read_whole_is_never_searchs_loss(evaluate: Callable[..., Outcome]) -> None:
    question = Question("q", "Where was the largest crane built?", "harbour.txt", (2,), ("11,717",))
    assert stage_of(question, evaluate(question, "Not in the text.", top_k=1)) == "reader"


def test_a_page_that_was_found_and_not_shown_is_the_pickings_loss() -> None:
    given = Given(False, "Not found", "Malmö", False, 0.1, "retrieval", (), (), False, {})
    outcome = Outcome("crane", ((1, 4),), True, (), (), 0.1, given)
    assert stage_of(CRANE, outcome) == "evidence"
    assert stage_of(CRANE, replace(outcome, unread=(1,))) == "ingestion"


def test_a_page_without_text_is_ingestions_loss(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "gaps.txt"
    file.write_text("The board owns four cranes.\f \fThe quay is long.")
    documents = {"gaps.txt": library.add(file).document}
    question = Question("gap", "Who painted the lighthouse?", "gaps.txt", (2,), ("Munch",))
    with Evaluation(Answerer(library, None, None), documents) as evaluation:
        evaluation.prepare()
        outcome = evaluation.run(question)
    assert outcome.unread == (2,)
    assert stage_of(question, outcome) == "ingestion"


def test_an_answer_where_there_is_none_is_lost_and_not_found_is_not(evaluate: Callable[..., Outcome]) -> None:
    question = replace(REVENUE, answerable=False, pages=(), answers=())
    assert stage_of(question, evaluate(question, "11,717")) == "false answer"
    assert stage_of(NOWHERE, evaluate(NOWHERE, "Not in the text.")) is None


def test_cases_come_in_the_order_of_the_walk_with_those_taken_away(evaluate: Callable[..., Outcome]) -> None:
    wrong, right = evaluate(REVENUE, "7,990"), evaluate(CRANE, "Odense")
    given = right.given
    assert given is not None
    lost = cases([(CRANE, replace(right, absent=given)), (REVENUE, wrong)])
    assert [(f.question.id, f.stage, f.taken_away) for f in lost] == [
        ("revenue", "reader", False),
        ("crane", "false answer", True),
        ("crane", None, False),
    ]


# --- Figures over several questions


def outcome_of(
    question: Question, *, found: bool, reply: str, refused: bool, absent_found: bool | None = None
) -> Outcome:
    cited = (Cited("harbour.txt", question.pages[0], f"so it is {reply}", gold=True),) if question.pages else ()
    given = Given(found, reply, reply, refused, 0.9, "retrieval", cited if found else (), (), True, {"total": 2.0})
    absent = None if absent_found is None else replace(given, found=absent_found, refused=False)
    return Outcome(question.id, tuple((p, 1) for p in question.pages), True, (), (), 0.1, given, absent)


def test_precision_and_recall_of_not_found_and_what_the_check_adds() -> None:
    pairs = [
        (CRANE, outcome_of(CRANE, found=True, reply="Odense", refused=False, absent_found=False)),
        (REVENUE, outcome_of(REVENUE, found=False, reply="11,717", refused=False, absent_found=True)),
        (NOWHERE, outcome_of(NOWHERE, found=False, reply="Not in the text", refused=True)),
    ]
    found = {section: {name: f.value for name, f in each.items()} for section, each in figures(pairs).items()}
    # "not found" three times, twice where it is so; three questions have no answer to be found.
    assert found["not_found"] == {"precision": pytest.approx(2 / 3, abs=1e-4), "recall": pytest.approx(2 / 3, abs=1e-4)}
    # The reader alone refuses once, rightly, and answers both times when the page is gone.
    assert found["not_found_reader_alone"] == {"precision": 1.0, "recall": pytest.approx(1 / 3, abs=1e-4)}
    assert found["answers"]["answered"] == found["answers"]["right"] == 0.5
    assert found["answers"]["right_of_given"] == 0.5  # one right, one invented with its page away
    assert found["answers_reader_alone"]["right_of_given"] == 0.5  # two right, two invented
    assert found["answers"]["f1"] == 0.5
    assert found["answers_reader_alone"]["f1"] == 1.0


def test_seconds_are_median_and_ninetieth_percentile_by_step() -> None:
    base = outcome_of(CRANE, found=True, reply="Odense", refused=False)
    assert base.given is not None
    outcomes = [replace(base, given=replace(base.given, seconds={"total": float(i)})) for i in range(1, 11)]
    assert seconds(outcomes) == {"total": {"median": 5.0, "p90": 9.0}}


@pytest.mark.parametrize(
    ("here", "there", "split", "p"),
    [
        ("rrr", "rrr", (3, 0, 0, 0), 1.0),
        ("rrrrrrl", "llllllr", (0, 6, 1, 0), 0.125),  # scipy.stats.binomtest(1, 7).pvalue
        ("rrrrrrrrrl", "rllllllllx", (1, 8, 0, 0), 0.0078),  # the last was not asked there; binomtest(0, 8)
        ("", "", (0, 0, 0, 0), 1.0),
    ],
)
def test_two_runs_are_compared_by_what_only_one_of_them_had_right(
    here: str, there: str, split: tuple[int, ...], p: float
) -> None:
    asked = [replace(REVENUE, id=str(n)) for n in range(len(here))]

    def run(letters: str) -> dict[str, Outcome]:
        return {
            q.id: outcome_of(q, found=letter == "r", reply="11,717", refused=letter != "r")
            for q, letter in zip(asked, letters, strict=True)
            if letter != "x"
        }

    told = compare(asked, run(here), run(there))
    assert (told["both"], told["here"], told["there"], told["neither"]) == split
    assert (told["cases"], told["p"]) == (sum(split), p)


def test_what_was_taken_away_is_compared_with_the_same() -> None:
    one = {"revenue": outcome_of(REVENUE, found=True, reply="11,717", refused=False, absent_found=True)}
    other = {"revenue": outcome_of(REVENUE, found=True, reply="11,717", refused=False, absent_found=False)}
    told = compare([REVENUE], one, other)
    assert (told["cases"], told["both"], told["there"]) == (2, 1, 1)
