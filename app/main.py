"""The browser front door: Streamlit runs this file at every click, and it hands over to the page that was chosen.

The pages draw; what they draw is fetched from, and done by, the server's one `Service`.
"""

import streamlit as st

from longleaf.app import page_view as view
from longleaf.app.settings import load_settings
from longleaf.app.sign_in import signed_in
from longleaf.app.ui.session import errors_shown, notices, service


def main() -> None:
    """Opens the library and draws the chosen page."""
    st.set_page_config(page_title="Longleaf", page_icon=":material/forest:", layout="wide")
    st.html(view.STYLE)
    with errors_shown():
        if signed_in(load_settings()):  # an error here lets nobody in
            draw()


def draw() -> None:
    """Draws the chosen page, with the way to the others."""
    page = st.navigation(
        [
            st.Page("screens/ask.py", title="Ask", icon=":material/forum:", default=True),
            st.Page("screens/library.py", title="Library", icon=":material/folder_open:", url_path="library"),
            st.Page("screens/summary.py", title="Summaries", icon=":material/summarize:", url_path="summaries"),
            st.Page("screens/models.py", title="Models", icon=":material/memory:", url_path="models"),
        ]
    )
    with errors_shown():
        service()
        notices()
        page.run()


if __name__ == "__main__":
    main()
