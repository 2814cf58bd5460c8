"""How often the right page is found: page recall over FinanceBench (real filings) and XQuAD (Wikipedia paragraphs).

    python -m benchmarks.retrieval EVAL_DIR [--only financebench|xquad] [--answers N] [--ablation] [--home DIR] [--json]

EVAL_DIR holds `financebench/{pdfs,questions.jsonl}` and `xquad/{paragraphs,questions}.jsonl`. Page recall@k is the
share of questions for which one of the gold pages is among the first k distinct pages that retrieval returns, searching
the right document alone and all of them together. In XQuAD every paragraph is a page of one document.

With --answers N the whole walk is run on N questions of each set (chosen with a fixed seed) by the default reader, on
the retrieval route: citation page hit, exact match and token F1 as SQuAD defines them, how often an answer is given
when there is one, and "not found" when the gold page has been taken away.

With --ablation the search is measured part by part, in the same process. Each row of the table has page recall, `pages`
(the mean number of distinct pages that it returns) and the seconds of a question (median). These include embedding the
question, and up to two milliseconds for looking up 200 passages where 12 would do. From row to row a part is added:

    windows                   plain windows of 900 characters of a page, full text and vectors fused
    no header context         our passages, but title, section and table header neither embedded nor searched; fused
    full text, vectors        our passages with them, by either alone
    fused, places, documents  both added up; places that a question means; documents that it names
    all, reranked             the search as everybody uses it
    widened                   its first 12 passages' pages, then those that `widened` adds within 8,000 tokens, in the
                              order of the document; a token is taken for four characters

The first two rows need passages and vectors of their own: they are made in the folders `windows` and `bare` of the
library's, which takes as long as the usual library does, and the table's head says how long. The rows before the last
return the pages of the first 200 passages; the last one what a reader would be shown, so that its recall@20 ends where
the room does.

All measures are those of `longleaf.retrieval.metrics`; `longleaf eval` takes them over anybody's own documents.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longleaf.app.eval_command import SUFFIXES, paragraphs_as_text
from longleaf.app.settings import Settings, load_settings
from longleaf.app.workbench import open_answerer, open_library
from longleaf.ingestion import Document, OutlineEntry, Page
from longleaf.retrieval import Answerer, Embedder, Passage, PassageStore, Scope, cut_passages
from longleaf.retrieval.evaluation import DEPTH, Evaluation, Options, figures, seconds
from longleaf.retrieval.metrics import PageKey, distinct_pages, ranks_of, retrieval_figures
from longleaf.retrieval.question_file import Question, read_questions
from longleaf.retrieval.search import SearchOptions, search
from longleaf.retrieval.widen import widened

KS = (1, 5, 10, 20)
SEED = 20
WINDOW_CHARS = 900
"""As long as our passages are to be."""
WIDENED_TOKENS = 8_000
CHARS_PER_TOKEN = 4
DIGITS = {"pages": 1, "seconds": 4}
"""Columns of the ablation table with other than three digits."""

Ranker = Callable[[str, Scope], list[PageKey]]
"""From a question and where to look to distinct pages, best first."""

NOTHING = SearchOptions(lexical=False, dense=False, places=False, documents=False, rerank=False)
FUSED = replace(NOTHING, lexical=True, dense=True)
PARTS = {
    "full text": replace(NOTHING, lexical=True),
    "vectors": replace(NOTHING, dense=True),
    "fused": FUSED,
    "fused, places": replace(FUSED, places=True),
    "fused, places, documents": replace(FUSED, places=True, documents=True),
    "all, reranked": SearchOptions(),
}
USUAL = "all, reranked"
"""The search as everybody uses it; the figures outside the ablation table are those of this row."""


def cut_windows(pages: Iterable[Page], outline: Sequence[OutlineEntry]) -> list[Passage]:  # noqa: ARG001  a cutter
    """Windows of a page's text, one after the other, whatever they cut through."""
    return [
        Passage(page.number, begin, begin + len(text), "", text)
        for page in pages
        for begin in range(0, len(page.text), WINDOW_CHARS)
        if (text := page.text[begin : begin + WINDOW_CHARS]).strip()
    ]


def cut_bare(pages: Iterable[Page], outline: Sequence[OutlineEntry]) -> list[Passage]:
    """Our passages without what tells where they are from."""
    return [replace(passage, section="", header="") for passage in cut_passages(pages, outline)]


CUTS = {"windows": (cut_windows, "windows"), "no header context": (cut_bare, "bare")}
"""Rows over other passages: how these are cut, and the folder of their library."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A set's documents in one library, cut and embedded.

    Attributes:
        documents: By file name.
        store: Their passages.
        seconds_adding: That taking in the files took; next to nothing in a library that was kept.
        seconds_embedding: Of cutting and embedding, likewise.
    """

    documents: dict[str, Document]
    store: PassageStore
    seconds_adding: float
    seconds_embedding: float

    def figures(self) -> dict[str, Any]:
        """Number of passages, and the seconds."""
        return {
            "passages": self.store.n_passages(list(self.documents.values())),
            "seconds_adding": round(self.seconds_adding, 1),
            "seconds_embedding": round(self.seconds_embedding, 1),
        }


def prepare(files: Sequence[Path], store: PassageStore, embedder: Embedder | None, *, titled: bool = True) -> Prepared:
    """Takes in files, cuts and embeds them; with `titled` passages go under their document's title, as usual."""
    begun = time.perf_counter()
    documents = {}
    for path, added in store.library.add_many(files):
        if isinstance(added, Exception):
            raise added
        documents[path.name] = added.document
    adding = time.perf_counter() - begun
    begun = time.perf_counter()
    for document in documents.values():
        store.cut(document if titled else replace(document, title=""))
    if embedder:
        store.embed(list(documents.values()), embedder)
    return Prepared(documents, store, adding, time.perf_counter() - begun)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the ablation table: how it ranks pages, and the documents that these are of."""

    documents: dict[str, Document]
    ranker: Ranker


def ablation_rows(usual: Prepared, others: Mapping[str, Prepared], embedder: Embedder | None) -> dict[str, Row]:
    """The rows of the ablation table by name, in order; a part that is an option of the search is added to `PARTS`."""
    return {
        **{name: Row(other.documents, by_parts(other.store, embedder, FUSED)) for name, other in others.items()},
        **{name: Row(usual.documents, by_parts(usual.store, embedder, parts)) for name, parts in PARTS.items()},
        "widened": Row(usual.documents, by_widening(usual.store, embedder)),
    }


def by_parts(store: PassageStore, embedder: Embedder | None, options: SearchOptions) -> Ranker:
    """Ranks pages by the search with these parts."""

    def ranked(question: str, scope: Scope) -> list[PageKey]:
        return distinct_pages(search(question, scope, store, embedder, DEPTH, options).hits)

    return ranked


def by_widening(store: PassageStore, embedder: Embedder | None) -> Ranker:
    """The pages of the passages that everybody is given, then those that come along when these are widened."""

    def shown(question: str, scope: Scope) -> list[PageKey]:
        hits = search(question, scope, store, embedder, Options().top_k).hits
        documents = {document.id: document for document in scope.documents}
        excerpts = widened(hits, documents, store, WIDENED_TOKENS, lambda text: len(text) // CHARS_PER_TOKEN)
        return list(dict.fromkeys([*distinct_pages(hits), *((e.document.id, e.page_number) for e in excerpts)]))

    return shown


def page_recall(questions: Sequence[Question], row: Row, *, together: bool) -> dict[str, float]:
    """Page recall@k, mean number of pages and median seconds; with `together` all documents are searched at once."""
    everything = Scope.of(list(row.documents.values()))
    # Once for nothing: it loads the index, and finds out that every document has its vectors.
    row.ranker(questions[0].text, everything)
    ranks, n_pages, taken = [], [], []
    for question in questions:
        document = row.documents[question.document]
        scope = everything if together else Scope.of([document])
        begun = time.perf_counter()
        ranked = row.ranker(question.text, scope)
        taken.append(time.perf_counter() - begun)
        ranks.append(ranks_of([(document.id, page) for page in question.pages], ranked))
        n_pages.append(len(ranked))
    recall = {name: round(f.value, 3) for name, f in retrieval_figures(ranks, KS).items() if name.startswith("recall")}
    return recall | {"pages": round(statistics.fmean(n_pages), 1), "seconds": round(statistics.median(taken), 4)}


def answer_quality(
    questions: Sequence[Question], documents: dict[str, Document], answerer: Answerer, n: int
) -> dict[str, Any]:
    """Runs the whole walk on `n` questions, each a second time with its gold pages taken away."""
    chosen = random.Random(SEED).sample(list(questions), min(n, len(questions)))
    with Evaluation(answerer, documents, Options(take_away="pages", route="retrieval")) as evaluation:
        pairs = [(question, evaluation.run(question)) for question in chosen]
    named = {
        section: {name: round(figure.value, 3) for name, figure in each.items()}
        for section, each in figures(pairs, with_reader=answerer.reader is not None).items()
    }
    return {"n": len(chosen), **named, "seconds_median": seconds(o for _, o in pairs)["total"]["median"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval_dir", type=Path)
    parser.add_argument("--only", choices=["financebench", "xquad"])
    parser.add_argument(
        "--answers", type=int, default=0, metavar="N", help="run the whole walk on N questions of each set"
    )
    parser.add_argument("--ablation", action="store_true", help="measure every part of the search alone")
    parser.add_argument("--home", type=Path, help="library to keep between runs; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        settings = load_settings(home=args.home or Path(work) / "home")
        with open_library(settings) as library:
            answerer = open_answerer(settings, library, with_reader=args.answers > 0)
            for name in ("xquad", "financebench"):
                if args.only in (None, name):
                    results[name] = measure(args.eval_dir / name, args, settings, answerer, Path(work))
    if not args.json:
        for name, found in results.items():
            print_tables(name, found)
    print(json.dumps(results))


def files_of(folder: Path, work: Path) -> tuple[list[Path], dict[str, int] | None]:
    """A set's files: filings, or paragraphs as the pages of one file, with the page of each."""
    if (folder / "paragraphs.jsonl").exists():
        file, paragraphs = paragraphs_as_text(folder / "paragraphs.jsonl", work)
        return [file], paragraphs
    return sorted(file for file in (folder / "pdfs").iterdir() if file.suffix.lower() in SUFFIXES), None


def measure(
    folder: Path, args: argparse.Namespace, settings: Settings, answerer: Answerer, work: Path
) -> dict[str, Any]:
    files, paragraphs = files_of(folder, work)
    questions = read_questions(folder / "questions.jsonl", [file.name for file in files], paragraphs)
    usual = prepare(files, answerer.store, answerer.embedder)
    found: dict[str, Any] = {
        "documents": len(usual.documents),
        "pages": sum(d.n_pages for d in usual.documents.values()),
        "questions": len(questions),
        **usual.figures(),
    }
    with ExitStack() as stack:
        others: dict[str, Prepared] = {}
        for name, (cutter, subfolder) in CUTS.items() if args.ablation else ():
            library = stack.enter_context(open_library(settings.model_copy(update={"home": settings.home / subfolder})))
            store = PassageStore(library, cutter=cutter)
            others[name] = prepare(files, store, answerer.embedder, titled=False)
        rows = ablation_rows(usual, others, answerer.embedder)
        if args.ablation:
            found["other_passages"] = {name: other.figures() for name, other in others.items()}
        else:
            rows = {USUAL: rows[USUAL]}
        for key, together in (("one_document", False), ("all_documents", True))[: 2 if len(files) > 1 else 1]:
            measured = {name: page_recall(questions, row, together=together) for name, row in rows.items()}
            found[key] = measured[USUAL]
            if args.ablation:
                found[f"ablation_{key}"] = measured
    if args.answers:
        found["answers"] = answer_quality(questions, usual.documents, answerer, args.answers)
    return found


def print_tables(name: str, found: Mapping[str, Any]) -> None:
    print(f"\n{name}")
    for key, value in found.items():
        if key.startswith("ablation"):
            print_ablation(key, value, found)
        elif key != "other_passages":  # they stand in the head of the table
            print(f"  {key:24} {value}")
    print()


def print_ablation(key: str, rows: Mapping[str, Mapping[str, float]], found: Mapping[str, Any]) -> None:
    print(f"\n  {key}")
    for name, cut in {"passages as usual": found, **found["other_passages"]}.items():
        print(
            f"    {name}: {cut['passages']:,}, adding the files took {cut['seconds_adding']} s, cutting and embedding "
            f"{cut['seconds_embedding']} s"
        )
    print(f"    {'':26}" + "".join(f"{column:>11}" for column in rows[USUAL]))
    for name, row in rows.items():
        cells = (f"{value:11.{DIGITS.get(column, 3)}f}" for column, value in row.items())
        print(f"    {name:26}" + "".join(cells))
    print()


if __name__ == "__main__":
    main()
