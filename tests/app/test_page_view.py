"""What the browser draws: labels that tell pages apart, and a document's words as mere words."""

from types import SimpleNamespace

import pytest

from longleaf.app import page_view as view
from longleaf.app.receipt import receipt_rows
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
        view.answer_html(make_answer(statements=(Statement(EVIL, True, (0,)), Statement(EVIL, False, ())))),
        view.answer_html(make_answer(found=False, answer=EVIL)),
        view.receipt_html(receipt_rows(make_answer(model=EVIL))),
    ],
)
def test_a_documents_words_never_become_markup(html):
    assert "<img" not in html
    assert "&lt;img" in html
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


def test_the_receipt_says_what_was_read():
    html = view.receipt_html(receipt_rows(make_answer()))
    assert "2 of 120 pages, 118 searched, 3 by OCR, 0 dropped, 2 without readable text" in html
    assert "512 given to the model, 100 of them from a reading, which saved 1.5 s; the documents have 43,946" in html
    assert "4.2 (search 0.1)" in html
    assert "2 pages &lt;unread&gt;" in html


def test_not_found_is_said_and_not_dressed_up():
    nearest = (make_citation(page=3, quote="words"),)
    html = view.answer_html(
        make_answer(found=False, answer="Not found in what was read.", nearest=nearest, statements=())
    )
    assert "Not found in what was read." in html
    assert "sup" not in html


@pytest.mark.parametrize(("place", "line"), [(1, "next in line"), (2, "waiting: 1 in line before it")])
def test_who_waits_is_told_how_many_come_first(place, line):
    pytest.importorskip("streamlit")
    from longleaf.app.ui.jobs import stage_line

    assert stage_line(SimpleNamespace(state="waiting", place=place)) == line
