"""Embeds passages in a thread of its own, so that nobody waits for vectors: search uses those that are there.

What is done is kept batch by batch; a process that ends in the middle goes on there another time. Two processes that
embed the same document share the work, more or less: each passes over what it finds done.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from longleaf.ingestion import Document

from .embeddings import Embedder, stoppable
from .scope import Scope
from .stopping import Stopped, stopper
from .store import PassageStore

__all__ = ["BackgroundEmbedding"]

logger = logging.getLogger(__name__)

_BATCH = 32
"""Passages between two looks at whether to pause: a third of a second's work on one core with int8, 1.3 s in fp32."""


class BackgroundEmbedding:
    """Embeds the passages of documents one after another, and pauses while the cores are wanted for something else.

        background = BackgroundEmbedding(store, embedder)
        background.add([document])
        with background.paused():
            ...                                 # an answer is written: no vectors are made
        background.finish()                     # the rest now, in this thread

    Args:
        store: Holds the passages, which must have been cut.
        embedder: Makes the vectors.
    """

    def __init__(self, store: PassageStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._waiting: list[int] = []
        self._batch: list[int] = []  # under work
        self._done = 0
        self._n_pauses = 0
        self._stopping = self._closed = False
        self._thread: threading.Thread | None = None
        self._change = threading.Condition()
        store.library.at_close(self._close)

    def add(self, documents: Sequence[Document]) -> None:
        """Queue those passages of these documents that have no vector yet, and start the thread if there are any."""
        missing = self._store.unembedded(Scope.of(documents), self._embedder.name)
        with self._change:
            if self._closed:
                return
            known = {*self._waiting, *self._batch}
            self._waiting += [key for key in missing if key not in known]
            if self._waiting and self._thread is None:
                self._done = 0
                self._stopping = False
                self._thread = threading.Thread(target=self._run, name="embed passages", daemon=True)
                self._thread.start()

    def progress(self) -> tuple[int, int]:
        """Passages done and in all since the queue was last empty."""
        with self._change:
            return self._done, self._done + len(self._batch) + len(self._waiting)

    def drop(self, documents: Sequence[Document]) -> None:
        """Leave out what waits of these documents; a batch under work is done to its end."""
        unwanted = set(self._store.unembedded(Scope.of(documents), self._embedder.name))
        with self._change:
            self._waiting = [key for key in self._waiting if key not in unwanted]

    @property
    def busy(self) -> bool:
        """Whether anything is left to be done, be it paused."""
        return self._thread is not None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No new batch begins inside the block; blocks may overlap."""
        with self._change:
            self._n_pauses += 1
        try:
            yield
        finally:
            with self._change:
                self._n_pauses -= 1
                self._change.notify_all()

    def finish(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Wait until nothing is left, telling of the progress.

        Args:
            progress: Called with (passages done, passages in all).
        """
        while (thread := self._thread) is not None:
            if progress:
                progress(*self.progress())
            thread.join(0.2)
        if progress and self._done:
            progress(*self.progress())

    def stop(self) -> None:
        """End the thread, in the middle of its batch too; what is left is found by the next `add`."""
        with self._change:
            self._stopping = True
            self._waiting.clear()
            self._change.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _close(self) -> None:
        """Stop for good: the library is being closed."""
        with self._change:
            self._closed = True
        self.stop()

    def _run(self) -> None:
        embedder = stoppable(self._embedder, stopper(lambda: self._stopping))
        while batch := self._next():
            try:
                self._store.embed_passages(batch, embedder)
            except Stopped:
                continue
            except Exception as exc:  # a full disk, an embedder that can't be reached: search goes on by full text
                logger.warning("passages are not being embedded: %s", exc)
                with self._change:
                    self._waiting.clear()
                continue
            with self._change:
                self._done += len(batch)
                self._batch = []

    def _next(self) -> list[int]:
        """The next batch; none ends the thread, which is said while the lock is held: `add` then starts another."""
        with self._change:
            self._batch = []
            self._change.wait_for(lambda: not self._n_pauses or self._stopping)
            self._batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            if not self._batch:
                self._thread = None
            return self._batch
