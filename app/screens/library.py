"""The page "Library": all documents, what is known of each, what can be done with them, and collections of them."""

import streamlit as st

from longleaf.app.catalog import catalog, matching
from longleaf.app.ui.collections import draw_collections
from longleaf.app.ui.document_actions import draw_actions
from longleaf.app.ui.document_table import choose
from longleaf.app.ui.session import errors_shown, service
from longleaf.app.ui.uploads import draw_transfers, draw_uploader


def main() -> None:
    """Draws the page."""
    desk = service()
    st.title("Library", anchor=False)
    rows = catalog(desk)
    if rows:
        with st.expander("Add documents", icon=":material/upload_file:"):
            draw_uploader(desk, "library")
    else:
        st.info(
            "No documents yet. Drop one in: it is kept on this machine, read in once, and can be asked from then on."
        )
        draw_uploader(desk, "library")
    draw_transfers(desk)
    if not rows:
        return
    n = len(rows)
    words = st.text_input(
        "Find documents",
        key="find-documents",
        placeholder=f"Words of a name or title, of {n:,} document{'s' * (n > 1)}",
    )
    found = matching(rows, words)
    if not found:
        st.caption("No name or title has all these words.")
    else:
        chosen = choose(found)
        with errors_shown():
            draw_actions(desk, chosen)
    with errors_shown():
        draw_collections(desk, rows)


if __name__ == "__main__":
    main()
