"""Widens passages that were found to what surrounds them: neighbours and whole sections, while there is room.

A reader with a long context answers better from a section than from snippets of it. Sections are added best passage
first and shown in the order of the document, so that they read as they were written.
"""

from collections.abc import Callable, Mapping, Sequence

from longleaf.ingestion import Document, Library

from .evidence import Excerpt
from .search import Hit
from .store import PassageStore, StoredPassage

__all__ = ["widened"]


def widened(
    hits: Sequence[Hit],
    documents: Mapping[int, Document],
    store: PassageStore,
    max_tokens: int,
    count_tokens: Callable[[str], int],
) -> list[Excerpt]:
    """The passages found with as much around them as fits, page by page in document order.

    First the passages themselves, best first; then for each, best first, the rest of its section; where that does not
    fit any more, the passages right before and after it.

    Args:
        hits: Best first.
        documents: The documents that they are from, by id.
        store: For the passages around them.
        max_tokens: Room for all of it. The first passage is shown in any case.
        count_tokens: How many tokens the reader takes for a text.
    """
    shown: dict[int, StoredPassage] = {}
    marked: set[tuple[int, int]] = set()  # pages whose mark is counted
    used = 0

    def tokens_of(stored: StoredPassage) -> int:
        page = stored.document_id, stored.passage.page
        mark = (
            f"[{documents[page[0]].name}, page {page[1]}] {stored.passage.section}\n…\n" if page not in marked else ""
        )
        return count_tokens(mark + stored.passage.text)

    def take(passages: Sequence[StoredPassage]) -> bool:
        nonlocal used
        new = [passage for passage in passages if passage.id not in shown]
        cost = sum(map(tokens_of, new))
        if shown and used + cost > max_tokens:
            return False
        marked.update((passage.document_id, passage.passage.page) for passage in new)
        shown.update((passage.id, passage) for passage in new)
        used += cost
        return True

    found = [hit.stored for hit in hits if take([hit.stored])]
    for stored in found:
        section = store.section_around(stored)
        if not take(section):
            for passage in section:
                if abs(passage.id - stored.id) == 1:
                    take([passage])
    return _excerpts(shown, documents, store.library)


def _excerpts(shown: Mapping[int, StoredPassage], documents: Mapping[int, Document], library: Library) -> list[Excerpt]:
    """What is shown of each page; "…" stands where something between two passages is left out."""
    pages: dict[tuple[int, int], list[StoredPassage]] = {}
    for stored in sorted(shown.values(), key=lambda s: (s.document_id, s.passage.page, s.passage.start)):
        pages.setdefault((stored.document_id, stored.passage.page), []).append(stored)
    found = []
    for (document_id, number), passages in pages.items():
        document = documents[document_id]
        text = library.page(document, number).text
        pieces: list[str] = []
        end = passages[0].passage.start
        for stored in passages:
            start = max(stored.passage.start, end)  # neighbours may share a sentence
            between = text[end:start]
            pieces.append("\n…\n" if between.strip() else between)
            pieces.append(text[start : stored.passage.end])
            end = max(end, stored.passage.end)
        found.append(Excerpt(document, number, passages[0].passage.section, "".join(pieces).strip()))
    return found
