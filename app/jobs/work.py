"""What is done with one document of a job: a summary, or answers to the same questions.

Each piece of work takes the file into the library, where what is read of it stays; knows nothing of queues and files of
results.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from longleaf.app.work_queue import WorkStopped
from longleaf.errors import ModelError, ReaderError
from longleaf.ingestion import Document
from longleaf.model import ChatLongleaf
from longleaf.retrieval import Answer, Answerer
from longleaf.retrieval.reader import ChatModelReader
from longleaf.retrieval.summary import Summarizer

from .meter import Meter, TokenBudget
from .spec import Column, ExtractSpec, SummarizeSpec
from .store import Outcome

__all__ = ["Control", "do_item"]


@dataclass(frozen=True, slots=True)
class Control:
    """How work is watched and stopped.

    Attributes:
        should_stop: True ends the work at the next page, or the next chunk that the reader reads.
        progress: Told the stage, and how many parts of it are done and in all.
        draft: What an earlier attempt kept; "" for nothing.
        keep_draft: Keeps what is done so far.
        budget: Tokens that may be used, or None.
        password: Opens encrypted PDFs.
    """

    should_stop: Callable[[], bool]
    progress: Callable[[str, int, int], None]
    draft: str = ""
    keep_draft: Callable[[str], None] = lambda _draft: None
    budget: TokenBudget | None = None
    password: str | None = None


def do_item(answerer: Answerer, spec: SummarizeSpec | ExtractSpec, path: Path, control: Control) -> Outcome:
    """Takes a file in and does with it what the spec says.

    Raises:
        WorkStopped: As asked; what was done stays, in the library and as the draft.
        DocumentError: The file can't be taken in, or there is nothing in it to work on.
        LongleafError: As `Summarizer.summarize` and `Answerer.ask` raise it.
    """
    document = take_in(answerer, path, control, ocr=spec.ocr)
    meter = Meter(control.budget, control.should_stop)
    work = _summarize if isinstance(spec, SummarizeSpec) else _extract
    result, model = work(answerer, spec, document, control, {"callbacks": [meter]})  # type: ignore[arg-type]
    return Outcome(
        {"document": document.name, "sha256": document.sha256} | result,
        model=model,
        n_pages=document.n_pages,
        tokens_read=meter.prompt - meter.reused,
        tokens_reused=meter.reused,
        tokens_written=meter.written,
    )


def take_in(answerer: Answerer, path: Path, control: Control, *, ocr: bool) -> Document:
    """The file in the library, whole.

    Raises:
        WorkStopped: As asked; its pages so far are kept.
        DocumentError: It can't be taken in.
    """

    def on_page(done: int, total: int, stage: str) -> None:
        if control.should_stop():
            raise WorkStopped
        control.progress(stage, done, total)

    return answerer.library.add(
        path, password=control.password, ocr="auto" if ocr else "never", progress=on_page
    ).document


def _summarize(
    answerer: Answerer, spec: SummarizeSpec, document: Document, control: Control, config: RunnableConfig
) -> tuple[dict[str, Any], str]:
    made = Summarizer(answerer).summarize(
        document, options=spec.options, progress=control.progress, should_stop=control.should_stop, config=config
    )
    if made.stopped:
        raise WorkStopped
    return made.to_dict(), made.model


def _extract(
    answerer: Answerer, spec: ExtractSpec, document: Document, control: Control, config: RunnableConfig
) -> tuple[dict[str, Any], str]:
    cells: dict[str, Any] = json.loads(control.draft) if control.draft else {}
    model = ""
    for number, column in enumerate(spec.columns, 1):
        if column.name not in cells:
            stage = f"question {number} of {len(spec.columns)}: "
            answer = answerer.ask(
                column.question,
                [document],
                route=spec.route,
                top_k=spec.top_k,
                progress=lambda text, done, total, stage=stage: control.progress(stage + text, done, total),  # type: ignore[misc]
                should_stop=control.should_stop,
                config=config,
            )
            if answer.stopped or control.should_stop():
                raise WorkStopped
            value = _value(answerer, column, answer, config)
            cells[column.name] = _cell(column, answer, value)
            control.keep_draft(json.dumps(cells, ensure_ascii=False, allow_nan=False))
        model = cells[column.name]["model"]
    return {"cells": [cells[column.name] for column in spec.columns]}, model


def _cell(column: Column, answer: Answer, value: Any) -> dict[str, Any]:
    plain = answer.to_dict()
    return {
        "column": column.name,
        "question": column.question,
        "value": value,
        "text": answer.answer if answer.found else None,
        "found": answer.found,
        "confidence": answer.confidence,
        "citations": plain["citations"],
        "route": asdict(answer.route),
        "model": answer.model,
    }


def _value(answerer: Answerer, column: Column, answer: Answer, config: RunnableConfig) -> Any:
    """The answer as the column wants it; None where nothing was found, or what was found is no such value."""
    if not answer.found or column.form is None:
        return answer.answer if answer.found else None
    asked = [
        SystemMessage("You put the answer to a question into a form. Change nothing, add nothing."),
        HumanMessage(f"Question: {column.question}\nAnswer: {answer.answer}"),
    ]
    form = {
        "title": "answer",
        "description": "The answer's value; null where the answer does not give one.",
        "type": "object",
        "properties": {"value": {"anyOf": [column.form, {"type": "null"}]}},
        "required": ["value"],
        "additionalProperties": False,
    }
    reader = answerer.reader
    try:
        if isinstance(reader, ChatLongleaf):
            found = reader.with_structured_output(form).invoke(asked, config)
        elif isinstance(reader, ChatModelReader):
            with reader.errors():
                found = reader.chat.with_structured_output(form, method="json_schema").invoke(asked, config)
        else:
            return answer.answer  # without a reader there are only sentences
    except ReaderError:
        raise
    except ModelError:  # such as a value that does not end
        return None
    return found.get("value") if isinstance(found, dict) else None
