"""`longleaf collection list|add|take-out|rename|remove`: named sets of documents that are asked together."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from longleaf.errors import QuestionError
from longleaf.ingestion import Collection, Library

from .options import AsJson, Home, Yes, print_json
from .render import print_view
from .settings import load_settings
from .workbench import open_library

__all__ = ["collections"]

collections = typer.Typer(
    help="Named sets of documents: ask one with `longleaf ask --collection NAME QUESTION`.", no_args_is_help=True
)

out = Console()

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the collection.")]
Documents = Annotated[
    list[str], typer.Argument(metavar="DOCUMENT...", help="Documents of the library: names, ids or files.")
]


@collections.command("list")
def list_collections(home: Home = None, as_json: AsJson = False) -> None:
    """List the collections and their documents."""
    with open_library(load_settings(home=home)) as library:
        found = [_view(library, collection) for collection in library.collections.all()]
    if as_json:
        print_json(found)
    elif not found:
        out.print("There is no collection. Make one: longleaf collection add NAME DOCUMENT...", markup=False)
    else:
        table = Table.grid(padding=(0, 2))
        for collection in found:
            table.add_row(Text(collection["name"], style="bold"), Text(", ".join(collection["documents"]) or "(empty)"))
        print_view(out, table)


@collections.command()
def add(name: Name, documents: Documents, home: Home = None, as_json: AsJson = False) -> None:
    """Put documents into a collection; it is made if there is none of this name."""
    with open_library(load_settings(home=home)) as library:
        _report(library, library.collections.put(name, [library.find(ref) for ref in documents]), as_json=as_json)


@collections.command("take-out")
def take_out(name: Name, documents: Documents, home: Home = None, as_json: AsJson = False) -> None:
    """Take documents out of a collection; they stay in the library."""
    with open_library(load_settings(home=home)) as library:
        _report(library, library.collections.take_out(name, [library.find(ref) for ref in documents]), as_json=as_json)


@collections.command()
def rename(
    name: Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Give a collection another name."""
    with open_library(load_settings(home=home)) as library:
        _report(library, library.collections.rename(name, new_name), as_json=as_json)


@collections.command()
def remove(name: Name, home: Home = None, as_json: AsJson = False, yes: Yes = False) -> None:
    """Forget a collection; its documents stay in the library."""
    with open_library(load_settings(home=home)) as library:
        found = _view(library, library.collections.find(name))
        if not yes:
            if not sys.stdin.isatty():
                raise QuestionError("remove asks before it removes: add --yes to do it without asking")
            typer.confirm(f"Forget the collection {name}? Its documents stay.", abort=True, err=True)
        library.collections.remove(name)
    if as_json:
        print_json(found)
    else:
        out.print(f"forgot the collection {name}", markup=False, highlight=False)


def _view(library: Library, collection: Collection) -> dict[str, Any]:
    names = {document.id: document.name for document in library.documents()}
    # A document may have been removed since the collection was read.
    return asdict(collection) | {"documents": [names[key] for key in collection.document_ids if key in names]}


def _report(library: Library, collection: Collection, *, as_json: bool) -> None:
    view = _view(library, collection)
    if as_json:
        print_json(view)
    else:
        out.print(f"{view['name']}: {', '.join(view['documents']) or '(empty)'}", markup=False, highlight=False)
