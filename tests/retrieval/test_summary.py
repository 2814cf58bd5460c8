"""Summaries with a reader whose replies are given: what is shown to it, what is done with a reply, what is kept."""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pypdfium2
import pytest
import typer
from langchain_core.messages import AIMessage, BaseMessage
from typer.testing import CliRunner

from longleaf.app.summary_commands import page_ranges
from longleaf.app.summary_commands import summary as summary_command
from longleaf.errors import ContextOverflowError, DocumentNotFoundError, QuestionError, ReaderError
from longleaf.ingestion import Document, Library
from longleaf.model import ChatLongleaf, is_installed
from longleaf.model.engine import READING_SOURCES
from longleaf.retrieval import Answerer, Embedder, LongleafEmbeddings, Passage, StoredPassage
from longleaf.retrieval.summary import Summarizer, Summary, SummaryOptions
from longleaf.retrieval.summary_parts import cut_parts, pack, part_title
from longleaf.retrieval.summary_support import split_statements
from longleaf.retrieval.words import content_words

SAMPLE = Path(__file__).parents[2] / "examples" / "tamarack-valley-water-2024.pdf"

SHORT = """\
The board owns four cranes. The largest crane lifts 120 tonnes and was built in Odense in 1998.
\f\
Results
(in thousands of crowns)
2024 2023
Berth fees 8,412 7,990
Total revenue 11,717 11,108
Revenue rose because more ferries called.
"""
NAMES = ("Ada", "Bror", "Carl", "Dina", "Ebba", "Finn", "Gerd", "Hans", "Inga", "Jens")
Reply = Callable[[str, str], str]


def long_text() -> str:
    """Ten quays, each a section on a page of its own: 40 words and two facts."""
    return "\f".join(
        f"# The {name} quay\n\nThe {name} quay was built of granite in {1901 + i} for the herring fleet. "
        f"Its keeper earns {3_100 + i} crowns a year and lives in the house beside it. The lamp at its end is lit from "
        "dusk until dawn on all days of the year.\n"
        for i, name in enumerate(NAMES)
    )


def first_facts(system: str, _human: str) -> str:
    """What an honest reader might write: the building years that it is shown, three at most."""
    return " ".join(re.findall(r"The \w+ quay was built of granite in \d{4}[^.]*\.", system)[:3])


class ScriptedReader:
    """Replies by what it is shown, one token a word; remembers what that was."""

    model_name = "scripted"

    def __init__(self, reply: Reply | str, context_tokens: int = 2_000, finish: str = "stop") -> None:
        self.reply: Reply = (lambda _system, _human: reply) if isinstance(reply, str) else reply
        self.context_tokens = context_tokens
        self.finish = finish
        self.shown: list[tuple[str, str]] = []

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def invoke(
        self, messages: Sequence[BaseMessage], config: Any = None, *, max_tokens: int, on_read: Any, should_stop: Any
    ) -> AIMessage:
        system, human = (str(message.content) for message in messages)
        assert self.get_num_tokens(f"{system} {human}") + max_tokens <= self.context_tokens
        self.shown.append((system, human))
        if on_read:
            on_read(7, 7, 0.0)
        usage = {"input_tokens": 50, "output_tokens": 5, "total_tokens": 55, "input_token_details": {"cache_read": 20}}
        text = self.reply(system, human)
        return AIMessage(text, usage_metadata=usage, response_metadata={"finish_reason": self.finish})  # type: ignore[arg-type]

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        return {"yes": 0.9, "no": 0.1}


@pytest.fixture
def short(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "harbour.txt"
    file.write_text(SHORT)
    return library.add(file).document


@pytest.fixture
def long(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "quays.md"
    file.write_text(long_text())
    return library.add(file).document


def summarizer(library: Library, reader: ScriptedReader | None, part_tokens: int = 80) -> Summarizer:
    return Summarizer(Answerer(library, reader, embedder=None), part_tokens=part_tokens)


def narrow(reply: Reply | str = first_facts) -> ScriptedReader:
    """Has no room for the ten quays at once."""
    return ScriptedReader(reply, context_tokens=520)


BRIEF = SummaryOptions("short")


# The whole document


def test_a_document_that_fits_is_read_whole_and_its_statements_are_cited(library: Library, short: Document) -> None:
    reader = ScriptedReader(
        "The largest crane was built in Odense in 1998. Total revenue was 11,717. It cost 77 crowns."
    )
    made = summarizer(library, reader).summarize(short, options=BRIEF)
    assert made.receipt.route == "whole-document"
    assert [statement.supported for statement in made.statements] == [True, True, False]
    assert [made.citations[s.citations[0]].page for s in made.statements[:2]] == [1, 2]
    assert made.citations[1].quote == "Total revenue 11,717 11,108"
    assert "2024 2023" in made.citations[1].heading
    for citation in made.citations:
        assert library.page(short, citation.page).text[citation.start : citation.end] == citation.quote
    assert (made.receipt.pages_read, made.receipt.pages_unread, made.receipt.pages_left) == ((1, 2), (), ())
    assert (made.receipt.tokens_prompt, made.receipt.tokens_reused, made.receipt.tokens_written) == (50, 20, 5)


def test_a_document_read_for_a_question_is_the_same_reading_for_a_summary(library: Library, short: Document) -> None:
    reader = ScriptedReader("Odense")
    answerer = Answerer(library, reader, embedder=None)
    answerer.ask("Where was the largest crane built?", [short])
    Summarizer(answerer).summarize(short)
    (asked, _), (summarised, instruction) = reader.shown
    assert asked == summarised
    assert "7 sentences" in instruction


def test_a_statement_of_two_facts_is_supported_by_both_and_not_by_one(library: Library, short: Document) -> None:
    both = "The largest crane lifts 120 tonnes in all, and total revenue rose to 11,717 thousand crowns."
    half = "The largest crane lifts 120 tonnes in all, and total revenue rose to 99,999 thousand crowns."
    made = summarizer(library, ScriptedReader(f"{both} {half}")).summarize(short)
    assert [statement.supported for statement in made.statements] == [True, False]
    assert {made.citations[i].page for i in made.statements[0].citations} == {1, 2}


def test_a_number_written_as_a_word_has_to_be_there_too(library: Library, short: Document) -> None:
    made = summarizer(
        library, ScriptedReader("The board owns 4 cranes. The board owns five cranes. The board owns four cranes.")
    )
    statements = made.summarize(short).statements
    assert {s.text: s.supported for s in statements} == {
        "The board owns 4 cranes.": False,  # figures have to stand there as figures
        "The board owns five cranes.": False,
        "The board owns four cranes.": True,
    }


def test_the_name_of_the_document_may_be_said_where_its_pages_do_not(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "Skagerrak Harbour Trust.txt"
    file.write_text("The trust was formed in 1931 after a storm. It owns the outer mole.")
    document = library.add(file).document
    reader = ScriptedReader(
        "The Skagerrak Harbour Trust was formed in 1931. The Skagerrak Harbour Trust was sold in 1931."
    )
    made = summarizer(library, reader).summarize(document)
    assert [s.supported for s in made.statements] == [True, False]


def test_a_reply_that_was_cut_off_loses_its_open_end(library: Library, short: Document) -> None:
    reader = ScriptedReader("Revenue rose because more ferries called. The board owns", finish="length")
    assert summarizer(library, reader).summarize(short).text == "Revenue rose because more ferries called."


def test_bullets_are_a_line_for_each_statement(library: Library, short: Document) -> None:
    reader = ScriptedReader("- The board owns four cranes. [page 1]\n- Revenue rose because more ferries called.")
    made = summarizer(library, reader).summarize(short, options=SummaryOptions(format="bullets"))
    assert made.text == "- The board owns four cranes.\n- Revenue rose because more ferries called."


# By sections


def test_a_long_document_is_read_in_parts_that_together_hold_all_of_it(library: Library, long: Document) -> None:
    reader = narrow()
    made = summarizer(library, reader).summarize(long, options=BRIEF)
    *parts, merge = [system for system, _ in reader.shown]
    assert (made.receipt.route, made.receipt.parts, made.receipt.parts_done) == ("sections", len(parts), len(parts))
    for number, name in enumerate(NAMES, 1):  # each section in one part, whole, and under its page
        holding = [part for part in parts if f"# The {name} quay" in part]
        assert len(holding) == 1
        own = holding[0].split(f"[page {number}]")[1].split("[page")[0]
        assert f"{name} quay was built" in own
        assert "on all days of the year." in own
    assert "Summaries of sections" in merge
    assert made.receipt.pages_read == tuple(range(1, 11))
    assert made.receipt.pages_left == ()
    assert [page for section in made.sections for page in section.pages] == list(range(1, 11))
    assert f"read in {len(parts)} parts" in made.receipt.reason


def test_citations_survive_the_merge_and_what_the_merge_made_up_is_marked(library: Library, long: Document) -> None:
    def reply(system: str, human: str) -> str:
        if "Summaries of sections" in system:
            return (
                "The Gerd quay was built of granite in 1907. The keeper of the Inga quay earns 3108 crowns a year. "
                "The Gerd quay was built of granite in 1934."
            )
        return first_facts(system, human)

    made = summarizer(library, narrow(reply)).summarize(long, options=BRIEF)
    assert [statement.supported for statement in made.statements] == [True, True, False]
    # The second stands in no section's summary, and is found on its page all the same.
    assert [made.citations[s.citations[0]].page for s in made.statements[:2]] == [7, 9]
    assert all(s.supported for section in made.sections for s in section.statements)


def test_only_what_the_pages_bear_out_goes_into_the_merge(library: Library, long: Document) -> None:
    reader = narrow(lambda system, human: f"{first_facts(system, human)} The harbour was sold to Rome in 1777.")
    made = summarizer(library, reader).summarize(long, options=BRIEF)
    assert "Rome" not in reader.shown[-1][0]
    assert all("Rome" in section.text and not section.statements[-1].supported for section in made.sections)


def test_summaries_that_do_not_fit_at_once_are_put_together_in_levels(library: Library, long: Document) -> None:
    def wordy(system: str, _human: str) -> str:
        fact = re.findall(r"The \w+ quay was built of granite in \d{4}", system)[0]
        return f"{fact}." if "Summaries of sections" in system else fact + " and more stone" * 20 + "."

    reader = narrow(wordy)
    made = summarizer(library, reader, part_tokens=60).summarize(long, options=BRIEF)
    merges = [system for system, _ in reader.shown if "Summaries of sections" in system]
    assert made.receipt.merge_levels >= 2
    assert len(merges) > made.receipt.merge_levels
    assert len(made.sections) == 10


def test_a_part_without_a_word_on_the_focus_stays_out(library: Library, long: Document) -> None:
    reader = narrow(
        lambda system, _: (
            "The keeper of the Dina quay earns 3103 crowns a year." if "Dina" in system else "Not in the text"
        )
    )
    made = summarizer(library, reader, part_tokens=60).summarize(
        long, options=SummaryOptions("short", focus="Dina's keeper")
    )
    assert made.text == "The keeper of the Dina quay earns 3103 crowns a year."
    assert [c.page for c in made.citations] == [4]
    assert made.receipt.merge_levels == 0
    assert sum(bool(section.text) for section in made.sections) == 1
    assert "Dina's keeper" in reader.shown[0][1]


def test_a_focus_that_the_document_says_nothing_about_is_said_so(library: Library, long: Document) -> None:
    made = summarizer(library, narrow("Not in the text.")).summarize(
        long, options=SummaryOptions("short", focus="whales")
    )
    assert (made.statements, made.citations) == ((), ())
    assert made.text == "Nothing about whales was found in what was read."


def test_statements_are_checked_before_they_are_translated(library: Library, short: Document) -> None:
    def reply(system: str, human: str) -> str:
        return "Der Vorstand besitzt vier Kräne." if "Translate into German" in human else "The board owns four cranes."

    made = summarizer(library, ScriptedReader(reply)).summarize(short, options=SummaryOptions(language="German"))
    assert made.text == "Der Vorstand besitzt vier Kräne."
    assert made.statements[0].supported
    assert made.citations[0].quote == "The board owns four cranes."


# Stopped, killed, kept


def test_a_stop_keeps_the_parts_that_were_done_and_the_next_call_reads_only_the_others(
    library: Library, long: Document
) -> None:
    reader = narrow()
    work = summarizer(library, reader)
    stopped = work.summarize(long, options=BRIEF, should_stop=lambda: len(reader.shown) >= 3)
    assert stopped.stopped
    assert stopped.statements == ()
    assert stopped.text.startswith("Stopped")
    done = stopped.receipt.parts_done
    assert 0 < done < stopped.receipt.parts
    assert len(stopped.receipt.pages_read) + len(stopped.receipt.pages_left) == 10
    assert work.kept(long, BRIEF) is None

    again = narrow()
    made = summarizer(library, again).summarize(long, options=BRIEF)
    assert made.receipt.parts_kept == done
    assert len(again.shown) == made.receipt.parts - done + 1  # the rest, and the merge
    assert not {system for system, _ in again.shown} & {system for system, _ in reader.shown[:done]}
    assert made.sections[:done] == stopped.sections


def test_a_reader_that_fails_in_the_middle_loses_no_part(library: Library, long: Document) -> None:
    def failing(system: str, human: str) -> str:
        if "The Ebba quay" in system:
            raise ReaderError("gone")
        return first_facts(system, human)

    with pytest.raises(ReaderError):
        summarizer(library, broken := narrow(failing), part_tokens=60).summarize(long, options=BRIEF)
    reader = narrow()
    summarizer(library, reader, part_tokens=60).summarize(long, options=BRIEF)
    assert len(broken.shown) == 5
    assert len(reader.shown) == 6 + 1
    assert "The Ebba quay" in reader.shown[0][0]


def test_a_summary_that_is_kept_is_not_made_again_unless_anew(library: Library, long: Document) -> None:
    made = summarizer(library, narrow()).summarize(long, options=BRIEF)
    reader = narrow()
    work = summarizer(library, reader)
    assert work.kept(long, BRIEF) == made
    assert work.summarize(long, options=SummaryOptions("short", language="  ")) == made
    assert reader.shown == []
    assert work.summarize(long, options=BRIEF, anew=True).receipt.parts_kept == made.receipt.parts
    assert len(reader.shown) == 1  # the merge


def test_another_format_takes_the_parts_and_another_length_does_not(library: Library, long: Document) -> None:
    made = summarizer(library, narrow()).summarize(long, options=BRIEF)
    bullets, longer = narrow(), ScriptedReader(first_facts, context_tokens=700)
    summarizer(library, bullets).summarize(long, options=SummaryOptions("short", format="bullets"))
    summarizer(library, longer).summarize(long, options=SummaryOptions("medium"))
    assert len(bullets.shown) == 1
    assert len(longer.shown) > made.receipt.parts


def test_a_summary_by_another_model_or_of_a_document_read_again_is_not_taken(library: Library, long: Document) -> None:
    summarizer(library, narrow()).summarize(long, options=BRIEF)
    other = narrow()
    other.model_name = "another"  # type: ignore[misc]
    assert summarizer(library, other).kept(long, BRIEF) is None
    assert summarizer(library, narrow()).kept(replace(long, revision=1), BRIEF) is None


def test_all_summaries_that_are_kept_are_handed_out_newest_first_without_parts(
    library: Library, long: Document
) -> None:
    work, other = summarizer(library, narrow()), summarizer(library, None)
    assert work.all_kept(long) == []
    made = [work.summarize(long, options=BRIEF), other.summarize(long), other.summarize(long, options=BRIEF)]
    assert made[0].receipt.parts > 1, "parts are kept, and are none of them"
    again = work.summarize(long, options=BRIEF, anew=True)
    assert work.all_kept(long) == [again, made[2], made[1]]
    assert work.all_kept(replace(long, revision=1)) == []


def test_a_renamed_document_keeps_its_summaries_under_its_new_name(library: Library, long: Document) -> None:
    made = summarizer(library, narrow()).summarize(long, options=BRIEF)
    renamed = library.rename(long, "The quays")
    reader = narrow()
    kept = summarizer(library, reader).summarize(renamed, options=BRIEF)
    assert (kept.text, kept.document, reader.shown) == (made.text, "The quays", [])
    cited = [*kept.citations, *(citation for section in kept.sections for citation in section.citations)]
    assert {citation.document for citation in cited} == {"The quays"}
    assert summarizer(library, reader).all_kept(renamed) == [kept]
    again = summarizer(library, reader).summarize(renamed, options=BRIEF, anew=True)
    assert again.receipt.parts_kept == made.receipt.parts


def test_all_that_the_reader_is_shown_says_which_document_it_is_of(library: Library, long: Document) -> None:
    reader = narrow()
    sources = []
    invoke = reader.invoke

    def noting(messages: Sequence[BaseMessage], *rest: Any, **options: Any) -> AIMessage:
        sources.append(messages[0].additional_kwargs[READING_SOURCES])
        return invoke(messages, *rest, **options)

    reader.invoke = noting  # type: ignore[method-assign]
    summary = summarizer(library, reader).summarize(long, options=SummaryOptions("short", language="Danish"))
    assert summary.receipt.merge_levels
    assert len(sources) == len(reader.shown) > summary.receipt.parts + 1
    assert all(each == [long.sha256] for each in sources)


def test_what_is_kept_goes_with_the_document(library: Library, long: Document) -> None:
    summarizer(library, narrow()).summarize(long, options=BRIEF)
    assert library.connection().execute("SELECT count(*) FROM summaries").fetchone()[0] > 1
    library.remove(long)
    assert library.connection().execute("SELECT count(*) FROM summaries").fetchone()[0] == 0


def test_a_document_removed_meanwhile_is_an_error_of_ours(library: Library, short: Document) -> None:
    def removing(_system: str, _human: str) -> str:
        library.remove(short)
        return "The board owns four cranes."

    with pytest.raises(DocumentNotFoundError, match="no longer"):
        summarizer(library, ScriptedReader(removing)).summarize(short)


def test_a_summary_comes_back_from_json_as_it_was(library: Library, long: Document) -> None:
    made = summarizer(library, narrow()).summarize(long, options=SummaryOptions("short", focus="granite"))
    assert Summary.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made


def test_progress_grows_to_the_end_of_each_stage(library: Library, long: Document) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    summarizer(library, narrow()).summarize(
        long, options=BRIEF, progress=lambda stage, done, total: told.setdefault(stage, []).append((done, total))
    )
    reading = next(steps for stage, steps in told.items() if "parts (tokens)" in stage)
    assert reading == sorted(reading)
    assert reading[0][0] == 0
    assert reading[-1][0] == reading[-1][1] > 0


# No room, no reader


def test_a_context_without_room_says_what_to_do(library: Library, long: Document) -> None:
    with pytest.raises(ContextOverflowError, match="--context-tokens"):
        summarizer(library, ScriptedReader("x", context_tokens=300)).summarize(long)


def test_without_a_reader_the_summary_is_sentences_of_all_sections_and_says_so(
    library: Library, long: Document
) -> None:
    made = summarizer(library, None).summarize(long, options=SummaryOptions("medium"))
    assert len(made.statements) == 7
    assert [c.page for c in made.citations] == sorted({c.page for c in made.citations})  # each from another section
    assert all(s.supported and s.text in long_text() for s in made.statements)
    assert made.receipt.route == "sentences"
    assert "no reader" in made.receipt.reason
    assert made.model.startswith("none")
    assert summarizer(library, None).kept(long) == made


class WordEmbedder(Embedder):
    """A dimension for each word, as far as 256 go: texts with the same words are near."""

    name = "words"

    def encode(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        vectors = np.full((len(texts), 256), 1e-6, np.float32)
        for row, text in enumerate(texts):
            for word in content_words(text):
                vectors[row, zlib.crc32(word.encode()) % 256] += 1.0
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_the_most_central_sentences_are_those_that_say_what_the_others_say(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "storm.md"
    same = "The storm of January broke the outer mole of the harbour in two places."
    others = [
        "The storm of January broke the lamp of the outer mole as well.",
        "Repairs of the outer mole after the storm took the harbour nine weeks.",
        "Somebody painted a picture of seven yellow parrots for the canteen.",
    ]
    file.write_text("# Storm\n\n" + " ".join([*others, same]))
    document = library.add(file).document
    for embedder in (None, WordEmbedder()):
        answerer = Answerer(library, None, embedder)
        made = Summarizer(answerer).summarize(document, options=BRIEF, anew=True)
        assert same in [s.text for s in made.statements]
        assert "parrots" not in made.text
        answerer.close()


def test_a_stop_while_passages_are_embedded_is_a_stop(library: Library, long: Document) -> None:
    told: list[str] = []
    answerer = Answerer(library, None, WordEmbedder())
    made = Summarizer(answerer).summarize(
        long, progress=lambda stage, *_: told.append(stage), should_stop=lambda: "embedding passages" in told
    )
    answerer.close()
    assert made.stopped
    assert made.statements == ()


def test_without_a_reader_the_focus_picks_the_sentences(library: Library, long: Document) -> None:
    made = summarizer(library, None).summarize(long, options=SummaryOptions("short", focus="keeper of the Hans quay"))
    assert 8 in {c.page for c in made.citations}
    assert len(made.statements) == 3


def test_without_a_reader_nothing_can_be_translated(library: Library, short: Document) -> None:
    with pytest.raises(QuestionError, match="German"):
        summarizer(library, None).summarize(short, options=SummaryOptions(language="German"))


# Parts, options, statements


def stored(*sections: str) -> list[StoredPassage]:
    return [StoredPassage(i, 1, Passage(i + 1, 0, 9, section, "x" * 9)) for i, section in enumerate(sections)]


@pytest.mark.parametrize(
    ("sections", "sizes", "room", "parts"),
    [
        ("AABB", [3, 3, 3, 3], 12, [[0, 1], [2, 3]]),  # half full, and a new chapter begins
        ("AABC", [5, 5, 1, 1], 100, [[0, 1, 2, 3]]),
        ("ABBC", [3, 4, 4, 1], 10, [[0], [1, 2], [3]]),  # B is not cut though half of it would have fitted
        ("ABBBBC", [1, 4, 4, 4, 4, 1], 9, [[0], [1, 2], [3, 4], [5]]),  # B is cut, evenly
    ],
)
def test_parts_keep_sections_whole_where_they_fit(
    sections: str, sizes: list[int], room: int, parts: list[list[int]]
) -> None:
    passages = stored(*sections)
    found = cut_parts(passages, dict(enumerate(sizes)), room)
    assert [[s.id for s in part] for part in found] == parts


def test_a_passage_with_no_room_at_all_is_an_error_that_names_its_page() -> None:
    with pytest.raises(ContextOverflowError, match="page 2"):
        cut_parts(stored("A", "B"), {0: 1, 1: 11}, 10)


def test_packing_leaves_nothing_out() -> None:
    assert pack([4, 4, 4, 20, 1], 9) == [range(2), range(2, 3), range(3, 4), range(4, 5)]
    assert pack([], 9) == []


def test_a_part_is_named_after_the_headings_it_stands_under() -> None:
    assert part_title(tuple(stored("Notes › Debt › Bonds", "Notes › Debt › Loans"))) == "Notes › Debt"
    assert part_title(tuple(stored("Notes › Debt", "Risks", "Staff › Pay"))) == "Notes … Staff"
    assert part_title(tuple(stored("", "", ""))) == "Pages 1–3"


def test_equal_options_are_kept_under_one_key() -> None:
    assert SummaryOptions(focus=" the  debt ") == SummaryOptions(focus="the debt")
    assert SummaryOptions(focus="").focus is None
    keys = {SummaryOptions(**given).settings for given in ({}, {"length": "long"}, {"focus": "x"}, {"language": "x"})}  # type: ignore[arg-type]
    assert len(keys) == 4
    for wrong in ({"length": "huge"}, {"format": "table"}):
        with pytest.raises(ValueError, match=next(iter(wrong.values()))):
            SummaryOptions(**wrong)  # type: ignore[arg-type]


def test_what_the_reader_wrote_is_cut_into_statements() -> None:
    text = "1. Revenue rose to 8,412 [page 3].\n2) Ice closed the harbour (pages 4-5).\n* Revenue rose to 8,412.\n---\n"
    assert split_statements(text) == ["Revenue rose to 8,412.", "Ice closed the harbour."]


def test_the_command_prints_citations_and_json(
    library: Library, long: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_READER", "none")
    monkeypatch.setenv("LONGLEAF_EMBEDDER", "minilm")
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    command = typer.Typer()
    command.command()(summary_command)
    words = ["quays.md", "--length", "short", "--format", "bullets", "--home", str(library.home)]
    printed = CliRunner().invoke(command, words)
    assert printed.exit_code == 0, printed.output
    plain = json.loads(CliRunner().invoke(command, [*words, "--json"]).stdout)
    assert len(plain["statements"]) == 3
    for number, citation in enumerate(plain["citations"], 1):
        assert f"[{number}] p. {citation['page']}" in printed.output
    assert "sentences: no reader is installed" in printed.output
    assert plain == json.loads(json.dumps(Summary.from_dict(plain).to_dict()))


def test_pages_are_shown_as_ranges() -> None:
    assert page_ranges((1, 2, 3, 7, 9, 10)) == "1–3, 7, 9–10"
    assert page_ranges(()) == ""


@pytest.mark.slow
@pytest.mark.skipif(not is_installed("embedded"), reason="no weights here: run `longleaf model pull embedded`")
def test_the_embedded_reader_summarises_a_page_of_the_sample_with_citations_on_it(
    library: Library, tmp_path: Path
) -> None:
    source, pages = pypdfium2.PdfDocument(SAMPLE), pypdfium2.PdfDocument.new()
    pages.import_pages(source, [5])
    pages.save(tmp_path / "glance.pdf")
    pages.close()
    source.close()
    document = library.add(tmp_path / "glance.pdf").document
    answerer = Answerer(library, ChatLongleaf(), LongleafEmbeddings())
    made = Summarizer(answerer).summarize(document, options=BRIEF)
    answerer.close()
    assert made.receipt.route == "whole-document"
    assert any(statement.supported for statement in made.statements)
    assert all(citation.boxes and citation.verified for citation in made.citations)
