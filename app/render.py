"""What a person at a terminal sees: answers, lists and sizes. Machines get JSON from the same objects."""

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from longleaf.ingestion import Document

from .receipt import receipt_rows

if TYPE_CHECKING:
    from longleaf.retrieval import Answer, Citation

__all__ = ["answer_view", "document_table", "document_view", "human_bytes", "page_count", "print_view"]


def human_bytes(n: float) -> str:
    """A size with a unit: 1,500,000 is "1.5 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return ""


def page_count(n: int) -> str:
    """Such as "1 page" or "1,204 pages"."""
    return f"{n:,} page{'' if n == 1 else 's'}"


def print_view(console: Console, view: RenderableType) -> None:
    """Prints without reading markup or links out of a document's own words."""
    console.print(view, markup=False, highlight=False)


def answer_view(answer: "Answer") -> RenderableType:
    """The answer, its citations (or the nearest passages), the route and the receipt."""
    several = len({c.sha256 for c in answer.citations}) > 1 or len({c.sha256 for c in answer.nearest}) > 1
    parts: list[RenderableType] = []
    if answer.found:
        parts.append(_statements(answer))
        parts += [Padding(_citation(i, c, several=several), (1, 0, 0, 2)) for i, c in enumerate(answer.citations, 1)]
    else:
        parts.append(Text(answer.answer, style="bold yellow"))
        if answer.nearest:
            parts.append(Padding(Text("Nearest to the question, without answering it:", style="dim"), (1, 0, 0, 2)))
        parts += [
            Padding(
                Text(f"{_where(n.document, n.page, several=several)}  “{_one_line(n.quote)}”", style="dim"),
                (0, 0, 0, 2),
            )
            for n in answer.nearest
        ]
    parts.append(Padding(_receipt(answer), (1, 0, 0, 2)))
    return Group(*parts)


def _statements(answer: "Answer") -> Text:
    text = Text()
    for statement in answer.statements:
        marks = "".join(f" [{i + 1}]" for i in statement.citations)
        text.append(statement.text, style="bold" if statement.supported else "yellow")
        text.append(
            marks if statement.supported else " (no support found)", style="cyan" if statement.supported else "yellow"
        )
        text.append(" ")
    return text


def _citation(number: int, citation: "Citation", *, several: bool) -> Text:
    text = Text(f"[{number}] {_where(citation.document, citation.page, several=several)}", style="cyan")
    if citation.page_label != str(citation.page):
        text.append(f" (printed {citation.page_label})")
    text.append(f"  “{_one_line(citation.quote)}”", style="default")
    if citation.heading:
        text.append(f" under “{_one_line(citation.heading)}”", style="dim")
    text.append(
        "  ✓ found on the page" if citation.verified else "  not checked", style="green" if citation.verified else "red"
    )
    return text


def _where(document: str, page: int, *, several: bool) -> str:
    return f"{document}, p. {page}" if several else f"p. {page}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _receipt(answer: "Answer") -> Table:
    table = Table.grid(padding=(0, 2))
    for name, text in receipt_rows(answer):
        table.add_row(Text(name, style="dim"), Text(text, style="yellow" if name == "warning" else "dim"))
    return table


def document_table(documents: list[Document]) -> RenderableType:
    """The library, a line each."""
    if not documents:
        return Text("The library is empty. Add a document: longleaf add FILE")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, justify in (("id", "left"), ("pages", "right"), ("size", "right"), ("added", "left"), ("name", "left")):
        table.add_column(column, justify=justify, no_wrap=column != "name")  # type: ignore[arg-type]
    for document in documents:
        name = Text(document.name)
        if document.file_name != document.name:
            name.append(f"  ({document.file_name})", style="dim")
        if document.state != "ready":
            name.append("  (incomplete: add it again to go on)", style="yellow")
        elif document.warnings:
            name.append(f"  ({document.warnings[0]})", style="yellow")
        table.add_row(
            document.sha256[:8], f"{document.n_pages:,}", human_bytes(document.size_bytes), document.added_at[:10], name
        )
    return table


def document_view(document: Document, n_passages: int) -> RenderableType:
    """One document with its metadata and outline."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    unread = f", {document.n_pages_unread} without readable text" if document.n_pages_unread else ""
    rows = [
        ("name", document.name),
        *([("file name", document.file_name)] if document.file_name != document.name else []),
        ("title", document.title),
        ("sha256", document.sha256),
        ("type", f"{document.media_type}, {human_bytes(document.size_bytes)}"),
        ("pages", f"{document.n_pages:,}, {document.n_pages_ocr} by OCR{unread}"),
        ("characters", f"{document.n_chars:,} in {n_passages:,} passages"),
        ("added", document.added_at),
        *((key, value) for key, value in document.metadata.items() if key != "title"),
        *(("warning", warning) for warning in document.warnings),
    ]
    for key, value in rows:
        table.add_row(key, Text(value))
    for entry in document.outline:
        where = f"p. {entry.page_number}" if entry.page_number else ""
        table.add_row(where, Text("  " * (entry.level - 1) + entry.title))
    return table
