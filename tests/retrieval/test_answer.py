"""The walk of a question with a reader whose replies are given: what is done with a reply is what is tested here."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from longleaf.errors import QuestionError
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answer, Answerer, Scope
from longleaf.retrieval.support import says_not_in_text

REPORT = """\
Annual Report of the Harbour Board

The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.
Ice closed the harbour for nine days in February.
\f\
Results
(in thousands of crowns)
2024 2023
Berth fees 8,412 7,990
Crane hire 3,305 3,118
Total revenue 11,717 11,108
Revenue rose because more ferries called.
"""


class ScriptedReader:
    """Gives the replies it was given, and remembers what it was shown."""

    model_name = "scripted"

    def __init__(self, reply: str, says_yes: float = 0.9, context_tokens: int = 600) -> None:
        self.reply, self.says_yes, self.context_tokens = reply, says_yes, context_tokens
        self.shown: list[Sequence[BaseMessage]] = []

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def invoke(
        self, messages: Sequence[BaseMessage], config: Any = None, *, max_tokens: int, on_read: Any, should_stop: Any
    ) -> AIMessage:
        self.shown.append(messages)
        usage = {"input_tokens": 50, "output_tokens": 5, "total_tokens": 55, "input_token_details": {"cache_read": 20}}
        return AIMessage(self.reply, usage_metadata=usage)  # type: ignore[arg-type]

    def stream(self, messages: Sequence[BaseMessage], config: Any = None, **options: Any) -> Iterator[AIMessageChunk]:
        self.shown.append(messages)
        for word in self.reply.split(" "):
            if options["should_stop"] and options["should_stop"]():
                yield AIMessageChunk(content="", response_metadata={"finish_reason": "cancelled"})
                return
            yield AIMessageChunk(content=word + " ")

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        return {"yes": self.says_yes, "no": 1 - self.says_yes}


Ask = Callable[..., Answer]


@pytest.fixture
def report(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "harbour.txt"
    file.write_text(REPORT)
    return library.add(file).document


@pytest.fixture
def ask(library: Library, report: Document) -> Ask:
    def ask(question: str, reply: str, says_yes: float = 0.9, context_tokens: int = 600, **options: Any) -> Answer:
        reader = ScriptedReader(reply, says_yes, context_tokens)
        return Answerer(library, reader, embedder=None).ask(question, [report], **options)

    return ask


def test_a_reply_that_stands_on_the_page_is_cited_there(ask: Ask, library: Library, report: Document) -> None:
    answer = ask("What was the total revenue in 2024?", "11,717")
    assert answer.found
    (citation,) = answer.citations
    assert (citation.page, citation.quote, citation.verified) == (2, "Total revenue 11,717 11,108", True)
    assert library.page(report, 2).text[citation.start : citation.end] == citation.quote
    assert answer.statements[0].citations == (0,)


def test_a_figure_that_is_nowhere_is_not_found_whatever_the_reader_says(ask: Ask) -> None:
    answer = ask("What was the total revenue in 2024?", "11,999", says_yes=1.0)
    assert not answer.found
    assert answer.citations == ()
    assert answer.reply == "11,999"
    assert answer.nearest[0].page == 2


def test_a_reader_that_says_it_is_not_there_is_believed(ask: Ask) -> None:
    answer = ask("What was the total revenue in 2024?", "Not in the text.")
    assert not answer.found
    assert answer.citations == ()


@pytest.mark.parametrize(
    ("reply", "declines"),
    [
        ("not in the text", True),
        ("**Not in the text.**", True),
        ("No, not in the text", True),
        ("The answer to this question is not in the text.", True),
        ("The fee for 4.50 kg is not mentioned in the text.", True),
        ("The text does not say who signed.", True),
        ("Sales were 5 million; those of 2023 are not in the text.", False),
        ("Sales rose and profits are not in the text", False),
        ("The notes are not in the text volume but in an annex.", False),
        ("Nothing in the text changed.", False),
        ("", False),
    ],
)
def test_which_replies_decline(reply: str, declines: bool) -> None:
    assert says_not_in_text(reply) is declines


def test_an_unsupported_statement_is_marked_and_the_supported_one_cited(ask: Ask) -> None:
    answer = ask("Where was the largest crane built?", "It was built in Odense in 1998. It cost 77 million crowns.")
    assert [statement.supported for statement in answer.statements] == [True, False]
    assert [citation.page for citation in answer.citations] == [1]


def test_a_document_that_fits_is_read_whole_and_every_page_counts_as_read(ask: Ask) -> None:
    answer = ask("Where was the largest crane built?", "Odense")
    assert answer.route.name == "whole-document"
    assert answer.receipt.pages_read == answer.receipt.pages_total == 2
    assert answer.receipt.pages_dropped == 0


def test_a_document_that_does_not_fit_goes_through_retrieval_and_the_reason_says_so(ask: Ask) -> None:
    answer = ask("Where was the largest crane built?", "Odense", context_tokens=240)
    assert answer.route.name == "retrieval"
    assert "run with a context of 240" in answer.route.reason
    assert [citation.page for citation in answer.citations] == [1]


def test_the_document_stands_before_the_question_with_its_pages_marked(library: Library, report: Document) -> None:
    reader = ScriptedReader("Odense")
    Answerer(library, reader, embedder=None).ask("Where was the largest crane built?", [report])
    system, human = (str(message.content) for message in reader.shown[0])
    assert system.index("[page 1]") < system.index("[page 2]")
    assert "Where was the largest crane built?" in human
    assert "Where was the largest crane built?" not in system


def test_two_documents_that_fit_stand_under_their_names(library: Library, report: Document, tmp_path: Path) -> None:
    other_file = tmp_path / "other.txt"
    other_file.write_text("The quay at Odense is 400 metres long.")
    other = library.add(other_file).document
    reader = ScriptedReader("400 metres")
    answer = Answerer(library, reader, embedder=None).ask("How long is the quay at Odense?", [report, other])
    system = str(reader.shown[0][0].content)
    assert system.index("harbour.txt") < system.index("[page 2]") < system.index("other.txt")
    assert [(c.document, c.page) for c in answer.citations] == [("other.txt", 1)]


def test_a_table_row_is_shown_with_each_figure_under_its_column(library: Library, report: Document) -> None:
    reader = ScriptedReader("3,305")
    Answerer(library, reader, embedder=None).ask("What was crane hire in 2024?", [report], route="retrieval")
    assert "Crane hire: 2024 3,305; 2023 3,118" in str(reader.shown[0][0].content)


def test_the_receipt_adds_up(ask: Ask) -> None:
    receipt = ask("Where was the largest crane built?", "Odense").receipt
    assert (receipt.pages_total, receipt.pages_searched, receipt.pages_unread) == (2, 2, 0)
    assert (receipt.tokens_prompt, receipt.tokens_reused) == (50, 20)
    assert receipt.tokens_document is not None
    assert receipt.seconds["total"] >= max(v for k, v in receipt.seconds.items() if k != "total")


def test_without_a_reader_the_best_sentence_is_the_answer_and_the_model_says_so(
    library: Library, report: Document
) -> None:
    answer = Answerer(library, None, None).ask("How many days did ice close the harbour?", [report])
    assert answer.answer == "Ice closed the harbour for nine days in February."
    assert answer.model.startswith("none")


def test_a_second_question_cuts_nothing_again(
    library: Library, report: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = Answerer(library, ScriptedReader("Odense"), None)
    first = answerer.ask("Where was the largest crane built?", [report])
    monkeypatch.setattr("longleaf.retrieval.store.cut_passages", lambda *_: pytest.fail("cut a second time"))
    assert answerer.ask("Where was the largest crane built?", [report]).answer == first.answer


def test_removing_a_document_removes_its_passages_and_their_words(library: Library, report: Document) -> None:
    answerer = Answerer(library, None, None)
    answerer.prepare([report])
    assert answerer.store.full_text(["crane"], Scope.of([report]))
    library.remove(report)
    connection = library.connection()
    for table in ("passages", "passage_sets", "embeddings", "token_counts"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
    assert connection.execute("SELECT count(*) FROM passages_text WHERE passages_text MATCH 'crane'").fetchone()[0] == 0


def test_pages_outside_the_range_are_neither_searched_nor_read_and_the_receipt_says_not_asked(
    library: Library, report: Document
) -> None:
    reader = ScriptedReader("Odense")
    answer = Answerer(library, reader, None).ask("Where was the largest crane built?", [report], pages=(2, 2))
    assert not answer.found  # it stands on page 1
    assert {citation.page for citation in answer.nearest} <= {2}
    receipt = answer.receipt
    assert (receipt.pages_total, receipt.pages_not_asked, receipt.pages_searched) == (2, 1, 1)
    assert receipt.pages_dropped == 0


def test_a_range_that_fits_is_read_whole_though_the_document_does_not(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text(
        "\f".join([*("The quay is made of stone. " * 40 for _ in range(9)), "The key is kept by Ingrid Dahl."])
    )
    document = library.add(file).document
    reader = ScriptedReader("Ingrid Dahl")
    answerer = Answerer(library, reader, None)
    assert answerer.ask("Who keeps the key?", [document]).route.name == "retrieval"
    answer = answerer.ask("Who keeps the key?", [document], pages=(10, 10))
    assert answer.route.name == "whole-document"
    assert "[page 10]" in str(reader.shown[-1][0].content)
    assert "[page 9]" not in str(reader.shown[-1][0].content)
    assert (answer.receipt.pages_read, answer.receipt.pages_not_asked) == (1, 9)
    assert [citation.page for citation in answer.citations] == [10]
    # What was counted for the range is not taken for the whole document.
    assert answerer.ask("Who keeps the key?", [document]).route.name == "retrieval"


@pytest.mark.parametrize(
    ("context_tokens", "room", "is_wide"), [(600, None, False), (600, 200, True), (40_000, None, True)]
)
def test_a_reader_with_room_is_shown_what_stands_around_a_passage(
    library: Library, report: Document, context_tokens: int, room: int | None, is_wide: bool
) -> None:
    reader = ScriptedReader("3,305", context_tokens=context_tokens)
    answerer = Answerer(library, reader, None, evidence_tokens=room)
    answerer.ask("What was crane hire in 2024?", [report], route="retrieval", top_k=1)
    assert ("Revenue rose because more ferries called." in str(reader.shown[0][0].content)) == is_wide


def test_the_receipt_says_how_passages_were_searched(ask: Ask) -> None:
    receipt = ask("Where was the largest crane built?", "Odense").receipt
    assert receipt.search == "full text"
    assert receipt.passages_total >= receipt.passages >= 1
    assert receipt.passages_embedded == 0


def test_a_stream_hands_out_the_draft_and_ends_with_the_answer_that_ask_gives(
    library: Library, report: Document
) -> None:
    answerer = Answerer(library, ScriptedReader("It was built in Odense in 1998."), None)
    *draft, streamed = answerer.stream("Where was the largest crane built?", [report])
    assert "".join(map(str, draft)).strip() == "It was built in Odense in 1998."
    assert len(draft) > 1
    assert isinstance(streamed, Answer)
    asked = answerer.ask("Where was the largest crane built?", [report])
    assert streamed.citations == asked.citations != ()
    assert streamed.answer == asked.answer


def test_a_draft_that_nothing_supports_ends_as_not_found(library: Library, report: Document) -> None:
    answerer = Answerer(library, ScriptedReader("It was built in Gdansk in 1871."), None)
    *draft, answer = answerer.stream("Where was the largest crane built?", [report])
    assert draft
    assert isinstance(answer, Answer)
    assert not answer.found
    assert "Gdansk" not in answer.answer


@pytest.mark.parametrize("n_pieces", [0, 2])
def test_an_answer_that_was_stopped_says_so_and_claims_nothing(
    library: Library, report: Document, n_pieces: int
) -> None:
    answerer = Answerer(library, ScriptedReader("It was built in Odense in 1998."), None)
    events: list[str | Answer] = []
    for event in answerer.stream(
        "Where was the largest crane built?", [report], should_stop=lambda: len(events) >= n_pieces
    ):
        events.append(event)
    *draft, answer = events
    assert len(draft) == n_pieces
    assert isinstance(answer, Answer)
    assert answer.stopped
    assert not answer.found
    assert answer.citations == answer.statements == ()
    assert answer.answer.startswith("Stopped")


def test_a_question_that_is_stopped_at_once_reads_nothing(library: Library, report: Document) -> None:
    class Slow:
        name = "slow"

        def encode(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
            return np.eye(1, 4, dtype=np.float32).repeat(len(texts), 0)

        def encode_question(self, text: str) -> np.ndarray:
            return self.encode([text])[0]

    asked: list[int] = []
    answerer = Answerer(library, ScriptedReader("Odense"), Slow())

    def stop_from_the_first_on() -> bool:
        asked.append(1)
        return True

    answer = answerer.ask("Where was the largest crane built?", [report], should_stop=stop_from_the_first_on)
    assert answer.stopped
    assert len(asked) == 1
    assert answer.receipt.tokens_prompt == 0


def test_the_answer_as_a_dict_is_what_comes_back_from_json(ask: Ask) -> None:
    plain = ask("Where was the largest crane built?", "Odense").to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_an_error(ask: Ask, question: str) -> None:
    with pytest.raises(QuestionError, match="empty"):
        ask(question, "x")


def test_a_question_to_no_document_is_an_error(library: Library) -> None:
    with pytest.raises(QuestionError, match="no document"):
        Answerer(library, None, None).ask("Anything?", [])


@pytest.mark.parametrize(
    "question", ['the "largest" crane?', "crane AND OR NOT (", "crane*", "Kräne – naïve ½ 漢字?", "?!"]
)
def test_search_syntax_in_a_question_is_just_words(ask: Ask, question: str) -> None:
    assert ask(question, "Not in the text").question == " ".join(question.split())
