"""The documents as a table to choose from: one widget, whatever their number, as a thousand rows must open quickly."""

import hashlib

import pandas as pd
import streamlit as st

from longleaf.app.catalog import CatalogRow
from longleaf.app.render import human_bytes
from longleaf.ingestion import Document

__all__ = ["choose"]

ROW_PX = 35
MAX_ROWS_SHOWN = 12


def choose(rows: list[CatalogRow]) -> list[Document]:
    """Draws the table, and returns the documents chosen in it or by name; the only one is chosen by itself."""
    table = pd.DataFrame(
        {
            "name": [row.document.name for row in rows],
            "pages": [row.document.n_pages for row in rows],
            "tokens": pd.array([row.tokens for row in rows], dtype="Int64"),
            "read": [row.is_read for row in rows],
            "size": [human_bytes(row.document.size_bytes) for row in rows],
            "added": [row.document.added_at[:10] for row in rows],
            "remark": [row.remark for row in rows],
        }
    )
    column = st.column_config
    # Rows are chosen by their numbers, which Streamlit keeps for as long as the key: other rows are another table, else
    # what follows a removed document would be chosen in its place.
    shown = hashlib.sha256("".join(row.document.sha256 for row in rows).encode()).hexdigest()
    chosen = st.dataframe(
        table,
        hide_index=True,
        height=ROW_PX * (min(len(rows), MAX_ROWS_SHOWN) + 1) + 3,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"documents-table-{shown[:12]}",
        column_config={
            "name": column.TextColumn("Name", width="large", pinned=True),
            "pages": column.NumberColumn("Pages", format="localized"),
            "tokens": column.NumberColumn("Tokens", format="localized", help="For the reader in use"),
            "read": column.CheckboxColumn("Read", help="What the reader has read of it as a whole is kept on disk"),
            "size": column.TextColumn("Size"),
            "added": column.TextColumn("Added"),
            "remark": column.TextColumn("Remark", width="large"),
        },
        alt="The documents of the library",
    )
    in_table = [rows[index].document for index in chosen.selection.rows if index < len(rows)]
    if in_table:
        return in_table
    # The same without a pointer, and where a row is hard to hit.
    by_sha256 = {row.document.sha256: row.document for row in rows}
    named = st.multiselect(
        "Or choose by name",
        list(by_sha256),
        format_func=lambda sha256: by_sha256[sha256].name,
        default=[rows[0].document.sha256] if len(rows) == 1 else [],
        key=f"documents-by-name-{rows[0].document.sha256[:8]}" if len(rows) == 1 else "documents-by-name",
        placeholder="One or several",
    )
    return [by_sha256[sha256] for sha256 in named if sha256 in by_sha256]
