"""The pages of the browser front door, as scripts that Streamlit runs.

Not called `pages`: Streamlit takes a folder of that name beside its main script for pages of its own making.
"""

__all__: list[str] = []
