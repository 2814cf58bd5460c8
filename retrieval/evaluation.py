"""How well Longleaf answers: questions with known answers and pages go in, figures and lost questions come out.

Asks each question through the same `search` and `Answerer` as everybody else, and says of every question that was lost
at which stage it was lost. Questions come from `question_file`, single measures from `metrics`. Knows nothing of
folders of documents, tables or report pages, and prints nothing; whoever calls it adds the documents to a library.
"""

import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from longleaf.errors import ContextOverflowError, QuestionError
from longleaf.ingestion import Document, Library

from .answer import Answerer
from .citations import Citation
from .metrics import (
    Figure,
    PageKey,
    agrees,
    distinct_pages,
    exact_match,
    holds,
    normalised,
    ranks_of,
    retrieval_figures,
    shares,
    token_f1,
)
from .question_file import Question
from .scope import Scope
from .search import search
from .support import says_not_in_text

__all__ = [
    "DEPTH",
    "STAGES",
    "Case",
    "Cited",
    "Evaluation",
    "Given",
    "Options",
    "Outcome",
    "Stage",
    "cases",
    "compare",
    "figures",
    "is_right",
    "normalised",
    "seconds",
    "stage_of",
    "token_f1",
    "without_pages",
]

DEPTH = 200
"""Passages looked through for the rank of a gold page."""
PAGES_KEPT = 20
"""Of the pages found, so many are kept with an outcome."""

Stage = Literal["error", "ingestion", "search", "evidence", "reader", "check", "citation", "false answer"]
STAGES: Mapping[Stage, str] = {
    "error": "not asked: the question could not be asked at all",
    "ingestion": "not in the text: no gold page has readable text",
    "search": "not found by search: no gold page among the pages of the first passages",
    "evidence": "evidence not picked: a gold page was found, but nothing of one was shown to the reader",
    "reader": "reader: the text was shown, yet the reply is wrong or a refusal",
    "check": "check: a right reply was rejected",
    "citation": "citation: a right reply with the wrong page",
    "false answer": "false answer: an answer was given where there is none",
}
"""Where a question can be lost, in the order of the walk, in words."""


@dataclass(frozen=True, slots=True)
class Options:
    """How questions are asked.

    Attributes:
        scope: "document" asks each question's own document, "all" all of them.
        retrieval_only: Searches and asks no reader.
        take_away: Asks each answerable question a second time, without the passages of its gold pages or without its
            document: what is then answered is invented.
        route: As for `Answerer.ask`.
        top_k: Passages searched for evidence.
    """

    scope: Literal["document", "all"] = "document"
    retrieval_only: bool = False
    take_away: Literal["nothing", "pages", "document"] = "nothing"
    route: Literal["auto", "whole-document", "retrieval"] = "auto"
    top_k: int = 12


@dataclass(frozen=True, slots=True)
class Cited:
    """A place that was cited, and whether its page is a gold page."""

    document: str
    page: int
    quote: str
    gold: bool


@dataclass(frozen=True, slots=True)
class Given:
    """What was answered.

    Attributes:
        found: Whether an answer was given rather than "not found".
        answer: As shown to the user.
        reply: What the reader wrote, rejected or not.
        refused: The reader itself replied that the text has no answer.
        confidence: In [0, 1].
        route: The way taken.
        citations: Of the answer; none where nothing was found.
        nearest: Where nothing was found: the places that came nearest.
        shown_gold: Whether the reader was shown something of a gold page.
        seconds: By step, and in all.
    """

    found: bool
    answer: str
    reply: str
    refused: bool
    confidence: float
    route: str
    citations: tuple[Cited, ...]
    nearest: tuple[Cited, ...]
    shown_gold: bool
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question: a line of results.jsonl.

    Attributes:
        id: The question's.
        ranks: Each gold page with its rank (from 1) among the distinct pages of the first 200 passages; None where it
            is not among them.
        reached: Whether a gold page is among the pages of the passages that are searched for evidence.
        unread: Gold pages without readable text.
        pages: The first distinct pages found: document, page, whether it is a gold page.
        seconds_search: Of the search for these ranks.
        given: The answer; None where only retrieval was measured.
        absent: The answer with the gold pages or document taken away; None where that was not asked.
        error: Why the question could not be asked; "" where it could.
    """

    id: str
    ranks: tuple[tuple[int, int | None], ...]
    reached: bool
    unread: tuple[int, ...]
    pages: tuple[tuple[str, int, bool], ...]
    seconds_search: float
    given: Given | None = None
    absent: Given | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Outcome":
        """The outcome that `to_dict` gave.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another kind.
        """
        return cls(
            id=row["id"],
            ranks=tuple((page, rank) for page, rank in row["ranks"]),
            reached=row["reached"],
            unread=tuple(row["unread"]),
            pages=tuple((name, page, gold) for name, page, gold in row["pages"]),
            seconds_search=row["seconds_search"],
            given=_given_from(row["given"]),
            absent=_given_from(row["absent"]),
            error=row["error"],
        )


def _given_from(row: Mapping[str, Any] | None) -> Given | None:
    if row is None:
        return None
    places = {name: tuple(Cited(**place) for place in row[name]) for name in ("citations", "nearest")}
    return Given(**{**row, **places})


# --- Figures over outcomes -------------------------------------------------------------------------------------------

Pair = tuple[Question, Outcome]


def figures(pairs: Sequence[Pair], *, with_reader: bool = True) -> dict[str, dict[str, Figure]]:
    """All figures, in sections; a figure for which there is no question is left out.

    Args:
        pairs: Questions with their outcomes; those that could not be asked count as not answered.
        with_reader: Adds what the reader's replies alone come to, believed as they stand: the difference is what the
            check of citations and confidence is worth.
    """
    placed = [o for q, o in pairs if q.answerable and q.pages]
    sections = {"retrieval": retrieval_figures([[rank for _, rank in o.ranks] for o in placed])}
    if any(o.given or o.error for _, o in pairs):
        checked = [_Judged(q, g, g.found, is_right(q, g), g.answer) for q, g in _asked(pairs)]
        there = [j for j in checked if j.question.answerable]
        sections["answers"] = _answer_figures(checked, _absent(pairs)) | shares(
            {
                "citation_page_hit": [any(c.gold for c in j.given.citations) for j in there if j.question.pages],
                "quote_contains_gold": [
                    holds(" ".join(c.quote for c in j.given.citations), j.question.answers)
                    for j in there
                    if j.question.answers
                ],
            }
        )
        sections["not_found"] = _not_found_figures(checked, _absent(pairs))
        if with_reader:
            alone = [
                _Judged(q, g, not g.refused, _reply_is_right(q, g), g.reply)
                for q, g in _asked(pairs)
                if q.answers or not q.answerable  # pages alone say nothing of a reply's words
            ]
            absent = [replace(g, found=not g.refused) for g in _absent(pairs)]
            sections["answers_reader_alone"] = _answer_figures(alone, absent)
            sections["not_found_reader_alone"] = _not_found_figures(alone, absent)
    return {name: section for name, section in sections.items() if section}


@dataclass(frozen=True, slots=True)
class _Judged:
    """An answer as one of the two judges (check, or reader alone) let it through."""

    question: Question
    given: Given
    is_given: bool
    is_right: bool
    text: str


def _asked(pairs: Sequence[Pair]) -> list[tuple[Question, Given]]:
    return [(q, o.given or _NOTHING) for q, o in pairs if o.given or (o.error and q.answerable)]


def _absent(pairs: Sequence[Pair]) -> list[Given]:
    return [o.absent for _, o in pairs if o.absent]


def _answer_figures(judged: Sequence[_Judged], absent: Sequence[Given]) -> dict[str, Figure]:
    there = [j for j in judged if j.question.answerable]
    texts = [(j.text if j.is_given else "", j.question.answers) for j in there if j.question.answers]
    given = [float(j.is_right) for j in judged if j.is_given] + [0.0 for g in absent if g.found]
    return shares(
        {
            "answered": [j.is_given for j in there],
            "right": [j.is_given and j.is_right for j in there],
            "right_of_given": given,
            "exact_match": [exact_match(text, gold) for text, gold in texts],
            "f1": [token_f1(text, gold) for text, gold in texts],
        }
    )


def _not_found_figures(judged: Sequence[_Judged], absent: Sequence[Given]) -> dict[str, Figure]:
    """Precision and recall of "not found"; positives are the questions whose answer is not there."""
    gone = [not j.is_given for j in judged if not j.question.answerable] + [not g.found for g in absent]
    if not gone:
        return {}
    wrongly = sum(not j.is_given for j in judged if j.question.answerable)
    return shares({"precision": [1.0] * sum(gone) + [0.0] * wrongly, "recall": gone})


def seconds(outcomes: Iterable[Outcome]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile (nearest rank) of each step's seconds, over the first asking of each question."""
    steps: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in (outcome.given.seconds if outcome.given else {"search": outcome.seconds_search}).items():
            steps.setdefault(name, []).append(value)
    return {
        name: {"median": round(_percentile(values, 0.5), 3), "p90": round(_percentile(values, 0.9), 3)}
        for name, values in steps.items()
    }


def _percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[max(math.ceil(part * len(values)) - 1, 0)]


# --- What was lost, and where ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A question as it was asked; with `taken_away`, without its gold pages or document.

    Attributes:
        stage: Where it was lost; None where it was not.
    """

    question: Question
    outcome: Outcome
    given: Given | None
    stage: Stage | None
    taken_away: bool = False


def cases(pairs: Iterable[Pair]) -> list[Case]:
    """All that was asked: what was lost first, in the order of the walk, and then of the file."""
    asked = []
    for question, outcome in pairs:
        asked.append(Case(question, outcome, outcome.given, stage_of(question, outcome)))
        if absent := outcome.absent:
            asked.append(Case(question, outcome, absent, "false answer" if absent.found else None, taken_away=True))
    order = {stage: number for number, stage in enumerate(STAGES)}
    return sorted(asked, key=lambda case: order[case.stage] if case.stage else len(order))


def compare(questions: Iterable[Question], here: Mapping[str, Outcome], there: Mapping[str, Outcome]) -> dict[str, Any]:
    """Two runs on the same questions: in how many cases each was right, or rightly found nothing.

    Args:
        questions: Those not in both runs are left out.
        here: Outcomes of one run, by the questions' ids.
        there: Of the other.

    Returns:
        "cases" in all; of them "both" were not lost, "here" alone, "there" alone, "neither"; "p": the two-sided exact
        p-value of McNemar's test (Psychometrika 12, 1947): how often so uneven a split of the cases in which they
        differ would come of chance.
    """
    kept: list[tuple[bool, bool]] = []
    for question in questions:
        if question.id in here and question.id in there:
            runs = [
                {c.taken_away: c.stage is None for c in cases([(question, run[question.id])])} for run in (here, there)
            ]
            kept += [(runs[0][key], runs[1][key]) for key in runs[0].keys() & runs[1].keys()]
    counts = {name: kept.count(pair) for name, pair in _SPLIT.items()}
    n, least = counts["here"] + counts["there"], min(counts["here"], counts["there"])
    p = min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)
    return {"cases": len(kept), **counts, "p": round(p, 4)}


_SPLIT = {"both": (True, True), "here": (True, False), "there": (False, True), "neither": (False, False)}


def is_right(question: Question, given: Given) -> bool:
    """Whether an answer was given, cites a gold page, and comes to a gold answer in its words or its quotes."""
    if not given.found or not question.answerable:
        return False
    quotes = " ".join(citation.quote for citation in given.citations)
    cites_gold = not question.pages or any(citation.gold for citation in given.citations)
    return cites_gold and (
        not question.answers or agrees(given.reply, question.answers) or holds(quotes, question.answers)
    )


def _reply_is_right(question: Question, given: Given) -> bool:
    """By its words alone, so never where no answer to compare with is given."""
    return question.answerable and not given.refused and agrees(given.reply, question.answers)


def stage_of(question: Question, outcome: Outcome) -> Stage | None:
    """The stage that lost a question; None where it was not lost.

    A right reply is never search's or the reader's loss: it may rest on another page that says the same.
    """
    given = outcome.given
    if outcome.error:
        return "error"
    if not question.answerable:
        return "false answer" if given and given.found else None
    if given is None and (outcome.reached or not question.pages):
        return None
    if given and is_right(question, given):
        return None
    if given and _reply_is_right(question, given):
        return "citation" if given.found else "check"
    if question.pages and len(outcome.unread) == len(question.pages):
        return "ingestion"
    if question.pages and (given is None or not given.shown_gold):
        return "evidence" if outcome.reached else "search"
    return "reader"


_NOTHING = Given(
    found=False, answer="", reply="", refused=True, confidence=0.0, route="", citations=(), nearest=(),
    shown_gold=False, seconds={},
)  # fmt: skip


# --- The run ---------------------------------------------------------------------------------------------------------


class Evaluation:
    """Asks questions whose answers are known.

        with Evaluation(answerer, {"report.pdf": document}) as evaluation:
            evaluation.prepare()
            outcomes = [evaluation.run(question) for question in questions]
        figures(list(zip(questions, outcomes)))

    Args:
        answerer: Searches and answers.
        documents: By the names that questions use.
        options: How to ask.

    Raises:
        QuestionError: The document is to be taken away and would leave nothing to ask.
    """

    def __init__(self, answerer: Answerer, documents: Mapping[str, Document], options: Options | None = None) -> None:
        self.answerer = answerer
        self.documents = documents
        self.options = options or Options()
        self._all = list({document.id: document for document in documents.values()}.values())
        self._copy: _Copy | None = None
        if self.options.take_away == "document" and (self.options.scope != "all" or len(self._all) < 2):
            raise QuestionError(
                "with its only document taken away a question has nothing to be asked of: use the scope 'all' and two "
                "documents or more, or take away the gold pages alone"
            )

    def __enter__(self) -> "Evaluation":
        return self

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()

    def prepare(self, progress: Callable[[str, int, int], None] | None = None) -> None:
        """Cuts and embeds what is not yet."""
        self.answerer.prepare(self._all, progress)

    def run(self, question: Question) -> Outcome:
        """Searches for a question and, unless only retrieval is measured, answers it."""
        answerer, options = self.answerer, self.options
        documents = [self.documents[question.document]] if question.document else self._all
        asked = documents if options.scope == "document" else self._all
        gold = [(documents[0].id, page) for page in question.pages]
        begun = time.perf_counter()
        depth = max(DEPTH, options.top_k)
        hits = search(
            question.text,
            Scope.of(asked),
            answerer.store,
            answerer.embedder,
            depth,
            cross_encoder=answerer.cross_encoder,
        ).hits
        seconds_search = time.perf_counter() - begun
        ranked = distinct_pages(hits)
        names = {document.id: document.name for document in asked}
        outcome = Outcome(
            id=question.id,
            ranks=tuple(zip(question.pages, ranks_of(gold, ranked), strict=True)),
            reached=not set(gold).isdisjoint(distinct_pages(hits[: options.top_k])),
            unread=self._unread(documents[0], question.pages),
            pages=tuple((names[key[0]], key[1], key in gold) for key in ranked[:PAGES_KEPT]),
            seconds_search=round(seconds_search, 4),
        )
        if options.retrieval_only:
            return outcome
        try:
            given = self._ask(answerer, question, asked)
            if question.answerable and not is_right(question, given):
                given = replace(given, shown_gold=not self._shown(question, asked).isdisjoint(gold))
            absent = self._ask_without(question, asked)
        except (QuestionError, ContextOverflowError) as exc:  # this question's own trouble: the others go on
            return replace(outcome, error=str(exc))
        return replace(outcome, given=given, absent=absent)

    def _unread(self, document: Document, pages: Iterable[int]) -> tuple[int, ...]:
        stored = {number: self.answerer.library.page(document, number) for number in pages}
        return tuple(number for number, page in stored.items() if page.source == "none" or not page.text.strip())

    def _ask(self, answerer: Answerer, question: Question, asked: Sequence[Document]) -> Given:
        answer = answerer.ask(question.text, asked, route=self.options.route, top_k=self.options.top_k)
        document = self.documents.get(question.document)
        gold = {(document.sha256, page) for page in question.pages} if document else set()
        return Given(
            found=answer.found,
            answer=answer.answer,
            reply=answer.reply,
            refused=says_not_in_text(answer.reply) or not answer.reply.strip(),
            confidence=answer.confidence,
            route=answer.route.name,
            citations=_places(answer.citations, gold),
            nearest=_places(answer.nearest, gold),
            shown_gold=any((c.sha256, c.page) in gold for c in answer.citations),
            seconds=dict(answer.receipt.seconds),
        )

    def _shown(self, question: Question, asked: Sequence[Document]) -> frozenset[PageKey]:
        """The pages that the reader sees something of: the steps up to its turn, walked again."""
        answerer = self.answerer
        posed = answerer.pose(question.text, asked, route=self.options.route, top_k=self.options.top_k)
        return answerer.pick(posed, answerer.route(posed), answerer.search(posed)).pages

    def _ask_without(self, question: Question, asked: Sequence[Document]) -> Given | None:
        if not question.answerable or not question.document or self.options.take_away == "nothing":
            return None
        document = self.documents[question.document]
        if self.options.take_away == "document":
            return self._ask(self.answerer, question, [other for other in asked if other.id != document.id])
        if not question.pages:
            return None
        if self._copy is None:
            self._copy = _Copy(self.answerer)
        with without_pages(self._copy.answerer.library, document, question.pages):
            return self._ask(self._copy.answerer, question, asked)


def _places(citations: Iterable[Citation], gold: set[tuple[str, int]]) -> tuple[Cited, ...]:
    return tuple(Cited(c.document, c.page, c.quote, (c.sha256, c.page) in gold) for c in citations)


class _Copy:
    """A copy of a library's database that pages may be taken out of, with an answerer of its own.

    In the library itself nothing may be taken away, not even inside a transaction that is rolled back: nobody else
    could write meanwhile, and a vector index that caught up with it would stay wrong. Vectors are searched in the
    embedded index, also where the answerer's own are in PostgreSQL: nothing of the copy is to get there.
    """

    def __init__(self, answerer: Answerer) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="longleaf-eval-")
        home = Path(self._folder.name)
        target = sqlite3.connect(home / "longleaf.db")
        try:
            answerer.library.connection().backup(target)
        finally:
            target.close()
        self.answerer = Answerer(
            Library(home),
            answerer.reader,
            answerer.embedder,
            min_confidence=answerer.min_confidence,
            evidence_tokens=answerer.evidence_tokens,
            cross_encoder=answerer.cross_encoder,
        )

    def close(self) -> None:
        self.answerer.library.close()
        self._folder.cleanup()


@contextmanager
def without_pages(library: Library, document: Document, pages: Sequence[int]) -> Iterator[None]:
    """Takes text and passages of some pages out of a library while the block runs, and puts them back.

    How many passages there are goes along; what is counted of the document's tokens meanwhile is forgotten afterwards.
    Committed both times, so that whatever follows the library's changes follows these: use it on a copy.
    """
    marks = ",".join("?" * len(pages))
    of_pages = f"document_id = ? AND number IN ({marks})"
    of_passages = f"document_id = ? AND page IN ({marks})"
    values = (document.id, *pages)
    kept: dict[str, list[sqlite3.Row]] = {}
    with library.transaction() as connection:
        for table, where in (
            ("pages", of_pages),
            ("page_boxes", of_pages),
            ("passages", of_passages),
            ("passage_sets", "document_id = ?"),
            ("token_counts", "document_id = ?"),
            ("embeddings", f"passage_id IN (SELECT id FROM passages WHERE {of_passages})"),
        ):
            kept[table] = connection.execute(
                f"SELECT * FROM {table} WHERE {where}", values[: where.count("?")]
            ).fetchall()
        connection.execute(f"DELETE FROM passages WHERE {of_passages}", values)  # their vectors go along
        connection.execute(
            "UPDATE passage_sets SET n_passages = n_passages - ? WHERE document_id = ?",
            (len(kept["passages"]), document.id),
        )
        connection.execute("DELETE FROM token_counts WHERE document_id = ?", (document.id,))
        connection.execute(f"DELETE FROM page_boxes WHERE {of_pages}", values)
        connection.execute(f"UPDATE pages SET text = '' WHERE {of_pages}", values)
    try:
        yield
    finally:
        with library.transaction() as connection:
            for table in ("passage_sets", "token_counts"):
                connection.execute(f"DELETE FROM {table} WHERE document_id = ?", (document.id,))
            for row in kept.pop("pages"):
                connection.execute(
                    "UPDATE pages SET text = ? WHERE document_id = ? AND number = ?",
                    (row["text"], row["document_id"], row["number"]),
                )
            for table, rows in kept.items():
                for row in rows:
                    columns = ", ".join(row.keys())
                    connection.execute(
                        f"INSERT INTO {table} ({columns}) VALUES ({','.join('?' * len(row))})", tuple(row)
                    )
