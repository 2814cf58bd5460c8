"""What the browser shows of an answer, as HTML and short texts: pure functions, without Streamlit or a library.

A document's words are data. Here they only ever leave through `html.escape`, or through `plain` where Streamlit would
read them as Markdown.
"""

from html import escape

from longleaf.retrieval import Answer

from .page_view import text_html
from .render import page_count

__all__ = ["answer_text", "copy_html", "draft_html", "figures_line", "read_line", "route_line"]


def route_line(answer: Answer, n_documents: int) -> str:
    """How the question was answered and why, in plain words.

    "Whole document read: 98,412 of 262,144 tokens", or "Retrieval: 12 passages of 3 documents, because …".
    """
    receipt = answer.receipt
    if answer.route.name == "whole-document":
        what = "Whole document" if n_documents == 1 else f"All {n_documents} documents whole"
        return f"{what}: {receipt.tokens_document or 0:,} of {receipt.tokens_budget or 0:,} tokens"
    documents = "1 document" if n_documents == 1 else f"{n_documents} documents"
    passages = f"{receipt.passages:,} passage{'' if receipt.passages == 1 else 's'} of {documents}"
    why = answer.route.reason
    return f"Retrieval: {passages}, " + ("as asked for" if why == "asked for" else f"because {why}")


def figures_line(answer: Answer) -> str:
    """By whom, in how many tokens and seconds, and how much of that came from a reading."""
    receipt = answer.receipt
    parts = [answer.model]
    if receipt.tokens_prompt:
        parts.append(f"{receipt.tokens_prompt:,} tokens read")
    if receipt.tokens_reused:
        saved = f", {receipt.seconds_saved:,.0f} s saved" if receipt.seconds_saved >= 0.5 else ""
        parts.append(f"{receipt.tokens_reused:,} of them from a reading{saved}")
    parts.append(f"{receipt.seconds['total']:,.1f} s")
    return " · ".join(parts)


def read_line(answer: Answer) -> str:
    """What was read where nothing was found: "168 pages searched, 5 of them read"."""
    receipt = answer.receipt
    unread = f"; {page_count(receipt.pages_unread)} without readable text" if receipt.pages_unread else ""
    searched = page_count(receipt.pages_searched)
    if receipt.pages_read >= receipt.pages_searched:
        return f"All {searched} with text were read{unread}."
    return f"{searched} searched, {receipt.pages_read:,} of them read{unread}."


def answer_text(answer: Answer) -> str:
    """The answer as text to copy: with the pages that it rests on, or what was written before it was stopped."""
    if not answer.found:
        return answer.reply
    sentences = []
    for statement in answer.statements:
        pages = sorted({answer.citations[i].page for i in statement.citations})
        where = f" (p. {', '.join(map(str, pages))})" if pages else " (no support found on the pages)"
        sentences.append(statement.text + where)
    return " ".join(sentences)


def copy_html(text: str) -> str:
    """A button that puts a text on the clipboard, once the page's script listens to it."""
    return f'<button type="button" class="ll-copy" data-ll-copy="{escape(text, quote=True)}">Copy</button>'


def draft_html(text: str) -> str:
    """What the reader wrote so far, of which nothing is checked yet."""
    return f'<div class="ll-draft" aria-live="polite">{text_html(text)}</div>'
