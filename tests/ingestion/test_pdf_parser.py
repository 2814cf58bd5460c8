import io
import time

import numpy as np
import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, NumberObject, RectangleObject

from longleaf.ingestion.pdf_parser import PdfFile
from longleaf.ingestion.png import encode_png


def word_box(page, word):
    at = page.text.index(word)
    boxes = page.boxes[at : at + len(word)]
    return np.array([boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()])


def ink_box(pdf, dpi=144):
    """Where the page is dark, in points from its top left."""
    pixels = pdf.render(0, dpi, grey=True)
    rows, columns = np.nonzero(pixels < 128)
    scale = 72 / dpi
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * scale


def test_a_word_lies_where_it_was_drawn(make_pdf):
    path = make_pdf([lambda c: (c.setFont("Helvetica", 20), c.drawString(72, 200, "Longleaf"))])
    with PdfFile(path) as pdf:
        page = pdf.read_page(0)
    assert page.text == "Longleaf"
    assert (page.width, page.height) == (400, 300)
    x0, y0, x1, y1 = word_box(page, "Longleaf")
    assert x0 == pytest.approx(72, abs=0.5)
    assert x1 == pytest.approx(72 + 20 * (556 + 556 + 556 + 556 + 222 + 556 + 556 + 278) / 1000, abs=0.5)
    assert y0 < 300 - 200 - 14 < 300 - 200 < y1  # from above the capital to below the baseline
    assert y1 - y0 < 30


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [None, (60, 40, 380, 290)])
def test_boxes_lie_on_the_ink_of_rotated_and_cropped_pages(make_pdf, tmp_path, rotation, crop):
    made = make_pdf([lambda c: (c.setFont("Helvetica", 20), c.drawString(100, 200, "Hamburgefons"))])
    writer = PdfWriter(clone_from=PdfReader(made))
    writer.pages[0][NameObject("/Rotate")] = NumberObject(rotation)
    if crop:
        writer.pages[0].cropbox = RectangleObject(crop)
    path = tmp_path / "turned.pdf"
    writer.write(path)
    with PdfFile(path) as pdf:
        page, ink = pdf.read_page(0), ink_box(pdf)
    size = (320, 250) if crop else (400, 300)
    assert (page.width, page.height) == (size if rotation in (0, 180) else size[::-1])
    assert page.text == "Hamburgefons"
    marked = word_box(page, "Hamburgefons")
    assert (marked[:2] <= ink[:2] + 0.6).all(), f"{marked} does not cover the ink at {ink}"
    assert (marked[2:] >= ink[2:] - 0.6).all(), f"{marked} does not cover the ink at {ink}"
    assert np.abs(marked - ink).max() < 9, f"{marked} is much larger than the ink at {ink}"


def test_text_drawn_upwards_has_its_boxes_on_the_ink(make_pdf):
    path = make_pdf([lambda c: (c.translate(200, 50), c.rotate(90), c.drawString(0, 0, "Sideways"))])
    with PdfFile(path) as pdf:
        page, ink = pdf.read_page(0), ink_box(pdf)
    assert page.text == "Sideways"
    assert np.abs(word_box(page, "Sideways") - ink).max() < 6


def test_a_table_row_is_one_line_with_its_columns_apart(make_pdf):
    def table(c):
        c.setFont("Helvetica", 10)
        for y, cells in ((200, ("Net sales", "$ 192,052", "163,220")), (186, ("Membership fees", "3,877", "3,541"))):
            for x, cell in zip((40, 200, 300), cells, strict=True):
                c.drawString(x, y, cell)

    def by_column(c):  # the same, drawn cell by cell in another order
        c.setFont("Helvetica", 10)
        c.drawString(40, 200, "Net sales")
        c.drawString(200, 200, "$ 192,052")
        c.drawString(300, 200, "163,220")

    with PdfFile(make_pdf([table, by_column])) as pdf:
        assert pdf.read_page(0).text == "Net sales  $ 192,052  163,220\nMembership fees  3,877  3,541"
        assert pdf.read_page(1).text == "Net sales  $ 192,052  163,220"


def test_text_outside_the_page_is_left_out(make_pdf):
    def draw(c):
        c.drawString(40, 200, "seen")
        c.drawString(40, -50, "printers mark")

    with PdfFile(make_pdf([draw])) as pdf:
        assert pdf.read_page(0).text == "seen"


def test_hyphens_at_line_ends(make_pdf):
    with PdfFile(make_pdf(["The infor-\nmation for 2019-\n2020 is in\nthe long-term plan."])) as pdf:
        assert pdf.read_page(0).text == "The information for 2019-\n2020 is in\nthe long-term plan."


def test_a_page_of_200_000_characters_is_quick(make_pdf):
    def draw(c):
        c.setFont("Helvetica", 4)
        for i in range(1000):
            c.drawString(10, 5_900 - i * 5.5, f"{i:04d} " + "word " * 39)

    path = make_pdf([draw], size=(800, 6_000))
    started = time.process_time()
    with PdfFile(path) as pdf:
        page = pdf.read_page(0)
    assert len(page.text) > 199_000
    assert page.boxes.shape == (len(page.text), 4)
    assert time.process_time() - started < 8


@pytest.mark.parametrize("grey", [True, False])
def test_png_shows_the_pixels(grey):
    image = pytest.importorskip("PIL.Image")
    shape = (7, 5) if grey else (7, 5, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    back = np.asarray(image.open(io.BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(back, pixels)


def test_verdicts(make_pdf, draw_scan):
    def outlines(c):
        for i in range(60):
            c.line(10 + i, 10, 20 + i, 40)
            c.bezier(10, 10 + i, 20, 30, 40, 50, 60, 70 + i)

    def stamped(c):
        draw_scan(c)
        c.drawString(10, 10, "EXHIBIT 7")

    def framed(c):
        c.rect(10, 10, 380, 280)

    with PdfFile(make_pdf(["Plenty of words. " * 20, draw_scan, stamped, outlines, framed, lambda c: None])) as pdf:
        verdicts = [pdf.read_page(i).verdict for i in range(len(pdf))]
    assert verdicts == ["text", "scan", "scan", "scan", "text", "text"]
