"""A summary as a file to keep or pass on: Markdown with the pages that each statement rests on. Pure functions."""

from collections.abc import Iterator, Sequence

from longleaf.retrieval import Citation, Statement
from longleaf.retrieval.summary_record import Summary

from .chat_export import escaped
from .summary_commands import page_ranges, summary_rows

__all__ = ["to_markdown"]


def to_markdown(made: Summary) -> str:
    """The summary, its citations, the sections that it was put together from, and what was read for it."""
    blocks = [f"# {escaped(made.document)}", *_blocks(made.statements, made.citations, made.text)]
    for section in made.sections:
        blocks.append(f"## {escaped(section.title)} (p. {page_ranges(section.pages)})")
        blocks += _blocks(section.statements, section.citations, section.text)
    blocks.append("\n".join(f"- {name}: {escaped(text)}" for name, text in summary_rows(made)))
    return "\n\n".join(blocks) + "\n"


def _blocks(statements: Sequence[Statement], citations: Sequence[Citation], text: str) -> Iterator[str]:
    if not statements:
        yield escaped(text) if text else "Nothing to say here."
        return
    yield "\n".join(f"- {_told(statement)}" for statement in statements)
    if citations:
        yield "\n".join(f"> [{n}] p. {c.page}: “{escaped(c.quote)}”  " for n, c in enumerate(citations, 1))


def _told(statement: Statement) -> str:
    marks = "".join(f" [{index + 1}]" for index in statement.citations)
    return escaped(statement.text) + (marks if statement.supported else " (no support found on the pages)")
