"""What the browser draws: marks in their place, labels that tell pages apart, and a document's words as mere words."""

import base64
import re

import numpy as np
import pytest

from longleaf.app import page_view as view
from longleaf.ingestion import Document, Page
from longleaf.retrieval import Answer, Citation, Receipt, Route, Statement

EVIL = '<img src=x onerror="alert(1)"> costs $4 to $5 & *more*'


def make_citation(**changes) -> Citation:
    values = {
        "document": "report.pdf", "sha256": "ab" * 32, "page": 27, "page_label": "27", "quote": "seven wells",
        "heading": "",
        "start": 3, "end": 14, "boxes": ((61.2, 79.2, 122.4, 91.2),), "verified": True,
    }  # fmt: skip
    return Citation(**(values | changes))


def make_answer(**changes) -> Answer:
    receipt = Receipt(
        pages_total=120, pages_read=2, pages_searched=118, pages_ocr=3, pages_unread=2, pages_dropped=0,
        tokens_document=43_946, tokens_budget=3_857, tokens_prompt=512, tokens_reused=100, seconds_saved=1.5,
        passages=12, seconds={"search": 0.12, "total": 4.25}, warnings=("report.pdf: 2 pages <unread>",),
    )  # fmt: skip
    values = {
        "question": "q", "answer": "Seven wells.", "found": True, "route": Route("retrieval", "it has 43,946 tokens"),
        "citations": (make_citation(),), "statements": (Statement("Seven wells.", True, (0,)),), "nearest": (),
        "confidence": 0.9, "signals": None, "reply": "Seven wells.", "receipt": receipt, "model": "tiny",
    }  # fmt: skip
    return Answer(**(values | changes))


def make_document(**changes) -> Document:
    values = {
        "id": 1, "sha256": "ab" * 32, "name": "report.pdf", "title": "Report", "media_type": "application/pdf",
        "size_bytes": 10, "n_pages": 1_234, "n_pages_ocr": 0, "n_pages_unread": 0, "n_chars": 5, "added_at": "2026-01",
        "metadata": {}, "outline": (), "warnings": (), "state": "ready",
    }  # fmt: skip
    return Document(**(values | changes))


def make_page(number: int = 27, label: str = "27") -> Page:
    return Page(number, label, "text", 612.0, 792.0, np.zeros((4, 4), np.float32), "text")


def test_a_mark_lies_over_its_box_in_per_cent_of_the_page():
    html = view.page_html(b"png", 612.0, 792.0, [(61.2, 79.2, 122.4, 91.2)], 27)
    numbers = re.search(r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%", html)
    left, top, width, height = (float(number) / 100 for number in numbers.groups())
    m = view.MARK_MARGIN
    assert left * 612 == pytest.approx(61.2 - m, abs=0.02)
    assert top * 792 == pytest.approx(79.2 - m, abs=0.02)
    assert (left + width) * 612 == pytest.approx(122.4 + m, abs=0.02)
    assert (top + height) * 792 == pytest.approx(91.2 + m, abs=0.02)


def test_a_page_keeps_its_shape_and_carries_its_picture():
    html = view.page_html(b"\x89PNG", 792.0, 612.0, [], 3)
    assert "aspect-ratio: 792.00 / 612.00" in html
    assert base64.b64encode(b"\x89PNG").decode() in html
    assert 'alt="Page 3"' in html
    assert "ll-mark" not in html


def test_each_box_is_one_mark():
    assert view.page_html(b"", 612.0, 792.0, [(1, 1, 2, 2), (1, 3, 2, 4)], 1).count("ll-mark") == 2


@pytest.mark.parametrize(("width", "height"), [(612, 792), (2384, 3370), (14_400, 14_400), (10, 10)])
def test_a_picture_is_sharp_but_never_huge(width, height):
    dpi = view.image_dpi(width, height)
    assert 20 <= dpi <= 600
    assert max(width, height) * dpi / 72 <= max(view.MAX_IMAGE_PIXELS, max(width, height) * 20 / 72)


def test_a_chip_names_the_page_and_the_printed_number_where_it_differs():
    assert view.chip_label(make_citation()) == "p. 27"
    assert view.chip_label(make_citation(page_label="A-3"), 2) == r"\[2\] p. 27 (printed A\-3)"
    assert view.chip_label(make_citation(document="a_b.pdf"), several=True) == r"a\_b\.pdf, p. 27"


def test_markdown_shows_plain_text_as_it_stands():
    assert view.plain("$4 to $5 *a* [b](c)\n<d>") == r"\$4 to \$5 \*a\* \[b\]\(c\) \<d\>"
    assert ":smile:" not in view.plain("a :smile: b").replace("\\", "")


@pytest.mark.parametrize(
    "html",
    [
        view.text_html(EVIL),
        view.quote_html(EVIL, verified=True),
        view.marked_text_html(EVIL, 5, 20),
        view.answer_html(make_answer(statements=(Statement(EVIL, True, (0,)), Statement(EVIL, False, ())))),
        view.answer_html(make_answer(found=False, answer=EVIL)),
        view.route_html(make_answer(model=EVIL)),
        view.receipt_html(make_answer(model=EVIL)),
    ],
)
def test_a_documents_words_never_become_markup(html):
    assert "<img" not in html
    assert "&lt;img" in html or "&lt;</mark>" in html or "&lt;" in html
    assert "*more*" in html


def test_an_unsupported_statement_looks_different_and_says_so():
    answer = make_answer(statements=(Statement("Seven wells.", True, (0,)), Statement("All are old.", False, ())))
    html = view.answer_html(answer)
    assert "<span>Seven wells.<sup>[1]</sup></span>" in html
    assert '<span class="ll-unsupported">All are old.</span>' in html
    assert html.count("no support found") == 1


def test_a_quote_says_whether_it_was_found():
    assert "found on the page" in view.quote_html("a", verified=True)
    assert "not found on the page" in view.quote_html("a", verified=False)
    assert "found" not in view.quote_html("a")


def test_text_without_a_picture_is_shown_with_the_quote_marked():
    html = view.marked_text_html("one two three", 4, 7)
    assert "one <mark>two</mark> three" in html
    assert "<mark>" not in view.marked_text_html("one two three", 0, 0)


def test_the_line_above_a_page_tells_when_nothing_is_marked():
    page, citation = make_page(), make_citation()
    assert view.page_line(page, 40, citation, has_picture=True) == "Page 27 of 40, quote marked"
    no_boxes = make_citation(boxes=())
    assert "no boxes" in view.page_line(page, 40, no_boxes, has_picture=True)
    assert view.page_line(page, 40, no_boxes, has_picture=False).endswith("quote marked")
    assert view.page_line(make_page(28, "24"), 40, citation, has_picture=True) == (
        "Page 28 of 40 (printed 24). The quote is on page 27"
    )


def test_the_receipt_says_what_was_read():
    html = view.receipt_html(make_answer())
    assert "2 of 120 pages, 118 searched, 3 by OCR, 0 dropped, 2 without readable text" in html
    assert "512 given to the model, 100 of them from a reading, which saved 1.5 s; the documents have 43,946" in html
    assert "4.2 (search 0.1)" in html
    assert "2 pages &lt;unread&gt;" in html


def test_a_document_in_the_list_shows_its_pages_and_whether_it_is_whole():
    assert view.document_label(make_document()) == r"report\.pdf · 1,234 pages"
    assert view.document_label(make_document(n_pages=1)).endswith("1 page")
    assert "incomplete" in view.document_label(make_document(state="adding"))


def test_a_stage_shows_how_far_it_is():
    assert view.stage_text("reading", 12, 1_200) == "reading: 12 of 1,200"
    assert view.stage_text("searching", 0, 1) == "searching"


def test_not_found_is_said_and_not_dressed_up():
    nearest = (make_citation(page=3, quote="words"),)
    html = view.answer_html(
        make_answer(found=False, answer="Not found in what was read.", nearest=nearest, statements=())
    )
    assert "Not found in what was read." in html
    assert "sup" not in html
