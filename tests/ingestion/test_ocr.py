"""Pages that are images: read with OCR, reported without it, read later when it is installed."""

import shutil

import numpy as np
import pytest

from longleaf.errors import NoTextError

needs_ocr = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
WORDS = "These pages have a text layer that is long enough to be taken for what it is. "


@pytest.fixture
def no_ocr(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


@needs_ocr
def test_an_image_is_read_and_its_boxes_lie_on_the_words(library, make_pdf, draw_scan):
    pytest.importorskip("pytesseract")
    stages = []
    path = make_pdf([WORDS, draw_scan])
    document = library.add(path, progress=lambda done, total, stage: stages.append((done, stage))).document
    assert (document.n_pages, document.n_pages_ocr, document.n_pages_unread) == (2, 1, 0)
    assert document.warnings == ()
    page = library.page(document, 2)
    assert page.source == "ocr"
    assert page.text == "The reservoir holds\n4321 million litres"
    assert (1, "ocr") in stages
    at = page.text.index("4321")
    box = page.boxes[at : at + 4]
    # Drawn at (200, 300) of 1600 x 1200 dots on a page of 400 x 300 points.
    assert box[:, 0].min() == pytest.approx(50, abs=2)
    assert 74 < box[:, 1].min() < 82
    assert 82 < box[:, 3].max() < 92
    assert (np.diff(box[:, 0]) > 0).all()
    assert np.isnan(page.boxes[page.text.index("\n")]).all()


def test_without_ocr_the_page_is_reported(library, make_pdf, draw_scan, no_ocr):
    document = library.add(make_pdf([WORDS, draw_scan, WORDS, draw_scan])).document
    assert (document.n_pages, document.n_pages_ocr, document.n_pages_unread) == (4, 0, 2)
    (warning,) = document.warnings
    assert warning.startswith("Images not read: 2 pages (2, 4); install OCR (pip install 'longleaf[ocr]'")
    assert "apt install tesseract-ocr" in warning
    page = library.page(document, 2)
    assert (page.source, page.text) == ("none", "")
    assert page.note in (
        "it is an image; no OCR: the program tesseract is not installed",
        "it is an image; no OCR: the Python package pytesseract is not installed",
    )
    assert (page.width, page.height) == (400, 300)
    assert library.add(library.file(document)).already_there


@needs_ocr
def test_unread_pages_are_read_when_ocr_is_there(library, make_pdf, draw_scan):
    pytest.importorskip("pytesseract")
    path = make_pdf([WORDS, draw_scan, WORDS])
    first = library.add(path, ocr="never")
    assert first.document.n_pages_unread == 1
    assert "add it again with OCR" in first.document.warnings[0]
    assert library.add(path, ocr="never").already_there
    second = library.add(path)
    assert not second.already_there
    assert second.resumed_from_page == 2
    assert second.document.id == first.document.id
    assert second.document.revision == first.document.revision + 1
    assert (second.document.n_pages_ocr, second.document.n_pages_unread) == (1, 0)
    assert second.document.warnings == ()
    assert library.page(second.document, 2).text.startswith("The reservoir")
    assert library.add(path).already_there


def test_only_images_without_ocr_is_an_error_and_nothing_stays(library, make_pdf, draw_scan, no_ocr):
    path = make_pdf([draw_scan, draw_scan])
    with pytest.raises(NoTextError, match=r"none of its 2 pages.*images; install OCR \(pip install 'longleaf\[ocr\]'"):
        library.add(path)
    assert library.documents() == []
    assert [p for p in (library.home / "files").rglob("*") if p.is_file()] == []


def test_a_stamp_on_each_image_is_no_text(library, make_pdf, draw_scan, no_ocr):
    def stamped(canvas):
        draw_scan(canvas)
        canvas.drawString(10, 10, "EXHIBIT 7")

    with pytest.raises(NoTextError):
        library.add(make_pdf([stamped, stamped]))


@needs_ocr
def test_a_text_layer_without_meaning_is_read_from_the_image(library, tmp_path):
    pytest.importorskip("pytesseract")
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "garbage.pdf"
    canvas = Canvas(str(path), pagesize=(400, 300), pageCompression=0)
    canvas.setFont("Helvetica", 24)
    for i in range(4):
        canvas.drawString(40, 200 - 30 * i, "Readable on paper")
    canvas.save()
    # A ToUnicode map that sends every letter to a private character, as some subset fonts do.
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import NameObject, StreamObject

    writer = PdfWriter(clone_from=PdfReader(path))
    cmap = StreamObject()
    cmap.set_data(
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def "
        b"1 begincodespacerange <00> <FF> endcodespacerange "
        b"1 beginbfrange <21> <7E> <E021> endbfrange endcmap end end"
    )
    font = next(iter(writer.pages[0]["/Resources"]["/Font"].values())).get_object()
    font[NameObject("/ToUnicode")] = writer._add_object(cmap)
    writer.write(path)
    document = library.add(path).document
    page = library.page(document, 1)
    assert page.source == "ocr"
    assert page.text.count("Readable on paper") == 4
