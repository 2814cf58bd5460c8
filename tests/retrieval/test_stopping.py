"""Stop: how soon a question ends in each of its stages, and what is told meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessageChunk, BaseMessage

from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer, PassageStore
from longleaf.retrieval.background import BackgroundEmbedding
from longleaf.retrieval.embeddings import stoppable
from longleaf.retrieval.progress import with_seconds_left
from longleaf.retrieval.stopping import Stopped, stopper, unless_stopped

from .test_search import LetterEmbedder

SOON_S = 0.5
PATIENCE_S = 20.0
QUESTION = "Where is berth 7?"


class SlowEmbedder(LetterEmbedder):
    """Takes its time for each text, and says so after each."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__()
        self.seconds = seconds
        self.began = threading.Event()

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        vectors = super().encode(texts)
        for done in range(1, len(texts) + 1):
            self.began.set()
            time.sleep(self.seconds)
            if progress:
                progress(done, len(texts))
        return vectors


class Reader:
    """Answers at once; asked whether the text says so, it takes until the gate opens."""

    model_name = "hesitant"
    context_tokens = 600

    def __init__(self) -> None:
        self.gate, self.choosing = threading.Event(), threading.Event()

    def get_num_tokens(self, text: str) -> int:
        return len(text.split())

    def invoke(self, messages: Sequence[BaseMessage], config: Any = None, **options: Any) -> AIMessageChunk:
        *_, last = self.stream(messages, config, **options)
        return last

    def stream(
        self, messages: Sequence[BaseMessage], config: Any = None, *, on_read: Any, **_: Any
    ) -> Iterator[AIMessageChunk]:
        on_read(40, 80, 0.0)
        on_read(60, 80, 3.0)
        on_read(80, 80, 0.0)
        yield AIMessageChunk(content="Berth 7 lies in Odense.")

    def choose(self, messages: Sequence[BaseMessage], options: Sequence[str]) -> dict[str, float]:
        self.choosing.set()
        assert self.gate.wait(PATIENCE_S)
        return {"yes": 0.9, "no": 0.1}


@pytest.fixture
def document(library: Library, tmp_path: Path) -> Document:
    file = tmp_path / "berths.txt"
    file.write_text("\f".join(f"Berth {n} lies in Odense. Ships of line {n} call there." for n in range(60)))
    return library.add(file).document


def seconds_until_over(answerer: Answerer, document: Document, when: Callable[[], bool]) -> tuple[Any, float]:
    """The answer to a question that is stopped as soon as `when` says so, and how long that took."""
    stop = threading.Event()
    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(
            answerer.ask(QUESTION, [document], route="retrieval", should_stop=stop.is_set, progress=lambda *_: None)
        )
    )
    asking.start()
    end = time.monotonic() + PATIENCE_S
    while not when():
        assert time.monotonic() < end
        time.sleep(0.005)
    stop.set()
    begun = time.monotonic()
    asking.join(PATIENCE_S)
    return answers[0], time.monotonic() - begun


def test_missing_passages_are_not_embedded_to_the_end_and_those_done_are_kept(
    library: Library, document: Document
) -> None:
    embedder = SlowEmbedder(0.03)  # 48 passages: a second and a half
    answerer = Answerer(library, Reader(), embedder)
    n_kept = lambda: len(answerer.store.unembedded(answerer.pose(QUESTION, [document]).scope, embedder.name))  # noqa: E731
    answerer.background = None
    answer, seconds = seconds_until_over(answerer, document, lambda: embedder.began.is_set() and 0 < n_kept() < 60)
    assert answer.stopped
    assert "read" not in answer.receipt.seconds
    assert seconds < SOON_S
    assert 0 < n_kept() < 60


def test_an_answer_is_not_waited_for_while_the_reader_is_asked_whether_it_is_one(
    library: Library, document: Document
) -> None:
    reader = Reader()
    answer, seconds = seconds_until_over(Answerer(library, reader, None), document, reader.choosing.is_set)
    reader.gate.set()
    assert answer.stopped
    assert answer.reply == "Berth 7 lies in Odense."  # what was written stays
    assert answer.citations == ()
    assert seconds < SOON_S


def test_the_same_question_is_answered_when_nobody_stops_it(library: Library, document: Document) -> None:
    reader = Reader()
    reader.gate.set()
    answerer = Answerer(library, reader, SlowEmbedder(0))
    plain = answerer.ask(QUESTION, [document], route="retrieval")
    stoppable_one = answerer.ask(QUESTION, [document], route="retrieval", should_stop=lambda: False)
    assert plain.citations == stoppable_one.citations != ()
    assert (plain.answer, plain.confidence) == (stoppable_one.answer, stoppable_one.confidence)


def test_each_stage_is_told_and_the_readers_own_seconds_left_come_through(library: Library, document: Document) -> None:
    reader = Reader()
    reader.gate.set()
    answerer = Answerer(library, reader, SlowEmbedder(0))
    answerer.background = None
    told: list[tuple[str, int, int, float | None]] = []

    def tell(stage: str, done: int, total: int, seconds_left: float | None = None) -> None:
        told.append((stage, done, total, seconds_left))

    answerer.ask(QUESTION, [document], route="retrieval", progress=tell)
    assert told == [
        ("cutting into passages", 0, 1, None),
        ("counting tokens", 0, 1, None),
        ("searching", 0, 0, None),
        ("embedding passages", 0, 48, None),
        ("embedding passages", 16, 48, None),
        ("embedding passages", 32, 48, None),
        ("hesitant reads (tokens)", 40, 80, None),
        ("hesitant reads (tokens)", 60, 80, 3.0),
        ("hesitant answers", 80, 80, None),
    ]


def test_a_progress_of_three_arguments_is_told_no_more() -> None:
    told: list[Any] = []
    with_seconds_left(lambda stage, done, total: told.append((stage, done, total)))("reading", 1, 2, 3.0)
    with_seconds_left(lambda *given: told.append(given))("reading", 1, 2, 3.0)
    with_seconds_left(None)("reading", 1, 2, 3.0)
    assert told == [("reading", 1, 2), ("reading", 1, 2)]


def test_an_embedder_ends_after_the_batch_in_which_it_was_asked_to() -> None:
    stop = threading.Event()
    embedder = SlowEmbedder(0)
    wrapped = stoppable(embedder, stopper(stop.is_set))
    np.testing.assert_array_equal(wrapped.encode(["a", "b"]), embedder.encode(["a", "b"]))
    np.testing.assert_array_equal(wrapped.encode_question("a"), embedder.encode_question("a"))
    assert wrapped.name == embedder.name
    with pytest.raises(Stopped):
        wrapped.encode(["a", "b", "c"], lambda done, _total: stop.set() if done == 1 else pytest.fail("went on"))
    with pytest.raises(Stopped):
        wrapped.encode_question("a")


def test_background_work_ends_in_the_middle_of_its_batch(library: Library, document: Document) -> None:
    store, embedder = PassageStore(library), SlowEmbedder(0.1)  # a batch of 32: three seconds
    store.cut(document)
    background = BackgroundEmbedding(store, embedder)
    background.add([document])
    assert embedder.began.wait(PATIENCE_S)
    begun = time.monotonic()
    background.stop()
    assert time.monotonic() - begun < SOON_S
    assert not background.busy


def test_a_call_that_is_left_gives_what_it_gives_or_raises() -> None:
    assert unless_stopped(lambda: 7, None) == 7
    assert unless_stopped(lambda: 7, lambda: False) == 7
    with pytest.raises(ZeroDivisionError):
        unless_stopped(lambda: 1 // 0, lambda: False)
    called: list[int] = []
    with pytest.raises(Stopped):
        unless_stopped(lambda: called.append(1), lambda: True)
    assert called == []
