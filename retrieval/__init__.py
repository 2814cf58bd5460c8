"""From passages to an answer with checked citations."""

from .answer import Answer, Answerer, Reader, Receipt, Statement
from .citations import Box, Citation, Location, boxes_of, cite, locate, locate_in_pages
from .embeddings import Embedder, LongleafEmbeddings
from .passages import Passage, cut_passages
from .route import Route, choose_route
from .scope import Scope
from .search import Found, Hit, search
from .sentences import Unit, split_units
from .store import PassageStore, StoredPassage

__all__ = [
    "Answer",
    "Answerer",
    "Box",
    "Citation",
    "Embedder",
    "Found",
    "Hit",
    "Location",
    "LongleafEmbeddings",
    "Passage",
    "PassageStore",
    "Reader",
    "Receipt",
    "Route",
    "Scope",
    "Statement",
    "StoredPassage",
    "Unit",
    "boxes_of",
    "choose_route",
    "cite",
    "cut_passages",
    "locate",
    "locate_in_pages",
    "search",
    "split_units",
]
