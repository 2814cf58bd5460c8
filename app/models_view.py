"""The list of models that Longleaf knows, and which of them are on this machine."""

from typing import Any

from rich.console import RenderableType
from rich.table import Table

from longleaf.errors import ModelNotInstalledError
from longleaf.model import MODELS, model_path

from .render import human_bytes
from .settings import Settings
from .workbench import reader_name

__all__ = ["model_rows", "models_table"]


def model_rows(settings: Settings) -> list[dict[str, Any]]:
    """A dict for each known model."""
    defaults = {settings.embedder, reader_name(settings) if settings.reader != "none" else ""}
    rows = []
    for spec in MODELS.values():
        try:
            path = str(model_path(spec.name, settings.models_dir))
        except ModelNotInstalledError:
            path = None
        rows.append(
            {
                "name": spec.name,
                "title": spec.title,
                "role": spec.role,
                "licence": spec.licence,
                "context_tokens": spec.context_tokens,
                "size_bytes": spec.size_bytes,
                "installed": path is not None,
                "path": path,
                "default": spec.name in defaults,
            }
        )
    return rows


def models_table(rows: list[dict[str, Any]]) -> RenderableType:
    """The same for a person."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "role", "size", "context", "here", "what"):
        table.add_column(column)
    for row in rows:
        here = (
            ("yes, default" if row["default"] else "yes") if row["installed"] else f"longleaf model pull {row['name']}"
        )
        table.add_row(
            row["name"],
            row["role"],
            human_bytes(row["size_bytes"]),
            f"{row['context_tokens']:,}",
            here,
            f"{row['title']}, {row['licence']}",
        )
    return table
