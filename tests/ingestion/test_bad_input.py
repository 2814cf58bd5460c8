"""Every file that can't be taken in: the error names it and the way out, and nothing of it stays."""

import os
import random
import zipfile
import zlib

import pytest
from pypdf import PdfReader, PdfWriter

from longleaf.errors import (
    DamagedFileError,
    EmptyDocumentError,
    NoTextError,
    PasswordError,
    UnsupportedFileError,
)
from longleaf.ingestion.pdf_repair import is_cut_off


@pytest.fixture
def refused(library):
    """`refused(path, ErrorKind, pattern, **options)`: the error, after checking that nothing stays."""

    def check(path, kind, pattern, **options):
        with pytest.raises(kind, match=pattern) as caught:
            library.add(path, **options)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"{path}: ")
        assert caught.value.path == path
        assert library.documents() == []
        left = [p for p in library.home.rglob("*") if p.is_file() and p.parent.name not in ("home", "locks")]
        assert left == []

    return check


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "pattern"),
    [
        ("page.html", b"  <!DOCTYPE html><html></html>", r"web page \(HTML\).*print it to PDF"),
        ("page.pdf", b"<html><body>Not found</body></html>", r"web page \(HTML\)"),
        ("photo.pdf", b"\x89PNG\r\n\x1a\n0000", "PNG image"),
        ("photo.jpg", b"\xff\xd8\xff\xe0 JFIF", "JPEG image"),
        ("scan.tiff", b"II*\x00\x08\x00", "TIFF image"),
        ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office file"),
        ("letter.rtf", b"{\\rtf1 hello}", "RTF file"),
        ("plain.pdf", b"just words", "not a PDF, whatever its name says"),
        ("noise.bin", random.Random(1).randbytes(5_000), "binary file"),
        ("broken.zip", b"PK\x03\x04 and no more", "broken ZIP"),
    ],
)
def test_other_kinds_of_files(refused, tmp_path, name, data, pattern):
    refused(write(tmp_path / name, data), UnsupportedFileError, pattern)


@pytest.mark.parametrize(
    ("inside", "pattern"),
    [("word/document.xml", r"Word file \(.docx\): save it as PDF"), ("xl/book.xml", "Excel"), ("a.txt", "ZIP archive")],
)
def test_archives_are_called_what_they_are(refused, tmp_path, inside, pattern):
    path = tmp_path / "report.pdf"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inside, "x")
    refused(path, UnsupportedFileError, pattern)


def test_zero_bytes(refused, tmp_path):
    refused(write(tmp_path / "empty.pdf", b""), EmptyDocumentError, "zero bytes")


def test_a_folder(refused, tmp_path):
    refused(tmp_path, UnsupportedFileError, "this is a folder; name the files in it")


def test_a_missing_file(refused, tmp_path):
    refused(tmp_path / "missing.pdf", UnsupportedFileError, "there is no such file")


def test_a_pipe(refused, tmp_path):
    os.mkfifo(tmp_path / "pipe.pdf")
    refused(tmp_path / "pipe.pdf", UnsupportedFileError, "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(refused, make_pdf):
    path = make_pdf(["words"])
    path.chmod(0)
    refused(path, UnsupportedFileError, "no permission")


def test_a_name_that_is_too_long(refused, tmp_path):
    refused(tmp_path / ("x" * 300), UnsupportedFileError, "can't be read")


def test_a_pdf_without_pages(refused, tmp_path):
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    path = tmp_path / "none.pdf"
    writer.remove_page(0)
    writer.write(path)
    refused(path, EmptyDocumentError, "0 pages")


def test_only_blank_pages(refused, tmp_path):
    writer = PdfWriter()
    writer.add_blank_page(100, 100)
    writer.add_blank_page(100, 100)
    writer.write(tmp_path / "blank.pdf")
    refused(tmp_path / "blank.pdf", NoTextError, "all are blank")


def test_rubbish_behind_a_pdf_header(refused, tmp_path):
    path = write(tmp_path / "rubbish.pdf", b"%PDF-1.7\n" + random.Random(2).randbytes(20_000) + b"\n%%EOF\n")
    refused(path, DamagedFileError, "no page could be recovered; get the file again")


# --- passwords


def encrypted(path, target, **options):
    writer = PdfWriter(clone_from=PdfReader(path))
    writer.encrypt(**options)
    writer.write(target)
    return target


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_encrypted(library, refused, make_pdf, tmp_path, algorithm):
    path = encrypted(
        make_pdf(["secret words"]), tmp_path / "locked.pdf", user_password="Tr0ub4dor", algorithm=algorithm
    )
    refused(path, PasswordError, "needs a password")
    refused(path, PasswordError, "password is wrong", password="shut")
    document = library.add(path, password="Tr0ub4dor").document
    assert library.page(document, 1).text == "secret words"
    assert document.title == "A Made Document"
    assert document.size_bytes == path.stat().st_size
    assert "without the password" in document.warnings[0]
    assert library.page_image(document, 1).startswith(b"\x89PNG")
    assert library.find(path) == document
    assert library.add(path).already_there  # the library is its owner's: no password asked again
    for file in library.home.rglob("*"):
        assert not file.is_file() or b"Tr0ub4dor" not in file.read_bytes()


def test_an_owner_password_alone_asks_nothing(library, make_pdf, tmp_path):
    path = encrypted(make_pdf(["words"]), tmp_path / "owned.pdf", user_password="", owner_password="mine")
    document = library.add(path).document
    assert library.page(document, 1).text == "words"
    assert document.title == "A Made Document"
    assert document.warnings == ()


# --- damage


def long_pdf(make_pdf):
    return make_pdf([f"This is page {i}. " + "Words and more words. " * 8 for i in range(1, 41)])


def test_cut_in_half(library, refused, make_pdf, tmp_path):
    data = long_pdf(make_pdf).read_bytes()
    path = write(tmp_path / "half.pdf", data[: len(data) // 2])
    refused(path, DamagedFileError, r"it ends in the middle; \d+( of \d+)? pages could be recovered: add --repair")
    document = library.add(path, repair=True).document
    assert 5 <= document.n_pages <= 40
    assert "damaged" in document.warnings[0]
    texts = [page.text for page in library.pages(document) if page.source == "text"]
    assert len(texts) == document.n_pages - document.n_pages_unread
    assert texts[0].startswith("This is page 1. Words")
    assert library.page_image(document, 1).startswith(b"\x89PNG")


def test_pages_inside_object_streams_are_found_again(library, tmp_path):
    """Written by hand: pages and fonts in a compressed object stream, then cut before the cross reference stream."""
    inner = {3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"}
    for i in range(10):
        inner[10 + i] = (
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (30 + i)
        )
    bodies, index, at = b"", b"", 0
    for number, body in inner.items():
        index += b"%d %d " % (number, at)
        bodies += body + b" "
        at = len(bodies)
    packed = zlib.compress(index + bodies)
    data = b"%%PDF-1.5\n5 0 obj\n<</Type/ObjStm/N %d/First %d/Filter/FlateDecode/Length %d>>\nstream\n" % (
        len(inner),
        len(index),
        len(packed),
    )
    data += packed + b"\nendstream\nendobj\n"
    for i in range(10):
        content = b"BT /F1 20 Tf 20 100 Td (Page %d of ten) Tj ET" % (i + 1)
        data += b"%d 0 obj\n<</Length %d>>\nstream\n%s\nendstream\nendobj\n" % (30 + i, len(content), content)
    path = write(tmp_path / "packed.pdf", data + b"50 0 obj\n<</Type/XRef/Size 51")
    document = library.add(path, repair=True).document
    assert [page.text for page in library.pages(document)] == [f"Page {i} of ten" for i in range(1, 11)]


def test_only_the_end_is_missing(library, refused, make_pdf, tmp_path):
    data = long_pdf(make_pdf).read_bytes()
    path = write(tmp_path / "tail.pdf", data[: data.rindex(b"xref\n0")])
    refused(path, DamagedFileError, r"40 pages could be recovered")
    assert library.add(path, repair=True).document.n_pages == 40


def test_sloppy_files_are_taken_as_they_are(library, make_pdf, tmp_path):
    data = make_pdf(["first", "second"]).read_bytes()
    start = data.rindex(b"startxref") + len(b"startxref\n")
    sloppy = {
        "junk.pdf": data + b"\x00" * 3_000 + b"trailing junk",
        "late.pdf": b"HTTP header junk\r\n\r\n" + data,
        "wrong.pdf": data[:start] + b"99" + data[data.index(b"\n", start) :],
        "noeof.pdf": data[: data.rindex(b"%%EOF")],
    }
    for name, content in sloppy.items():
        document = library.add(write(tmp_path / name, content)).document
        assert [page.text for page in library.pages(document)] == ["first", "second"], name
        assert not any("damaged" in warning for warning in document.warnings), name


def test_a_missing_page_object_is_damage(library, refused, make_pdf, tmp_path):
    data = long_pdf(make_pdf).read_bytes()
    at = data.index(b"/Type /Page\n") if b"/Type /Page\n" in data else data.index(b"/Type /Page ")
    broken = data[:at] + b"/Type /Pear" + data[at + 11 :]
    path = write(tmp_path / "missing.pdf", broken)
    result = library.add(path, repair=True).document  # taken with --repair, and the page is not called blank
    assert result.n_pages >= 39


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b"", True),
        (b"startxref\n5\n%%EOF\n", False),
        (b"startxref\n5\n", False),
        (b"%%EOF" + b"\x00" * 100_000, False),
        (b"startxref\n0\n%%EOF\n7 0 obj\n<<>>\nendobj\n", True),
    ],
)
def test_is_cut_off(tmp_path, tail, expected):
    path = write(tmp_path / "x.pdf", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n" + tail)
    assert is_cut_off(path) is expected
