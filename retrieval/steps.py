"""The steps of a question: what each takes and gives, how long it took, and its run for LangChain's callbacks.

The values are small and frozen; what a step does with them stands in `answer.py`. The runs are what a tracer shows:
one for each step, with the call of a model or a retriever inside the step that made it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config, patch_config

from .citations import Citation
from .evidence import Evidence, SearchedPage
from .receipt import Statement
from .route import Route
from .scope import Scope
from .search import Found
from .support import Signals

__all__ = ["Asked", "Checked", "Picked", "Reply", "RouteAsked", "Routed", "Searched", "Step", "Steps"]

RouteAsked = Literal["auto", "whole-document", "retrieval"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and where and how an answer is looked for.

    Attributes:
        question: In plain words, on one line.
        scope: The documents; none where a retriever brings the evidence.
        route: What the user wants; "auto" leaves it to the token count.
        top_k: Passages searched for evidence.
        retriever: Brings the evidence instead of the search.
    """

    question: str
    scope: Scope
    route: RouteAsked = "auto"
    top_k: int = 12
    retriever: BaseRetriever | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """The way a question takes; token counts as in the receipt."""

    route: Route
    tokens_document: int | None = None
    tokens_budget: int | None = None


@dataclass(frozen=True, slots=True)
class Searched:
    """Passages found, and every page that holds one, by (document id, page number)."""

    found: Found = field(default_factory=lambda: Found([], "", 0, 0))
    pages: Mapping[tuple[int, int], SearchedPage] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Picked:
    """What the reader is shown.

    Attributes:
        ranked: All units of the passages found, best first.
        messages: The prompt; empty where there is nothing to read or nobody to read it.
        pages: What it shows text of: (document id, page number).
    """

    ranked: tuple[Evidence, ...] = ()
    messages: tuple[BaseMessage, ...] = ()
    pages: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the reader wrote.

    Attributes:
        text: Its reply.
        says_yes: Its probability of "yes" when asked whether the text states the answer.
        tokens_prompt: Tokens that it was given.
        tokens_reused: Of these, tokens that it did not have to read again.
        seconds_saved: What reading those had taken before.
        stopped: Whether it was stopped.
        reasoning: What it thought before the reply.
    """

    text: str
    says_yes: float
    tokens_prompt: int = 0
    tokens_reused: int = 0
    seconds_saved: float = 0.0
    stopped: bool = False
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """The reply's statements, the citations that support them, and the signals of the best supported one."""

    statements: tuple[Statement, ...] = ()
    citations: tuple[Citation, ...] = ()
    signals: Signals | None = None


@dataclass(slots=True)
class Step:
    """A step under way.

    Attributes:
        config: To be passed to whatever runs inside it.
        outputs: What a tracer is shown as its outcome; filled by the step.
    """

    config: RunnableConfig
    outputs: dict[str, Any] = field(default_factory=dict)


class Steps:
    """Times the steps of one question and reports each as a run of its own.

        steps = Steps(config)
        with steps.step("search", question=question) as step:
            documents = retriever.invoke(question, step.config)
            step.outputs["documents"] = len(documents)

    Args:
        config: The run that they belong to, with its callbacks, tags and metadata; None has no callbacks.
    """

    def __init__(self, config: RunnableConfig | None = None) -> None:
        self._config = ensure_config(config)
        self._begun = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, **inputs: Any) -> Iterator[Step]:
        """A step with this name; `inputs` is what a tracer is shown that it was given."""
        begun = time.perf_counter()
        run = get_callback_manager_for_config(self._config).on_chain_start(None, inputs, name=name)
        step = Step(patch_config(self._config, callbacks=run.get_child()))
        try:
            yield step
        except BaseException as exc:
            run.on_chain_error(exc)
            raise
        else:
            run.on_chain_end(step.outputs)
        finally:
            self._seconds[name] = round(self._seconds.get(name, 0.0) + time.perf_counter() - begun, 3)

    def seconds(self) -> dict[str, float]:
        """Seconds by step, and in all until now."""
        return self._seconds | {"total": round(time.perf_counter() - self._begun, 3)}
