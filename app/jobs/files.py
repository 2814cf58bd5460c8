"""The files of a job's results: one Markdown for each document, and one JSONL and one CSV for all.

All are made from the database, and written whole or not at all: after a crash the next run makes what is missing.
"""

import csv
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from longleaf.app.chat_export import escaped
from longleaf.app.summary_commands import page_ranges
from longleaf.app.summary_export import to_markdown
from longleaf.errors import QuestionError, StorageError
from longleaf.retrieval.summary_record import Summary

from .spec import ExtractSpec, SummarizeSpec
from .store import Item, Job

__all__ = ["ResultFiles", "check_template", "write_whole"]

_NAMES = {"summarize": "summaries", "extract": "answers"}

_SCRATCH = ".longleaf-"
_ABANDONED_S = 3600.0
"""Nobody writes one file for so long."""

_ANSWERS = """\
# {{ document | md }}

{% for cell in cells -%}
## {{ cell.question | md }}

{% if cell.found -%}
{{ cell.text | md }}

{% for citation in cell.citations -%}
- p. {{ citation.page }}: “{{ citation.quote | md }}”
{% endfor %}
{%- else -%}
Not found in this document.
{% endif %}
{% endfor %}"""


class ResultFiles:
    """The files of one job.

    Args:
        job: Its folder is made as needed.

    Raises:
        QuestionError: The job's template can't be used.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.table = job.output / f"{_NAMES[job.kind]}.csv"
        self.lines = job.output / f"{_NAMES[job.kind]}.jsonl"
        self._layout = job.output / f".{_NAMES[job.kind]}.layout"
        self._template = _compiled(job.spec)

    def write_item(self, item: Item) -> Path:
        """The Markdown of a finished item.

        Raises:
            StorageError: It can't be written.
            QuestionError: The job's template does not fit the result, or the Markdown would take the document's place.
        """
        path, result = self._path(item), item.result or {}
        if path.exists() and Path(item.source).exists() and path.samefile(item.source):
            raise QuestionError(f"{path}: this is the document itself; put results into another folder (-o DIR)")
        try:
            if self._template:
                text = self._template.render(source=item.source, **result)
            else:
                text = to_markdown(Summary.from_dict(result))
        except Exception as exc:  # a template may do anything, such as divide by zero
            if not self.job.spec.template:
                raise
            said = " ".join(str(exc).split()) or type(exc).__name__
            raise QuestionError(f"the template does not work for {item.name}: {said}") from exc
        write_whole(path, text.rstrip() + "\n")
        return path

    def write_missing(self, items: Sequence[Item]) -> None:
        """The Markdown of finished items that have none, as after a crash, or an old one; raises as `write_item` does.

        Those of another template are old as well; what somebody has edited since is not.
        """
        _clear(self.job.output)
        template = self.job.spec.template
        layout = hashlib.sha256(template.encode()).hexdigest() if template else ""
        has_changed = self._layout_before() != layout
        for item in items:
            path = self._path(item)
            if item.state == "done" and (has_changed or not (path.exists() and path.stat().st_mtime >= _time(item))):
                self.write_item(item)
        if has_changed:
            write_whole(self._layout, layout)

    def write_tables(self, items: Sequence[Item]) -> None:
        """One JSONL and one CSV with each item once, whatever its state.

        Raises:
            StorageError: They can't be written.
        """
        write_whole(self.lines, "".join(json.dumps(_line(item), ensure_ascii=False) + "\n" for item in items))
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self._head())
        writer.writerows([_safe(value) for value in self._row(item)] for item in items)
        write_whole(self.table, text.getvalue(), encoding="utf-8-sig")  # as Excel knows UTF-8

    def _layout_before(self) -> str:
        """Names the template of the files that are there; "" for the built-in layout."""
        try:
            return self._layout.read_text()
        except (OSError, UnicodeDecodeError):
            return ""

    def _path(self, item: Item) -> Path:
        suffix = ".answers.md" if self.job.kind == "extract" else ".md"  # both kinds may go into one folder
        return self.job.output / f"{item.output_name}{suffix}"

    def _head(self) -> list[str]:
        head = ["document", "source", "sha256", "state", "reason", "pages"]
        if isinstance(self.job.spec, ExtractSpec):
            return [
                *head,
                *(n for c in self.job.spec.columns for n in (c.name, f"{c.name} (page)", f"{c.name} (quote)")),
            ]
        return [*head, "summary", "cited pages", "model"]

    def _row(self, item: Item) -> list[Any]:
        result = item.result or {}
        row = [item.name, item.source, item.sha256, item.state, item.reason, item.n_pages or None]
        if isinstance(self.job.spec, ExtractSpec):
            cells = {cell["column"]: cell for cell in result.get("cells", ())}
            return row + [v for column in self.job.spec.columns for v in _cell(cells.get(column.name))]
        pages = sorted({citation["page"] for citation in result.get("citations", ())})
        return [*row, result.get("text"), ", ".join(map(str, pages)), result.get("model")]


def check_template(text: str) -> jinja2.Template:
    """The template, checked before hours of work are spent on it.

    Raises:
        QuestionError: It can't be understood; the message says where.
    """
    try:
        return _environment().from_string(text)
    except jinja2.TemplateSyntaxError as exc:
        raise QuestionError(f"the template can't be understood in line {exc.lineno}: {exc.message}") from exc


def write_whole(path: Path, text: str, encoding: str = "utf-8") -> None:
    """Writes a file so that at each moment the old one or the new one is there, whole.

    Raises:
        StorageError: Full disk, read-only folder; the old file stays.
    """
    scratch = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=_SCRATCH, dir=path.parent)
        with os.fdopen(handle, "w", encoding=encoding, errors="replace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o666 & ~_umask())  # noqa: PTH101  mkstemp lets nobody else read it
        Path(scratch).replace(path)
    except OSError as exc:
        with suppress(OSError):
            Path(scratch).unlink()
        raise StorageError(
            f"{path}: the result can't be written: {exc.strerror or exc}. What was done is kept: make room, or the "
            "folder writable, and run the same command again"
        ) from exc


def _clear(folder: Path) -> None:
    """Removes what processes that were killed while they wrote have left."""
    for left in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _time(item: Item) -> float:
    return datetime.fromisoformat(item.finished_at).timestamp()


def _compiled(spec: SummarizeSpec | ExtractSpec) -> jinja2.Template | None:
    """The template of a job; None where summaries have their own layout."""
    text = spec.template or (_ANSWERS if isinstance(spec, ExtractSpec) else None)
    return check_template(text) if text else None


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["md"] = lambda text: escaped(str(text))
    environment.filters["ranges"] = lambda pages: page_ranges(tuple(pages))
    return environment


def _line(item: Item) -> dict[str, Any]:
    line = {"source": item.source, "sha256": item.sha256, "state": item.state}
    if item.result is None:
        return line | {"reason": item.reason}
    return line | item.result


def _cell(cell: dict[str, Any] | None) -> tuple[Any, Any, Any]:
    if cell is None or not cell["found"]:
        return None, None, None
    value = cell["value"]
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    first = cell["citations"][0] if cell["citations"] else {"page": None, "quote": None}
    return value, first["page"], " ".join((first["quote"] or "").split()) or None


def _safe(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: what a document says may be meant to be one."""
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t", "\r", "-") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True
