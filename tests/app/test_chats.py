"""Chats in a real library: what survives, what is late, what is forgotten, and who may end whose turns."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longleaf.app.chats import Chat, Chats, Forgotten, answer_of, title_from
from longleaf.app.process_identity import identity
from longleaf.errors import DocumentNotFoundError, LibraryError, QuestionError
from longleaf.ingestion import Document, Library, schema
from longleaf.retrieval import Answer, Citation, Receipt, Route, Statement
from longleaf.retrieval.support import Signals

ASKING = """
import sys, time
from longleaf.app.chats import Chats
from longleaf.ingestion import Library
with Library(sys.argv[1]) as library:
    chats = Chats(library)
    for i in range(int(sys.argv[2])):
        turn = chats.ask(chats.find(1), f"question {i} of another process")
    chats.keep_draft(turn, "as far as it went")
    print("asked", flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def documents(library: Library, tmp_path: Path) -> list[Document]:
    found = []
    for name in ("a", "b"):
        file = tmp_path / f"{name}.txt"
        file.write_text(f"Text of {name}.")
        found.append(library.add(file).document)
    return found


@pytest.fixture
def chats(library: Library) -> Chats:
    return Chats(library)


@pytest.fixture
def chat(chats: Chats, documents: list[Document]) -> Chat:
    return chats.make(documents[:1])


def citation_of(document: Document, quote: str) -> Citation:
    return Citation(
        document.name, document.sha256, 1, "1", quote, "", 0, len(quote), ((1.0, 2.0, 3.0, 4.0),), verified=True
    )


def answer_with(citations=(), statements=(), *, nearest=(), reply="", warnings=(), stopped=False) -> Answer:
    receipt = Receipt(
        pages_total=2, pages_read=1, pages_searched=2, pages_ocr=0, pages_unread=0, pages_dropped=0,
        tokens_document=90, tokens_budget=100, tokens_prompt=95, tokens_reused=0, seconds_saved=0.0, passages=1,
        seconds={"search": 0.5, "total": 1.0}, warnings=tuple(warnings),
    )  # fmt: skip
    text = " ".join(statement.text for statement in statements)
    return Answer(
        question="q", answer=text or "Not found in what was read.", found=bool(citations),
        route=Route("whole-document", "90 of 100 tokens"), citations=tuple(citations), statements=tuple(statements),
        nearest=tuple(nearest), confidence=0.9, signals=Signals(0.5, 1.0, 1.0, 0.75) if citations else None,
        reply=reply or text, receipt=receipt, model="tiny", stopped=stopped,
    )  # fmt: skip


def positions(chats: Chats, chat: Chat) -> list[int]:
    return [turn.position for turn in chats.turns(chat)]


def test_a_chat_is_there_after_the_library_is_opened_anew(library: Library, chats: Chats, documents) -> None:
    a, b = documents
    chat = chats.make([b, a, b], collection="filings")
    answer = answer_with([citation_of(a, "Text")], [Statement("Text.", supported=True, citations=(0,))])
    answered, drafted = chats.ask(chat, " What\nis it? "), chats.ask(chat, "And else?")
    assert chats.finish(answered, answer)
    assert chats.keep_draft(drafted, "It is ñ")
    with Library(library.home) as other:
        again = Chats(other)
        found = again.find(chat.id)
        assert (found.title, found.collection, found.n_turns) == ("What is it?", "filings", 2)
        assert [(each.sha256, each.name) for each in found.documents] == [(b.sha256, "b.txt"), (a.sha256, "a.txt")]
        first, second = again.turns(found)
        assert (first.question, first.state, first.draft) == ("What\nis it?", "answered", "")
        assert first.answer == answer.to_dict()
        assert answer_of(first) == answer
        assert (second.state, second.draft, second.answer, answer_of(second)) == ("answering", "It is ñ", None, None)
        assert second.is_open
        assert not first.is_open


def test_a_chat_needs_documents_that_are_there(library: Library, chats: Chats, documents) -> None:
    with pytest.raises(QuestionError, match="needs a document"):
        chats.make([])
    library.remove(documents[1])
    with pytest.raises(DocumentNotFoundError, match=r"^b.txt: no longer in the library$"):
        chats.make(documents)
    assert chats.all() == []


def test_the_chat_that_changed_last_stands_first(chats: Chats, documents) -> None:
    first, second, third = (chats.make(documents, title) for title in ("one", "two", "three"))
    assert [chat.title for chat in chats.all()] == ["three", "two", "one"]
    turn = chats.ask(first, "q")
    chats.ask(second, "q")
    assert [(chat.title, chat.n_turns) for chat in chats.all()] == [("two", 1), ("one", 1), ("three", 0)]
    chats.finish(turn, answer_with())
    chats.rename(third, " new   name ")
    assert [chat.title for chat in chats.all()] == ["one", "two", "new name"]
    assert [[chat.title for chat in chats.all(limit)] for limit in (0, 2, 9)] == [
        [],
        ["one", "two"],
        ["one", "two", "new name"],
    ]
    chats.remove(second)
    chats.remove(second)
    assert [chat.title for chat in chats.all()] == ["one", "new name"]


def test_errors_say_what_to_do(chats: Chats, chat: Chat) -> None:
    with pytest.raises(QuestionError, match="the question is empty"):
        chats.ask(chat, " \n ")
    with pytest.raises(QuestionError, match="needs a title"):
        chats.rename(chat, "  ")
    with pytest.raises(LibraryError, match="New chat: nothing was asked in this chat yet"):
        chats.regenerate(chat)
    with pytest.raises(LibraryError, match="New chat: nothing was asked"):
        chats.replace_last(chat, "q")
    turn = chats.ask(chat, "q")
    with pytest.raises(ValueError, match=f"turn {turn.id} is of chat {chat.id}, not of chat 99"):
        chats.branch(replace(chat, id=99), turn)
    chats.remove(chat)
    for act in (
        chats.regenerate,
        lambda c: chats.ask(c, "q"),
        lambda c: chats.rename(c, "q"),
        lambda c: chats.find(c.id),
    ):
        with pytest.raises(LibraryError, match=f"chat {chat.id}: no such chat"):
            act(chat)
    with pytest.raises(LibraryError, match="no longer there"):
        chats.turn(turn.id)
    assert chats.turns(chat) == []


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Short?", "Short?"),
        ("  two\n lines ", "two lines"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("word " * 20, "word word word word word word word word word word word word…"),
        (
            "What were the net sales of the company in 2021, in dollars, and why?",
            "What were the net sales of the company in 2021, in dollars…",
        ),
    ],
)
def test_a_title_is_cut_at_a_word(question: str, title: str) -> None:
    assert title_from(question) == title


@given(st.text())
def test_a_title_is_one_line_of_sixty_characters_at_most(question: str) -> None:
    title = title_from(question)
    assert len(title) <= 60
    assert title == " ".join(title.split())
    assert " ".join(question.split()).startswith(title.removesuffix("…"))


def test_the_title_follows_the_first_question_until_somebody_chooses_one(chats: Chats, chat: Chat) -> None:
    assert chat.title == "New chat"
    chats.ask(chat, "one")
    chats.replace_last(chat, "uno")
    assert chats.find(chat.id).title == "uno"
    chats.ask(chat, "two")
    chats.replace_last(chat, "due")
    assert chats.find(chat.id).title == "uno"
    chats.rename(chat, "Mine")
    only = chats.branch(chat, chats.turns(chat)[0])
    chats.replace_last(only, "ein")
    assert chats.find(only.id).title == "Mine"


def test_stop_ends_a_turn_for_whoever_answers_it_and_keeps_the_draft(
    library: Library, chats: Chats, chat: Chat
) -> None:
    turn = chats.ask(chat, "q")
    assert chats.keep_draft(turn, "half")
    with Library(library.home) as other:
        assert Chats(other).stop(turn)
    assert not chats.keep_draft(turn, "half an")
    assert not chats.stop(turn)
    assert not chats.fail(turn, "late")
    kept = chats.turn(turn.id)
    assert (kept.state, kept.draft, kept.error) == ("stopped", "half", "")
    assert kept.answered_at is not None
    assert chats.finish(turn, answer_with(reply="half", stopped=True))
    kept = chats.turn(turn.id)
    assert (kept.state, kept.draft, kept.answer["reply"]) == ("stopped", "", "half")


def test_an_answer_that_was_complete_when_stop_came_is_kept(chats: Chats, chat: Chat) -> None:
    turn = chats.ask(chat, "q")
    chats.stop(turn)
    assert chats.finish(turn, answer_with().to_dict())
    assert chats.turn(turn.id).state == "answered"
    assert not chats.finish(turn, answer_with())


def test_a_failed_turn_says_why_and_can_be_asked_again(chats: Chats, chat: Chat) -> None:
    turn = chats.ask(chat, "q")
    chats.keep_draft(turn, "half")
    assert chats.fail(turn, "a.txt: gone")
    kept = chats.turn(turn.id)
    assert (kept.state, kept.draft, kept.error) == ("failed", "half", "a.txt: gone")
    again = chats.regenerate(chat)
    assert (again.id, again.position, again.state, again.attempt) == (turn.id, 1, "waiting", 2)
    assert (again.draft, again.error, again.answer, again.answered_at) == ("", "", None, None)


@pytest.mark.parametrize("change", ["regenerate", "replace", "remove"])
def test_who_answers_an_earlier_attempt_can_change_nothing(chats: Chats, chat: Chat, change: str) -> None:
    late = chats.ask(chat, "q")
    if change == "regenerate":
        chats.regenerate(chat)
    elif change == "replace":
        chats.replace_last(chat, "r")
    else:
        chats.remove(chat)
    before = chats.turns(chat)
    assert not chats.keep_draft(late, "late")
    assert not chats.finish(late, answer_with())
    assert not chats.fail(late, "late")
    assert not chats.stop(late)
    assert chats.turns(chat) == before


def test_a_branch_copies_the_turns_up_to_one_and_lives_on_its_own(chats: Chats, documents) -> None:
    chat = chats.make(documents, collection="both")
    first, second, _third = (chats.ask(chat, question) for question in ("one", "two", "three"))
    chats.finish(first, answer_with())
    chats.keep_draft(second, "half")
    branch = chats.branch(chat, chats.turn(second.id))
    assert (branch.parent_chat, branch.title, branch.collection, branch.n_turns) == (chat.id, "one", "both", 2)
    assert branch.documents == chat.documents
    copied, copied_open = chats.turns(branch)
    original = chats.turn(first.id)
    assert copied == replace(original, id=copied.id, chat_id=branch.id)
    assert (copied_open.state, copied_open.draft) == ("stopped", "half")
    assert copied_open.note.startswith("Not answered when this branch was made")
    assert chats.turn(second.id).state == "answering"
    chats.replace_last(branch, "zwei")
    assert [turn.question for turn in chats.turns(chat)] == ["one", "two", "three"]
    chats.remove(chat)
    assert chats.find(branch.id).parent_chat is None
    assert [turn.question for turn in chats.turns(branch)] == ["one", "zwei"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["make", "ask", "replace", "regenerate", "branch", "remove", "finish"]), st.integers(0, 50)
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_turns_stay_numbered_from_one_without_gaps_whatever_is_done(chats: Chats, documents, steps) -> None:
    """Against a model: the questions of each chat as lists."""
    for chat in chats.all():
        chats.remove(chat)
    model: dict[int, list[str]] = {chats.make(documents).id: []}
    for n, (step, pick) in enumerate(steps):
        ids = sorted(model)
        if step == "make" or not ids:
            model[chats.make(documents).id] = []
            continue
        chat = chats.find(ids[pick % len(ids)])
        questions = model[chat.id]
        if step == "ask":
            chats.ask(chat, f"q{n}")
            questions.append(f"q{n}")
        elif step == "remove":
            chats.remove(chat)
            del model[chat.id]
        elif questions:
            turn = chats.turns(chat)[pick % len(questions)]
            if step == "replace":
                chats.replace_last(chat, f"q{n}")
                questions[-1] = f"q{n}"
            elif step == "branch":
                model[chats.branch(chat, turn).id] = questions[: turn.position]
            elif step == "regenerate":
                chats.regenerate(chat)
            else:
                chats.finish(turn, answer_with())
    assert {chat.id: chat.n_turns for chat in chats.all()} == {id_: len(asked) for id_, asked in model.items()}
    for chat in chats.all():
        assert [turn.question for turn in chats.turns(chat)] == model[chat.id]
        assert positions(chats, chat) == list(range(1, len(model[chat.id]) + 1))


def test_threads_and_processes_ask_in_one_chat_at_once(library: Library, chats: Chats, chat: Chat) -> None:
    others = [
        subprocess.Popen([sys.executable, "-c", ASKING, str(library.home), "15", "0"], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    threads = [threading.Thread(target=lambda: [chats.ask(chat, "q") for _ in range(15)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.communicate(timeout=60)
        assert other.returncode == 0
    assert positions(chats, chat) == list(range(1, 61))


def test_the_turns_of_a_killed_process_are_stopped_and_those_of_living_ones_are_not(
    library: Library, chats: Chats, chat: Chat
) -> None:
    mine = chats.ask(chat, "mine")
    command = [sys.executable, "-c", ASKING, str(library.home), "2", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"asked\n"
            assert chats.interrupted() == []
            assert chats.recover() == []
            other.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, but its entry stays until it is waited for
            assert len(chats.interrupted()) == 2
        finally:
            other.kill()
    left = chats.recover()
    assert [(turn.position, turn.state, turn.draft) for turn in left] == [
        (2, "stopped", ""),
        (3, "stopped", "as far as it went"),
    ]
    assert all(turn.note.startswith("Interrupted") and turn.answered_at for turn in left)
    assert chats.turn(mine.id).state == "waiting"
    assert chats.recover() == []
    again = chats.regenerate(chat)
    assert (again.position, again.state, again.note) == (3, "waiting", "")
    assert chats.interrupted() == []


def test_a_process_that_ends_in_good_order_leaves_its_open_turns_as_interrupted(chats: Chats, chat: Chat) -> None:
    done = chats.ask(chat, "done")
    chats.finish(done, answer_with())
    being_answered, waiting = chats.ask(chat, "being answered"), chats.ask(chat, "waiting")
    chats.keep_draft(being_answered, "as far as it went")
    assert [turn.id for turn in chats.leave()] == [being_answered.id, waiting.id]
    assert chats.leave() == []
    chats.finish(being_answered, answer_with(reply="as far as it went", stopped=True))
    assert [(turn.state, turn.note[:11]) for turn in chats.turns(chat)] == [
        ("answered", ""),
        ("stopped", "Interrupted"),
        ("stopped", "Interrupted"),
    ]
    assert answer_of(chats.turns(chat)[1]).reply == "as far as it went"


@pytest.mark.parametrize(
    ("changes", "is_gone"),
    [
        ({}, False),
        ({"started": "another boot 17"}, True),  # the number of a process that ran before
        ({"started": ""}, False),  # it could not be said when it was started
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "seen_at": "2020-01-01T00:00:00+00:00"}, True),
    ],
)
def test_a_process_is_told_by_its_number_its_start_and_its_machine(
    library: Library, chats: Chats, chat: Chat, changes: dict[str, str], is_gone: bool
) -> None:
    turn = chats.ask(chat, "q")
    row = library.connection().execute("SELECT owner, seen_at FROM turns").fetchone()
    host, pid, started = json.loads(row["owner"])
    assert pid == os.getpid()
    owner = [changes.get("host", host), pid, changes.get("started", started)]
    with library.transaction() as connection:
        connection.execute(
            "UPDATE turns SET owner = ?, seen_at = ?", (json.dumps(owner), changes.get("seen_at", row["seen_at"]))
        )
    assert [each.id for each in chats.interrupted()] == ([turn.id] if is_gone else [])


def test_chats_about_a_removed_document_alone_go(chats: Chats, documents) -> None:
    a, b = documents
    alone, other, both = chats.make([a]), chats.make([b]), chats.make([a, b])
    branch = chats.branch(alone, chats.ask(alone, "q"))
    assert {chat.id for chat in chats.with_document(a.sha256)} == {alone.id, both.id, branch.id}
    assert chats.forget_document(a.sha256) == Forgotten(chats=2, turns=0)
    assert {chat.id for chat in chats.all()} == {other.id, both.id}
    assert [each.name for each in chats.find(both.id).documents] == ["b.txt"]
    assert chats.forget_document(b.sha256).chats == 2
    assert chats.all() == []


def test_what_rests_on_a_removed_document_is_taken_out_of_chats_over_several(chats: Chats, documents) -> None:
    a, b = documents
    chat = chats.make([a, b])
    mixed = answer_with(
        [citation_of(a, "of a"), citation_of(b, "of b")],
        [
            Statement("From a.", supported=True, citations=(0,)),
            Statement("From b.", supported=True, citations=(1,)),
            Statement("From nowhere.", supported=False, citations=()),
            Statement("From both.", supported=True, citations=(0, 1)),
        ],
        warnings=("a.txt: 2 pages unread", "b.txt: rebuilt"),
    )
    from_a = answer_with([citation_of(a, "of a")], [Statement("From a.", supported=True, citations=(0,))])
    from_b = answer_with([citation_of(b, "of b")], [Statement("From b.", supported=True, citations=(0,))])
    nothing = answer_with(nearest=[citation_of(b, "near b"), citation_of(a, "near a")])
    for answer in (mixed, from_a, from_b, nothing):
        chats.finish(chats.ask(chat, "q"), answer)
    chats.fail(chats.ask(chat, "q"), "a.txt: its file is gone")
    still_answered = chats.ask(chat, "q")
    chats.keep_draft(still_answered, "Text of a")

    assert chats.forget_document(a.sha256) == Forgotten(chats=0, turns=5)
    assert not chats.keep_draft(still_answered, "Text of a.")
    assert not chats.finish(still_answered, from_a)
    turns = chats.turns(chat)
    kept = answer_of(turns[0])
    assert kept.citations == (citation_of(b, "of b"),)
    assert kept.statements == (
        Statement("From b.", supported=True, citations=(0,)),
        Statement("From both.", supported=True, citations=(0,)),
    )
    assert kept.answer == kept.reply == "From b. From both."
    assert kept.receipt.warnings == ("b.txt: rebuilt",)
    gone = answer_of(turns[1])
    assert (gone.found, gone.answer, gone.reply) == (
        False,
        "What this answer rested on was removed with its document.",
        "",
    )
    assert (gone.statements, gone.citations, gone.signals, gone.confidence) == ((), (), None, 0.0)
    assert answer_of(turns[2]) == from_b
    assert answer_of(turns[3]).nearest == (citation_of(b, "near b"),)
    assert turns[4].error == "The question failed on a document that was removed since."
    assert (turns[5].state, turns[5].draft) == ("stopped", "")
    assert [turn.note.startswith("A document of this chat was removed") for turn in turns] == [True, True, False] + [
        True
    ] * 3


def test_a_renamed_document_goes_by_its_new_name_in_chats_and_is_forgotten_under_it(chats: Chats, documents) -> None:
    a, b = documents
    chat = chats.make([a, b])
    cited = answer_with(
        [citation_of(a, "of a"), citation_of(b, "of b")],
        [Statement("From both.", supported=True, citations=(0, 1))],
        nearest=[citation_of(a, "near a")],
        warnings=("a.txt: 2 pages unread", "b.txt: rebuilt"),
    )
    chats.finish(chats.ask(chat, "q"), cited)
    chats.finish(chats.ask(chat, "q"), answer_with(warnings=("a.txt: 2 pages unread",)))
    chats.fail(chats.ask(chat, "q"), "a.txt: its file is gone")
    other = chats.make([b])
    chats.finish(chats.ask(other, "q"), answer_with(warnings=("a.txt: of another chat",)))

    chats.rename_document(a.sha256, "Report: 2021")
    assert [document.name for document in chats.find(chat.id).documents] == ["Report: 2021", "b.txt"]
    both, _, failed = chats.turns(chat)
    assert [citation.document for citation in answer_of(both).citations] == ["Report: 2021", "b.txt"]
    assert answer_of(both).nearest[0].document == "Report: 2021"
    assert answer_of(both).receipt.warnings == ("Report: 2021: 2 pages unread", "b.txt: rebuilt")
    assert answer_of(both).statements == cited.statements
    assert failed.error == "Report: 2021: its file is gone"
    assert "another" in answer_of(chats.turns(other)[0]).receipt.warnings[0]

    assert chats.forget_document(a.sha256).turns == 3
    left = json.dumps([dataclasses.asdict(turn) for turn in chats.turns(chat)])
    assert "a.txt" not in left
    assert "Report" not in left


def test_no_word_of_a_forgotten_document_is_left_in_the_database_files(
    library: Library, chats: Chats, documents
) -> None:
    a, b = documents
    words = "quartz heron" * 3
    library.connection().execute("PRAGMA secure_delete = OFF")  # as SQLite is built elsewhere
    for chosen in ([a], [a, b]):
        chat = chats.make(chosen)
        for filler in range(20):  # drafts and answers of many sizes move rows about
            turn = chats.ask(chat, "q")
            for n in range(8):
                chats.keep_draft(turn, f"{words} " * (n * (filler + 1)))
            chats.finish(turn, answer_with([citation_of(a, words)], [Statement(words, supported=True, citations=(0,))]))
    files = sorted(library.home.glob("longleaf.db*"))
    assert any(words.encode() in file.read_bytes() for file in files)
    assert chats.forget_document(a.sha256) == Forgotten(chats=1, turns=20)
    assert [file.name for file in files if words.encode() in file.read_bytes()] == []


def test_an_answer_that_only_cites_a_document_of_another_chat_loses_it_too(chats: Chats, documents) -> None:
    a, b = documents
    chat = chats.make([b])
    chats.finish(
        chats.ask(chat, "q"),
        answer_with([citation_of(a, "of a")], [Statement("From a.", supported=True, citations=(0,))]),
    )
    assert chats.forget_document(a.sha256) == Forgotten(chats=0, turns=1)
    assert "of a" not in chats.turns(chat)[0].answer_json


def test_a_chat_outlives_a_document_that_was_only_removed(
    library: Library, chats: Chats, chat: Chat, documents
) -> None:
    chats.ask(chat, "q")
    library.remove(documents[0])
    assert [each.name for each in chats.find(chat.id).documents] == ["a.txt"]
    assert chats.find(chat.id).n_turns == 1


def test_an_answer_of_another_version_is_read_as_far_as_it_goes(chats: Chats, chat: Chat) -> None:
    newer = answer_with().to_dict() | {"mood": "bright"}
    chats.finish(chats.ask(chat, "newer"), newer)
    older = answer_with().to_dict()
    del older["receipt"]["pages_total"]
    chats.finish(chats.ask(chat, "older"), older)
    first, second = chats.turns(chat)
    assert answer_of(first) == answer_with()
    with pytest.raises(LibraryError, match=r"“older” was kept by another version .*pages_total"):
        answer_of(second)


def test_a_library_of_the_schema_before_keeps_its_documents_and_gets_chats(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "old.txt"
    file.write_text("Old words.")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:3])
        with Library(tmp_path / "home") as old:
            added = old.add(file).document
            tables = {row[0] for row in old.connection().execute("SELECT name FROM sqlite_master")}
            assert "chats" not in tables
    with Library(tmp_path / "home") as library:
        assert library.documents() == [added]
        chats = Chats(library)
        assert chats.ask(chats.make([added]), "q").position == 1
        with library.transaction() as connection:
            connection.execute("INSERT INTO summaries VALUES (?, 's', 'm', 't', '{}')", (added.id,))
        library.remove(added)
        assert library.connection().execute("SELECT count(*) FROM summaries").fetchone()[0] == 0


def test_a_fork_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = identity()
    assert identity() == mine
    parent = os.getppid()
    monkeypatch.setattr(os, "getpid", lambda: parent)
    assert identity() != mine
    assert json.loads(identity())[1] == parent
