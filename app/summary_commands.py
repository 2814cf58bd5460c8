"""`longleaf summary`: a document in a few sentences, each with the pages it stands on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from longleaf.ingestion import Document, Library

from .options import AsJson, BaseUrl, ContextTokens, Home, Reader, print_json
from .progress import StageProgress
from .render import print_view
from .settings import Settings, load_settings
from .workbench import open_answerer, open_library

if TYPE_CHECKING:
    from longleaf.retrieval.receipt import Statement
    from longleaf.retrieval.summary import Summary, SummaryReceipt

__all__ = ["page_ranges", "summary", "summary_rows"]

out = Console()
err = Console(stderr=True, soft_wrap=True)


def summary(
    document: Annotated[str, typer.Argument(help="File, or name or first characters of the id in the library.")],
    length: Annotated[
        Literal["short", "medium", "long"], typer.Option(help="3, 7 or 15 sentences; of each section 2, 3 or 5.")
    ] = "medium",
    language: Annotated[
        str | None, typer.Option(help="Language to write in; the document's own by default.", show_default=False)
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="What it is to be about; all of it by default.", show_default=False)
    ] = None,
    form: Annotated[Literal["prose", "bullets"], typer.Option("--format", help="Running text, or lines.")] = "prose",
    anew: Annotated[bool, typer.Option("--anew", help="Make it again although it is kept.")] = False,
    reader: Reader = None,
    base_url: BaseUrl = None,
    context_tokens: ContextTokens = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Summarise a document; every sentence is looked up on its pages.

    A document that fits the reader is read whole, a longer one section by section. Interrupt it and run it again: it
    goes on with the next section. A summary is kept in the library and given out at once the next time.

        longleaf summary report.pdf --length short --focus "debt"
    """
    settings = load_settings(home=home, reader=reader, base_url=base_url, context_tokens=context_tokens)
    with open_library(settings) as library, StageProgress(err, quiet=as_json and not err.is_terminal) as progress:
        found = _document(library, document, settings, progress)
        answerer = open_answerer(settings, library)
        from longleaf.retrieval.summary import Summarizer, SummaryOptions

        options = SummaryOptions(length, language, focus, form)
        made = Summarizer(answerer).summarize(found, options=options, progress=progress, anew=anew)
    if as_json:
        print_json(made.to_dict())
    else:
        print_view(out, _view(made))


def summary_rows(made: "Summary") -> list[tuple[str, str]]:
    """What was read for a summary: (name, text), in the order to be shown; "warning" may stand more than once."""
    receipt = made.receipt
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in receipt.seconds.items() if name != "total")
    return [
        ("route", f"{receipt.route}: {receipt.reason}"),
        ("read", _pages_read(receipt)),
        *([("tokens", _tokens(receipt))] if receipt.tokens_budget is not None else []),
        ("model", made.model),
        ("made", made.made_at[:16].replace("T", " ")),
        ("seconds", f"{receipt.seconds['total']:.1f} ({steps})"),
        *(("warning", warning) for warning in receipt.warnings),
    ]


def page_ranges(numbers: tuple[int, ...]) -> str:
    """Page numbers in order as ranges, such as "1–4, 7"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in ranges)


def _document(library: Library, name: str, settings: Settings, progress: StageProgress) -> Document:
    path = Path(name)
    if not path.is_file():
        return library.find(name)
    return library.add(
        path,
        ocr="auto" if settings.ocr else "never",
        progress=lambda done, total, stage: progress(f"{stage} {path.name}", done, total),
    ).document


def _view(made: "Summary") -> RenderableType:
    parts: list[RenderableType] = [_text(made)]
    parts += [
        Padding(Text(f"[{i}] p. {c.page}{_label(c.page, c.page_label)}  “{' '.join(c.quote.split())}”"), (0, 0, 0, 2))
        for i, c in enumerate(made.citations, 1)
    ]
    if made.sections:
        parts.append(Padding(Text("By section", style="dim"), (1, 0, 0, 0)))
    for section in made.sections:
        title = Text(f"{section.title}  p. {page_ranges(section.pages)}", style="bold")
        parts += [Padding(title, (1, 0, 0, 2)), Padding(Text(section.text or "nothing to say here"), (0, 0, 0, 2))]
    table = Table.grid(padding=(0, 2))
    for name, text in summary_rows(made):
        table.add_row(Text(name, style="dim"), Text(text, style="yellow" if name == "warning" else "dim"))
    return Group(*parts, Padding(table, (1, 0, 0, 2)))


def _text(made: "Summary") -> Text:
    if not made.statements:
        return Text(made.text + "\n", style="yellow")
    bullets = made.options.format == "bullets"
    text = Text("\n" if bullets else " ").join(_statement(statement, bullet=bullets) for statement in made.statements)
    return text.append("\n")


def _statement(statement: "Statement", *, bullet: bool) -> Text:
    text = Text("- " if bullet else "")
    text.append(statement.text, style="bold" if statement.supported else "yellow")
    marks = "".join(f" [{i + 1}]" for i in statement.citations)
    return text.append(
        marks if statement.supported else " (no support found)", style="cyan" if statement.supported else "yellow"
    )


def _label(number: int, label: str) -> str:
    return f" (printed {label})" if label != str(number) else ""


def _pages_read(receipt: "SummaryReceipt") -> str:
    text = f"{len(receipt.pages_read)} of {receipt.pages_total} pages in {receipt.parts_done} of {receipt.parts} parts"
    if receipt.parts_kept:
        text += f", {receipt.parts_kept} of them in an earlier run"
    if receipt.pages_unread:
        text += f"; without readable text: p. {page_ranges(receipt.pages_unread)}"
    if receipt.pages_left:
        text += f"; not read: p. {page_ranges(receipt.pages_left)}"
    return text


def _tokens(receipt: "SummaryReceipt") -> str:
    reused = f", {receipt.tokens_reused:,} of them from a reading" if receipt.tokens_reused else ""
    return (
        f"{receipt.tokens_prompt:,} given to the model{reused}, {receipt.tokens_written:,} written; the document has "
        f"{receipt.tokens_document or 0:,}"
    )
