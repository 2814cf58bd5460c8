"""`longleaf eval`: how well Longleaf answers over somebody's own documents, from questions whose answers are known.

Takes in the documents, asks the questions one after the other, keeps each outcome as it comes, and prints the figures.
What is measured, and how, is `longleaf.retrieval.evaluation`; what is kept of it, `eval_results`.
"""

import hashlib
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from longleaf import __version__
from longleaf.errors import LongleafError, QuestionError
from longleaf.ingestion import Document, Library

from .eval_results import open_results, other_outcomes, write_report
from .options import AsJson, BaseUrl, ContextTokens, Home, Reader, print_json
from .progress import StageProgress
from .render import page_count, print_view
from .settings import Settings, load_settings
from .workbench import open_answerer, open_library

if TYPE_CHECKING:
    from longleaf.retrieval.evaluation import Outcome
    from longleaf.retrieval.metrics import Figure
    from longleaf.retrieval.question_file import Question

__all__ = ["evaluate", "paragraphs_as_text"]

SUFFIXES = {".pdf", ".txt", ".text", ".md", ".markdown", ".mdown", ".mkd"}
"""Files of a folder that are taken for documents; what they are, their content decides."""
NAMES = {
    "retrieval": "pages found",
    "answers": "answers",
    "answers_reader_alone": "answers, the reader's word alone",
    "not_found": "“not found”",
    "not_found_reader_alone": "“not found”, the reader's word alone",
}
"""Sections of figures as the table heads them."""

out = Console()
err = Console(stderr=True, soft_wrap=True)


def evaluate(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS.jsonl", help="Questions, one JSON object a line.")],
    documents: Annotated[
        Path,
        typer.Option(
            "--documents",
            "-d",
            metavar="DIR",
            help="Folder of PDF, text or Markdown files, one file, or paragraphs.jsonl.",
        ),
    ],
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Search alone: no reader is loaded, a fraction of a second each.")
    ] = False,
    scope: Annotated[
        Literal["document", "all"], typer.Option(help="Ask each question's own document, or all of them.")
    ] = "document",
    take_away: Annotated[
        Literal["nothing", "pages", "document"],
        typer.Option(help="Ask again without the gold pages or document: what is answered then is invented."),
    ] = "nothing",
    limit: Annotated[int | None, typer.Option(min=1, help="A random sample of so many.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of that sample.")] = 0,
    reader: Reader = None,
    base_url: BaseUrl = None,
    context_tokens: ContextTokens = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder, or 'none' for full text alone.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Passages searched for evidence.", show_default=False)] = None,
    route: Annotated[
        Literal["auto", "whole-document", "retrieval"], typer.Option(help="As for `longleaf ask`.")
    ] = "auto",
    home: Home = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Keep results and a report here; run again, it goes on."),
    ] = None,
    compare_with: Annotated[
        Path | None,
        typer.Option("--compare", metavar="DIR", help="Results of an earlier run (its --out) to compare with."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well your own questions are answered over your own documents.

    A question is one line of the file: question, document, pages and answer, of which all but the first may be missing.
    Without --home the documents are taken into a temporary library, whatever LONGLEAF_HOME says.
    docs/evaluation.md says what is measured and how to read it.

        longleaf eval questions.jsonl --documents reports/ --out results/
    """
    from longleaf.retrieval.evaluation import Evaluation, Options, compare
    from longleaf.retrieval.question_file import check_pages, read_questions

    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longleaf-eval-")))
        files, paragraphs = _files(documents, work)
        chosen = _sample(read_questions(questions, list(files), paragraphs), limit, seed)
        settings = load_settings(
            home=home or work / "home",
            reader=reader,
            base_url=base_url,
            context_tokens=context_tokens,
            embedder=None if embedder == "none" else embedder,
            top_k=top_k,
        )
        options = Options(scope, retrieval_only, take_away, route, settings.top_k)
        library = stack.enter_context(open_library(settings))
        answerer = open_answerer(settings, library, with_reader=not retrieval_only)
        if embedder == "none":
            answerer.embedder = None
        progress = stack.enter_context(StageProgress(err, quiet=as_json and not err.is_terminal))
        needed = {q.document for q in chosen} if scope == "document" and all(q.document for q in chosen) else set(files)
        added = _take_in(library, {name: files[name] for name in files if name in needed}, chosen, settings, progress)
        check_pages(questions, chosen, added)
        run = {
            "version": __version__,
            "questions": _sha256(questions),
            "documents": [[name, _sha256(file)] for name, file in files.items()],
            "ocr": settings.ocr,
            "model": answerer.reader.model_name if answerer.reader else "none",
            "context_tokens": answerer.reader.context_tokens if answerer.reader else 0,
            "quantize": (answerer.reader and settings.quantize) or "none",
            "embedder": answerer.embedder.name if answerer.embedder else "none",
            "vector_store": _without_password(settings.vector_store) if settings.vector_store else "embedded",
            "evidence_tokens": answerer.evidence_tokens,
            **asdict(options),
        }
        other = other_outcomes(compare_with, run) if compare_with else None
        results = stack.enter_context(open_results(out_dir, run))
        evaluation = stack.enter_context(Evaluation(answerer, added, options))
        evaluation.prepare(progress)
        progress("asking", 0, len(chosen))
        for done, question in enumerate(chosen, 1):
            if question.id not in results.outcomes:
                results.keep(evaluation.run(question))
            progress("asking", done, len(chosen))
        summary = _summary(chosen, results.outcomes, run, added)
        if other is not None:
            summary["compared"] = {"with": str(compare_with), **compare(chosen, results.outcomes, other)}
    if out_dir is not None:
        report = write_report(out_dir, chosen, results.outcomes, summary)
        err.print(f"report: {report}", markup=False, highlight=False)
    if as_json:
        print_json(summary)
    else:
        print_view(out, _view(summary))


# --- Documents and questions -----------------------------------------------------------------------------------------


def _files(path: Path, work: Path) -> tuple[dict[str, Path], dict[str, int] | None]:
    """The documents' files by name, and the page of each paragraph where they are paragraphs."""
    if path.suffix == ".jsonl":
        file, pages = paragraphs_as_text(path, work)
        return {file.name: file}, pages
    if path.is_file():
        return {path.name: path}, None
    if not path.is_dir():
        raise QuestionError(f"{path}: there is no such file or folder of documents")
    found = {f.name: f for f in sorted(path.iterdir()) if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")}
    if not found:
        raise QuestionError(
            f"{path}: there is no PDF, text or Markdown file in this folder (folders in it are not read)"
        )
    return found, None


def paragraphs_as_text(path: Path, folder: Path) -> tuple[Path, dict[str, int]]:
    """Makes one text file of a paragraphs.jsonl ({id, text} a line), each paragraph a page.

    Args:
        path: The paragraphs.
        folder: Where to write.

    Returns:
        The file, and each paragraph's page number (1-based) by its id.

    Raises:
        QuestionError: A line that is no paragraph; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise QuestionError(f"{path}: the paragraphs can't be read ({exc})") from exc
    texts: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            key, text = str(row["id"]), str(row["text"]).replace("\f", " ").strip()
        except (ValueError, KeyError, TypeError) as exc:
            raise QuestionError(f'{path}, line {number}: this is no paragraph like {{"id": …, "text": …}}') from exc
        if not text or key in texts:
            raise QuestionError(
                f"{path}, line {number}: the paragraph {key!r} {'is there twice' if text else 'is empty'}"
            )
        texts[key] = text
    if not texts:
        raise QuestionError(f"{path}: there is no paragraph in it")
    file = folder / f"{path.stem}.txt"
    file.write_bytes("\f".join(texts.values()).encode("utf-8", "replace"))
    return file, {key: page for page, key in enumerate(texts, 1)}


def _sample(questions: "Sequence[Question]", limit: int | None, seed: int) -> "list[Question]":
    """The first `limit` of the shuffled questions, in the file's order: a larger limit holds the smaller one's."""
    order = list(range(len(questions)))
    random.Random(seed).shuffle(order)
    return [questions[i] for i in sorted(order[:limit])]


def _take_in(
    library: Library,
    files: Mapping[str, Path],
    questions: "Sequence[Question]",
    settings: Settings,
    progress: StageProgress,
) -> dict[str, Document]:
    """Adds the files; one that can't be read stops the run only where a question is about it."""
    asked = {question.document for question in questions}
    added: dict[str, Document] = {}
    for path, outcome in library.add_many(files.values(), ocr="auto" if settings.ocr else "never"):
        if not isinstance(outcome, LongleafError):
            added[path.name] = outcome.document
        elif path.name in asked:
            raise outcome
        else:
            err.print(f"longleaf: left out: {outcome}", style="yellow", markup=False, highlight=False)
        progress("reading documents", len(added), len(files))
    if not added:
        raise QuestionError("none of the documents could be read")
    return added


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_password(address: str) -> str:
    """An address as it may be written to files that are passed on: no password, wherever it stands."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if "password" not in name])
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=query))


# --- What is shown ---------------------------------------------------------------------------------------------------


def _summary(
    questions: "Sequence[Question]",
    outcomes: "Mapping[str, Outcome]",
    run: Mapping[str, Any],
    documents: Mapping[str, Document],
) -> dict[str, Any]:
    """What `--json` prints."""
    from longleaf.retrieval.evaluation import STAGES, cases, figures, seconds

    pairs = [(question, outcomes[question.id]) for question in questions]
    asked = cases(pairs)
    sections = figures(pairs, with_reader=run["model"] != "none")
    return {
        "questions": len(questions),
        "answerable": sum(question.answerable for question in questions),
        "documents": len(documents),
        "pages": sum(document.n_pages for document in documents.values()),
        "run": {name: value for name, value in run.items() if name not in ("questions", "documents")},
        "figures": {
            section: {name: asdict(figure) for name, figure in each.items()} for section, each in sections.items()
        },
        "seconds": seconds(outcome for _, outcome in pairs),
        "errors": {question.id: outcome.error for question, outcome in pairs if outcome.error},
        "lost": {
            stage: [case.question.id for case in asked if case.stage == stage]
            for stage in STAGES
            if any(case.stage == stage for case in asked)
        },
    }


def _view(summary: Mapping[str, Any]) -> RenderableType:
    from longleaf.retrieval.evaluation import STAGES
    from longleaf.retrieval.metrics import Figure

    from .eval_report import compared_line

    run = summary["run"]
    head = (
        f"{summary['questions']:,} questions, {summary['answerable']:,} of them answerable; documents: "
        f"{summary['documents']:,}, {page_count(summary['pages'])}; reader {run['model']}, embedder {run['embedder']}"
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    for column in ("figure", "95 % interval", "of"):
        table.add_column(column, justify="right", no_wrap=True)
    for section, figures in summary["figures"].items():
        table.add_row(Text(NAMES.get(section, section), style="bold"))
        for name, figure in figures.items():
            table.add_row(f"  {name.replace('_', ' ')}", *_figure_cells(Figure(**figure)))
    steps = ", ".join(f"{name} {each['median']:.2f} / {each['p90']:.2f}" for name, each in summary["seconds"].items())
    lost = Table.grid(padding=(0, 2))
    for stage, ids in summary["lost"].items():
        lost.add_row(f"  {len(ids):,}", Text(STAGES[stage]))
    for error in list(summary["errors"].values())[:1]:
        lost.add_row("", Text(f"such as: {error}"))
    parts: list[RenderableType] = [
        Text(head),
        Padding(table, (1, 0, 1, 0)),
        Text(f"seconds, median / 90th percentile: {steps or 'none'}"),
    ]
    if summary["lost"]:
        parts += [Padding(Text("lost", style="bold"), (1, 0, 0, 0)), lost]
    if told := summary.get("compared"):
        parts.append(Padding(Text(f"compared with {told['with']}: {compared_line(told)}"), (1, 0, 0, 0)))
    return Group(*parts)


def _figure_cells(figure: "Figure") -> tuple[str, str, str]:
    return f"{figure.value:.3f}", f"{figure.low:.2f} to {figure.high:.2f}", f"{figure.n:,}"
