"""Collections on a real library."""

import pytest

from longleaf.errors import DocumentNotFoundError, LongleafError
from longleaf.ingestion import Document, Library


@pytest.fixture
def documents(library: Library, tmp_path) -> list[Document]:
    found = []
    for name in ("a", "b", "c"):
        file = tmp_path / f"{name}.txt"
        file.write_text(f"Text of {name}.")
        found.append(library.add(file).document)
    return found


def test_a_document_may_be_in_several_collections_and_once_in_each(library: Library, documents) -> None:
    a, b, c = documents
    library.collections.put("first", [b, a, a])
    library.collections.put("second", [a])
    assert library.collections.put(" first ", [c]).document_ids == (a.id, b.id, c.id)
    assert [collection.name for collection in library.collections.all()] == ["first", "second"]
    assert library.collections.take_out("first", [a]).document_ids == (b.id, c.id)
    assert library.collections.find("second").document_ids == (a.id,)


def test_a_removed_document_leaves_its_collections_and_a_removed_collection_leaves_its_documents(
    library: Library, documents
) -> None:
    library.collections.put("all", documents)
    library.remove(documents[0])
    assert library.collections.find("all").document_ids == tuple(d.id for d in documents[1:])
    library.collections.remove("all")
    assert library.collections.all() == []
    assert len(library.documents()) == 2


def test_names(library: Library, documents) -> None:
    library.collections.put("x", documents)
    library.collections.put("y", [])
    assert library.collections.rename("x", "z").document_ids == tuple(d.id for d in documents)
    with pytest.raises(LongleafError, match="already"):
        library.collections.rename("z", "y")
    with pytest.raises(LongleafError, match="needs a name"):
        library.collections.put("  ", [])
    with pytest.raises(DocumentNotFoundError, match="no such collection; there are: y, z"):
        library.collections.find("x")
