"""How well an answer is told from "not found", on the project's own questions about its sample document.

    python -m benchmarks.not_found [--questions FILE] [--document FILE] [--fit] [--save FILE] [--json]

The questions (`examples/questions.jsonl`) are answerable ones with their pages, and others that look answerable and are
not. Each goes through the whole walk on the retrieval route. --fit prints the logistic regression over the signals of
`longleaf.retrieval.support` that separates right answers from the rest, with its accuracy on parts held out: these are
the weights that file carries.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from longleaf.app.settings import load_settings
from longleaf.app.workbench import open_answerer, open_library
from longleaf.retrieval import Answer
from longleaf.retrieval.metrics import normalised, token_f1
from longleaf.retrieval.support import Signals

EXAMPLES = Path(__file__).parent.parent / "examples"


def is_right(answer: Answer, row: dict[str, object]) -> bool:
    """Whether one of the gold pages is cited, or the answer's words are the gold ones."""
    gold = str(row["answer"] or "")
    on_page = any(citation.page in row["pages"] for citation in answer.citations)  # type: ignore[operator]
    quotes = normalised(" ".join(citation.quote for citation in answer.citations))
    return bool(gold) and on_page and (normalised(gold) in quotes or token_f1(answer.reply, [gold]) >= 0.5)


def given(answer: Answer) -> bool:
    """Whether the answer would be given at the default confidence."""
    return answer.found and answer.confidence >= 0.5


def fit(signals: np.ndarray, right: np.ndarray, l2: float = 0.5, steps: int = 50) -> tuple[float, np.ndarray]:
    """Ridge logistic regression by Newton's method: bias (not penalised) and weights [n_signals]."""
    x = np.hstack([np.ones((len(signals), 1)), signals])  # [n, 1 + n_signals]
    w = np.zeros(x.shape[1])
    penalty = np.diag([1e-6] + [l2] * signals.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ w))  # [n]
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        w -= np.linalg.solve(hessian, x.T @ (p - right) + penalty @ w)
    return float(w[0]), w[1:]


def held_out_accuracy(signals: np.ndarray, right: np.ndarray, folds: int = 12) -> float:
    """Share decided rightly by weights fitted on the other folds."""
    order = np.random.default_rng(0).permutation(len(right))
    hits = 0
    for fold in range(folds):
        test = order[fold::folds]
        train = np.setdiff1d(order, test)
        bias, weights = fit(signals[train], right[train])
        hits += int(((bias + signals[test] @ weights > 0) == right[test]).sum())
    return hits / len(right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path, default=EXAMPLES / "questions.jsonl")
    parser.add_argument("--document", type=Path, default=EXAMPLES / "tamarack-valley-water-2024.pdf")
    parser.add_argument("--fit", action="store_true", help="fit the weights anew and print them")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="write each question with its whole answer, as JSON lines"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.questions.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as home:
        settings = load_settings(home=Path(home))
        with open_library(settings) as library:
            document = library.add(args.document).document
            answerer = open_answerer(settings, library)
            answerer.prepare([document])
            answerer.min_confidence = 0.0  # every supported reply, however doubtful, with its citations
            answers = [answerer.ask(row["question"], [document], route="retrieval") for row in rows]
    if not args.json:
        for row, answer in zip(rows, answers, strict=True):
            pages = sorted({citation.page for citation in answer.citations})
            mark = "right" if is_right(answer, row) else "     "
            print(
                f"{row['id']} {mark} {answer.confidence:.2f} {pages!s:8} {row['question']}\n"
                f"      {answer.reply[:100]!r} | {row['answer']} {row['pages']}"
            )
    if args.save:
        pairs = zip(rows, answers, strict=True)
        args.save.write_text("".join(json.dumps(r | {"given": a.to_dict()}) + "\n" for r, a in pairs), encoding="utf-8")
    figures = summary(rows, answers)
    if args.fit:
        print(fitted(rows, answers))
    print(json.dumps(figures))


def summary(rows: Sequence[dict[str, object]], answers: Sequence[Answer]) -> dict[str, float]:
    """The shares that matter, over answerable and unanswerable questions."""
    answerable = [(a, r) for a, r in zip(answers, rows, strict=True) if r["answer"]]
    absent = [a for a, r in zip(answers, rows, strict=True) if not r["answer"]]
    return {
        "answerable": len(answerable),
        "unanswerable": len(absent),
        "answered": round(sum(given(a) for a, _ in answerable) / len(answerable), 3),
        "answered_with_gold_page": round(
            sum(given(a) and any(c.page in r["pages"] for c in a.citations) for a, r in answerable) / len(answerable),
            3,  # type: ignore[operator]
        ),
        "answered_right": round(sum(given(a) and is_right(a, r) for a, r in answerable) / len(answerable), 3),
        "not_found_when_unanswerable": round(sum(not given(a) for a in absent) / max(len(absent), 1), 3),
        "seconds_median": sorted(a.receipt.seconds["total"] for a in answers)[len(answers) // 2],
    }


def fitted(rows: Sequence[dict[str, object]], answers: Sequence[Answer]) -> str:
    """The weights as they stand in `support.py`, and how well they do on questions held out."""
    pairs = [(a.signals, is_right(a, r)) for a, r in zip(answers, rows, strict=True) if a.signals is not None]
    names = Signals.__slots__
    x = np.array([[getattr(signals, name) for name in names] for signals, _ in pairs])
    y = np.array([float(right) for _, right in pairs])
    bias, weights = fit(x, y)
    named = ", ".join(f"{name}={weight:.2f}" for name, weight in zip(names, weights, strict=True))
    return (
        f"bias {bias:.2f}; {named}; held-out accuracy {held_out_accuracy(x, y):.3f} of {len(y)} (right: {y.mean():.2f})"
    )


if __name__ == "__main__":
    main()
