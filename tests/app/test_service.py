"""What a server does for those who use it, on a real library without its pages: questions, files, removal, the end."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from reportlab.pdfgen import canvas

from longleaf.app.chats import KeptTurn, answer_of
from longleaf.app.service import Service
from longleaf.app.settings import load_settings
from longleaf.app.work_queue import Control, Job
from longleaf.app.workbench import open_library
from longleaf.errors import DocumentNotFoundError, LibraryError, QuestionError, StorageError
from longleaf.ingestion import Document
from longleaf.model.readings import ReadingStore
from longleaf.model.state import DecoderState

from .test_reading_commands import CONFIG

PATIENCE_S = 30.0
SOON_S = 1.0
LAMP = "What does the lamp burn in a night?"
KEEPER = "What is the keeper called?"
LINES = ("The lamp burns $4 of oil and $5 of wick a night.", "The keeper is called Odalys Ferrante.")


class SlowReader(BaseChatModel):
    """Writes a sentence word by word, with a pause before each."""

    reply: str = LINES[1]
    pause_s: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for word in self.reply.split():
            time.sleep(self.pause_s)
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="yes"))])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGLEAF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LONGLEAF_MODELS_DIR", str(tmp_path / "no models"))
    monkeypatch.setenv("LONGLEAF_READER", "none")
    return tmp_path / "home"


@pytest.fixture
def service(home: Path) -> Iterator[Service]:
    opened = Service(load_settings())
    yield opened
    opened.close()


def pdf(*lines: str) -> io.BytesIO:
    file = io.BytesIO()
    drawing = canvas.Canvas(file, invariant=True)
    for line in lines:
        drawing.drawString(72, 700, line)
        drawing.showPage()
    drawing.save()
    return file


def over(job: Job[Any] | None) -> Any:
    """How a job stands when it is over."""
    assert job is not None
    assert job.wait(PATIENCE_S)
    return job.view()


def add(service: Service, name: str = "lighthouse.pdf", lines: tuple[str, ...] = LINES) -> Document:
    outcome = over(service.add_file(name, pdf(*lines), owner="anna")).result
    assert outcome.added, outcome.text
    return outcome.document


def answered(service: Service, turn: KeptTurn) -> KeptTurn:
    over(service.job_of(turn))
    return service.chats.turn(turn.id)


def slowly(service: Service, pause_s: float = 0.3) -> None:
    """From now on an answer takes six pauses."""
    service.answerer.use(reader=SlowReader(pause_s=pause_s))


def wait_until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def has_draft(service: Service, turn: KeptTurn) -> bool:
    job = service.job_of(turn)
    return job is not None and "The" in job.view().draft


def scratch_files(home: Path) -> list[Path]:
    return [path for path in (home / "tmp").rglob("*") if path.is_file() and path.suffix != ".lock"]


# --- questions --------------------------------------------------------------------------------------------------------


def test_a_question_is_answered_in_the_background_and_kept(service: Service) -> None:
    chat = service.chats.make([add(service)])
    turn = service.ask(chat, KEEPER, owner="anna")
    assert turn.is_open
    kept = answered(service, turn)
    assert (kept.state, kept.error, kept.note) == ("answered", "", "")
    answer = answer_of(kept)
    assert answer is not None
    assert answer.answer == LINES[1]
    assert (answer.citations[0].page, answer.citations[0].verified) == (2, True)
    with pytest.raises(QuestionError):
        service.ask(chat, "  ", owner="anna")
    assert service.chats.find(chat.id).n_turns == 1


def test_stop_ends_an_answer_soon_keeps_what_was_written_and_lets_the_next_one_begin(service: Service) -> None:
    chat = service.chats.make([add(service)])
    slowly(service)
    turn, waiting = (service.ask(chat, question, owner="anna") for question in (KEEPER, LAMP))
    wait_until(lambda: has_draft(service, turn))
    begun = time.monotonic()
    service.stop(turn)
    view = over(service.job_of(turn))
    assert time.monotonic() - begun < SOON_S
    assert view.state == "stopped"
    kept = service.chats.turn(turn.id)
    answer = answer_of(kept)
    assert kept.state == "stopped"
    assert answer is not None
    assert answer.stopped
    assert LINES[1].startswith(answer.reply)
    assert answer.reply
    service.stop(waiting)
    over(service.job_of(waiting))
    assert service.chats.turn(waiting.id).state == "stopped"
    service.answerer.use(reader=SlowReader())
    assert answered(service, service.regenerate(chat, owner="anna")).state == "answered"


@pytest.mark.parametrize("change", ["regenerate", "replace_last"])
def test_asking_again_stops_the_attempt_before_and_only_the_new_answer_is_kept(service: Service, change: str) -> None:
    chat = service.chats.make([add(service)])
    slowly(service)
    first = service.ask(chat, KEEPER, owner="anna")
    old_job = service.job_of(first)
    wait_until(lambda: has_draft(service, first))
    service.answerer.use(reader=SlowReader(reply=LINES[0]))
    question = {} if change == "regenerate" else {"question": LAMP}
    second = getattr(service, change)(chat, **question, owner="anna")
    assert over(old_job).state == "stopped"
    kept = answered(service, second)
    assert [turn.id for turn in service.chats.turns(chat)] == [second.id]
    assert (kept.state, kept.question) == ("answered", KEEPER if change == "regenerate" else LAMP)
    answer = answer_of(kept)
    assert answer is not None
    assert answer.reply == LINES[0]
    assert service.job_of(second) is not old_job


def test_a_chat_whose_document_was_removed_elsewhere_says_so(service: Service) -> None:
    document = add(service)
    chat = service.chats.make([document, add(service, "other.pdf", ("Of other things.",))])
    service.library.remove(document)  # as another process would, without the chats
    failed = service.ask(chat, KEEPER, owner="anna")
    assert failed.state == "failed"
    assert failed.error
    assert service.job_of(failed) is None
    add(service)
    assert answered(service, service.regenerate(chat, owner="anna")).state == "answered"


def test_two_people_are_answered_in_turns(service: Service) -> None:
    document = add(service)
    chats = {owner: service.chats.make([document]) for owner in ("anna", "bo")}
    slowly(service, 0.02)
    order: list[str] = []
    jobs = []
    for owner in ("anna", "anna", "anna", "bo"):
        jobs.append(service.job_of(service.ask(chats[owner], KEEPER, owner=owner)))
    for view in sorted((over(job) for job in jobs), key=lambda view: view.started_at):
        order.append(view.owner)
        assert view.state == "answered"
    assert order == ["anna", "bo", "anna", "anna"]


def test_an_answer_ends_when_its_chat_is_removed_by_another_process(service: Service) -> None:
    chat = service.chats.make([add(service)])
    service.answerer.use(reader=SlowReader(reply="word " * 200, pause_s=0.1))
    turn = service.ask(chat, KEEPER, owner="anna")
    wait_until(lambda: service.job_of(turn).view().draft)
    service.chats.remove(chat)
    assert over(service.job_of(turn)).state == "stopped"
    with pytest.raises(LibraryError):
        service.chats.turn(turn.id)
    with pytest.raises(LibraryError):
        service.ask(chat, KEEPER, owner="anna")


def test_removing_a_chat_stops_its_answer(service: Service) -> None:
    chat = service.chats.make([add(service)])
    slowly(service)
    turn = service.ask(chat, KEEPER, owner="anna")
    wait_until(lambda: has_draft(service, turn))
    job = service.job_of(turn)
    service.remove_chat(chat)
    assert over(job).state == "stopped"
    assert service.chats.all() == []


# --- documents --------------------------------------------------------------------------------------------------------


def test_a_good_file_is_taken_in_and_a_bad_one_told_with_no_copy_left(service: Service, home: Path) -> None:
    first = over(service.add_file("../a/lighthouse.pdf", pdf(*LINES), owner="anna")).result
    assert (first.added, first.document.name, first.document.n_pages) == (True, "lighthouse.pdf", 2)
    again = over(service.add_file("copy.pdf", pdf(*LINES), owner="bo")).result
    assert again.added
    assert "already in the library as lighthouse.pdf" in again.text
    bad = over(service.add_file("bad.pdf", io.BytesIO(b"%PDF-1.7 and no more"), owner="anna"))
    assert (bad.state, bad.result.added, bad.result.document) == ("answered", False, None)
    assert bad.result.text
    assert "Traceback" not in bad.result.text
    assert [document.name for document in service.library.documents()] == ["lighthouse.pdf"]
    assert scratch_files(home) == []


def test_too_large_a_file_is_refused_before_it_is_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGLEAF_MAX_UPLOAD_MB", "1")
    service = Service(load_settings())
    try:
        with pytest.raises(StorageError, match=r"large\.pdf: 1 MB.*up to 1 MB"):
            service.add_file("large.pdf", io.BytesIO(bytes(1_000_001)), owner="anna")
        assert [job for job in service.work.jobs() if job.kind == "file"] == []
        assert scratch_files(home) == []
    finally:
        service.close()


def test_reading_stopped_in_the_middle_goes_on_where_it_was(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_progress = Control.progress

    def stop_at_page_50(self: Control, stage: str, done: int, total: int, seconds_left: float | None = None) -> None:
        plain_progress(self, stage, done, total, seconds_left)
        if stage == "reading pages" and done >= 50:
            self._job.stop()

    monkeypatch.setattr(Control, "progress", stop_at_page_50)
    lines = tuple(f"Page {n} of the log speaks of ship {n}." for n in range(1, 201))
    stopped = over(service.add_file("log.pdf", pdf(*lines), owner="anna"))
    assert stopped.state == "stopped"
    assert not stopped.result.added
    assert "the pages read so far are kept" in stopped.result.text
    (document,) = service.library.documents()
    assert document.state != "ready"
    with pytest.raises(QuestionError):
        service.answerer.ask(KEEPER, [document])
    assert scratch_files(home) == []
    monkeypatch.setattr(Control, "progress", plain_progress)
    done = over(service.go_on(document, owner="anna")).result
    assert done.added, done.text
    (document,) = service.library.documents()
    assert (document.state, document.n_pages, document.name) == ("ready", 200, "log.pdf")
    chat = service.chats.make([document])
    answer = answer_of(answered(service, service.ask(chat, "What does page 150 speak of?", owner="anna")))
    assert answer is not None
    assert answer.citations[0].page == 150


def test_removing_a_document_stops_what_is_answered_from_it_and_forgets_it(service: Service) -> None:
    document = add(service)
    other = add(service, "other.pdf", ("Of other things.",))
    alone, both = service.chats.make([document]), service.chats.make([document, other])
    slowly(service)
    turn, waiting = (service.ask(chat, KEEPER, owner="anna") for chat in (alone, both))
    jobs = [service.job_of(each) for each in (turn, waiting)]
    wait_until(lambda: has_draft(service, turn))
    begun = time.monotonic()
    (gone,) = service.remove([document])
    assert time.monotonic() - begun < 2 * SOON_S
    assert gone.chats.chats == 1
    assert [over(job).state for job in jobs] == ["stopped", "stopped"]
    assert [chat.id for chat in service.chats.all()] == [both.id]
    (left,) = service.chats.turns(both)
    assert (left.state, left.draft, left.answer) == ("stopped", "", None)
    assert service.library.documents() == [other]
    assert service.remove([document]) == []


def test_removing_a_document_that_is_being_read_in_stops_that_first(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_progress = Control.progress

    def halt_at_page_50(self: Control, stage: str, done: int, total: int, seconds_left: float | None = None) -> None:
        plain_progress(self, stage, done, total, seconds_left)
        if stage == "reading pages" and done >= 50:
            wait_until(self.should_stop)

    monkeypatch.setattr(Control, "progress", halt_at_page_50)
    lines = tuple(f"Page {n} of the log speaks of ship {n}." for n in range(1, 201))
    job = service.add_file("log.pdf", pdf(*lines), owner="anna")
    wait_until(lambda: job.view().done >= 50)
    (document,) = service.library.documents()
    (gone,) = service.remove([document])
    assert gone.removed.document == document
    assert over(job).state == "stopped"
    assert service.library.documents() == []
    assert service.work.find(job.id) is None, "there is nothing that it could go on with"


def test_readings_of_documents_that_are_gone_go_when_a_server_starts(home: Path) -> None:
    with open_library(load_settings()) as library:
        path = home.parent / "notes.txt"
        path.write_text("A note.")
        document = library.add(path).document
    store = ReadingStore(home / "readings")
    for seed, sources in enumerate(([document.sha256], [document.sha256, "0" * 64], ["0" * 64], [])):
        state = DecoderState.empty(CONFIG, "f" * 64, torch.float32, torch.float32, torch.device("cpu"))
        state.note(range(seed, 300 + seed))
        assert store.keep(state, seconds=1.0, sources=sources)
    service = Service(load_settings())
    try:
        for job in service.work.jobs():
            assert over(job).state == "answered"
        assert {reading.sources for reading in store.list()} == {(document.sha256,), ()}
    finally:
        service.close()


def test_a_document_goes_by_its_new_name_everywhere(service: Service) -> None:
    document = add(service)
    chat = service.chats.make([document])
    answered(service, service.ask(chat, KEEPER, owner="anna"))
    service.rename(document, "The lighthouse")
    assert service.chats.find(chat.id).documents[0].name == "The lighthouse"
    answer = answer_of(service.chats.turns(chat)[0])
    assert answer is not None
    assert answer.citations[0].document == "The lighthouse"
    service.remove([document])
    with pytest.raises(DocumentNotFoundError):
        service.rename(document, "again")


# --- the end ----------------------------------------------------------------------------------------------------------


def test_closing_in_the_middle_of_an_answer_leaves_a_stopped_turn_and_no_scratch_files(home: Path) -> None:
    service = Service(load_settings())
    chat = service.chats.make([add(service)])
    slowly(service)
    turn = service.ask(chat, KEEPER, owner="anna")
    waiting = service.ask(chat, LAMP, owner="anna")
    wait_until(lambda: has_draft(service, turn))
    begun = time.monotonic()
    service.close()
    assert time.monotonic() - begun < 2 * SOON_S
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("work queue")] == []
    assert scratch_files(home) == []
    following = Service(load_settings())
    try:
        kept = following.chats.turn(turn.id)
        assert kept.state == "stopped"
        assert answer_of(kept).reply.startswith("The")
        never_begun = following.chats.turn(waiting.id)
        assert never_begun.state == "stopped"
        assert kept.note.startswith("Interrupted"), "it was no person who stopped it"
        assert never_begun.note.startswith("Interrupted")
        assert answered(following, following.regenerate(chat, owner="anna")).state == "answered"
    finally:
        following.close()


KILLED = """
import sys, time
from longleaf.app.service import Service
from longleaf.app.settings import load_settings
from tests.app.test_service import *

service = Service(load_settings())
chat = service.chats.make([add(service)])
service.answerer.use(reader=SlowReader(reply="word " * 500, pause_s=0.05))
turn = service.ask(chat, KEEPER, owner="anna")
wait_until(lambda: service.chats.turn(turn.id).draft)
(service._incoming / "half").write_bytes(b"half a file")
print("answering", flush=True)
time.sleep(600)
"""


def test_a_killed_server_leaves_a_turn_that_the_next_one_marks_as_interrupted(home: Path) -> None:
    command = [sys.executable, "-c", KILLED]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    ) as other:
        try:
            assert other.stdout.readline() == b"answering\n"
        finally:
            other.send_signal(signal.SIGKILL)
    assert scratch_files(home) != []
    service = Service(load_settings())
    try:
        assert scratch_files(home) == []
        (chat,) = service.chats.all()
        (turn,) = service.chats.turns(chat)
        assert (turn.state, turn.note[:11]) == ("stopped", "Interrupted")
        assert turn.draft.startswith("word")
        assert answered(service, service.regenerate(chat, owner="anna")).state == "answered"
    finally:
        service.close()
