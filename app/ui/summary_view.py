"""Draws a summary: its statements with the places that they rest on, the sections, and what was read for it."""

import json

import streamlit as st

from longleaf.app import answer_view
from longleaf.app import page_view as view
from longleaf.app.render import page_count
from longleaf.app.summary_commands import page_ranges, summary_rows
from longleaf.app.summary_export import to_markdown
from longleaf.app.ui.answers import draw_places
from longleaf.retrieval.summary_record import Summary

__all__ = ["draw_summary", "options_line"]

_ROUTES = {
    "whole-document": "The whole document was read at once",
    "sections": "Read section by section, then put together",
    "sentences": "Sentences of the document as they stand",
}


def draw_summary(made: Summary, *, key: str) -> None:
    """Draws a whole summary; `key` tells its buttons from those of others."""
    bullets = made.options.format == "bullets"
    if made.statements:
        st.html(view.statements_html(made.statements, bullets=bullets))
    else:
        st.html(view.text_html(made.text))
    draw_places(made.citations, key=f"{key}-all")
    if made.sections:
        st.subheader("By section", anchor=False)
    for number, section in enumerate(made.sections):
        title = f"{view.plain(section.title)} · p. {page_ranges(section.pages)}"
        with st.expander(title, key=f"{key}-section-{number}"):
            if section.statements:
                st.html(view.statements_html(section.statements))
                draw_places(section.citations, key=f"{key}-{number}")
            else:
                st.html(view.text_html(section.text or "Nothing to say here."))
    receipt = made.receipt
    st.html(view.text_html(f"{_ROUTES[receipt.route]}: {receipt.reason}", small=True))
    left = f"; not read: p. {page_ranges(receipt.pages_left)}" if receipt.pages_left else ""
    figures = f"{made.model} · {len(receipt.pages_read)} of {page_count(receipt.pages_total)} read{left}"
    st.html(view.text_html(f"{figures} · {receipt.seconds['total']:,.1f} s", small=True))
    with st.expander("Receipt", icon=":material/receipt_long:", key=f"{key}-receipt"):
        st.html(view.receipt_html(summary_rows(made)))
    with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-actions"):
        st.html(answer_view.copy_html(made.text), width="content")
        name = made.document.rsplit(".", 1)[0]
        st.download_button(
            "Save as Markdown",
            lambda: to_markdown(made),
            f"{name} summary.md",
            "text/markdown",
            on_click="ignore",
            type="tertiary",
            icon=":material/download:",
            key=f"{key}-markdown",
        )
        st.download_button(
            "Save as JSON",
            lambda: json.dumps(made.to_dict(), ensure_ascii=False, indent=2),
            f"{name} summary.json",
            "application/json",
            on_click="ignore",
            type="tertiary",
            icon=":material/data_object:",
            key=f"{key}-json",
        )


def options_line(made: Summary) -> str:
    """Which summary it is: "medium, about debt, in French, by qwen2.5-1.5b"."""
    options = made.options
    parts: list[str] = [options.length]
    parts += ["in lines"] if options.format == "bullets" else []
    parts += [f"about {options.focus}"] if options.focus else []
    parts += [f"in {options.language}"] if options.language else []
    return ", ".join([*parts, f"by {made.model}", f"made {made.made_at[:10]}"])
