"""From a question to an answer whose citations were looked up on their pages, with a receipt of what was read.

The walk is a row of steps: route by token count; search passages; pick the sentences that bear on the question; let the
reader answer from them (or from the whole document); check, which is to find for each of its statements the unit that
supports it and that unit on the stored page. Whether there is an answer or "not found" is decided from the evidence.
What the steps take and give stands in `steps.py`, what comes of them in `receipt.py`.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from functools import partial

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, set_config_context

from longleaf.errors import QuestionError
from longleaf.ingestion import Document, Library, Page
from longleaf.model import ChatLongleaf

from .background import BackgroundEmbedding
from .citations import Citation, cite
from .embeddings import Embedder, stoppable
from .evidence import Evidence, SearchedPage, excerpts, rank_evidence
from .langchain_documents import searched_in
from .progress import Progress, with_seconds_left
from .prompts import document_heading, excerpt_messages, page_text, support_messages, whole_document_messages
from .reader import ChatModelReader, Reader, ShouldStop, as_reader
from .receipt import Answer, Receipt, Statement
from .route import Route, choose_route
from .scope import Scope
from .search import search
from .sentences import split_units
from .steps import Asked, Checked, Picked, Reply, RouteAsked, Routed, Searched, Steps
from .stopping import Stopped, stopper, unless_stopped
from .store import PassageStore
from .support import Signals, confidence, find_support, names_held, says_not_in_text
from .widen import widened

__all__ = ["Answer", "Answerer", "Progress", "Reader", "Receipt", "Statement"]

NOT_FOUND = "Not found in what was read."
STOPPED = "Stopped before the answer was complete."
ANSWER_TOKENS = 128
"""Room kept for the answer."""
OVERHEAD_TOKENS = 96
"""Room kept for instructions and the chat template, beside the question's own tokens."""
EVIDENCE_UNITS = 5
EVIDENCE_CHARS = 1_000
EVIDENCE_SCORE_DROP = 0.3
"""On the retrieval route the reader is shown the best units, none that scores so much less than the first: 260 tokens
on average, a second and a half of prefill on two cores. Eight units of any score show no more right pages."""
LONG_CONTEXT_TOKENS = 32_000
WIDE_EVIDENCE_TOKENS = 8_000
"""A reader with a context of so many tokens is shown passages with their sections, up to so many tokens."""
MAX_NEAREST = 3
UNASKED = 0.2
"""Stands for the reader's "yes" where there is no reader to ask."""


class Answerer:
    """Answers questions about documents of one library. Several threads may ask at once.

        answerer = Answerer(library, ChatLongleaf(), LongleafEmbeddings())
        answer = answerer.ask("What were net sales in 2021?", [document])

    Args:
        library: Where the documents are.
        reader: Writes the answer; None answers with the sentences found. A LangChain chat model is made a reader.
        embedder: None searches by full text alone.
        min_confidence: An answer is given from this confidence on.
        store: The passages of the library, where they are to be searched with an index of another kind.
        evidence_tokens: Room for passages and the sections around them on the retrieval route; 0 shows single
            sentences and rows. By default that, and `WIDE_EVIDENCE_TOKENS` to a reader with a long context.
        cross_encoder: Orders the best passages; see `search`.
    """

    def __init__(
        self,
        library: Library,
        reader: Reader | BaseChatModel | None,
        embedder: Embedder | None,
        *,
        min_confidence: float = 0.5,
        store: PassageStore | None = None,
        evidence_tokens: int | None = None,
        cross_encoder: BaseCrossEncoder | None = None,
    ) -> None:
        self.library = library
        self.min_confidence = min_confidence
        self.evidence_tokens = evidence_tokens
        self.cross_encoder = cross_encoder
        self.store = store or PassageStore(library)
        self.reader: Reader | None = None
        self.embedder: Embedder | None = None
        self.background: BackgroundEmbedding | None = None
        self.use(reader=reader, embedder=embedder)

    def use(self, *, reader: Reader | BaseChatModel | None = None, embedder: Embedder | None = None) -> None:
        """Takes models in place of those that it has; None leaves what there is."""
        if reader is not None:
            self.reader = as_reader(reader) if isinstance(reader, BaseChatModel) else reader
        if embedder is not None:
            if self.background:
                self.background.stop()
            self.embedder, self.background = embedder, BackgroundEmbedding(self.store, embedder)

    def prepare(self, documents: Sequence[Document], progress: Progress | None = None, *, embed: bool = True) -> None:
        """Cuts, and embeds, what is not yet; later questions find it done."""
        for document in self.store.uncut(documents):
            self.store.cut(document)
        if embed and self.embedder:
            report = (lambda done, total: progress("embedding passages", done, total)) if progress else None
            self.store.embed(documents, self.embedder, report)

    def begin(self, documents: Sequence[Document]) -> None:
        """Cuts what is not yet, and has it embedded in the background: questions can be asked at once."""
        self.prepare(documents, embed=False)
        if self.background:
            self.background.add(documents)

    def finish(self, progress: Progress | None = None) -> None:
        """Waits until what was begun is embedded."""
        report = (lambda done, total: progress("embedding passages", done, total)) if progress else None
        if self.background:
            self.background.finish(report)

    def count_tokens(self, documents: Sequence[Document]) -> int | None:
        """Tokens that these documents have for the reader, counted once each; None without a reader."""
        return self._tokens(Scope.of(documents), self.reader) if self.reader else None

    @property
    def tokenizer_name(self) -> str | None:
        """Under which `PassageStore.token_counts` has what the reader counted; None without a reader."""
        return _tokenizer_name(self.reader) if self.reader else None

    def n_unembedded(self, document: Document) -> int:
        """Passages of a document that have no vector yet; 0 without an embedder."""
        return len(self.store.unembedded(Scope.of([document]), self.embedder.name)) if self.embedder else 0

    @property
    def embedding(self) -> bool:
        """Whether passages are being embedded in the background, or wait for it."""
        return self.background is not None and self.background.busy

    def stop_embedding(self, document: Document) -> None:
        """Leaves the rest of a document's vectors to the next question or `prepare`."""
        if self.background:
            self.background.drop([document])

    def close(self) -> None:
        """Ends what goes on in the background, which is begun again another time, and lets go of indexes."""
        if self.background:
            self.background.stop()
        self.store.close()

    def ask(
        self,
        question: str,
        documents: Sequence[Document],
        *,
        route: RouteAsked = "auto",
        top_k: int = 12,
        progress: Progress | None = None,
        pages: tuple[int, int] | None = None,
        retriever: BaseRetriever | None = None,
        should_stop: ShouldStop | None = None,
        config: RunnableConfig | None = None,
    ) -> Answer:
        """Answers one question about these documents.

        Args:
            question: In plain words.
            documents: One or several; none where a retriever is given.
            route: "auto" reads the whole document where it fits.
            top_k: Passages searched for evidence.
            progress: Called as the work goes on.
            pages: First and last page (1-based, both included) to search and to read; all by default.
            retriever: Brings the evidence in place of the search. Its Documents are cited on the library's pages where
                they say that they are from there, else by their own text.
            should_stop: Asked between steps and while the reader reads and writes; True
                ends the walk with an answer that is marked as stopped.
            config: The run that the steps belong to, with callbacks, tags and metadata.

        Raises:
            QuestionError: The question is empty, there is no document, a page range that no document has, or the route
                asked for is not possible.
            ModelNotInstalledError: The reader's weights are not on this machine.
            ReaderError: A reader elsewhere can't be reached, or refuses.
        """
        asked = self.pose(question, documents, route=route, top_k=top_k, pages=pages, retriever=retriever)
        walk = self._walk(asked, progress, should_stop, config, streaming=False)
        while True:
            try:
                next(walk)
            except StopIteration as end:
                answer: Answer = end.value
                return answer

    def stream(
        self,
        question: str,
        documents: Sequence[Document],
        *,
        route: RouteAsked = "auto",
        top_k: int = 12,
        progress: Progress | None = None,
        pages: tuple[int, int] | None = None,
        retriever: BaseRetriever | None = None,
        should_stop: ShouldStop | None = None,
        config: RunnableConfig | None = None,
    ) -> Iterator[str | Answer]:
        """As `ask`, but hands out what the reader writes while it writes.

        Yields:
            Pieces of text as the reader writes them: a draft, of which nothing is checked yet and which the answer may
            not bear out; then the answer.

        Raises:
            QuestionError: At the call; the other errors of `ask` come while it is read.
        """
        asked = self.pose(question, documents, route=route, top_k=top_k, pages=pages, retriever=retriever)
        return self._events(asked, progress, should_stop, config)

    def _events(
        self, asked: Asked, progress: Progress | None, should_stop: ShouldStop | None, config: RunnableConfig | None
    ) -> Iterator[str | Answer]:
        yield (yield from self._walk(asked, progress, should_stop, config, streaming=True))

    def _walk(
        self,
        asked: Asked,
        progress: Progress | None,
        should_stop: ShouldStop | None,
        config: RunnableConfig | None,
        *,
        streaming: bool,
    ) -> Generator[str, None, Answer]:
        """All steps in their order; yields what the reader writes, returns the answer."""
        with self.background.paused() if self.background else contextlib.nullcontext():
            return (yield from self._steps(asked, progress, should_stop, config, streaming=streaming))

    def _steps(
        self,
        asked: Asked,
        progress: Progress | None,
        should_stop: ShouldStop | None,
        config: RunnableConfig | None,
        *,
        streaming: bool,
    ) -> Generator[str, None, Answer]:
        steps = Steps(config)
        routed = Routed(Route("retrieval", "stopped before a route was chosen"))
        searched, picked, reply, checked = Searched(), Picked(), Reply("", UNASKED), Checked()
        stop_if_asked = stopper(should_stop)
        try:
            stop_if_asked()
            with steps.step("index", documents=[d.name for d in asked.scope.documents]):
                self._cut_and_count(asked.scope, progress, stop_if_asked)
                self.begin(asked.scope.documents)
            stop_if_asked()
            with steps.step("route", asked_for=asked.route) as step:
                routed = self.route(asked)
                step.outputs |= {"route": routed.route.name, "reason": routed.route.reason}
            stop_if_asked()
            with steps.step("search", question=asked.question, top_k=asked.top_k) as step:
                searched = self.search(asked, step.config, progress, stop_if_asked)
                step.outputs |= {"method": searched.found.method, "passages": len(searched.found.hits)}
            stop_if_asked()
            with steps.step("pick", passages=len(searched.found.hits)) as step:
                picked = self.pick(asked, routed, searched, stop_if_asked)
                step.outputs |= {"pages": [number for _, number in sorted(picked.pages)]}
            stop_if_asked()
            with steps.step("read", question=asked.question) as step:
                if picked.messages and isinstance(self.reader, ChatLongleaf):
                    unless_stopped(self.reader.load, should_stop)  # the first question waits for its weights
                if streaming:
                    reply = yield from self._read_pieces(asked, picked, progress, should_stop, step.config)
                else:
                    reply = self.read(asked, picked, progress, should_stop, step.config)
                step.outputs |= {"reply": reply.text}
            if not reply.stopped:
                with steps.step("check", reply=reply.text) as step:
                    checked = self.check(asked, picked, reply)
                    step.outputs |= {"quotes": [citation.quote for citation in checked.citations]}
        except Stopped:
            reply = Reply("", 0.0, stopped=True)
        return self._answer(asked, routed, searched, picked, reply, checked, steps)

    def _cut_and_count(self, scope: Scope, progress: Progress | None, stop_if_asked: Callable[[], None]) -> None:
        """What a document's first question waits for, document by document, so that it can be told and stopped."""
        tell = progress or (lambda _stage, _done, _total: None)
        uncut = self.store.uncut(scope.documents)
        for number, document in enumerate(uncut):
            tell("cutting into passages", number, len(uncut))
            self.store.cut(document)
            stop_if_asked()
        counted = self.store.token_counts(_tokenizer_name(self.reader)) if self.reader else {}
        whole = [d for d in scope.documents if d.id not in scope.page_ranges] if self.reader else []
        uncounted = [document for document in whole if document.id not in counted]
        for number, document in enumerate(uncounted):
            tell("counting tokens", number, len(uncounted))
            self.count_tokens([document])
            stop_if_asked()
        if uncut or uncounted:
            tell("searching", 0, 0)

    def pose(
        self,
        question: str,
        documents: Sequence[Document],
        *,
        route: RouteAsked = "auto",
        top_k: int = 12,
        pages: tuple[int, int] | None = None,
        retriever: BaseRetriever | None = None,
    ) -> Asked:
        """The question as the steps take it; the arguments and errors are those of `ask`."""
        question = " ".join(question.split())
        if not question:
            raise QuestionError("the question is empty: put it in quotes after the files")
        if retriever is not None:
            if documents or pages:
                raise QuestionError("a retriever brings its own documents: give it alone, without documents or pages")
            if route == "whole-document":
                raise QuestionError("a retriever brings passages, not whole documents: use the route auto or retrieval")
        elif not documents:
            raise QuestionError("there is no document to ask: name a file, or add one with `longleaf add FILE`")
        for document in documents:
            if document.state != "ready":
                raise QuestionError(f"{document.name} was not read to its end: add it again, and it goes on there")
        return Asked(question, Scope.of(documents, pages), route, top_k, retriever)

    def route(self, asked: Asked) -> Routed:
        """The way that a question takes, by the tokens of what is asked and the room that the reader has for them."""
        if asked.retriever is not None:
            return Routed(Route("retrieval", f"the evidence comes from {asked.retriever.get_name()}, as asked for"))
        reader = self.reader
        if reader is None:
            return Routed(choose_route(None, 0, 0, "", asked.route))
        tokens = self._tokens(asked.scope, reader)
        budget = reader.context_tokens - ANSWER_TOKENS - OVERHEAD_TOKENS - reader.get_num_tokens(asked.question)
        route = choose_route(tokens, budget, reader.context_tokens, reader.model_name, asked.route)
        if isinstance(reader, ChatModelReader) and reader.notes:
            route = Route(route.name, "; ".join((route.reason, *reader.notes)))
        return Routed(route, tokens, budget)

    def _tokens(self, scope: Scope, reader: Reader) -> int:
        """Tokens of all pages asked, counted once for each whole document."""
        name = _tokenizer_name(reader)
        total = 0
        for document in scope.documents:
            whole = document.id not in scope.page_ranges
            known = self.store.token_count(document, name) if whole else None
            if known is None:
                texts = [document_heading(document), *map(page_text, self._pages_asked(scope, document))]
                known = sum(reader.get_num_tokens(text) for text in texts)
                if whole:
                    self.store.keep_token_count(document, name, known)
            total += known
        return total

    def _pages_asked(self, scope: Scope, document: Document) -> Iterator[Page]:
        first, last = scope.pages_of(document)
        return (page for page in self.library.pages(document) if first <= page.number <= last)

    def search(
        self,
        asked: Asked,
        config: RunnableConfig | None = None,
        progress: Progress | None = None,
        stop_if_asked: Callable[[], None] | None = None,
    ) -> Searched:
        """Passages that may hold the answer; they must have been cut, unless a retriever brings them."""
        if asked.retriever is not None:
            documents = asked.retriever.invoke(asked.question, config)
            return searched_in(documents, self.store, asked.retriever.get_name())
        report = (lambda done, total: progress("embedding passages", done, total)) if progress else None
        found = search(
            asked.question,
            asked.scope,
            self.store,
            self.embedder,
            asked.top_k,
            cross_encoder=self.cross_encoder,
            stop_if_asked=stop_if_asked,
            progress=report,
        )
        by_id = {document.id: document for document in asked.scope.documents}
        keys = {(hit.stored.document_id, hit.stored.passage.page) for hit in found.hits}
        return Searched(found, {key: self._searched_page(by_id[key[0]], key[1]) for key in sorted(keys)})

    def _searched_page(self, document: Document, number: int) -> SearchedPage:
        page = self.library.page(document, number)
        # Cut passage by passage: running headers stay out, and units end where passages do.
        units = {
            unit.start: unit for span in self.store.spans(document, number) for unit in split_units(page.text, *span)
        }
        return SearchedPage(document, page, tuple(units[start] for start in sorted(units)))

    def pick(
        self,
        asked: Asked,
        routed: Routed,
        searched: Searched,
        stop_if_asked: Callable[[], None] | None = None,
    ) -> Picked:
        """The units that bear on the question, and the prompt: the best of them, or the pages asked."""
        found = searched.found
        embedder = stoppable(self.embedder, stop_if_asked) if self.embedder and stop_if_asked else self.embedder
        ranked = tuple(rank_evidence(asked.question, found.hits, searched.pages, embedder, found.similarities))
        if self.reader is None or not ranked:
            return Picked(ranked, (), frozenset((e.document.id, e.page_number) for e in ranked[:1]))
        if routed.route.name == "whole-document":
            scope = asked.scope
            read = [(d, [page for page in self._pages_asked(scope, d) if page.text]) for d in scope.documents]
            label = ", ".join(_name_with_pages(scope, document) for document in scope.documents)
            messages = whole_document_messages(read, asked.question, label)
            return Picked(
                ranked, tuple(messages), frozenset((d.id, page.number) for d, pages in read for page in pages)
            )
        if room := self._evidence_room(self.reader, asked, routed):
            by_id = {document.id: document for document in asked.scope.documents}
            shown = widened(found.hits, by_id, self.store, room, self.reader.get_num_tokens)
        else:
            least = ranked[0].score - EVIDENCE_SCORE_DROP
            shown = excerpts([e for e in ranked[:EVIDENCE_UNITS] if e.score >= least], EVIDENCE_CHARS)
        seen = frozenset((excerpt.document.id, excerpt.page_number) for excerpt in shown)
        return Picked(ranked, tuple(excerpt_messages(shown, asked.question)), seen)

    def _evidence_room(self, reader: Reader, asked: Asked, routed: Routed) -> int:
        """Tokens for whole passages; 0 where sentences are shown."""
        if asked.retriever is not None or asked.scope.page_ranges:
            return 0  # the library may not have them, and what is around a passage may lie outside the pages asked
        room = self.evidence_tokens
        if room is None:
            room = WIDE_EVIDENCE_TOKENS if reader.context_tokens >= LONG_CONTEXT_TOKENS else 0
        return min(room, max(routed.tokens_budget or 0, 0))

    def read(
        self,
        asked: Asked,
        picked: Picked,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        config: RunnableConfig | None = None,
    ) -> Reply:
        """What the reader answers; without one, the best sentence stands for the answer."""
        reader = self.reader
        if reader is None or not picked.messages:
            return Reply(" ".join(e.text for e in picked.ranked[:1]), UNASKED)
        message = reader.invoke(
            picked.messages,
            config,
            max_tokens=ANSWER_TOKENS,
            on_read=_on_read(reader.model_name, progress),
            should_stop=should_stop,
        )
        return self._reply(reader, asked, picked, message, should_stop, config)

    def _read_pieces(
        self,
        asked: Asked,
        picked: Picked,
        progress: Progress | None,
        should_stop: ShouldStop | None,
        config: RunnableConfig,
    ) -> Generator[str, None, Reply]:
        """As `read`, and yields the reader's text as it comes."""
        reader = self.reader
        if reader is None or not picked.messages:
            return self.read(asked, picked)
        pieces = reader.stream(
            picked.messages,
            config,
            max_tokens=ANSWER_TOKENS,
            on_read=_on_read(reader.model_name, progress),
            should_stop=should_stop,
        )
        whole: AIMessageChunk | None = None
        with contextlib.ExitStack() as stack:
            if isinstance(pieces, Generator):
                stack.callback(pieces.close)  # whoever stops listening stops the reader
            for piece in pieces:
                whole = piece if whole is None else whole + piece
                if text := str(piece.text):
                    yield text
        return self._reply(reader, asked, picked, whole or AIMessageChunk(content=""), should_stop, config)

    def _reply(
        self,
        reader: Reader,
        asked: Asked,
        picked: Picked,
        message: AIMessage,
        should_stop: ShouldStop | None,
        config: RunnableConfig | None,
    ) -> Reply:
        """The reader's message with its figures, and the reader's word on whether the text states the answer."""
        usage = message.usage_metadata
        text = str(message.text).strip()
        stopped = (
            message.response_metadata.get("finish_reason") == "cancelled" or (should_stop and should_stop()) or False
        )
        says_yes = 0.0
        if not stopped and not says_not_in_text(text):
            prompt = support_messages(picked.messages, asked.question)

            def choose() -> float:
                # `choose` takes no config; a call inside it finds it in the context.
                with set_config_context(ensure_config(config)) as context:
                    return context.run(reader.choose, prompt, ("yes", "no"))["yes"]

            try:
                says_yes = unless_stopped(partial(copy_context().run, choose), should_stop)
            except Stopped:
                stopped = True
        return Reply(
            text,
            says_yes,
            tokens_prompt=usage["input_tokens"] if usage else 0,
            tokens_reused=(usage.get("input_token_details") or {}).get("cache_read") or 0 if usage else 0,
            seconds_saved=message.response_metadata.get("seconds_saved", 0.0),
            stopped=stopped,
            reasoning=_reasoning(message),
        )

    def check(self, asked: Asked, picked: Picked, reply: Reply) -> Checked:
        """Cuts the reply into statements, and looks up for each the unit that supports it."""
        statements: list[Statement] = []
        citations: list[Citation] = []
        weighed: list[Signals] = []
        refused = says_not_in_text(reply.text)
        texts = [] if refused else [reply.text[u.start : u.end] for u in split_units(reply.text)]
        for text in texts:
            support = find_support(text, picked.ranked)
            index = _cite(support, citations) if support else None
            if support is None or index is None:
                statements.append(Statement(text, supported=False, citations=()))
                continue
            weighed.append(_signals(asked.question, support, reply))
            statements.append(Statement(text, supported=True, citations=(index,)))
        return Checked(tuple(statements), tuple(citations), max(weighed, key=confidence, default=None))

    def _answer(
        self,
        asked: Asked,
        routed: Routed,
        searched: Searched,
        picked: Picked,
        reply: Reply,
        checked: Checked,
        steps: Steps,
    ) -> Answer:
        trust = confidence(checked.signals) if checked.signals else 0.0
        found = bool(checked.citations) and trust >= self.min_confidence
        text = " ".join(statement.text for statement in checked.statements)
        if not found:
            text = STOPPED if reply.stopped else NOT_FOUND
        return Answer(
            question=asked.question,
            answer=text,
            found=found,
            route=routed.route,
            citations=checked.citations if found else (),
            statements=checked.statements if found else (),
            nearest=() if found else _nearest(picked.ranked),
            confidence=round(trust, 3),
            signals=checked.signals,
            reply=reply.text,
            receipt=self._receipt(asked.scope, routed, searched, picked, reply, steps),
            model=self.reader.model_name if self.reader else "none (sentences as they stand)",
            stopped=reply.stopped,
            reasoning=reply.reasoning,
        )

    def _receipt(
        self, scope: Scope, routed: Routed, searched: Searched, picked: Picked, reply: Reply, steps: Steps
    ) -> Receipt:
        documents = scope.documents or tuple({p.document.id: p.document for p in searched.pages.values()}.values())
        total = sum(document.n_pages for document in documents) if scope.documents else len(searched.pages)
        asked, ocr, unread = self._pages_by_source(scope) if scope.documents else _given_by_source(searched)
        return Receipt(
            pages_total=total,
            pages_read=len(picked.pages) if reply.text or not reply.stopped else 0,
            pages_searched=asked - unread,
            pages_ocr=ocr,
            pages_unread=unread,
            pages_dropped=0,
            tokens_document=routed.tokens_document,
            tokens_budget=routed.tokens_budget,
            tokens_prompt=reply.tokens_prompt,
            tokens_reused=reply.tokens_reused,
            seconds_saved=reply.seconds_saved,
            passages=len(searched.found.hits),
            seconds=steps.seconds(),
            warnings=tuple(f"{document.name}: {warning}" for document in documents for warning in document.warnings),
            pages_not_asked=total - asked,
            search=searched.found.method,
            passages_total=searched.found.n_passages,
            passages_embedded=searched.found.n_embedded,
        )

    def _pages_by_source(self, scope: Scope) -> tuple[int, int, int]:
        """Pages asked; of these, by OCR; and without usable text."""
        ocr = unread = 0
        for document in scope.documents:
            if document.id in scope.page_ranges:
                sources = [page.source for page in self._pages_asked(scope, document)]
                ocr, unread = ocr + sources.count("ocr"), unread + sources.count("none")
            else:
                ocr, unread = ocr + document.n_pages_ocr, unread + document.n_pages_unread
        return scope.n_pages, ocr, unread


def _tokenizer_name(reader: Reader) -> str:
    return reader.tokenizer_name if isinstance(reader, ChatModelReader) else reader.model_name


def _given_by_source(searched: Searched) -> tuple[int, int, int]:
    sources = [page.page.source for page in searched.pages.values()]
    return len(sources), sources.count("ocr"), sources.count("none")


def _name_with_pages(scope: Scope, document: Document) -> str:
    if document.id not in scope.page_ranges:
        return document.file_name
    first, last = scope.pages_of(document)
    return f"{document.file_name} (pages {first}-{last})"


def _reasoning(message: AIMessage) -> str:
    """What a model thought before its reply, where its message says so."""
    return "".join(str(b.get("reasoning", "")) for b in message.content_blocks if b["type"] == "reasoning").strip()


def _on_read(name: str, progress: Progress | None) -> Callable[[int, int, float], None]:
    tell = with_seconds_left(progress)

    def on_read(done: int, total: int, seconds_left: float) -> None:
        # 0 before the first chunk: not known yet.
        tell(f"{name} reads (tokens)" if done < total else f"{name} answers", done, total, seconds_left or None)

    return on_read


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


def _signals(question: str, evidence: Evidence, reply: Reply) -> Signals:
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
