"""Options and output that commands share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Home", "Yes", "print_json"]

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the library (LONGLEAF_HOME).", show_default=False, metavar="DIR"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def print_json(value: Any) -> None:
    """The value on standard output, for machines."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
