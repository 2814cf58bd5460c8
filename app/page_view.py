"""What the browser front door draws, as HTML and short texts: pure functions, without Streamlit and without a library.

A document's words are data. Here they only ever leave through `html.escape`, or through `plain` where Streamlit would
read them as Markdown (a "$" in a file name must not open a formula).
"""

import re
from collections.abc import Sequence
from html import escape

from longleaf.retrieval import Answer, Citation, Statement

__all__ = [
    "STYLE",
    "answer_html",
    "chip_label",
    "plain",
    "quote_html",
    "receipt_html",
    "statements_html",
    "text_html",
]

_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")
_SHORTCODE = re.compile(r":(?=[\w+-]+:)")

STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 3.6rem 2rem 1rem; }
[data-testid="stBottomBlockContainer"] { padding: .5rem 2rem 1.2rem; }
[data-testid="stSidebarHeader"] { height: 3.4rem; margin-bottom: 0; }
[data-testid="stSidebarHeader"]::before { content: "Longleaf"; font-weight: 600; font-size: 1.15rem;
  padding-left: .6rem; }
[data-testid="stMain"] h1 { font-size: 1.7rem; padding-bottom: .4rem; }
[data-testid="stMain"] h3 { font-size: 1.2rem; }
.st-key-chat-list button { justify-content: flex-start; text-align: left; padding: .25rem .6rem; }
.st-key-chat-list button p { font-size: .88rem; }
.ll-copy { font: inherit; font-size: .875rem; color: inherit; background: none; border: 0; padding: .45rem 0;
  cursor: pointer; }
.ll-copy:hover { color: #2fa866; }
.ll-copy:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
.ll-draft { opacity: .85; border-left: 3px solid #2fa866; padding-left: .7rem; }
.st-key-welcome { max-width: 46rem; margin: 8vh auto 0; }
[data-testid="stSidebar"] [data-testid="stAlertContainer"] { padding: .5rem .7rem; }
[data-testid="stSidebar"] [data-testid="stAlertContainer"] p { font-size: .84rem; }
[class*="st-key-place-"] button { min-height: 0; padding: .05rem .7rem; border-radius: 999px; }
@media (pointer: coarse) { [class*="st-key-place-"] button { padding: .4rem .9rem; } }
.ll-plain { white-space: pre-wrap; overflow-wrap: anywhere; }
.ll-answer { font-size: 1.05rem; line-height: 1.5; overflow-wrap: anywhere; }
.ll-answer sup { opacity: .7; }
.ll-unsupported { border-bottom: 2px dotted #d9730d; }
/* Mixed with the colour of the text, these can be read on white and on black. */
.ll-why, .ll-bad { color: color-mix(in srgb, #d9730d 55%, currentColor); font-size: .85em; }
.ll-notfound { font-weight: 600; }
.ll-small { font-size: .84rem; opacity: .8; overflow-wrap: anywhere; }
.ll-quote { border-left: 3px solid rgba(128, 128, 128, .45); padding-left: .6rem; }
.ll-above { opacity: .75; }
.ll-ok { color: color-mix(in srgb, #2fa866 40%, currentColor); white-space: nowrap; }
.ll-receipt td { padding: .1rem .8rem .1rem 0; border: none; vertical-align: top; font-size: .84rem; }
.ll-receipt td:first-child { opacity: .65; white-space: nowrap; }
</style>"""


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it stands, on one line: no emphasis, link, formula or emoji."""
    return _MARKDOWN.sub(r"\\\1", _SHORTCODE.sub(":\u2060", " ".join(text.split())))


def chip_label(citation: Citation, number: int | None = None, *, several: bool = False) -> str:
    """The text of a citation's button, as Markdown: "[1] p. 27", with "(printed 25)" where the page says otherwise.

    Args:
        citation: Where the quote stands.
        number: What the answer calls it, 1-based; None where it calls it nothing.
        several: Names the document too, because more than one was asked.
    """
    name = f"{plain(citation.document)}, " if several else ""
    printed = "" if citation.page_label in ("", str(citation.page)) else f" (printed {plain(citation.page_label)})"
    called = f"\\[{number}\\] " if number else ""
    return f"{called}{name}p. {citation.page}{printed}"


def answer_html(answer: Answer) -> str:
    """The statements, each with the numbers of its citations; what has no support looks different and says so."""
    if not answer.found:
        return f'<div class="ll-answer ll-notfound">{escape(answer.answer)}</div>'
    return statements_html(answer.statements)


def statements_html(statements: Sequence[Statement], *, bullets: bool = False) -> str:
    """Statements with the numbers of their citations, as running text or a line each."""
    parts = []
    for statement in statements:
        text = escape(statement.text)
        if statement.supported:
            marks = "".join(f"<sup>[{i + 1}]</sup>" for i in statement.citations)
            parts.append(f"<span>{text}{marks}</span>")
        else:
            why = '<span class="ll-why">(no support found on the pages)</span>'
            parts.append(f'<span class="ll-unsupported">{text}</span> {why}')
    if bullets:
        return f'<ul class="ll-answer">{"".join(f"<li>{part}</li>" for part in parts)}</ul>'
    return f'<div class="ll-answer">{" ".join(parts)}</div>'


def quote_html(quote: str, heading: str = "", *, verified: bool | None = None) -> str:
    """A quote in small type, with the column names of a table row.

    `verified` says whether it was looked up on its page (None: nothing was claimed).
    """
    said = {
        None: "",
        True: ' <span class="ll-ok">✓ found on the page</span>',
        False: ' <span class="ll-bad">not found on the page</span>',
    }[verified]
    above = f' <span class="ll-above">under “{escape(" ".join(heading.split()))}”</span>' if heading else ""
    return f'<div class="ll-small ll-quote">“{escape(" ".join(quote.split()))}”{above}{said}</div>'


def text_html(text: str, *, small: bool = False) -> str:
    """Somebody's words as they stand, line ends kept."""
    return f'<div class="ll-plain{" ll-small" if small else ""}">{escape(text)}</div>'


def receipt_html(rows: Sequence[tuple[str, str]]) -> str:
    """What was read, as `receipt_rows` has it, as a table."""
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="ll-receipt">{cells}</table>'
