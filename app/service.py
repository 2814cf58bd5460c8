"""What one server has for all who use it: the library, the answerer, the chats, and the queues of long work.

The pages of the browser front door call this and draw what comes of it; it knows nothing of Streamlit. Work goes on in
threads of the server's whether or not anybody looks at it, and what becomes of a question is kept in the library, so
that a page that is loaded again, in another browser too, finds it.
"""

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from longleaf.errors import DocumentNotFoundError, LongleafError, StorageError
from longleaf.ingestion import Document, Library
from longleaf.ingestion.storage import sha256_of
from longleaf.model import pull, resolve
from longleaf.model.readings import ReadingStore
from longleaf.retrieval import Answer, Answerer
from longleaf.retrieval.steps import RouteAsked
from longleaf.retrieval.summary import Summarizer
from longleaf.retrieval.summary_prompts import SummaryOptions
from longleaf.retrieval.summary_record import Summary

from .chats import Chat, Chats, KeptTurn
from .heap import give_back
from .question_queue import QuestionQueue
from .removal import Gone, remove_document, remove_orphaned_readings
from .settings import Settings
from .uploads import Outcome, safe_name, spool, take_in
from .work_queue import Control, Job, WorkQueue, WorkStopped
from .workbench import load_models, open_answerer, open_library

__all__ = ["Service"]

logger = logging.getLogger(__name__)

_KEEP_DRAFT_EVERY_S = 1.0
_WAIT_FOR_STOP_S = 30.0
"""Work on a document that is being removed ends within a chunk of the reader's; it is waited for no longer."""


class Service:
    """One library with its models, for all sessions of a server. Any thread may use it.

        service = Service(load_settings())
        turn = service.ask(chat, "What were net sales in 2021?", owner="anna")
        service.job_of(turn).view().draft
        service.close()

    `owner` says whose turn a piece of work takes in the queues: one string for each person.

    Args:
        settings: Where the library is, and which models answer.
        answers_at_once: Questions answered at the same time; they share the reader's passes.

    Raises:
        LongleafError: The library or a model that was named can't be opened.
    """

    def __init__(self, settings: Settings, *, answers_at_once: int = 1) -> None:
        self.settings = settings
        with ExitStack() as stack:
            self.library: Library = stack.enter_context(open_library(settings))
            self.answerer: Answerer = open_answerer(settings, self.library)
            stack.callback(self.answerer.close)
            self.chats = Chats(self.library)
            for turn in self.chats.recover():
                logger.info("question %d was not answered to its end by the last run", turn.id)
            self.summarizer = Summarizer(self.answerer)
            self._incoming: Path = stack.enter_context(self.library.scratch())
            # Files and downloads go beside the answers.
            self.questions = QuestionQueue(self.answerer, n_workers=answers_at_once)
            stack.callback(self.questions.close)
            self.work = WorkQueue(n_workers=2)
            stack.callback(self.work.close)
            stack.callback(self.chats.leave)  # first: a question that is cut off by the end of the server says so
            self._jobs: dict[tuple[str, str], Job[Any]] = {}
            self._jobs_lock = threading.Lock()
            self._closing = stack.pop_all()
        # Beside the opening: it waits while another process writes a reading, which may be seconds.
        self.work.submit("tidying", "readings of removed documents", self._tidy, owner="")

    def close(self) -> None:
        """Stops all work, which keeps what was done, and closes the library."""
        self._closing.close()

    # --- questions

    def ask(self, chat: Chat, question: str, *, owner: str, route: RouteAsked = "auto") -> KeptTurn:
        """Keeps a question in a chat and puts it into the line.

        Raises:
            QuestionError: It is empty.
            LibraryError: The chat was removed.
        """
        return self._answer(chat, self.chats.ask(chat, question), owner, route)

    def regenerate(self, chat: Chat, *, owner: str, route: RouteAsked = "auto") -> KeptTurn:
        """Asks the last question of a chat again, the same way or another; its answer is forgotten.

        Raises:
            LibraryError: The chat was removed, or nothing was asked in it.
        """
        self._stop_last(chat)
        return self._answer(chat, self.chats.regenerate(chat), owner, route)

    def replace_last(self, chat: Chat, question: str, *, owner: str, route: RouteAsked = "auto") -> KeptTurn:
        """Asks another question in place of the last one of a chat, which is forgotten.

        Raises:
            QuestionError: It is empty.
            LibraryError: The chat was removed, or nothing was asked in it.
        """
        self._stop_last(chat)
        return self._answer(chat, self.chats.replace_last(chat, question), owner, route)

    def stop(self, turn: KeptTurn) -> None:
        """Ends a question at once while it waits, else when the reader looks up; what was written stays."""
        if (job := self.job_of(turn)) and not job.wait(0):
            job.stop()  # and what was written is kept when it ends
        else:
            self.chats.stop(turn)

    def remove_chat(self, chat: Chat) -> None:
        """Stops what is being answered in a chat, and deletes it."""
        for turn in self.chats.turns(chat):
            if turn.is_open:
                self.stop(turn)
        self.chats.remove(chat)

    def job_of(self, turn: KeptTurn) -> Job[Answer] | None:
        """The work on a question in this server; None where it is over and forgotten, or another process's."""
        return self._job("turn", f"{turn.id}/{turn.attempt}")

    def _answer(self, chat: Chat, turn: KeptTurn, owner: str, route: RouteAsked) -> KeptTurn:
        try:
            documents = [self.library.find(document.sha256) for document in chat.documents]
            if not documents:
                raise DocumentNotFoundError("the documents of this chat were removed; begin another chat")
        except LongleafError as exc:
            self.chats.fail(turn, str(exc))
            return self.chats.turn(turn.id)
        job = self.questions.ask(
            turn.question,
            documents,
            owner=owner,
            route=route,
            top_k=self.settings.top_k,
            on_change=_Keeper(self.chats, turn),
        )
        self._keep_job("turn", f"{turn.id}/{turn.attempt}", job)
        return turn

    def _stop_last(self, chat: Chat) -> None:
        turns = self.chats.turns(chat)
        if turns and turns[-1].is_open:
            self.stop(turns[-1])

    # --- documents

    def add_file(self, name: str, file: BinaryIO, *, owner: str, password: str | None = None) -> Job[Outcome]:
        """Takes an upload off the browser's hands and puts it into the line of files.

        Args:
            name: The file's name, as the browser gave it.
            file: Its bytes; read here, and no longer needed afterwards.
            owner: Whose turn it takes.
            password: For an encrypted PDF; never stored.

        Raises:
            StorageError: It can't be written to disk, or is larger than this server takes.
        """
        name = safe_name(name)
        size = file.seek(0, 2)
        file.seek(0)
        if size > self.settings.max_upload_mb * 1_000_000:
            raise StorageError(
                f"{name}: {size / 1e6:,.0f} MB, and this server takes files up to {self.settings.max_upload_mb:,} MB. "
                "Add it at a terminal (longleaf add FILE), or raise LONGLEAF_MAX_UPLOAD_MB"
            )
        folder = Path(tempfile.mkdtemp(dir=self._incoming))
        try:
            path = spool(file, folder, name)
        except OSError as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageError(f"{name}: it can't be copied to {folder.parent}: {exc.strerror or exc}") from exc

        def work(control: Control) -> Outcome:
            return take_in(self.library, self.answerer, path, control, password=password, ocr=self._ocr)

        def let_go(job: Job[Outcome]) -> None:
            if job.view().finished:
                shutil.rmtree(folder, ignore_errors=True)
                give_back()

        return self.work.submit("file", name, work, owner=owner, on_change=let_go)

    def go_on(self, document: Document, *, owner: str) -> Job[Outcome]:
        """Goes on with a document whose adding, or embedding, was stopped."""

        def work(control: Control) -> Outcome:
            path = self.library.file(document)
            if sha256_of(path) != document.sha256:  # the readable copy of an encrypted or damaged PDF
                return Outcome("to go on, add the original file again", document, added=False)
            return take_in(self.library, self.answerer, path, control, ocr=self._ocr)

        return self.work.submit("file", document.name, work, owner=owner)

    def rename(self, document: Document, name: str) -> Document:
        """Gives a document another name, in the library and in the chats about it.

        Raises:
            LongleafError: The name is empty.
            DocumentNotFoundError: The document was removed.
        """
        renamed = self.library.rename(document, name)
        self.chats.rename_document(document.sha256, renamed.name)
        return renamed

    def remove(self, documents: Iterable[Document]) -> list[Gone]:
        """Removes documents and all that came from them: rows, files, readings, summaries, what chats say of them.

        Work on them is stopped first. One that is gone already is passed over.
        """
        gone = []
        for document in documents:
            self._stop_work_on(document)
            try:
                removed = remove_document(
                    document, self.library, self.answerer.store, self.chats, self.readings,
                    jobs_url=self.settings.jobs_url,
                )  # fmt: skip
            except DocumentNotFoundError:
                continue
            gone.append(removed)
        return gone

    @property
    def readings(self) -> ReadingStore:
        """The readings on disk."""
        return ReadingStore(self.settings.home / "readings", budget_bytes=self.settings.readings_budget_bytes)

    @property
    def _ocr(self) -> Any:
        return "auto" if self.settings.ocr else "never"

    def _tidy(self, _control: Control) -> None:
        """Removes what a reader of another process, or a killed one, kept of a document after that was removed."""
        try:
            n_readings, n_bytes = remove_orphaned_readings(self.library, self.readings)
        except StorageError as exc:
            logger.warning("readings of removed documents may be left: %s", exc)
        else:
            if n_readings:
                logger.info("%d readings of removed documents are removed, %d bytes", n_readings, n_bytes)

    def _stop_work_on(self, document: Document) -> None:
        jobs: list[Job[Any] | None] = [self.summary_job(document)]
        # Removing waits for whoever reads the document in, which may take minutes.
        names = () if document.state == "ready" else (document.name, document.file_name)
        files = [job for job in self.work.jobs() if job.kind == "file" and job.title in names]
        jobs += files
        for chat in self.chats.with_document(document.sha256):
            for turn in self.chats.turns(chat):
                if turn.is_open:
                    self.stop(turn)
                    jobs.append(self.job_of(turn))
        ending = time.monotonic() + _WAIT_FOR_STOP_S
        for job in filter(None, jobs):
            job.stop()
            job.wait(max(0.0, ending - time.monotonic()))
        for job in files:
            self.work.forget(job.id)  # what it would go on with is gone

    # --- summaries

    def summarize(self, document: Document, options: SummaryOptions, *, owner: str, anew: bool = False) -> Job[Summary]:
        """Puts the summary of a document into the line of questions, whose reader it needs."""

        def work(control: Control) -> Summary:
            control.progress("searching", 0, 0)
            summary = self.summarizer.summarize(
                self.library.find(document.sha256),
                options=options,
                progress=control.progress,
                should_stop=control.should_stop,
                anew=anew,
            )
            if summary.stopped:
                raise WorkStopped(summary)
            return summary

        job = self.questions.submit("summary", document.name, work, owner=owner)
        self._keep_job("summary", document.sha256, job)
        return job

    def summary_job(self, document: Document) -> Job[Summary] | None:
        """The last work on a summary of this document in this server."""
        return self._job("summary", document.sha256)

    # --- models

    def pull_model(self, name: str, *, owner: str) -> Job[list[Path]]:
        """Fetches a model, or all that "embedded" stands for, and has it answer where the settings name it.

        Args:
            name: As for `longleaf model pull`.
            owner: Whose turn it takes.

        Raises:
            UnknownModelError: There is no model of that name.
        """
        names = [spec.name for spec in resolve(name)]

        def work(control: Control) -> list[Path]:
            def on_bytes(done: int, total: int, text: str) -> None:
                control.stop_if_asked()
                control.progress(f"{text} (MB)", done // 1_000_000, max(total // 1_000_000, 1))

            paths = [pull(each, self.settings.models_dir, progress=on_bytes)[0] for each in names]
            load_models(self.settings, self.answerer)
            return paths

        job = self.work.submit("model", name, work, owner=owner)
        self._keep_job("model", name, job)
        return job

    def pull_job(self, name: str) -> Job[list[Path]] | None:
        """The last download of this name in this server."""
        return self._job("model", name)

    # --- which work belongs to what

    def _job(self, kind: str, key: str) -> Job[Any] | None:
        with self._jobs_lock:
            return self._jobs.get((kind, key))

    def _keep_job(self, kind: str, key: str, job: Job[Any]) -> None:
        with self._jobs_lock:
            queues: Sequence[WorkQueue] = (self.questions, self.work)
            known = {job.id for queue in queues for job in queue.jobs()}
            self._jobs = {k: kept for k, kept in self._jobs.items() if kept.id in known}
            self._jobs[kind, key] = job


@dataclass(slots=True)
class _Keeper:
    """Writes into a chat what becomes of one of its questions, as its job goes on."""

    chats: Chats
    turn: KeptTurn
    kept_at: float = 0.0

    def __call__(self, job: Job[Answer]) -> None:
        view = job.view()
        if view.finished:
            give_back()
        if view.state == "failed":
            self.chats.fail(self.turn, view.error)
        elif view.answer is not None:
            self.chats.finish(self.turn, view.answer)
        elif view.finished:
            self.chats.stop(self.turn)
        elif time.monotonic() - self.kept_at >= _KEEP_DRAFT_EVERY_S:
            self.kept_at = time.monotonic()
            if not self.chats.keep_draft(self.turn, view.draft):
                job.stop()  # nobody wants it any more: stopped, asked anew or removed, be it by another process
