"""`longleaf summarize`, `extract` and `jobs`: work on folders that can be stopped and gone on with."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from longleaf.errors import QuestionError

from .options import AsJson, BaseUrl, ContextTokens, Home, Reader, Yes, print_json
from .progress import StageProgress
from .render import print_view
from .settings import Settings, load_settings
from .workbench import open_answerer, reader_name

if TYPE_CHECKING:
    from longleaf.retrieval.prices import Prices

    from .jobs import ExtractSpec, Item, Job, JobStore, RunOptions, SummarizeSpec
    from .jobs.estimate import Estimate
    from .jobs.sources import Source

__all__ = ["extract", "jobs", "summarize"]

jobs = typer.Typer(help="Jobs over many documents: how they stand, and going on with them.", no_args_is_help=True)

out = Console()
err = Console(stderr=True, soft_wrap=True)

ENDPOINT_WORKERS = 4
"""Documents side by side where a server reads; a reader of this machine works on one at a time."""

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help='Files, folders, quoted globs ("in/**/*.pdf"), or - for a list on stdin.'),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results; made as needed.")]
Template = Annotated[Path | None, typer.Option(help="Jinja2 template of each document's Markdown.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Documents worked on side by side: 1, or 4 where a server reads.", show_default=False),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens-per-minute", min=1, help="For all workers together.", show_default=False)
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Have a Ray cluster do it; 'local' starts one here.", show_default=False
    ),
]
Password = Annotated[
    str | None, typer.Option("--password", help="Opens encrypted PDFs; never stored.", show_default=False)
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out files that fit this pattern; may be repeated.", show_default=False)
]
NoOcr = Annotated[bool, typer.Option("--no-ocr", help="Leave pages without text unread.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what it will take, and do nothing but take the files into the library.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also try again what failed for a lasting reason.")]
PriceIn = Annotated[float | None, typer.Option(min=0, help="Price of a million tokens read.", show_default=False)]
PriceOut = Annotated[float | None, typer.Option(min=0, help="Price of a million tokens written.", show_default=False)]
PriceCached = Annotated[
    float | None, typer.Option(min=0, help="Price of a million tokens read from a cache.", show_default=False)
]
JobRef = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or its folder of results.")]


def summarize(
    paths: Paths,
    output: Output,
    length: Annotated[
        Literal["short", "medium", "long"], typer.Option(help="3, 7 or 15 sentences; of each section 2, 3 or 5.")
    ] = "medium",
    language: Annotated[
        str | None, typer.Option(help="Language to write in; each document's own by default.", show_default=False)
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="What it is to be about; all of it by default.", show_default=False)
    ] = None,
    form: Annotated[Literal["prose", "bullets"], typer.Option("--format", help="Running text, or lines.")] = "prose",
    template: Template = None,
    reader: Reader = None,
    base_url: BaseUrl = None,
    context_tokens: ContextTokens = None,
    workers: Workers = None,
    max_tokens: MaxTokens = None,
    ray: Ray = None,
    exclude: Exclude = None,
    password: Password = None,
    no_ocr: NoOcr = False,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    price_cached: PriceCached = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Summarise many documents, each with the pages that its statements stand on.

    One Markdown for each document, and summaries.jsonl and summaries.csv for all. Stop it at any time and run the same
    command again: what is done stays, and only the rest is done. A file or a setting that changed is done anew. A file
    that can't be read is named with its reason, and the others go on; the exit code is then 1.

        longleaf summarize reports/ -o summaries/ --length short
    """
    from .jobs import SummarizeSpec
    from .jobs.session import reader_spec

    settings = load_settings(home=home, reader=reader, base_url=base_url, context_tokens=context_tokens)
    spec = SummarizeSpec(
        reader=reader_spec(settings, reader_name(settings)),
        length=length,
        language=language,
        focus=focus,
        format=form,
        ocr=settings.ocr and not no_ocr,
        template=_template(template),
    )
    options = _options(settings, workers, max_tokens, password)
    prices = _prices(price_in, price_out, price_cached)
    _begin(
        settings, spec, paths, output, options,
        exclude=exclude, ray=ray, retry_failed=retry_failed, dry_run=dry_run, prices=prices, as_json=as_json,
    )  # fmt: skip


def extract(
    paths: Paths,
    output: Output,
    questions: Annotated[
        Path | None, typer.Option(help="Text file with a question a line: a column for each.", show_default=False)
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            help="JSON schema of an object: a column for each property, asked by its description, with values of its "
            "type.",
            show_default=False,
        ),
    ] = None,
    route: Annotated[
        Literal["auto", "whole-document", "retrieval"],
        typer.Option(help="auto reads the whole document where it fits."),
    ] = "auto",
    template: Template = None,
    reader: Reader = None,
    base_url: BaseUrl = None,
    context_tokens: ContextTokens = None,
    workers: Workers = None,
    max_tokens: MaxTokens = None,
    ray: Ray = None,
    exclude: Exclude = None,
    password: Password = None,
    no_ocr: NoOcr = False,
    retry_failed: RetryFailed = False,
    dry_run: DryRun = False,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    price_cached: PriceCached = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Ask many documents the same questions: a row for each document, a column for each question, a page for each cell.

    A document that fits the reader is read once, and each question starts from that reading. Results, stopping and
    going on are as for `longleaf summarize`: answers.csv, answers.jsonl, and one Markdown for each document.

        longleaf extract reports/ -o answers/ --questions questions.txt
    """
    from .jobs import ExtractSpec
    from .jobs.questions import columns_of_questions, columns_of_schema
    from .jobs.session import reader_spec

    if (questions is None) == (schema is None):
        raise QuestionError("give either --questions (a text file, one a line) or --schema (a JSON schema)")
    columns = columns_of_questions(questions) if questions else columns_of_schema(schema)  # type: ignore[arg-type]
    settings = load_settings(home=home, reader=reader, base_url=base_url, context_tokens=context_tokens)
    spec = ExtractSpec(
        reader=reader_spec(settings, reader_name(settings)),
        columns=columns,
        route=route,
        top_k=settings.top_k,
        ocr=settings.ocr and not no_ocr,
        template=_template(template),
    )
    options = _options(settings, workers, max_tokens, password)
    prices = _prices(price_in, price_out, price_cached)
    _begin(
        settings, spec, paths, output, options,
        exclude=exclude, ray=ray, retry_failed=retry_failed, dry_run=dry_run, prices=prices, as_json=as_json,
    )  # fmt: skip


@jobs.command("list")
def list_jobs(home: Home = None, as_json: AsJson = False) -> None:
    """List the jobs; the one that was worked on last comes first."""
    from .jobs.session import open_jobs

    with open_jobs(load_settings(home=home)) as (_, store):
        found = store.jobs()
    if as_json:
        print_json([_job_dict(job) for job in found])
    else:
        print_view(out, _jobs_view(found))


@jobs.command("show")
def show_job(
    ref: JobRef,
    failed: Annotated[bool, typer.Option("--failed", help="Only the documents that failed.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a job: each document with its state, tokens and seconds, or why it failed."""
    from .jobs.session import open_jobs

    with open_jobs(load_settings(home=home)) as (_, store):
        job = store.find(ref)
        items = [item for item in store.items(job) if not failed or item.state == "failed"]
    if as_json:
        print_json(_job_dict(job) | {"items": [item.to_dict() for item in items]})
    else:
        print_view(out, Group(_jobs_view([job]), Text(), _items_view(items)))


@jobs.command("resume")
def resume_job(
    ref: JobRef,
    workers: Workers = None,
    max_tokens: MaxTokens = None,
    ray: Ray = None,
    password: Password = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a job: what is not done, was changed or cancelled, or failed for a reason that may have passed."""
    _go_on(ref, home, workers, max_tokens, ray, password, retry_failed=False, as_json=as_json)


@jobs.command("retry")
def retry_job(
    ref: JobRef,
    workers: Workers = None,
    max_tokens: MaxTokens = None,
    ray: Ray = None,
    password: Password = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a job as `resume` does, and try all that failed once more: after OCR was installed, a file mended."""
    _go_on(ref, home, workers, max_tokens, ray, password, retry_failed=True, as_json=as_json)


@jobs.command("cancel")
def cancel_job(ref: JobRef, yes: Yes = False, home: Home = None, as_json: AsJson = False) -> None:
    """Leave the rest of a job undone. Who works on it, on any machine, stops soon; what is done stays."""
    from .jobs.session import open_jobs

    with open_jobs(load_settings(home=home)) as (_, store):
        job = store.find(ref)
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Leave {job.counts.open} of {job.counts.total} documents undone?", abort=True, err=True)
        n = store.cancel(job)
    if as_json:
        print_json({"id": job.id, "cancelled": n})
    else:
        out.print(f"{n} of {job.counts.total} documents are left undone", highlight=False)


def _begin(
    settings: Settings,
    spec: "SummarizeSpec | ExtractSpec",
    paths: Sequence[str],
    output: Path,
    options: "RunOptions",
    *,
    exclude: Sequence[str] | None,
    ray: str | None,
    retry_failed: bool,
    dry_run: bool,
    prices: "Prices | None",
    as_json: bool,
) -> None:
    from .jobs.session import open_jobs
    from .jobs.sources import expanded, find_sources

    listed = sys.stdin if "-" in paths else ()
    found = find_sources(paths, listed, exclude=exclude or ())
    if not found:
        raise QuestionError("there is no file to work on")
    folder = expanded(str(output)).resolve()
    if folder.exists() and not folder.is_dir():
        raise QuestionError(f"{output}: this is a file; results need a folder (-o DIR)")
    # Results of an earlier run may lie below a folder that is read.
    found = [path for path in found if folder not in path.resolve().parents]
    if not found:
        raise QuestionError(
            f"{output}: results can't go into the folder that is read, nor into one above it; choose another -o DIR"
        )
    with open_jobs(settings) as (library, store):
        sources = _looked_at(found, as_json=as_json)
        if dry_run:
            to_do = store.preview(folder, spec, sources)
            _estimate(settings, store, library, spec, *to_do, options, prices, as_json=as_json)
            return
        job = store.open(folder, spec)
        store.plan(job, sources)
        store.reopen(job, lasting=retry_failed)
        _run(settings, library, store, job, options, ray, as_json=as_json)


def _go_on(
    ref: str,
    home: Path | None,
    workers: int | None,
    max_tokens: int | None,
    ray: str | None,
    password: str | None,
    *,
    retry_failed: bool,
    as_json: bool,
) -> None:
    from .jobs.session import open_jobs, settings_of

    given = load_settings(home=home)
    with open_jobs(given) as (library, store):
        job = store.find(ref)
        settings = settings_of(job, given)
        store.plan(job, _looked_at([Path(item.source) for item in store.items(job)], as_json=as_json))
        store.reopen(job, lasting=retry_failed)
        options = _options(settings, workers, max_tokens, password)
        _run(settings, library, store, job, options, ray, as_json=as_json)


def _looked_at(paths: Sequence[Path], *, as_json: bool) -> "list[Source]":
    from .jobs.sources import with_sha256

    sources = []
    with StageProgress(err, quiet=as_json and not err.is_terminal) as progress:
        for number, path in enumerate(paths):
            progress("looking at files", number, len(paths))
            sources.append(with_sha256(path))
    return sources


def _run(
    settings: Settings, library: Any, store: "JobStore", job: "Job", options: "RunOptions", ray: str | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    from .jobs.session import run_with_progress

    quiet = as_json and not err.is_terminal
    items = run_with_progress(settings, library, store, job, options, console=err, quiet=quiet, ray_address=ray)
    job = store.find(job.id)
    if as_json:
        print_json(_job_dict(job) | {"items": [item.to_dict() for item in items]})
    else:
        _print_outcome(job, items)
    if job.counts.failed or job.counts.cancelled:
        raise typer.Exit(1)


def _estimate(
    settings: Settings, store: "JobStore", library: Any, spec: "SummarizeSpec | ExtractSpec", to_do: Sequence[Path],
    n_done: int, options: "RunOptions", prices: "Prices | None", *, as_json: bool,
) -> None:  # fmt: skip
    from .jobs.estimate import estimate
    from .jobs.session import stop_signals
    from .work_queue import WorkStopped

    answerer = open_answerer(settings, library)
    with (
        StageProgress(err, quiet=as_json and not err.is_terminal) as progress,
        stop_signals(lambda _text: None) as stop,
    ):
        try:
            made = estimate(
                store, answerer, spec, to_do, n_done,
                prices=prices, progress=progress, should_stop=stop.is_set, password=options.password,
            )  # fmt: skip
        except WorkStopped as exc:
            raise KeyboardInterrupt from exc
        finally:
            answerer.close()
    if as_json:
        print_json(made.to_dict())
    else:
        print_view(out, _estimate_view(made))


def _options(settings: Settings, workers: int | None, max_tokens: int | None, password: str | None) -> "RunOptions":
    from .jobs import RunOptions
    from .workbench import is_endpoint

    n = workers or (ENDPOINT_WORKERS if is_endpoint(settings.reader) else 1)
    return RunOptions(workers=n, max_tokens_per_minute=max_tokens, password=password)


def _prices(price_in: float | None, price_out: float | None, cached: float | None) -> "Prices | None":
    from longleaf.retrieval.prices import Prices

    if price_in is None and price_out is None and cached is None:
        return None
    if price_in is None or price_out is None:
        raise QuestionError("for the cost give both --price-in and --price-out, for a million tokens each")
    return Prices(price_in, price_out, cached)


def _template(path: Path | None) -> str | None:
    from .jobs.files import check_template
    from .jobs.questions import text_of

    if path is None:
        return None
    text = text_of(path)
    check_template(text)
    return text


def _job_dict(job: "Job") -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "output": str(job.output),
        "state": job.state,
        "made_at": job.made_at,
        "changed_at": job.changed_at,
        "counts": asdict(job.counts) | {"total": job.counts.total},
        "spec": job.spec.model_dump(),
    }


def _jobs_view(found: "Sequence[Job]") -> RenderableType:
    if not found:
        return Text("No jobs yet. `longleaf summarize FOLDER -o RESULTS` begins one.")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("id", min_width=8)
    table.add_column("kind", min_width=9)
    for column in ("done", "failed", "pages"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("last run", min_width=16)
    table.add_column("results", overflow="fold")
    for job in found:
        counts = job.counts
        table.add_row(
            job.id, job.kind, f"{counts.done:,} of {counts.total:,}", f"{counts.failed:,}", f"{counts.n_pages:,}",
            job.changed_at[:16].replace("T", " "), Text(str(job.output)),
        )  # fmt: skip
    return table


def _items_view(items: "Sequence[Item]") -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False)
    numbers = ("pages", "tokens read", "reused", "written", "seconds")
    for column in ("document", "state", *numbers, "reason"):
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=column in numbers)
    for item in items:
        counted = (item.n_pages, item.tokens_read, item.tokens_reused, item.tokens_written)
        figures = [f"{n:,}" for n in counted] if item.state == "done" else [""] * len(counted)
        seconds = f"{item.seconds:,.1f}" if item.seconds else ""
        table.add_row(Text(item.name), item.state, *figures, seconds, Text(item.reason))
    return table


def _print_outcome(job: "Job", items: "Sequence[Item]") -> None:
    def say(text: str, style: str | None = None) -> None:
        out.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    counts = job.counts
    say(f"{counts.done:,} of {counts.total:,} documents done: {job.output}", "bold")
    if counts.cancelled:
        say(f"{counts.cancelled:,} left undone; go on with: longleaf jobs resume {job.id}")
    if failed := [item for item in items if item.state == "failed"]:
        say(f"{len(failed)} failed:", "yellow")
        for item in failed:
            say(f"  {item.source}: {item.reason}", "yellow")
        say(f"When something was done about it: longleaf jobs retry {job.id}", "dim")


def _estimate_view(made: "Estimate") -> RenderableType:
    table = Table.grid(padding=(0, 2))
    rows = [("documents", f"{made.documents:,} to be done, {made.done:,} done before"), ("pages", f"{made.pages:,}")]
    if made.tokens_read is not None:
        reused = f", and {made.tokens_reused:,} once more from readings" if made.tokens_reused else ""
        rows += [
            ("tokens read", f"{made.tokens_read:,}{reused}"),
            ("tokens written", f"{made.tokens_written:,} at most"),
        ]
    if made.seconds is not None:
        speed = f"at {made.tokens_per_second:,.0f} tokens/s"
        rows.append(("time", f"{made.seconds:,.0f} s ({made.seconds / 3600:.1f} h) {speed}, one after the other"))
    elif made.tokens_read is not None:
        rows.append(("time", "not known: this model has read nothing in jobs so far"))
    if made.cost is not None:
        rows.append(("cost", f"{made.cost:,.2f} at the prices given"))
    for name, text in rows:
        table.add_row(Text(name, style="dim"), Text(text))
    bad = [Text(f"  {path}: {reason}", style="yellow") for path, reason in made.bad.items()]
    return Group(table, *([Text(f"{len(bad)} can't be read:", style="yellow"), *bad] if bad else []))
