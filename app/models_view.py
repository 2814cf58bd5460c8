"""The list of models that Longleaf knows, and which of them are on this machine."""

from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from longleaf.errors import ModelNotInstalledError
from longleaf.model import MODELS, ModelSpec, get_spec, model_path, resolve
from longleaf.model.plan import plan_memory
from longleaf.model.public_models import PUBLIC_MODELS
from longleaf.model.registry import HUB_MODELS, pulled_repos
from longleaf.model.snapshot_record import SnapshotRecord

from .render import human_bytes
from .settings import Settings
from .workbench import reader_name

__all__ = ["Missing", "installed_path", "missing_models", "model_rows", "models_table", "size_bytes"]


def model_rows(settings: Settings) -> list[dict[str, Any]]:
    """A dict for each known model, and for each repository that was pulled."""
    defaults = {settings.embedder, reader_name(settings) if settings.reader != "none" else ""}
    rows = []
    pulled = [get_spec(repo) for repo in pulled_repos(settings.models_dir)]
    for spec in [*MODELS.values(), *HUB_MODELS.values(), *pulled]:
        path = installed_path(spec, settings)
        rows.append(
            {
                "name": spec.name,
                "title": spec.title,
                "role": spec.role,
                "licence": spec.licence,
                "context_tokens": spec.context_tokens,
                "size_bytes": size_bytes(spec, settings),
                "hub_repo": spec.hub_repo,
                "gated": spec.gated,
                "installed": path is not None,
                "path": path,
                "default": spec.name in defaults,
            }
        )
    return rows


def installed_path(spec: ModelSpec, settings: Settings) -> str | None:
    """Where the model lies; None if it is not on this machine."""
    try:
        return str(model_path(spec.name, settings.models_dir))
    except ModelNotInstalledError:
        return None


def size_bytes(spec: ModelSpec, settings: Settings) -> int:
    """Bytes of the model's files; of a hub repository that is not here, of its weights in 16 bits."""
    if not spec.is_repository:
        return spec.size_bytes
    record = SnapshotRecord.read(spec.path(settings.models_dir))
    return record.size_bytes if record else plan_memory(PUBLIC_MODELS[spec.name].config, 1).weights_bytes


class Missing(NamedTuple):
    """What the settings name, and nobody uses because it is not loaded.

    Attributes:
        name: As `pull` takes it.
        size_bytes: Of all its files; 0 where they are on this machine already.
    """

    name: str
    size_bytes: int


def missing_models(settings: Settings, *, has_reader: bool, has_embedder: bool) -> list[Missing]:
    """What to fetch so that the settings' models answer and search; reader and embedder in one where they go together.

    Args:
        settings: Name both; "none" for a reader means that none is wanted.
        has_reader: Whether a reader is loaded.
        has_embedder: Whether an embedder is.
    """
    wanted = [] if has_reader or settings.reader == "none" else [reader_name(settings)]
    wanted += [] if has_embedder else [settings.embedder]
    sizes = {
        name: 0 if installed_path(get_spec(name), settings) else size_bytes(get_spec(name), settings) for name in wanted
    }
    if len(wanted) > 1 and wanted == [spec.name for spec in resolve("embedded")]:
        return [Missing("embedded", sum(sizes.values()))]
    return [Missing(name, size) for name, size in sizes.items()]


def models_table(rows: list[dict[str, Any]]) -> RenderableType:
    """The same for a person."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("name", "role", "size", "context", "here", "what"):
        table.add_column(column, no_wrap=column != "what", justify="right" if column in ("size", "context") else "left")
    for row in rows:
        here = "yes" if row["installed"] else "no"
        table.add_row(
            row["name"],
            row["role"],
            human_bytes(row["size_bytes"]),
            f"{row['context_tokens']:,}" if row["context_tokens"] else "",
            f"{here}, default" if row["default"] else here,
            f"{row['title']}, {row['licence']}{', gated' if row['gated'] else ''}",
        )
    to_do = "Fetch one: longleaf model pull NAME, or org/name of any safetensors repository on the model hub."
    return Group(table, Text(f"\n{to_do}\nWhat one needs: longleaf plan NAME", style="dim"))
