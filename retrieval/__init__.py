"""From passages to an answer with checked citations."""

from .answer import Answerer
from .background import BackgroundEmbedding
from .chain import LongDocumentChain
from .citations import Box, Citation, Location, boxes_of, cite, locate, locate_in_pages
from .embeddings import Embedder, LongleafEmbeddings, as_embedder
from .faiss_index import FaissIndex
from .passages import Passage, cut_passages
from .pgvector_index import PgVectorIndex
from .reader import Reader, as_reader
from .receipt import Answer, Receipt, Statement
from .retriever import LongleafRetriever
from .route import Route, choose_route
from .scope import Scope
from .search import Found, Hit, SearchOptions, search
from .sentences import Unit, split_units
from .store import PassageStore, StoredPassage
from .summary import SectionSummary, Summarizer, Summary, SummaryOptions, SummaryReceipt
from .vector_index import Neighbours, SqliteVectors, VectorIndex
from .vector_store import LongleafVectorStore

__all__ = [
    "Answer",
    "Answerer",
    "BackgroundEmbedding",
    "Box",
    "Citation",
    "Embedder",
    "FaissIndex",
    "Found",
    "Hit",
    "Location",
    "LongDocumentChain",
    "LongleafEmbeddings",
    "LongleafRetriever",
    "LongleafVectorStore",
    "Neighbours",
    "Passage",
    "PassageStore",
    "PgVectorIndex",
    "Reader",
    "Receipt",
    "Route",
    "Scope",
    "SearchOptions",
    "SectionSummary",
    "SqliteVectors",
    "Statement",
    "StoredPassage",
    "Summarizer",
    "Summary",
    "SummaryOptions",
    "SummaryReceipt",
    "Unit",
    "VectorIndex",
    "as_embedder",
    "as_reader",
    "boxes_of",
    "choose_route",
    "cite",
    "cut_passages",
    "locate",
    "locate_in_pages",
    "search",
    "split_units",
]
