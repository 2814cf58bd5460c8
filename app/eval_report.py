"""The report of `longleaf eval`: one page with the figures and all questions, those that were lost first, and where.

A page of its own: no script, no picture, nothing fetched; readable in light and dark. All words in it are somebody
else's data and leave through `html.escape`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from longleaf.retrieval.evaluation import STAGES, Case, Cited, Outcome, Stage

from .render import page_count

__all__ = ["compared_line", "report_html"]

MAX_CHARS = 2_000
"""Of a reply or quote, so much is shown."""

_UNSHOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that HTML does not allow."""

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --gold: #1a7f37; --bad: #b3400a; }
@media (prefers-color-scheme: dark) { :root { --gold: #56c271; --bad: #ff9a5c; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin: 0 0 .5rem; }
table { border-collapse: collapse; } td, th { padding: .1rem 1rem .1rem 0; text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { opacity: .7; } dd { margin: 0; white-space: pre-wrap; }
.gold { color: var(--gold); font-weight: 600; } .stage { color: var(--bad); font-weight: 600; }
.small { font-size: .85rem; opacity: .8; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""


def report_html(cases: Sequence[Case], summary: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        cases: What was asked, in the order to be shown; those of one stage stand together.
        summary: What `longleaf eval --json` prints.
    """
    run = summary["run"]
    head = (
        f"{summary['questions']:,} questions ({summary['answerable']:,} answerable); "
        f"documents: {summary['documents']:,}, {page_count(summary['pages'])}. "
        f"Reader {run['model']}, embedder {run['embedder']}, scope {run['scope']}, top_k {run['top_k']}, "
        f"taken away: {run['take_away']}. Longleaf {run['version']}."
    )
    grouped = [(stage, list(each)) for stage, each in groupby(enumerate(cases), key=lambda pair: pair[1].stage)]
    contents = "".join(
        f'<li><a href="#{_anchor(stage)}">{len(each):,} × {_text(_title(stage))}</a></li>' for stage, each in grouped
    )
    sections = "".join(
        f'<h2 id="{_anchor(stage)}">{_text(_title(stage))}</h2>' + "".join(_article(i, case) for i, case in each)
        for stage, each in grouped
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Longleaf: evaluation</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>How well the questions were answered</h1>\n<p>{_text(head)}</p>\n"
        f"{_figures(summary)}{_compared(summary)}\n<h2>Questions</h2>\n<ul>{contents}</ul>\n{sections}\n</body></html>\n"
    )


def _compared(summary: Mapping[str, Any]) -> str:
    if not (told := summary.get("compared")):
        return ""
    return f"<p>Compared with {_text(told['with'])}: {_text(compared_line(told))}.</p>"


def compared_line(told: Mapping[str, Any]) -> str:
    """How two runs differ, in words."""
    return (
        f"of {told['cases']:,} asked in both, {told['both']:,} right in both, {told['here']:,} here alone, "
        f"{told['there']:,} there alone, {told['neither']:,} in neither (McNemar's exact p {told['p']:.3f})"
    )


def _title(stage: Stage | None) -> str:
    return STAGES[stage] if stage else "right: the right words from the right page, or rightly nothing"


def _figures(summary: Mapping[str, Any]) -> str:
    rows = []
    for section, figures in summary["figures"].items():
        rows.append(f'<tr><th colspan="4">{_text(section.replace("_", " "))}</th></tr>')
        rows += [
            f'<tr><td>{_text(name.replace("_", " "))}</td><td class="n">{f["value"]:.3f}</td>'
            f'<td class="n">{f["low"]:.2f} to {f["high"]:.2f}</td><td class="n">{f["n"]:,}</td></tr>'
            for name, f in figures.items()
        ]
    if summary["seconds"]:
        rows.append('<tr><th>seconds</th><th class="n">median</th><th class="n">90th percentile</th><th></th></tr>')
        rows += [
            f'<tr><td>{_text(name)}</td><td class="n">{each["median"]:.2f}</td><td class="n">{each["p90"]:.2f}</td>'
            "<td></td></tr>"
            for name, each in summary["seconds"].items()
        ]
    heads = '<th></th><th class="n">figure</th><th class="n">95 % interval</th><th class="n">of</th>'
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>"


def _article(index: int, case: Case) -> str:
    """One question; its anchor is its number, as ids may hold anything."""
    question, outcome, given = case.question, case.outcome, case.given
    rows: list[tuple[str, str]] = [("question", _text(question.text))]
    about = question.document or "any document"
    pages = ", ".join(map(str, question.pages)) or "none named"
    if case.taken_away:
        rows.append(("asked", "without the gold pages, or without the document, that answer it"))
    rows.append(
        ("gold answer", _text(" | ".join(question.answers) or ("none" if question.answerable else "there is none")))
    )
    rows.append(("gold pages", f"{_text(about)}: {_text(pages)}"))
    if case.stage:
        rows.append(("lost by", f'<span class="stage">{_text(_why(case.stage, outcome))}</span>'))
    if outcome.error:
        rows.append(("error", _text(outcome.error)))
    if given:
        rows.append(("answer", f'{_text(given.answer)} <span class="small">(confidence {given.confidence:.2f})</span>'))
        if given.reply != given.answer:
            rows.append(("reply", _text(given.reply) or "empty"))
        rows += [("cited", _place(place)) for place in given.citations]
        rows += [("nearest", _place(place)) for place in given.nearest]
        rows.append(("route", _text(given.route)))
    if not case.taken_away:  # the ranks are those of the search with everything in place
        rows.append(("pages found", _found(outcome.pages)))
    cells = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<article id="case-{index + 1}"><h3><a href="#case-{index + 1}">{_text(question.id)}</a>'
        f' <span class="small">line {question.line} {_text(question.kind)}</span></h3><dl>{cells}</dl></article>\n'
    )


def _why(stage: Stage, outcome: Outcome) -> str:
    """The stage in words, with the ranks of the gold pages where search lost them."""
    if stage == "search":
        ranks = [
            f"page {page} at rank {rank}" if rank else f"page {page} not among the pages of the first 200 passages"
            for page, rank in outcome.ranks
        ]
        return f"{STAGES['search']} ({'; '.join(ranks)})"
    if stage == "ingestion":
        return f"{STAGES['ingestion']} (unread: {', '.join(map(str, outcome.unread))})"
    return STAGES[stage]


def _found(pages: Iterable[tuple[str, int, bool]]) -> str:
    items = [
        f'{rank}. <span class="gold">{_text(name)} p. {page} (gold)</span>'
        if gold
        else f"{rank}. {_text(name)} p. {page}"
        for rank, (name, page, gold) in enumerate(pages, 1)
    ]
    return f'<span class="small">{"; ".join(items)}</span>' if items else "none"


def _place(place: Cited) -> str:
    where = f"{_text(place.document)} p. {place.page}"
    mark = f'<span class="gold">{where} (gold)</span>' if place.gold else where
    return f"{mark}: “{_text(place.quote)}”"


def _anchor(stage: Stage | None) -> str:
    return f"stage-{(stage or 'none').replace(' ', '-')}"


def _text(text: str) -> str:
    """Somebody's words, safe inside a page."""
    shown = text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}…"
    return escape(_UNSHOWN.sub("\ufffd", shown))
