"""Options and output that commands share."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "BaseUrl", "ContextTokens", "Home", "Reader", "Yes", "print_json"]

Home = Annotated[
    Path | None,
    typer.Option("--home", help="Folder of the library (LONGLEAF_HOME).", show_default=False, metavar="DIR"),
]
Reader = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Reader: a name from `longleaf model list`, a model folder, a .gguf file, openai:NAME, or 'none'.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url", metavar="URL", help="OpenAI-compatible server that runs openai:NAME.", show_default=False
    ),
]
ContextTokens = Annotated[int | None, typer.Option(help="Context that the reader is run with.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def print_json(value: Any) -> None:
    """The value on standard output, for machines."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
