"""What the store knows of documents at once."""

from collections.abc import Sequence
from pathlib import Path

from longleaf.ingestion import Document, Library
from longleaf.retrieval import Answerer, PassageStore

from .test_summary import ScriptedReader


def add(library: Library, folder: Path, *names: str) -> list[Document]:
    for name in names:
        (folder / name).write_text(f"The words of {name} are few.")
    return [library.add(folder / name).document for name in names]


def test_the_token_counts_of_all_documents_are_those_of_each(library: Library, tmp_path: Path) -> None:
    documents: Sequence[Document] = add(library, tmp_path, "a.txt", "b.txt", "c.txt", "d.txt")
    store = PassageStore(library)
    for number, document in enumerate(documents[:3]):
        store.keep_token_count(document, "one", 100 + number)
    store.keep_token_count(documents[0], "other", 7)
    with library.transaction() as connection:  # more of its pages were read
        connection.execute("UPDATE documents SET revision = 1 WHERE id = ?", (documents[1].id,))
    assert store.token_counts("one") == {documents[0].id: 100, documents[2].id: 102}
    assert store.token_counts("other") == {documents[0].id: 7}
    assert store.token_counts("none") == {}


def test_what_an_answerer_counted_is_found_under_its_tokenizers_name(library: Library, tmp_path: Path) -> None:
    (document,) = add(library, tmp_path, "a.txt")
    assert Answerer(library, None, None).tokenizer_name is None
    answerer = Answerer(library, ScriptedReader("No."), None)
    assert answerer.tokenizer_name == "scripted"
    n_tokens = answerer.count_tokens([document])
    assert answerer.store.token_counts("scripted") == {document.id: n_tokens}
    renamed = library.rename(document, "a much longer name of many words")
    assert answerer.count_tokens([renamed]) == n_tokens
