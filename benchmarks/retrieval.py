"""How often the right page is found: page recall over FinanceBench (real filings) and XQuAD (Wikipedia paragraphs).

    python -m benchmarks.retrieval EVAL_DIR [--only financebench|xquad] [--answers N] [--json]

EVAL_DIR holds `financebench/{pdfs,questions.jsonl}` and `xquad/{paragraphs,questions}.jsonl`. Page recall@k is the
share of questions for which one of the gold pages is among the first k distinct pages that retrieval returns, searching
the right document alone and all of them together. In XQuAD every paragraph is a page of one document.

With --answers N the whole walk is run on N questions of each set (chosen with a fixed seed) by the default reader:
citation page hit, exact match and token F1 as SQuAD defines them, how often an answer is given when there is one, and
"not found" when the gold page has been taken away.
"""

import argparse
import json
import random
import re
import string
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from longleaf.app.settings import load_settings
from longleaf.app.workbench import open_answerer, open_library
from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answer, Answerer, PassageStore, Scope, search

KS = (1, 5, 10, 20)
SEED = 20


@dataclass(frozen=True)
class Question:
    """A question with its document's name, gold pages and gold answers."""

    text: str
    document: str
    pages: frozenset[int]
    answers: tuple[str, ...]


def financebench(folder: Path, library: Library) -> tuple[list[Question], dict[str, Document]]:
    """The filings, added to the library, and the analysts' questions."""
    documents = {}
    for path, added in library.add_many(sorted((folder / "pdfs").glob("*.pdf"))):
        if isinstance(added, Exception):
            raise added
        documents[path.name] = added.document
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    return [Question(r["question"], r["document"], frozenset(r["pages"]), (r["answer"],)) for r in rows], documents


def xquad(folder: Path, library: Library, work: Path) -> tuple[list[Question], dict[str, Document]]:
    """The paragraphs as pages of one text document, and the questions."""
    paragraphs = [json.loads(line) for line in (folder / "paragraphs.jsonl").read_text().splitlines()]
    file = work / "xquad.txt"
    file.write_text("\f".join(p["text"] for p in paragraphs), encoding="utf-8")
    document = library.add(file).document
    page_of = {p["id"]: number for number, p in enumerate(paragraphs, 1)}
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    questions = [
        Question(r["question"], "xquad.txt", frozenset({page_of[r["paragraph"]]}), tuple(r["answers"])) for r in rows
    ]
    return questions, {"xquad.txt": document}


def page_recall(
    questions: Sequence[Question], documents: dict[str, Document], answerer: Answerer, *, together: bool
) -> dict[str, float]:
    """Page recall@k; with `together` all documents are searched at once."""
    hits: Counter[int] = Counter()
    for question in questions:
        searched = list(documents.values()) if together else [documents[question.document]]
        found = search(question.text, Scope.of(searched), answerer.store, answerer.embedder, top_k=200).hits
        gold = {(documents[question.document].id, page) for page in question.pages}
        ranked = list(dict.fromkeys((hit.stored.document_id, hit.stored.passage.page) for hit in found))
        for k in KS:
            hits[k] += bool(gold.intersection(ranked[:k]))
    return {f"recall@{k}": round(hits[k] / len(questions), 3) for k in KS}


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1 where the answer equals a gold answer, normalised."""
    return float(any(normalised(answer) == normalised(g) for g in gold))


def token_f1(answer: str, gold: Iterable[str]) -> float:
    """The best token F1 with a gold answer, normalised."""
    return max((_f1(normalised(answer).split(), normalised(g).split()) for g in gold), default=0.0)


def _f1(a: list[str], b: list[str]) -> float:
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b)) if shared else 0.0


def answer_quality(
    questions: Sequence[Question], documents: dict[str, Document], answerer: Answerer, n: int
) -> dict[str, float]:
    """Runs the whole walk on `n` questions, then again with the gold pages taken away."""
    chosen = random.Random(SEED).sample(list(questions), min(n, len(questions)))
    answers = [answerer.ask(q.text, [documents[q.document]], route="retrieval") for q in chosen]
    figures = {
        "n": len(chosen),
        "answered": _mean(a.found for a in answers),
        "citation_page_hit": _mean(_hits(a, q) for a, q in zip(answers, chosen, strict=True)),
        "quote_contains_gold": _mean(_quotes(a, q) for a, q in zip(answers, chosen, strict=True)),
        "exact_match": _mean(
            a.found and exact_match(a.answer, q.answers) for a, q in zip(answers, chosen, strict=True)
        ),
        "f1": _mean(token_f1(a.answer, q.answers) if a.found else 0.0 for a, q in zip(answers, chosen, strict=True)),
        "seconds_median": sorted(a.receipt.seconds["total"] for a in answers)[len(answers) // 2],
    }
    absent = [_without_pages(answerer, documents[q.document], q) for q in chosen]
    figures["not_found_when_absent"] = _mean(not a.found for a in absent)
    return {key: round(value, 3) for key, value in figures.items()}


def _hits(answer: Answer, question: Question) -> bool:
    return any(citation.page in question.pages for citation in answer.citations)


def _quotes(answer: Answer, question: Question) -> bool:
    quotes = normalised(" ".join(citation.quote for citation in answer.citations))
    return any(normalised(gold) in quotes for gold in question.answers)


def _without_pages(answerer: Answerer, document: Document, question: Question) -> Answer:
    """Asks with the passages of the gold pages out of the search (inside a transaction that is rolled back)."""
    connection = answerer.library.connection()
    connection.execute("BEGIN")
    try:
        for page in question.pages:
            connection.execute("DELETE FROM passages WHERE document_id = ? AND page = ?", (document.id, page))
        return answerer.ask(question.text, [document], route="retrieval")
    finally:
        connection.execute("ROLLBACK")


def _mean(values: Iterable[float]) -> float:
    values = [float(v) for v in values]
    return sum(values) / len(values) if values else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval_dir", type=Path)
    parser.add_argument("--only", choices=["financebench", "xquad"])
    parser.add_argument(
        "--answers", type=int, default=0, metavar="N", help="run the whole walk on N questions of each set"
    )
    parser.add_argument("--home", type=Path, help="library to keep between runs; a temporary one by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as work:
        settings = load_settings(home=args.home or Path(work) / "home")
        with open_library(settings) as library:
            answerer = open_answerer(settings, library, with_reader=args.answers > 0)
            for name in ("xquad", "financebench"):
                if args.only in (None, name):
                    results[name] = _measure(name, args, library, answerer, Path(work))
    if not args.json:
        for name, figures in results.items():
            print(f"\n{name}")
            for key, value in figures.items():
                print(f"  {key:24} {value}")
        print()
    print(json.dumps(results))


def _measure(
    name: str, args: argparse.Namespace, library: Library, answerer: Answerer, work: Path
) -> dict[str, object]:
    folder = args.eval_dir / name
    begun = time.perf_counter()
    questions, documents = xquad(folder, library, work) if name == "xquad" else financebench(folder, library)
    adding = time.perf_counter() - begun
    begun = time.perf_counter()
    answerer.prepare(list(documents.values()))
    embedding = time.perf_counter() - begun
    figures: dict[str, object] = {
        "documents": len(documents),
        "pages": sum(d.n_pages for d in documents.values()),
        "questions": len(questions),
        "passages": PassageStore(library).n_passages(list(documents.values())),
        "seconds_adding": round(adding, 1),
        "seconds_embedding": round(embedding, 1),
        "one_document": page_recall(questions, documents, answerer, together=False),
    }
    if len(documents) > 1:
        figures["all_documents"] = page_recall(questions, documents, answerer, together=True)
    if args.answers:
        figures["answers"] = answer_quality(questions, documents, answerer, args.answers)
    return figures


if __name__ == "__main__":
    main()
