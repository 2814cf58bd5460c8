"""Where a question looks: some documents, whole or a range of their pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from longleaf.errors import QuestionError
from longleaf.ingestion import Document

__all__ = ["Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Documents to ask, in order.

        Scope.of([document], pages=(10, 20))

    Attributes:
        documents: Each once.
        page_ranges: First and last page (1-based, both included) of documents that are not asked whole, by their id.
    """

    documents: tuple[Document, ...]
    page_ranges: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, documents: Sequence[Document], pages: tuple[int, int] | None = None) -> "Scope":
        """A scope of these documents, each whole or with the same range of pages; documents without such a page go.

        Raises:
            QuestionError: A range that is empty, or that no document has.
        """
        unique = tuple({document.id: document for document in documents}.values())
        if pages is None:
            return cls(unique)
        first, last = pages
        if first < 1 or last < first:
            raise QuestionError(f"pages {first}-{last} are no range: the first page is 1, and the last not before it")
        reached = tuple(document for document in unique if first <= document.n_pages)
        if unique and not reached:
            longest = max(unique, key=lambda document: document.n_pages)
            raise QuestionError(f"{longest.name} has {longest.n_pages} pages; there is no page {first}")
        return cls(reached, {document.id: (first, last) for document in reached})

    def pages_of(self, document: Document) -> tuple[int, int]:
        """First and last page asked of a document."""
        first, last = self.page_ranges.get(document.id, (1, document.n_pages))
        return first, min(last, document.n_pages)

    @property
    def n_pages(self) -> int:
        """Pages asked of all documents."""
        return sum(last - first + 1 for first, last in map(self.pages_of, self.documents))
