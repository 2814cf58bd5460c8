"""PDF, text and Markdown files to pages with text and character boxes, and the library that keeps them."""

from .collections import Collection, Collections
from .document import Added, Boxes, Document, MediaType, OutlineEntry, Page, PageSource, Removed
from .library import Library, default_home
from .parser_process import ParserLimits

__all__ = [
    "Added",
    "Boxes",
    "Collection",
    "Collections",
    "Document",
    "Library",
    "MediaType",
    "OutlineEntry",
    "Page",
    "PageSource",
    "ParserLimits",
    "Removed",
    "default_home",
]
