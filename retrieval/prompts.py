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


def whole_document_messages(documents: Iterable[tuple[str, Iterable[Page]]], question: str) -> list[BaseMessage]:
    """Whole documents, each under its name, then the question."""
    names, texts = [], []
    for name, pages in documents:
        names.append(name)
        texts.append(document_heading(name) + "\n".join(page_text(page) for page in pages))
    system, human = _messages("\n".join(texts), question)
    system.additional_kwargs[READING_LABEL] = ", ".join(names)
    return [system, human]


def excerpt_messages(shown: Sequence[Excerpt], question: str) -> list[BaseMessage]:
    """Excerpts in document order, each under its page mark, then the question."""
    several = len({excerpt.document.id for excerpt in shown}) > 1
    parts = []
    for excerpt in shown:
        mark = f"[{excerpt.document.name}, page {excerpt.page_number}]" if several else f"[page {excerpt.page_number}]"
        parts.append(f"{mark} {excerpt.section}".rstrip() + f"\n{excerpt.text}\n")
    return _messages("Text:\n\n" + "\n".join(parts), question)


def support_messages(messages: Sequence[BaseMessage], question: str) -> list[BaseMessage]:
    """The same text, then the question whether it holds the answer at all; to be replied to with yes or no."""
    return [messages[0], HumanMessage(_SUPPORT.format(question=question))]


def _messages(text: str, question: str) -> list[BaseMessage]:
    return [
        SystemMessage(f"{_INSTRUCTIONS}\n\n{text}"),
        HumanMessage(_QUESTION.format(question=question)),
    ]
