"""Rows and tables of figures as HTML, which a narrow screen shows without cutting and a screen reader reads whole."""

from collections.abc import Sequence
from html import escape

__all__ = ["STYLE", "row_html", "table_html"]

STYLE = """<style>
.ll-row-box { container-type: inline-size; }
.ll-row { display: grid; gap: .1rem .9rem; align-items: baseline; font-size: .9rem; }
.ll-row b { font-weight: 600; overflow-wrap: anywhere; }
.ll-row small { display: block; opacity: .7; font-size: .8rem; overflow-wrap: anywhere; }
.ll-row .ll-label { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
@container (max-width: 600px) {
  .ll-row { display: flex; flex-wrap: wrap; }
  .ll-row > :first-child { flex-basis: 100%; }
  .ll-row .ll-label { position: static; width: auto; height: auto; clip-path: none; opacity: .7; }
}
.ll-table-box { overflow-x: auto; }
.ll-table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
.ll-table caption { text-align: left; font-size: .8rem; opacity: .7; padding-bottom: .3rem; }
.ll-table th, .ll-table td { text-align: right; padding: .22rem .4rem; border: 0; border-bottom: 1px solid
  rgba(128, 128, 128, .25); vertical-align: bottom; }
.ll-table th:first-child { text-align: left; padding-left: 0; white-space: nowrap; }
.ll-table thead th { font-weight: 600; }
.ll-table tbody th { font-weight: 400; }
</style>"""


def row_html(title: str, under: str, facts: Sequence[tuple[str, str]], columns: str) -> str:
    """One thing with what is known of it: in columns on a wide screen, one after the other on a narrow one.

    Args:
        title: What it is called.
        under: More of it, in small type below; "" for none.
        facts: Label and value of each column after the first; an empty value stays an empty column.
        columns: Their widths, and the first one's, as CSS has them: "2fr 1fr 1fr".
    """
    small = f"<small>{escape(under)}</small>" if under else ""
    cells = "".join(
        f'<span><span class="ll-label">{escape(label)}: </span>{escape(value)}</span>' if value else "<span></span>"
        for label, value in facts
    )
    first = f"<span><b>{escape(title)}</b>{small}</span>"
    row = f'<div class="ll-row" style="grid-template-columns:{columns}">{first}{cells}</div>'
    return f'<div class="ll-row-box">{row}</div>'


def table_html(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of figures whose first column names the row."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="ll-table-box" tabindex="0"><table class="ll-table"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )
