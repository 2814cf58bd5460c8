"""What a job does with each of its documents, as it is kept with the job.

Equal specs are the same work: `work_key` names it, for a file of certain bytes. Where results go, how they are laid
out, and where a model runs is not part of the work.
"""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from longleaf.retrieval.summary_prompts import PROMPT_VERSION, SummaryFormat, SummaryLength, SummaryOptions

__all__ = ["Column", "ExtractSpec", "JobSpec", "ReaderSpec", "SummarizeSpec", "spec_from_json", "work_key"]

_EXTRACT_VERSION = 1
"""Raised whenever the same file and questions would be answered in another way."""


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReaderSpec(_Plain):
    """Which model reads, and with what context; fields of `Settings`."""

    reader: str
    base_url: str | None = None
    context_tokens: int | None = None
    quantize: str | None = None
    device: str = "cpu"


class SummarizeSpec(_Plain):
    """A summary of each document; fields as of `SummaryOptions`.

    Attributes:
        template: Text of a Jinja2 template for the Markdown; None for the built-in layout.
        ocr: Whether pages without text are read by OCR.
    """

    kind: Literal["summarize"] = "summarize"
    reader: ReaderSpec
    length: SummaryLength = "medium"
    language: str | None = None
    focus: str | None = None
    format: SummaryFormat = "prose"
    ocr: bool = True
    template: str | None = None

    @property
    def options(self) -> SummaryOptions:
        """For the `Summarizer`."""
        return SummaryOptions(self.length, self.language, self.focus, self.format)


class Column(_Plain):
    """One question to every document.

    Attributes:
        name: Heads the column.
        question: What is asked.
        form: JSON schema of the value; None where the answer's text is the value.
    """

    name: str
    question: str
    form: dict[str, Any] | None = None


class ExtractSpec(_Plain):
    """The same questions to every document: a row for each document, a column for each question."""

    kind: Literal["extract"] = "extract"
    reader: ReaderSpec
    columns: tuple[Column, ...]
    route: Literal["auto", "whole-document", "retrieval"] = "auto"
    top_k: int = 12
    ocr: bool = True
    template: str | None = None


JobSpec = Annotated[SummarizeSpec | ExtractSpec, Field(discriminator="kind")]

_SPEC: TypeAdapter[SummarizeSpec | ExtractSpec] = TypeAdapter(JobSpec)


def spec_from_json(text: str) -> SummarizeSpec | ExtractSpec:
    """The spec that `model_dump_json` wrote."""
    return _SPEC.validate_json(text)


def work_key(spec: SummarizeSpec | ExtractSpec, sha256: str) -> str:
    """Names the work on a file of these bytes: another file, setting, model or version of ours is other work."""
    version = PROMPT_VERSION if isinstance(spec, SummarizeSpec) else _EXTRACT_VERSION
    what = spec.model_dump_json(exclude={"template": True, "reader": {"base_url", "device"}})
    return hashlib.sha256(f"{version}\0{what}\0{sha256}".encode()).hexdigest()
