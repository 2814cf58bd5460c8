import hashlib
import sqlite3
import threading

import numpy as np
import pytest

from longleaf.errors import (
    DocumentNotFoundError,
    LibraryError,
    LongleafError,
    SchemaVersionError,
    StorageError,
    UnsupportedFileError,
)
from longleaf.ingestion import Added, Library, OutlineEntry
from longleaf.ingestion import library as library_module
from longleaf.ingestion.schema import MIGRATIONS


def test_adding_a_pdf(library, make_pdf):
    path = make_pdf(["first page", "second page"])
    stages = []
    added = library.add(path, progress=lambda *step: stages.append(step))
    document = added.document
    assert not added.already_there
    assert added.resumed_from_page == 0
    assert document.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (document.name, document.title, document.media_type) == ("made.pdf", "A Made Document", "application/pdf")
    assert (document.n_pages, document.n_pages_ocr, document.n_pages_unread) == (2, 0, 0)
    assert document.n_chars == len("first page") + len("second page")
    assert document.size_bytes == path.stat().st_size
    assert document.state == "ready"
    assert document.warnings == ()
    assert document.added_at.endswith("+00:00")
    assert stages[-1] == (2, 2, "reading")
    assert library.file(document).read_bytes() == path.read_bytes()
    assert library.documents() == [document]


def test_pages_with_and_without_boxes(library, make_pdf):
    document = library.add(make_pdf([f"page number {i}" for i in range(1, 301)])).document
    quick = list(library.pages(document))
    assert [page.text for page in quick] == [f"page number {i}" for i in range(1, 301)]
    assert [page.number for page in quick] == list(range(1, 301))
    assert quick[0].boxes.shape == (0, 4)
    full = list(library.pages(document, boxes=True))
    assert all(page.boxes.shape == (len(page.text), 4) for page in full)
    page = library.page(document, 300)
    np.testing.assert_array_equal(page.boxes, full[-1].boxes)
    assert page.label == "300"
    with pytest.raises(ValueError, match="pages 1 to 300, not 301"):
        library.page(document, 301)


def test_the_same_bytes_are_one_document_whatever_the_name(library, make_pdf, tmp_path):
    path = make_pdf(["words"])
    other = tmp_path / "other name.txt"
    other.write_bytes(path.read_bytes())
    first, second = library.add(path), library.add(other)
    assert second.already_there
    assert second.document == first.document
    assert len(library.documents()) == 1


@pytest.mark.parametrize(
    "name", ["a b.pdf", 'it\'s "quoted".pdf', "отчёт 報告 é.pdf", "two\nlines.pdf", "-rf.pdf", "%s{}.pdf"]
)
def test_any_file_name(library, make_pdf, name):
    path = make_pdf(["words"], name=name)
    document = library.add(path).document
    assert document.name == name
    assert library.find(name) == document
    assert library.find(path) == document
    assert library.page_image(document, 1).startswith(b"\x89PNG")


def test_a_name_that_is_not_utf8(library, make_pdf, tmp_path):
    import os

    raw = os.fsencode(tmp_path) + b"/r\xe9sum\xe9.pdf"
    os.rename(os.fsencode(make_pdf(["words"])), raw)  # noqa: PTH104
    document = library.add(os.fsdecode(raw)).document
    assert document.name == "r\ufffdsum\ufffd.pdf"


def test_text_and_markdown(library, tmp_path):
    text, markdown = tmp_path / "notes.txt", tmp_path / "notes.md"
    text.write_text("Just words.\fMore words.", encoding="utf-8")
    markdown.write_text("# A Heading\n\nSome words.\n", encoding="utf-8")
    plain = library.add(text).document
    assert (plain.media_type, plain.title, plain.n_pages) == ("text/plain", "notes", 2)
    page = library.page(plain, 2)
    assert page.text == "More words."
    assert page.boxes.shape == (11, 4)
    assert np.isnan(page.boxes).all()
    assert next(library.pages(plain, boxes=True)).boxes.shape == (11, 4)
    marked = library.add(markdown).document
    assert (marked.media_type, marked.title) == ("text/markdown", "A Heading")
    assert marked.outline[0].page_number == 1
    with pytest.raises(UnsupportedFileError, match="no page images"):
        library.page_image(plain, 1)


def test_a_pdf_named_txt_is_a_pdf(library, make_pdf):
    assert library.add(make_pdf(["words"], name="words.txt")).document.media_type == "application/pdf"


def test_find(library, make_pdf, tmp_path, monkeypatch):
    first = library.add(make_pdf(["one"], name="report 2021.pdf")).document
    second = library.add(make_pdf(["two"], name="report 2022.pdf")).document
    assert library.find("report 2021.pdf") == first
    assert library.find(second.sha256) == second
    assert library.find(second.sha256[:8].upper()) == second
    moved = (tmp_path / "report 2021.pdf").rename(tmp_path / "moved.pdf")
    assert library.find(moved) == first
    assert library.find(str(moved)) == first
    with pytest.raises(DocumentNotFoundError, match=r"near it: report 202\d.pdf, report 202\d.pdf"):
        library.find("report")
    with pytest.raises(DocumentNotFoundError, match="add it first"):
        library.find(make_pdf(["three"], name="new.pdf"))
    monkeypatch.chdir(tmp_path)
    make_pdf(["a newer version"], name="report 2022.pdf")
    with pytest.raises(DocumentNotFoundError, match=rf"with other content is: {second.sha256[:12]}\); add it first"):
        library.find("report 2022.pdf")  # a name is no identity: the file that lies here is meant
    folder = tmp_path / "sub"
    folder.mkdir()
    third = make_pdf(["three"], name="sub/report 2021.pdf")
    library.add(third)
    with pytest.raises(DocumentNotFoundError, match="2 documents have this name"):
        library.find("report 2021.pdf")


def test_removing_takes_everything_along(library, make_pdf):
    document = library.add(make_pdf(["one", "two"], name="a.pdf")).document
    kept = library.add(make_pdf(["three"], name="b.pdf")).document
    row = (1, 0, 5, "", "", "words")
    with library.transaction() as connection:
        connection.executemany(
            "INSERT INTO passages (document_id, page, start, end, title, section, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(document.id, *row)] * 3 + [(kept.id, *row)],
        )
    stored = library.file(document)
    reading = library.home / "derived" / "readings" / f"{document.sha256}.safetensors"
    reading.parent.mkdir()
    reading.write_bytes(b"x" * 1000)
    removed = library.remove(document)
    assert (removed.document, removed.pages, removed.passages) == (document, 2, 3)
    assert removed.bytes == document.size_bytes + 1000
    assert not stored.exists()
    assert not reading.exists()
    assert library.documents() == [kept]
    counts = [
        library.connection().execute(f"SELECT count(*) FROM {t}").fetchone()[0]
        for t in ("pages", "page_boxes", "passages")
    ]
    assert counts == [1, 1, 1]
    with pytest.raises(DocumentNotFoundError):
        library.remove(document)
    again = library.add(make_pdf(["one", "two"], name="a.pdf"))
    assert not again.already_there
    assert again.document.id not in (document.id, kept.id)


def test_nothing_in_the_folder_is_named_after_a_removed_document(library, make_pdf):
    document = library.add(make_pdf(["one"])).document
    library.remove(document)
    assert not [path for path in library.home.rglob("*") if document.sha256 in path.name]
    assert library.add(make_pdf(["one"])).document.sha256 != ""  # its lock can be taken again


def test_a_renamed_document_keeps_its_file_name_and_is_found_by_either(library, make_pdf):
    document = library.add(make_pdf(["one"], name="scan_0001.pdf")).document
    assert (document.name, document.file_name) == ("scan_0001.pdf", "scan_0001.pdf")
    renamed = library.rename(document, "  The \n board's  minutes ")
    assert (renamed.name, renamed.file_name) == ("The board's minutes", "scan_0001.pdf")
    again = library.rename(renamed, "Minutes")
    assert (again.name, again.file_name) == ("Minutes", "scan_0001.pdf")
    assert library.rename(again, "Minutes") == again
    assert library.find("Minutes") == library.find("scan_0001.pdf") == library.documents()[0] == again
    with pytest.raises(DocumentNotFoundError, match="near it: Minutes"):
        library.find("minute")
    assert library.rename(again, "scan_0001.pdf") == document


def test_a_name_that_a_document_goes_by_wins_over_one_that_another_was_added_under(library, make_pdf):
    old = library.add(make_pdf(["one"], name="report.pdf")).document
    library.rename(old, "old report.pdf")
    new = library.add(make_pdf(["two"], name="report.pdf")).document
    assert library.find("report.pdf").id == new.id
    other = make_pdf(["three"], name="report.pdf")
    with pytest.raises(DocumentNotFoundError, match=f"of this name with other content is: {old.sha256[:12]}"):
        library.find(other)
    library.rename(new, "old report.pdf")
    with pytest.raises(DocumentNotFoundError, match="2 documents have this name"):
        library.find("report.pdf")


def test_a_document_can_not_go_nameless_and_one_that_is_gone_can_not_be_renamed(library, make_pdf):
    document = library.add(make_pdf(["one"], name="a.pdf")).document
    with pytest.raises(LibraryError, match=r"a\.pdf: a document needs a name"):
        library.rename(document, " \n ")
    library.remove(document)
    with pytest.raises(DocumentNotFoundError):
        library.rename(document, "b")


def test_the_list_parses_outlines_once_and_still_has_what_changed(library, tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / f"{number}.md").write_text(f"# Heading {number}\n\nText {number}.")
    first, second = (library.add(tmp_path / f"{number}.md").document for number in range(2))
    assert library.documents() == [first, second]
    assert first.outline
    parsed = []
    monkeypatch.setattr(library_module, "OutlineEntry", lambda *entry: parsed.append(entry) or OutlineEntry(*entry))
    assert library.documents() == [first, second]
    assert parsed == []
    library.remove(first)
    library.rename(second, "renamed")
    third = library.add(tmp_path / "2.md").document
    parsed.clear()
    assert [(d.name, d.outline[0].title) for d in library.documents()] == [
        ("renamed", "Heading 1"),
        ("2.md", "Heading 2"),
    ]
    assert len(parsed) == len(third.outline)


def test_a_ready_document_whose_file_was_deleted_gets_it_back(library, make_pdf):
    path = make_pdf(["one"])
    document = library.add(path).document
    library.file(document).unlink()
    again = library.add(path).document
    assert again.id == document.id
    assert library.file(document).read_bytes() == path.read_bytes()


def test_add_many_keeps_the_order_and_goes_on_after_errors(library, make_pdf, tmp_path):
    paths = [make_pdf([f"file {i}"] * (9 - i), name=f"{i}.pdf") for i in range(4)]
    paths.insert(1, tmp_path / "missing.pdf")
    paths.insert(3, tmp_path)
    seen = []
    results = list(library.add_many(paths, workers=2, progress=lambda path, *_: seen.append(path)))
    assert [path for path, _ in results] == paths
    kinds = [type(result) for _, result in results]
    assert kinds == [Added, UnsupportedFileError, Added, UnsupportedFileError, Added, Added]
    assert isinstance(results[1][1], LongleafError)
    assert set(seen) >= {path for path, result in results if isinstance(result, Added)}


def test_add_many_can_be_left_in_the_middle(library, make_pdf):
    paths = [make_pdf([f"file {i}"], name=f"{i}.pdf") for i in range(6)]
    for _, added in library.add_many(paths, workers=2):
        assert isinstance(added, Added)
        break
    assert all(isinstance(added, Added) for _, added in library.add_many(paths, workers=2))
    assert [d.state for d in library.documents()] == ["ready"] * 6


def test_page_image(library, make_pdf):
    image = pytest.importorskip("PIL.Image")
    import io

    document = library.add(make_pdf(["words"], size=(200, 100))).document
    assert image.open(io.BytesIO(library.page_image(document, 1, dpi=144))).size == (400, 200)
    with pytest.raises(ValueError, match="pages 1 to 1, not 2"):
        library.page_image(document, 2)
    with pytest.raises(ValueError, match="dpi"):
        library.page_image(document, 1, dpi=10_000)


def test_each_thread_has_its_connection_and_dead_ones_are_closed(library):
    seen = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: seen.append(library.connection()))
        thread.start()
        thread.join()
    assert len({id(c) for c in [*seen, library.connection()]}) == 4
    with pytest.raises(sqlite3.ProgrammingError):
        seen[0].execute("SELECT 1")
    assert library.connection() is library.connection()
    assert library.connection().execute("PRAGMA foreign_keys").fetchone()[0] == 1
    assert library.connection().execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_failed_transaction_leaves_nothing(library):
    def fail():
        with library.transaction() as connection:
            connection.execute("CREATE TABLE t (x)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not library.connection().execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone()


def test_a_transaction_inside_another_joins_it(library):
    with library.transaction() as outer:
        outer.execute("CREATE TABLE t (x)")
        with library.transaction() as inner:
            assert inner is outer
        assert outer.in_transaction


def test_a_library_of_a_newer_longleaf_is_left_alone(tmp_path):
    Library(tmp_path / "home").close()
    with sqlite3.connect(tmp_path / "home" / "longleaf.db") as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(SchemaVersionError, match=rf"longleaf\.db: .*schema {len(MIGRATIONS) + 1}.*update"):
        Library(tmp_path / "home")


def test_a_corrupt_database_is_named(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "longleaf.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StorageError, match=r"longleaf\.db: .*damaged"):
        Library(tmp_path / "home")


def test_a_home_that_is_a_file_is_named(tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageError, match=r"home.*not a folder.*LONGLEAF_HOME"):
        Library(tmp_path / "home")


def test_a_closed_library_says_so(make_pdf, tmp_path):
    library = Library(tmp_path / "home")
    library.close()
    library.close()
    with pytest.raises(StorageError, match="closed"):
        library.documents()


def test_what_killed_processes_left_is_cleaned_on_opening(library, make_pdf):
    document = library.add(make_pdf(["words"])).document
    home = library.home
    half = home / "tmp" / "0123"
    half.mkdir()
    (half / "original").write_bytes(b"half")
    orphan = home / "files" / "ff" / ("f" * 64 + ".pdf")
    orphan.parent.mkdir()
    orphan.write_bytes(b"orphan")
    with library._storage.scratch() as ours, Library(home) as second:
        assert ours.exists()
        assert not half.exists()
        assert not orphan.exists()
        assert second.file(document).exists()
    assert list((home / "tmp").iterdir()) == []


def test_no_word_of_a_removed_document_stays_in_the_database(library, tmp_path):
    from longleaf.retrieval import PassageStore

    for name, text in (("gone.txt", "The zyxomma anchor was painted."), ("kept.txt", "The crane stands.")):
        (tmp_path / name).write_text(text)
        PassageStore(library).cut(library.add(tmp_path / name).document)
    files = list(library.home.glob("longleaf.db*"))
    assert any(b"zyxomma" in file.read_bytes() for file in files)
    library.remove(library.find("gone.txt"))
    assert not any(b"zyxomma" in file.read_bytes() for file in library.home.glob("longleaf.db*"))
