"""The words that the reader is given: instructions and document first, the question last.

Nothing that varies from question to question stands before the document, so that what was read of it can be used
again; the document ends where a message ends, since tokens never merge over that boundary.
"""

from collections.abc import Iterable, Sequence

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from longleaf.ingestion import Page
from longleaf.model import READING_LABEL

from .evidence import Excerpt

__all__ = [
    "NOT_IN_TEXT",
    "document_heading",
    "excerpt_messages",
    "page_text",
    "support_messages",
    "whole_document_messages",
]

NOT_IN_TEXT = "not in the text"

_INSTRUCTIONS = "You answer questions about the text below, from nothing but that text."
_QUESTION = (
    "Question: {question}\n\nAnswer with a short phrase copied from the text. "
    f"If the text does not contain the answer, reply: {NOT_IN_TEXT}."
)
_SUPPORT = "Question: {question}\n\nDoes the text state the answer to exactly this question? Reply yes or no."


def document_heading(name: str) -> str:
    """What stands before a document's pages."""
    return f"Text: {name}\n\n"


def page_text(page: Page) -> str:
    """A page as the reader sees it, under its mark."""
    return f"[page {page.number}]\n{page.text.strip()}\n"


def whole_document_messages(
    documents: Iterable[tuple[str, Iterable[Page]]], question: str, label: str | None = None
) -> list[BaseMessage]:
    """Whole documents, each under its name, then the question; the reading is listed as `label`, or by the names."""
    names, texts = [], []
    for name, pages in documents:
        names.append(name)
        texts.append(document_heading(name) + "\n".join(page_text(page) for page in pages))
    system, human = _messages("\n".join(texts), question)
    system.additional_kwargs[READING_LABEL] = ", ".join(names) if label is None else label
    return [system, human]


def excerpt_messages(shown: Sequence[Excerpt], question: str) -> list[BaseMessage]:
    """Excerpts in document order, each under its page mark, then the question."""
    several = len({excerpt.document.id for excerpt in shown}) > 1
    parts = [f"{_mark(excerpt, named=several)} {excerpt.section}".rstrip() + f"\n{excerpt.text}\n" for excerpt in shown]
    return _messages("Text:\n\n" + "\n".join(parts), question)


def _mark(excerpt: Excerpt, *, named: bool) -> str:
    # Texts that a retriever brought may have no page number; it is then below 1.
    if excerpt.page_number < 1:
        return f"[{excerpt.document.name}]"
    page = f"page {excerpt.page_number}"
    return f"[{excerpt.document.name}, {page}]" if named else f"[{page}]"


def support_messages(messages: Sequence[BaseMessage], question: str) -> list[BaseMessage]:
    """The same text, then the question whether it holds the answer at all; to be replied to with yes or no."""
    return [messages[0], HumanMessage(_SUPPORT.format(question=question))]


def _messages(text: str, question: str) -> list[BaseMessage]:
    return [
        SystemMessage(f"{_INSTRUCTIONS}\n\n{text}"),
        HumanMessage(_QUESTION.format(question=question)),
    ]
