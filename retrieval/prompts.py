"""The words that the reader is given: instructions and document first, the question last.

Nothing that varies from question to question stands before the document, so that what was read of it can be used
again; the document ends where a message ends, since tokens never merge over that boundary.
"""

from collections.abc import Iterable, Sequence

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from longleaf.ingestion import Document, Page
from longleaf.model import READING_LABEL
from longleaf.model.engine import READING_SOURCES

from .evidence import Excerpt

__all__ = [
    "NOT_IN_TEXT",
    "document_heading",
    "excerpt_messages",
    "mark_sources",
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


def document_heading(document: Document) -> str:
    """What stands before a document's pages: by its first name, so that what was read of it outlives a new one."""
    return f"Text: {document.file_name}\n\n"


def page_text(page: Page) -> str:
    """A page as the reader sees it, under its mark."""
    return f"[page {page.number}]\n{page.text.strip()}\n"


def whole_document_messages(
    documents: Iterable[tuple[Document, Iterable[Page]]], question: str, label: str | None = None
) -> list[BaseMessage]:
    """Whole documents, each under its name, then the question; the reading is listed as `label`, or by the names."""
    shown, texts = [], []
    for document, pages in documents:
        shown.append(document)
        texts.append(document_heading(document) + "\n".join(page_text(page) for page in pages))
    return mark_sources(_messages("\n".join(texts), question), shown, label)


def excerpt_messages(shown: Sequence[Excerpt], question: str) -> list[BaseMessage]:
    """Excerpts in document order, each under its page mark, then the question."""
    several = len({excerpt.document.id for excerpt in shown}) > 1
    parts = [f"{_mark(excerpt, named=several)} {excerpt.section}".rstrip() + f"\n{excerpt.text}\n" for excerpt in shown]
    return mark_sources(_messages("Text:\n\n" + "\n".join(parts), question), [e.document for e in shown])


def mark_sources(
    messages: Sequence[BaseMessage], documents: Iterable[Document], label: str | None = None
) -> list[BaseMessage]:
    """The messages, saying which documents their words are from: a document that is removed takes its readings along.

    Args:
        messages: A prompt; its first message is changed.
        documents: Those whose words it has, also in other words, as in a summary. One may be named several times.
        label: What the readings are listed as; by default the documents' names.
    """
    unique = list({document.id: document for document in documents}.values())
    names = ", ".join(document.file_name for document in unique)
    messages[0].additional_kwargs |= {
        READING_LABEL: names if label is None else label,
        READING_SOURCES: [document.sha256 for document in unique if document.sha256],
    }
    return list(messages)


def _mark(excerpt: Excerpt, *, named: bool) -> str:
    # By the name that the document goes by now: excerpts change with the question, so no reading is lost by that.
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
