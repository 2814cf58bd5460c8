"""The folder in which `longleaf eval` keeps a run: outcomes as they come, figures and the report at the end.

A run that was interrupted goes on after the last whole line; one that asks other questions, or asks in another way, is
refused. Knows nothing of how questions are asked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longleaf.errors import QuestionError, StorageError

if TYPE_CHECKING:
    from longleaf.retrieval.evaluation import Outcome
    from longleaf.retrieval.question_file import Question

__all__ = ["Results", "open_results", "other_outcomes", "write_report"]


@dataclass
class Results:
    """The outcomes so far, by the questions' ids; with a file, each is on disk as soon as it is there."""

    outcomes: "dict[str, Outcome]"
    file: Any = None

    def keep(self, outcome: "Outcome") -> None:
        """Adds an outcome, and writes it.

        Raises:
            StorageError: The file can't be written.
        """
        self.outcomes[outcome.id] = outcome
        if self.file is None:
            return
        try:
            self.file.write(json.dumps(outcome.to_dict()) + "\n")
            self.file.flush()
        except OSError as exc:
            raise _not_writable(Path(self.file.name), exc) from exc


@contextmanager
def open_results(folder: Path | None, run: Mapping[str, Any]) -> Iterator[Results]:
    """The results in a folder, opened to go on.

    Args:
        folder: Made as needed; None keeps nothing.
        run: What was asked, how and of what: results of another run are not added to.

    Raises:
        QuestionError: The folder holds the results of another run.
        StorageError: The folder can't be made.
    """
    if folder is None:
        yield Results({})
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _same_run(folder / "run.json", run)
        known = _read_outcomes(folder / "results.jsonl")
        file = (folder / "results.jsonl").open("a", encoding="utf-8")
    except OSError as exc:
        raise _not_writable(folder, exc) from exc
    with file:
        yield Results(known, file)


def write_report(
    folder: Path, questions: "Sequence[Question]", outcomes: "Mapping[str, Outcome]", summary: Mapping[str, Any]
) -> Path:
    """Writes report.html and figures.json into the folder of the results; returns the report's path.

    Raises:
        StorageError: The folder can't be written.
    """
    from longleaf.retrieval.evaluation import cases

    from .eval_report import report_html

    html = report_html(cases((question, outcomes[question.id]) for question in questions), summary)
    report = folder / "report.html"
    try:
        report.write_bytes(html.encode("utf-8", "replace"))
        (folder / "figures.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    except OSError as exc:
        raise _not_writable(folder, exc) from exc
    return report


def _same_run(file: Path, run: Mapping[str, Any]) -> None:
    """Makes sure that results are added to results of the same questions, asked in the same way."""
    now = json.loads(json.dumps(run))
    if file.exists():
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        different = [name for name in now if not isinstance(before, dict) or before.get(name) != now[name]]
        if different:
            shown = ", ".join(
                f"{name} {before.get(name)} and not {now[name]}" if isinstance(now[name], str | int) else name
                for name in different
                if isinstance(before, dict)
            )
            raise QuestionError(
                f"{file.parent}: it holds the results of another run ({shown or 'unknown'}); name another folder with "
                "--out, or remove this one"
            )
    else:
        file.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


def other_outcomes(folder: Path, run: Mapping[str, Any]) -> "dict[str, Outcome]":
    """The outcomes of an earlier run, to compare with.

    Args:
        folder: Where it kept them.
        run: The present one.

    Raises:
        QuestionError: There are none, or they are of other questions.
    """
    try:
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        _, outcomes = _whole_lines(folder / "results.jsonl")
    except (OSError, ValueError) as exc:
        raise QuestionError(f"{folder}: there are no results of an earlier run to compare with ({exc})") from exc
    if not isinstance(before, dict) or before.get("questions") != run["questions"]:
        raise QuestionError(f"{folder}: it holds the results of other questions, which can't be compared with these")
    if before.get("retrieval_only") != run["retrieval_only"]:
        raise QuestionError(
            f"{folder}: pages found can't be compared with answers; run both with --retrieval-only, or neither"
        )
    return outcomes


def _read_outcomes(file: Path) -> "dict[str, Outcome]":
    """The outcomes in a file; a line that was cut off is taken out of it, and its question is asked again."""
    if not file.exists():
        return {}
    whole, outcomes = _whole_lines(file)
    repaired = file.with_suffix(".tmp")
    repaired.write_bytes(b"".join(whole))
    repaired.replace(file)
    return outcomes


def _whole_lines(file: Path) -> "tuple[list[bytes], dict[str, Outcome]]":
    """The lines of a file that hold an outcome, and the outcomes."""
    from longleaf.retrieval.evaluation import Outcome

    whole, outcomes = [], {}
    for line in file.read_bytes().split(b"\n"):
        try:
            outcome = Outcome.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError):
            continue
        whole.append(line + b"\n")
        outcomes[outcome.id] = outcome
    return whole, outcomes


def _not_writable(folder: Path, exc: OSError) -> StorageError:
    return StorageError(f"{exc.filename or folder}: {exc.strerror or exc}; name another folder with --out")
