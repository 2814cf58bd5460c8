"""From a question to an answer whose citations were looked up on their pages, with a receipt of what was read.

The walk: route by token count; find passages; pick the sentences that bear on the question; let the reader answer from
them (or from the whole document); find for each of its statements the unit that supports it; look that unit up on the
stored page; decide between an answer and "not found" from the evidence.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from langchain_core.messages import AIMessage, BaseMessage

from longleaf.errors import QuestionError
from longleaf.ingestion import Document, Library

from .citations import Citation, cite
from .embeddings import Embedder
from .evidence import Evidence, SearchedPage, excerpts, rank_evidence
from .prompts import (
    document_heading,
    excerpt_messages,
    page_text,
    support_messages,
    whole_document_messages,
)
from .route import Route, choose_route
from .scope import Scope
from .search import Hit, search
from .sentences import split_units
from .store import PassageStore
from .support import Signals, confidence, find_support, names_held, says_not_in_text

__all__ = ["Answer", "Answerer", "Reader", "Receipt", "Statement"]

NOT_FOUND = "Not found in what was read."
ANSWER_TOKENS = 128
"""Room kept for the answer."""
OVERHEAD_TOKENS = 96
"""Room kept for instructions and the chat template, beside the question's own tokens."""
EVIDENCE_UNITS = 5
EVIDENCE_CHARS = 1_000
EVIDENCE_SCORE_DROP = 0.3
"""On the retrieval route the reader is shown the best units, none that scores so much less than the first. That is
240 tokens on average, some five seconds of prefill on two cores, and holds 49 of the 60 answers to the project's own
questions; four units of any score are 270 tokens and hold as many."""
MAX_NEAREST = 3
UNASKED = 0.2
"""Stands for the reader's "yes" where there is no reader to ask."""

Progress = Callable[[str, int, int], None]
"""Called with (stage in a few words, done, in all)."""


class Reader(Protocol):
    """What the walk needs of a model: LangChain's chat interface and a few figures about itself."""

    @property
    def model_name(self) -> str:
        """Shown with the answer; token counts are kept under it."""

    @property
    def context_tokens(self) -> int:
        """Tokens of prompt and answer together."""

    def get_num_tokens(self, text: str) -> int:
        """Tokens of a text, without a chat template."""

    def invoke(
        self,
        input: Sequence[BaseMessage],  # noqa: A002 (LangChain's name)
        *,
        max_tokens: int,
        on_read: Callable[[int, int, float], None] | None,
    ) -> AIMessage:
        """The reply, of at most `max_tokens` tokens; `on_read` is told (tokens read, tokens in all, seconds left)."""

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        """Probability of each option as the reply, adding up to 1."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of the answer, and which citations (by index) support it."""

    text: str
    supported: bool
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was read for this answer.

    Attributes:
        pages_total: Pages of all documents asked.
        pages_read: Pages that the reader saw text of.
        pages_searched: Pages whose text was searched.
        pages_ocr: Pages of the documents whose text came from OCR.
        pages_unread: Pages without usable text: images where OCR was not at hand.
        pages_dropped: Pages with text that were left out of what was searched or read; 0 on both routes.
        tokens_document: Tokens of all pages with their marks; None without a reader.
        tokens_budget: Tokens of the reader's context left for the document.
        tokens_prompt: Tokens that the reader was given.
        tokens_reused: Of these, tokens that it did not have to read again.
        seconds_saved: What reading those had taken before.
        passages: Passages found by the search.
        seconds: By step, and in all.
        warnings: What is known to be wrong with the documents.
    """

    pages_total: int
    pages_read: int
    pages_searched: int
    pages_ocr: int
    pages_unread: int
    pages_dropped: int
    tokens_document: int | None
    tokens_budget: int | None
    tokens_prompt: int
    tokens_reused: int
    seconds_saved: float
    passages: int
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with what stands behind it; `to_dict` gives the object that `ask --json` prints.

    Attributes:
        question: As it was asked.
        answer: The statements, or that nothing was found.
        found: Whether what was read supports an answer.
        route: The way taken, and why.
        citations: Quotes that were found on their pages; none where nothing supports an answer.
        statements: The answer's sentences, each with its citations.
        nearest: Where nothing was found: the passages that came nearest, which answer nothing.
        confidence: Trust in the best supported statement, in [0, 1].
        signals: What that trust rests on; None where no statement is supported.
        reply: What the reader wrote, whether or not it could be supported.
        receipt: What was read.
        model: Who wrote the answer.
    """

    question: str
    answer: str
    found: bool
    route: Route
    citations: tuple[Citation, ...]
    statements: tuple[Statement, ...]
    nearest: tuple[Citation, ...]
    confidence: float
    signals: Signals | None
    reply: str
    receipt: Receipt
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers, ready for JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def step(self, name: str) -> Any:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begun, 3)

    def total(self) -> dict[str, float]:
        return self.seconds | {"total": round(time.perf_counter() - self.begun, 3)}


@dataclass(frozen=True, slots=True)
class _Reply:
    """What the reader wrote, and what it was shown."""

    text: str
    pages: frozenset[tuple[int, int]]
    says_yes: float
    tokens_prompt: int
    tokens_reused: int
    seconds_saved: float


class Answerer:
    """Answers questions about documents of one library.

        answerer = Answerer(library, ChatLongleaf(), LongleafEmbeddings())
        answer = answerer.ask("What were net sales in 2021?", [document])

    Args:
        library: Where the documents are.
        reader: Writes the answer; None answers with the sentences found.
        embedder: None searches by full text alone.
        min_confidence: An answer is given from this confidence on.
    """

    def __init__(
        self, library: Library, reader: Reader | None, embedder: Embedder | None, *, min_confidence: float = 0.5
    ) -> None:
        self.library = library
        self.min_confidence = min_confidence
        self.store = PassageStore(library)
        self.reader = reader
        self.embedder = embedder

    def prepare(self, documents: Sequence[Document], progress: Progress | None = None, *, embed: bool = True) -> None:
        """Cuts, and embeds, what is not yet; later questions find it done."""
        for document in documents:
            self.store.cut(document)
        if embed and self.embedder:
            report = (lambda done, total: progress("embedding passages", done, total)) if progress else None
            self.store.embed(documents, self.embedder, report)

    def ask(
        self,
        question: str,
        documents: Sequence[Document],
        *,
        route: Literal["auto", "whole-document", "retrieval"] = "auto",
        top_k: int = 12,
        progress: Progress | None = None,
    ) -> Answer:
        """Answers one question about these documents.

        Args:
            question: In plain words.
            documents: One or several.
            route: "auto" reads the whole document where it fits.
            top_k: Passages searched for evidence.
            progress: Called as the work goes on.

        Raises:
            QuestionError: The question is empty, there is no document, or the route asked for is not possible.
            ModelNotInstalledError: The reader's weights are not on this machine.
        """
        question = " ".join(question.split())
        if not question:
            raise QuestionError("the question is empty: put it in quotes after the files")
        if not documents:
            raise QuestionError("there is no document to ask: name a file, or add one with `longleaf add FILE`")
        for document in documents:
            if document.state != "ready":
                raise QuestionError(f"{document.name} was not read to its end: add it again, and it goes on there")
        clock = _Clock()
        with clock.step("index"):
            self.prepare(documents, progress)
        with clock.step("route"):
            tokens_document, budget = self._tokens(question, documents)
            chosen = choose_route(
                tokens_document, budget or 0, self.reader.context_tokens if self.reader else 0,
                self.reader.model_name if self.reader else "", route,
            )  # fmt: skip
        with clock.step("search"):
            hits = search(question, Scope.of(documents), self.store, self.embedder, top_k).hits
            ranked = rank_evidence(question, hits, self._pages_of(hits, documents), self.embedder)
        with clock.step("read"):
            reply = self._read(question, documents, chosen, ranked, progress)
        with clock.step("check"):
            statements, citations, signals = self._check(question, reply, ranked)
        trust = confidence(signals) if signals else 0.0
        found = bool(citations) and trust >= self.min_confidence
        return Answer(
            question=question,
            answer=" ".join(statement.text for statement in statements) if found else NOT_FOUND,
            found=found,
            route=chosen,
            citations=tuple(citations) if found else (),
            statements=tuple(statements) if found else (),
            nearest=() if found else _nearest(ranked),
            confidence=round(trust, 3),
            signals=signals,
            reply=reply.text,
            receipt=self._receipt(documents, hits, reply, tokens_document, budget, clock),
            model=self.reader.model_name if self.reader else "none (sentences as they stand)",
        )

    def _tokens(self, question: str, documents: Sequence[Document]) -> tuple[int | None, int | None]:
        """Tokens of the documents, and of the room for them; (None, None) without a reader."""
        reader = self.reader
        if reader is None:
            return None, None
        total = 0
        for document in documents:
            known = self.store.token_count(document, reader.model_name)
            if known is None:
                texts = [document_heading(document.name), *map(page_text, self.library.pages(document))]
                known = sum(reader.get_num_tokens(text) for text in texts)
                self.store.keep_token_count(document, reader.model_name, known)
            total += known
        return total, reader.context_tokens - ANSWER_TOKENS - OVERHEAD_TOKENS - reader.get_num_tokens(question)

    def _pages_of(self, hits: Sequence[Hit], documents: Sequence[Document]) -> dict[tuple[int, int], SearchedPage]:
        by_id = {document.id: document for document in documents}
        keys = {(hit.stored.document_id, hit.stored.passage.page) for hit in hits}
        return {key: self._searched_page(by_id[key[0]], key[1]) for key in sorted(keys)}

    def _searched_page(self, document: Document, number: int) -> SearchedPage:
        page = self.library.page(document, number)
        # Cut passage by passage: running headers stay out, and units end where passages do.
        units = {
            unit.start: unit for span in self.store.spans(document, number) for unit in split_units(page.text, *span)
        }
        return SearchedPage(document, page, tuple(units[start] for start in sorted(units)))

    def _read(
        self,
        question: str,
        documents: Sequence[Document],
        route: Route,
        ranked: Sequence[Evidence],
        progress: Progress | None,
    ) -> _Reply:
        """Lets the reader answer; without one, the best sentence stands for the answer."""
        if self.reader is None or not ranked:
            best = ranked[:1]
            return _Reply(
                " ".join(e.text for e in best),
                frozenset((e.document.id, e.page_number) for e in best),
                UNASKED,
                0,
                0,
                0.0,
            )
        if route.name == "whole-document":
            read = [(d, [page for page in self.library.pages(d) if page.text]) for d in documents]
            messages = whole_document_messages(((d.name, pages) for d, pages in read), question)
            seen = frozenset((d.id, page.number) for d, pages in read for page in pages)
        else:
            least = ranked[0].score - EVIDENCE_SCORE_DROP
            shown = excerpts([e for e in ranked[:EVIDENCE_UNITS] if e.score >= least], EVIDENCE_CHARS)
            messages = excerpt_messages(shown, question)
            seen = frozenset((excerpt.document.id, excerpt.page_number) for excerpt in shown)
        name = self.reader.model_name

        def on_read(done: int, total: int, _seconds_left: float) -> None:
            if progress:
                progress(f"{name} reads (tokens)" if done < total else f"{name} answers", done, total)

        reply = self.reader.invoke(messages, max_tokens=ANSWER_TOKENS, on_read=on_read)
        usage = reply.usage_metadata
        text = str(reply.text).strip()
        refused = says_not_in_text(text)
        says_yes = 0.0 if refused else self.reader.choose(support_messages(messages, question), ("yes", "no"))["yes"]
        reused = (usage.get("input_token_details") or {}).get("cache_read", 0) if usage else 0
        tokens = usage["input_tokens"] if usage else 0
        return _Reply(text, seen, says_yes, tokens, reused, reply.response_metadata.get("seconds_saved", 0.0))

    def _check(
        self, question: str, reply: _Reply, ranked: Sequence[Evidence]
    ) -> tuple[list[Statement], list[Citation], Signals | None]:
        """The reply's statements, the citations that support them, and the signals of the best supported one."""
        statements: list[Statement] = []
        citations: list[Citation] = []
        weighed: list[Signals] = []
        refused = says_not_in_text(reply.text)
        texts = [] if refused else [reply.text[u.start : u.end] for u in split_units(reply.text)]
        for text in texts:
            support = find_support(text, ranked)
            index = _cite(support, citations) if support else None
            if support is None or index is None:
                statements.append(Statement(text, supported=False, citations=()))
                continue
            weighed.append(_signals(question, support, reply))
            statements.append(Statement(text, supported=True, citations=(index,)))
        return statements, citations, max(weighed, key=confidence, default=None)

    def _receipt(
        self,
        documents: Sequence[Document],
        hits: Sequence[Hit],
        reply: _Reply,
        tokens_document: int | None,
        budget: int | None,
        clock: _Clock,
    ) -> Receipt:
        total = sum(document.n_pages for document in documents)
        unread = sum(document.n_pages_unread for document in documents)
        return Receipt(
            pages_total=total,
            pages_read=len(reply.pages),
            pages_searched=total - unread,
            pages_ocr=sum(document.n_pages_ocr for document in documents),
            pages_unread=unread,
            pages_dropped=0,
            tokens_document=tokens_document,
            tokens_budget=budget,
            tokens_prompt=reply.tokens_prompt,
            tokens_reused=reply.tokens_reused,
            seconds_saved=reply.seconds_saved,
            passages=len(hits),
            seconds=clock.total(),
            warnings=tuple(f"{document.name}: {warning}" for document in documents for warning in document.warnings),
        )


def _cite(evidence: Evidence, citations: list[Citation]) -> int | None:
    """Adds the unit as a citation after finding it on its page; returns its index, None where it is not there."""
    citation = cite(
        evidence.document, evidence.source.page, evidence.text, near=evidence.unit.start, heading=evidence.heading
    )
    if citation is None:
        return None
    if citation not in citations:
        citations.append(citation)
    return citations.index(citation)


def _signals(question: str, evidence: Evidence, reply: _Reply) -> Signals:
    document, similarity = evidence.document, evidence.similarity
    place = f"{document.name} {document.title} {evidence.section} {evidence.source.page.text}"
    return Signals(
        similarity=0.5 if math.isnan(similarity) else max(0.0, similarity),
        own_coverage=evidence.own_coverage,
        names_held=names_held(question, place),
        says_yes=reply.says_yes,
    )


def _nearest(ranked: Sequence[Evidence]) -> tuple[Citation, ...]:
    places: list[Citation] = []
    for evidence in ranked[:MAX_NEAREST]:
        _cite(evidence, places)
    return tuple(places)
