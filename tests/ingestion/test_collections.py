"""Collections on a real library."""

import threading

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


def test_blanks_make_no_difference_to_a_name(library: Library, documents) -> None:
    a, b, _ = documents
    collections = library.collections
    assert collections.put("my  docs", [a, b]).name == "my docs"
    assert collections.find(" my\tdocs ").document_ids == (a.id, b.id)
    assert collections.take_out("my  docs", [a]).document_ids == (b.id,)
    assert collections.rename("my  docs", "my docs ").name == "my docs"
    assert collections.rename("my  docs", "our  docs").name == "our docs"
    collections.remove("our  docs")
    assert collections.all() == []


def test_a_document_that_was_removed_meanwhile_is_named_and_nothing_is_changed(library: Library, documents) -> None:
    a, b, c = documents
    library.collections.put("old", [a])
    with Library(library.home) as other:
        other.remove(b)
    for name in ("old", "new"):
        with pytest.raises(DocumentNotFoundError, match=r"^b.txt: no longer in the library$"):
            library.collections.put(name, [c, b])
    assert [(each.name, each.document_ids) for each in library.collections.all()] == [("old", (a.id,))]


def test_a_name_taken_while_another_process_writes_is_seen(library: Library, documents) -> None:
    library.collections.put("x", documents)
    renamed: list[LongleafError | str] = []

    def rename() -> None:
        try:
            renamed.append(library.collections.rename("x", "y").name)
        except LongleafError as exc:
            renamed.append(exc)

    thread = threading.Thread(target=rename)
    with Library(library.home) as other, other.transaction():
        thread.start()
        thread.join(0.3)  # it is past what it looks at before its turn to write
        assert thread.is_alive()
        other.connection().execute("INSERT INTO collections (name, made_at) VALUES ('y', '')")
    thread.join()
    assert [str(each) for each in renamed] == ["y: there is a collection of this name already"]
