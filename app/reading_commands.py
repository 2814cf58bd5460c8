"""`longleaf readings list`, `show`, `remove`, `prune`: what was read once and need not be read again."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from longleaf.errors import QuestionError

from .options import AsJson, Home, Yes, print_json
from .render import human_bytes, print_view
from .settings import load_settings

if TYPE_CHECKING:
    from longleaf.model.readings import ReadingInfo, ReadingStore

__all__ = ["readings"]

readings = typer.Typer(
    help="What was read once and need not be read again. May be deleted at any time: it is then read anew.",
    no_args_is_help=True,
)

_ID_CHARS = 8

out = Console()


@readings.command("list")
def list_readings(home: Home = None, as_json: AsJson = False) -> None:
    """List the readings, the last used first."""
    found = _store(home).list()
    if as_json:
        print_json([asdict(reading) for reading in found])
    else:
        print_view(out, _table(found))


@readings.command()
def show(
    reading: Annotated[str, typer.Argument(help="First characters of the id.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one reading."""
    found = _store(home).show(reading)
    if as_json:
        print_json(asdict(found))
    else:
        print_view(out, _view(found))


@readings.command()
def remove(
    ids: Annotated[list[str], typer.Argument(metavar="READING...", help="First characters of the ids.")],
    home: Home = None,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Remove readings; documents and answers stay."""
    store = _store(home)
    found = list({reading.id: reading for reading in map(store.show, ids)}.values())
    if not yes:
        if not sys.stdin.isatty():
            raise QuestionError("remove asks before it removes: add --yes to do it without asking")
        names = ", ".join(f"{reading.id[:_ID_CHARS]} ({reading.n_tokens:,} tokens)" for reading in found)
        typer.confirm(f"Remove {names}? Reading again takes as long as it took", abort=True, err=True)
    freed = store.remove(reading.id for reading in found)
    if as_json:
        print_json({"removed": [reading.id for reading in found], "freed_bytes": freed})
    else:
        out.print(f"removed {len(found)}, {human_bytes(freed)} freed", markup=False, highlight=False)


@readings.command()
def prune(
    budget_bytes: Annotated[
        int | None,
        typer.Option(min=0, help="Room on disk, instead of LONGLEAF_READINGS_BUDGET_BYTES.", show_default=False),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Remove the readings that save the least time per byte until the rest fits the budget; and what is left over."""
    store = _store(home)
    freed = store.prune(budget_bytes)
    n_left = len(store.list())
    if as_json:
        print_json({"freed_bytes": freed, "n_readings": n_left})
    else:
        out.print(f"{human_bytes(freed)} freed, readings left: {n_left}", markup=False, highlight=False)


def _store(home: Path | None) -> "ReadingStore":
    from longleaf.model.readings import ReadingStore  # loads torch

    settings = load_settings(home=home)
    return ReadingStore(settings.home / "readings", budget_bytes=settings.readings_budget_bytes)


def _table(found: "Sequence[ReadingInfo]") -> RenderableType:
    if not found:
        return Text("No readings. One is kept whenever a document is read as a whole.")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("id", "tokens", "size", "seconds", "last used", "model", "label"):
        right = column in ("tokens", "size", "seconds")
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in ("model", "label"))
    for reading in found:
        table.add_row(
            reading.id[:_ID_CHARS],
            f"{reading.n_tokens:,}",
            human_bytes(reading.size_bytes),
            f"{reading.seconds:,.1f}",
            reading.last_used_at[:16].replace("T", " "),
            Text(reading.model_name),
            Text(reading.label),
        )
    return table


def _view(reading: "ReadingInfo") -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    rows = [
        ("id", reading.id),
        ("label", reading.label),
        ("model", reading.model_name),
        ("fingerprint", reading.fingerprint),
        *(("source", source) for source in reading.sources),
        ("tokens", f"{reading.n_tokens:,}"),
        (
            "size",
            f"{human_bytes(reading.size_bytes)}, {human_bytes(reading.own_bytes)} of it needed by no other reading",
        ),
        ("seconds", f"{reading.seconds:,.1f}"),
        ("created", reading.created_at),
        ("last used", reading.last_used_at),
    ]
    for key, value in rows:
        table.add_row(key, Text(value))
    return table
