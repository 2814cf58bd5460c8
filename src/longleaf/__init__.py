"""Longleaf answers questions about long PDFs, with page citations checked against the page.

The four parts are `longleaf.ingestion` (PDF to pages, the library on disk), `longleaf.model` (the reader),
`longleaf.retrieval` (passages, routing, citations, the answer) and `longleaf.app` (command line and browser).
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("longleaf")
