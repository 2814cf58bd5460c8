"""From a document to a summary whose statements were looked up on their pages.

A document that fits the reader is read whole; a longer one part by part along its sections, and the parts' summaries
are put together, in levels where they do not fit at once. Each statement is then checked against the pages it comes
from, also after the merge. What is finished is kept at once, so that a stop or a kill loses one part at most.

How parts are cut stands in `summary_parts.py`, the prompts in `summary_prompts.py`, the check in `summary_support.py`,
the way without a reader in `summary_extract.py`, values and keeping in `summary_record.py`.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from longleaf.errors import ContextOverflowError, DocumentError, QuestionError
from longleaf.ingestion import Document

from .answer import OVERHEAD_TOKENS, Answerer, Progress
from .citations import Citation, cite
from .evidence import Evidence
from .prompts import excerpt_messages, mark_sources, whole_document_messages
from .reader import ChatModelReader, OnRead, Reader, ShouldStop
from .receipt import Statement
from .scope import Scope
from .search import search
from .steps import Steps
from .store import StoredPassage
from .summary_extract import Sentence, central_sentences, sentences_about
from .summary_parts import Passages, cut_parts, pack, page_numbers, part_title, shown_pages
from .summary_prompts import (
    PROMPT_VERSION,
    SummaryOptions,
    merge_messages,
    part_instruction,
    summary_instruction,
    translation_messages,
    with_instruction,
)
from .summary_record import KeptSummaries, SectionSummary, Summary, SummaryReceipt, SummaryRoute, now, part_key
from .summary_support import DocumentUnits, check_statements, split_statements
from .support import says_not_in_text

__all__ = ["SectionSummary", "Summarizer", "Summary", "SummaryOptions", "SummaryReceipt"]

PART_TOKENS = 6_000
"""A part is no longer than this even where the reader has room for more: a few sentences of a part have to stand for
all of it, and a stop loses what was read of one part."""
SENTENCE_TOKENS = 56
"""Room kept for each sentence of a summary."""
MIN_ROOM_TOKENS = 128
"""With less room for text than this a reader can't summarise anything."""
MAX_PASSAGES_CHECKED = 64
"""A statement is compared with all passages it may come from while they are no more than these; else with those that
the search finds."""
SEARCHED = 12

STOPPED = "Stopped before the summary was complete."
NO_READER = "none (sentences as they stand)"


class _Stopped(Exception):  # noqa: N818  it is no error
    """The user stopped it."""


class Summarizer:
    """Summarises documents of an answerer's library with its reader. Several threads may summarise at once.

        summarizer = Summarizer(answerer)
        summary = summarizer.summarize(document, options=SummaryOptions("short", focus="debt"))

    Args:
        answerer: Its library, passages, reader and embedder are used.
        part_tokens: Most tokens of a part, where a document is read in parts.
    """

    def __init__(self, answerer: Answerer, *, part_tokens: int = PART_TOKENS) -> None:
        self.answerer = answerer
        self.part_tokens = part_tokens
        self._kept = KeptSummaries(answerer.library)

    @property
    def model_name(self) -> str:
        """Under which summaries are kept."""
        return self.answerer.reader.model_name if self.answerer.reader else NO_READER

    def kept(self, document: Document, options: SummaryOptions | None = None) -> Summary | None:
        """The summary with these options by this reader, if it has been made and the document is what it was."""
        return self._kept.summary(document, options or SummaryOptions(), self.model_name)

    def all_kept(self, document: Document) -> list[Summary]:
        """Every summary that is kept of the document as it is, by any reader and with any options; newest first."""
        return self._kept.all(document)

    def summarize(
        self,
        document: Document,
        *,
        options: SummaryOptions | None = None,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        config: RunnableConfig | None = None,
        anew: bool = False,
    ) -> Summary:
        """The summary; one that is kept is not made again, and parts that are kept are not read again.

        Args:
            document: One that was read to its end.
            options: Length, language, focus and format.
            progress: Called as the work goes on.
            should_stop: Asked between steps and while the reader reads and writes; True ends the work with what
                sections were done, and the next call goes on after them.
            config: The run that the work belongs to, with callbacks, tags and metadata.
            anew: Make it again although it is kept. Parts are still taken as they are.

        Raises:
            QuestionError: The document was not read to its end; or a language is asked for and there is no reader.
            DocumentError: It has no readable text.
            DocumentNotFoundError: It was removed meanwhile.
            ContextOverflowError: The reader's context has no room for a part.
            ModelNotInstalledError: The reader's weights are not on this machine.
            ReaderError: A reader elsewhere can't be reached, or refuses.
        """
        options = options or SummaryOptions()
        self.answerer.pose(summary_instruction(options), [document])
        if self.answerer.reader is None and options.language:
            raise QuestionError(
                f"without a reader a summary is sentences of the document, which can't be put into {options.language}: "
                "leave the language out, or fetch a reader with `longleaf model pull embedded`"
            )
        if not anew and (known := self.kept(document, options)):
            return known
        work = _Work(self, document, options, progress, should_stop, config)
        background = self.answerer.background
        with background.paused() if background else contextlib.nullcontext():
            summary = work.run()
        if not summary.stopped:
            self._kept.keep_summary(document, summary)
        return summary


@dataclass(slots=True)
class _Tally:
    """What the reader was given and wrote, in all calls of one run."""

    prompt: int = 0
    reused: int = 0
    written: int = 0
    saved: float = 0.0


class _Work:
    """One summary under way."""

    def __init__(
        self,
        summarizer: Summarizer,
        document: Document,
        options: SummaryOptions,
        progress: Progress | None,
        should_stop: ShouldStop | None,
        config: RunnableConfig | None,
    ) -> None:
        self.summarizer = summarizer
        self.answerer = summarizer.answerer
        self.document = document
        self.options = options
        self.progress: Progress = progress or (lambda _stage, _done, _total: None)
        self.should_stop = should_stop
        self.steps = Steps(config)
        self.kept = KeptSummaries(self.answerer.library)
        self.units = DocumentUnits(document, self.answerer.store, self.answerer.embedder)
        self.passages: list[StoredPassage] = []
        self.statements: tuple[Statement, ...] = ()
        self.citations: tuple[Citation, ...] = ()
        self.sections: list[SectionSummary] = []
        self.pages_read: set[int] = set()
        self.route: SummaryRoute = "sections"
        self.reason = "stopped before a way was chosen"
        self.tokens_document: int | None = None
        self.tokens_budget: int | None = None
        self.n_parts = self.n_parts_kept = self.n_parts_done = self.merge_levels = 0
        self.tally = _Tally()

    def run(self) -> Summary:
        """All steps in their order."""
        stopped = False
        try:
            self._stop_if_asked()
            with self.steps.step("index", document=self.document.name):
                self.answerer.begin([self.document])
                self.passages = self._all_passages()
            if not self.passages:
                raise DocumentError(self.document.name, "has no readable text, so there is nothing to summarise")
            if self.answerer.reader is None:
                self._pick_sentences()
            else:
                self._read(self.answerer.reader)
        except _Stopped:
            stopped = True
            self.statements, self.citations = (), ()
        return self._summary(stopped=stopped)

    def _all_passages(self) -> list[StoredPassage]:
        rows = self.answerer.library.connection().execute(
            "SELECT id FROM passages WHERE document_id = ? ORDER BY id", (self.document.id,)
        )
        return self.answerer.store.get([row["id"] for row in rows])

    def _stop_if_asked(self) -> None:
        if self.should_stop is not None and self.should_stop():
            raise _Stopped

    # With a reader

    def _read(self, reader: Reader) -> None:
        instruction = summary_instruction(self.options)
        routed = self.answerer.route(self.answerer.pose(instruction, [self.document]))
        tokens = routed.tokens_document or 0
        room = self._room(reader, instruction, self.options.n_sentences)
        self.tokens_document, self.tokens_budget = tokens, room
        notes = reader.notes if isinstance(reader, ChatModelReader) else ()
        self._stop_if_asked()
        if tokens <= room:
            self.route = "whole-document"
            self.reason = f"{tokens:,} of {room:,} tokens that {reader.model_name} has room for"
            self.reason = "; ".join((self.reason, *notes))
            self._read_whole(reader, instruction)
        else:
            parts = self._cut(reader)
            self.reason = (
                f"the document has {tokens:,} tokens; {reader.model_name}, run with a context of "
                f"{reader.context_tokens:,}, has room for {room:,}: read in {len(parts)} parts along its sections"
            )
            self.reason = "; ".join((self.reason, *notes))
            self._read_parts(reader, parts)
            self._merge(reader)
        self._translate(reader)

    def _read_whole(self, reader: Reader, instruction: str) -> None:
        pages = [page for page in self.answerer.library.pages(self.document) if page.text]
        shown = whole_document_messages([(self.document, pages)], instruction)
        self.n_parts = 1
        with self.steps.step("read", pages=len(pages)) as step:
            text = self._write(
                reader,
                with_instruction(shown, instruction),
                self.options.n_sentences,
                step.config,
                lambda done, total, _left: self.progress(f"{reader.model_name} reads (tokens)", done, total),
            )
            step.outputs["reply"] = text
        self.n_parts_done = 1
        self.pages_read.update(page.number for page in pages)
        self._check(text, lambda statement: self._near(statement, self.passages))

    def _cut(self, reader: Reader) -> list[tuple[Passages, int]]:
        """The parts, each with its tokens."""
        # Each passage is counted under a mark of its own: a little more than they take together.
        sizes = {
            stored.id: reader.get_num_tokens(f"[page {p.page}] {p.section}\n{p.header}\n{p.text}\n")
            for stored, p in ((stored, stored.passage) for stored in self.passages)
        }
        room = self._room(reader, part_instruction(self.options), self.options.n_part_sentences)
        parts = cut_parts(self.passages, sizes, min(room, self.summarizer.part_tokens))
        return [(part, sum(sizes[stored.id] for stored in part)) for part in parts]

    def _read_parts(self, reader: Reader, parts: Sequence[tuple[Passages, int]]) -> None:
        self.n_parts = len(parts)
        instruction = part_instruction(self.options)
        stage = f"{reader.model_name} reads {len(parts)} parts (tokens)"
        in_all, before = sum(size for _, size in parts), 0
        for part, size in parts:
            self._stop_if_asked()
            self.progress(stage, before, in_all)

            def on_read(done: int, total: int, _left: float, before: int = before, size: int = size) -> None:
                self.progress(stage, before + size * done // max(total, 1), in_all)

            shown = excerpt_messages(shown_pages(self.document, part, self.units.pages(part)), instruction)
            self.sections.append(self._part(reader, part, with_instruction(shown, instruction), on_read))
            self.pages_read.update(page_numbers(part))
            self.n_parts_done += 1
            before += size
        self.progress(stage, in_all, in_all)

    def _part(self, reader: Reader, part: Passages, messages: Sequence[BaseMessage], on_read: OnRead) -> SectionSummary:
        key = _key(messages)
        if known := self.kept.part(self.document, key, reader.model_name):
            self.n_parts_kept += 1
            return known
        title, pages = part_title(part), page_numbers(part)
        with self.steps.step("read", section=title, pages=list(pages)) as step:
            text = self._write(reader, messages, self.options.n_part_sentences, step.config, on_read)
            step.outputs["reply"] = text
        with self.steps.step("check", section=title):
            texts = [] if says_not_in_text(text) else split_statements(text)
            statements, citations = check_statements(texts, [self.units.rank(t, self._near(t, part)) for t in texts])
        section = SectionSummary(title, pages, " ".join(texts), statements, citations)
        self.kept.keep_part(self.document, key, reader.model_name, section)
        return section

    def _merge(self, reader: Reader) -> None:
        """Puts the sections' summaries together, in as many levels as it takes."""
        told = [section for section in self.sections if section.text]
        if len(told) < 2:  # nothing to put together: the only one that says something is the summary
            self.statements, self.citations = (told[0].statements, told[0].citations) if told else ((), ())
            return
        n = self.options.n_sentences
        room = self._room_for_merge(reader, self.options, n)
        items = told
        while len(groups := _groups(reader, items, room)) > 1:
            if len(groups) == len(items):
                raise ContextOverflowError(
                    f"{reader.model_name} has no room for two summaries of sections of {self.document.name}: run it "
                    "with a larger context (--context-tokens)"
                )
            self.merge_levels += 1
            items = [self._joined(reader, [items[i] for i in group]) for group in groups]
        self.merge_levels += 1
        self._stop_if_asked()
        self.progress(f"{reader.model_name} puts {len(told)} sections together", 0, 1)
        with self.steps.step("merge", sections=len(items)) as step:
            messages = merge_messages([_told(item) for item in items], self.options, n)
            text = self._write(reader, messages, n, step.config, None)
            step.outputs["reply"] = text
        cited = {(c.page, c.start, c.end) for section in told for c in section.citations}
        sources = [
            stored
            for stored in self.passages
            if any(
                stored.passage.page == page and stored.passage.start <= start and end <= stored.passage.end
                for page, start, end in cited
            )
        ]
        self._check(text, lambda statement: _unique([*sources, *self._searched(statement)]))
        self.progress(f"{reader.model_name} puts {len(told)} sections together", 1, 1)

    def _joined(self, reader: Reader, items: Sequence[SectionSummary]) -> SectionSummary:
        """Several summaries as one that goes into the next level; only its text counts there."""
        if len(items) == 1:
            return items[0]
        self._stop_if_asked()
        options = SummaryOptions(self.options.length, focus=self.options.focus)
        n = self.options.n_part_sentences
        messages = merge_messages([_told(item) for item in items], options, n)
        key = _key(messages)
        if known := self.kept.part(self.document, key, reader.model_name):
            return known
        title = f"{items[0].title} … {items[-1].title}"
        with self.steps.step("merge", sections=len(items)) as step:
            text = " ".join(split_statements(self._write(reader, messages, n, step.config, None)))
            step.outputs["reply"] = text
        pages = tuple(sorted({number for item in items for number in item.pages}))
        section = SectionSummary(title, pages, text)
        self.kept.keep_part(self.document, key, reader.model_name, section)
        return section

    def _translate(self, reader: Reader) -> None:
        """Puts each statement, checked in the document's language, into the one asked for; its citations stay."""
        if not self.options.language:
            return
        translated = []
        for number, statement in enumerate(self.statements):
            self._stop_if_asked()
            self.progress(f"{reader.model_name} translates", number, len(self.statements))
            with self.steps.step("translate", statement=statement.text) as step:
                messages = translation_messages(statement.text, self.options.language)
                n_sentences = 1 + 2 * reader.get_num_tokens(statement.text) // SENTENCE_TOKENS
                text = " ".join(self._write(reader, messages, n_sentences, step.config, None).split())
                step.outputs["reply"] = text
            translated.append(Statement(text or statement.text, statement.supported, statement.citations))
        self.statements = tuple(translated)

    def _write(
        self,
        reader: Reader,
        messages: Sequence[BaseMessage],
        n_sentences: int,
        config: RunnableConfig,
        on_read: OnRead | None,
    ) -> str:
        """What the reader writes, without a last sentence that had no room to end.

        Raises:
            _Stopped: The user stopped it meanwhile.
            DocumentNotFoundError: The document was removed meanwhile.
        """
        message = reader.invoke(
            mark_sources(messages, [self.document]),
            config,
            max_tokens=n_sentences * SENTENCE_TOKENS,
            on_read=on_read,
            should_stop=self.should_stop,
        )
        if usage := message.usage_metadata:
            self.tally.prompt += usage["input_tokens"]
            self.tally.written += usage["output_tokens"]
            self.tally.reused += (usage.get("input_token_details") or {}).get("cache_read") or 0
        self.tally.saved += message.response_metadata.get("seconds_saved", 0.0)
        if message.response_metadata.get("finish_reason") == "cancelled":
            raise _Stopped
        self._stop_if_asked()
        self.kept.check_is_there(self.document)  # reading takes minutes
        text = str(message.text).strip()
        if message.response_metadata.get("finish_reason") == "length":
            text = _without_open_end(text)
        return text

    def _room(self, reader: Reader, instruction: str, n_sentences: int) -> int:
        """Tokens of the context left for text.

        Raises:
            ContextOverflowError: Next to none.
        """
        written = n_sentences * SENTENCE_TOKENS
        room = reader.context_tokens - written - OVERHEAD_TOKENS - reader.get_num_tokens(instruction)
        if room < MIN_ROOM_TOKENS:
            raise ContextOverflowError(
                f"{reader.model_name} is run with a context of {reader.context_tokens:,} tokens, of which a "
                f"{self.options.length} summary leaves {max(room, 0):,} for the text: give it a larger one "
                "(--context-tokens), or ask for a shorter summary"
            )
        return room

    def _room_for_merge(self, reader: Reader, options: SummaryOptions, n_sentences: int) -> int:
        instruction = "\n".join(str(message.content) for message in merge_messages([], options, n_sentences))
        return self._room(reader, instruction, n_sentences)

    # What supports it

    def _check(self, text: str, near: Callable[[str], Sequence[StoredPassage]]) -> None:
        """Takes what the reader wrote as the summary, statement by statement, each with what supports it."""
        with self.steps.step("check", reply=text) as step:
            texts = [] if says_not_in_text(text) else split_statements(text)
            ranked: list[list[Evidence]] = []
            for number, statement in enumerate(texts):
                self._stop_if_asked()
                self.progress("looking statements up", number, len(texts))
                ranked.append(self.units.rank(statement, near(statement)))
            self.statements, self.citations = check_statements(texts, ranked)
            step.outputs["quotes"] = [citation.quote for citation in self.citations]

    def _near(self, statement: str, passages: Sequence[StoredPassage]) -> Sequence[StoredPassage]:
        return passages if len(passages) <= MAX_PASSAGES_CHECKED else self._searched(statement)

    def _searched(self, statement: str) -> list[StoredPassage]:
        answerer = self.answerer
        found = search(statement, Scope.of([self.document]), answerer.store, answerer.embedder, SEARCHED)
        return [hit.stored for hit in found.hits]

    # Without one

    def _pick_sentences(self) -> None:
        """Sentences of the document as they stand: the most central, or those that speak of the focus."""
        self.route, self.n_parts = "sentences", 1
        n, focus = self.options.n_sentences, self.options.focus
        told = f"that come nearest to {focus!r}" if focus else "nearest to the middle of what its sections say"
        self.reason = f"no reader is installed: the summary is the sentences of the document {told}, as they stand"
        with self.steps.step("pick", sentences=n):
            if focus:
                ranked = self.units.rank(focus, self._searched(focus))
                chosen = [(tuple(self.passages), sentences_about([(e.source, e.unit) for e in ranked], n))]
            else:
                self._embed()
                answerer = self.answerer
                chosen = central_sentences(self.units, self.passages, n, answerer.store, answerer.embedder)
        self._stop_if_asked()
        citations: list[Citation] = []
        statements: list[Statement] = []
        for part, sentences in chosen:
            section = _as_they_stand(part, sentences)
            if focus is None:
                self.sections.append(section)
            statements += [
                Statement(s.text, s.supported, tuple(len(citations) + i for i in s.citations))
                for s in section.statements
            ]
            citations += section.citations
        self.statements, self.citations = tuple(statements), tuple(citations)
        self.n_parts_done = 1
        self.pages_read.update(page_numbers(self.passages))

    def _embed(self) -> None:
        def report(done: int, total: int) -> None:
            self.progress("embedding passages", done, total)
            self._stop_if_asked()  # what is embedded so far is kept

        if self.answerer.embedder:
            self.answerer.store.embed([self.document], self.answerer.embedder, report)

    # The outcome

    def _summary(self, *, stopped: bool) -> Summary:
        return Summary(
            document=self.document.name,
            sha256=self.document.sha256,
            options=self.options,
            text=STOPPED if stopped else self._text(),
            statements=self.statements,
            citations=self.citations,
            sections=tuple(self.sections),
            receipt=self._receipt(),
            model=self.summarizer.model_name,
            made_at=now(),
            revision=self.document.revision,
            stopped=stopped,
        )

    def _text(self) -> str:
        texts = [statement.text for statement in self.statements]
        if not texts:
            about = f" about {self.options.focus}" if self.options.focus else ""
            return f"Nothing{about} was found in what was read."
        return "\n".join(f"- {text}" for text in texts) if self.options.format == "bullets" else " ".join(texts)

    def _receipt(self) -> SummaryReceipt:
        pages = list(self.answerer.library.pages(self.document))
        unread = {p.number for p in pages if p.source == "none" or not p.text.strip()} - self.pages_read
        left = {p.number for p in pages} - self.pages_read - unread
        return SummaryReceipt(
            route=self.route,
            reason=self.reason,
            pages_total=self.document.n_pages,
            pages_read=tuple(sorted(self.pages_read)),
            pages_unread=tuple(sorted(unread)),
            pages_left=tuple(sorted(left)),
            parts=self.n_parts,
            parts_kept=self.n_parts_kept,
            parts_done=self.n_parts_done,
            merge_levels=self.merge_levels,
            tokens_document=self.tokens_document,
            tokens_budget=self.tokens_budget,
            tokens_prompt=self.tally.prompt,
            tokens_reused=self.tally.reused,
            tokens_written=self.tally.written,
            seconds_saved=self.tally.saved,
            seconds=self.steps.seconds(),
            warnings=self.document.warnings,
        )


def _groups(reader: Reader, items: Sequence[SectionSummary], room: int) -> list[range]:
    return pack([reader.get_num_tokens(_told(item)) + 2 for item in items], room)


def _told(section: SectionSummary) -> str:
    """A section's summary under its title, as it goes into a merge: what its pages bear out, where anything does."""
    supported = " ".join(statement.text for statement in section.statements if statement.supported)
    return f"{section.title}:\n{supported or section.text}"


def _key(messages: Sequence[BaseMessage]) -> str:
    return part_key(str(PROMPT_VERSION), *(str(message.content) for message in messages))


def _unique(passages: Sequence[StoredPassage]) -> list[StoredPassage]:
    return list({stored.id: stored for stored in passages}.values())


def _without_open_end(text: str) -> str:
    """The text up to its last whole sentence; all of it where none is whole."""
    end = max(text.rfind(mark) for mark in ".!?\n")
    return text[: end + 1].strip() if end > 0 else text


def _as_they_stand(part: Passages, sentences: Sequence[Sentence]) -> SectionSummary:
    texts, citations = [], []
    for source, unit in sentences:
        citation = cite(source.document, source.page, source.text_of(unit), near=unit.start)
        if citation is not None:
            citations.append(citation)
            texts.append(" ".join(citation.quote.split()))
    statements = tuple(Statement(text, supported=True, citations=(index,)) for index, text in enumerate(texts))
    return SectionSummary(part_title(part), page_numbers(part), " ".join(texts), statements, tuple(citations))
