import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.ingestion import Page
from longleaf.retrieval.citations import boxes_of, locate, locate_in_pages


def page(text: str, boxes: np.ndarray | None = None, number: int = 1) -> Page:
    boxes = np.full((len(text), 4), np.nan, np.float32) if boxes is None else boxes
    return Page(number=number, label=str(number), text=text, width=612, height=792, boxes=boxes, source="text")


def found(quote: str, text: str) -> str | None:
    span = locate(quote, text)
    return None if span is None else text[slice(*span)]


@pytest.mark.parametrize(
    ("quote", "text", "expected"),
    [
        ("net sales rose", "In 2021 net sales rose.", "net sales rose"),
        ("net sales rose", "In 2021 net\nsales  rose.", "net\nsales  rose"),
        ("Net Sales", "the net sales", "net sales"),
        ("the company's plan", "the company’s plan", "the company’s plan"),
        ("2019-2021", "from 2019–2021 on", "2019–2021"),
        ("operating expenses", "all oper-\nating expenses", "oper-\nating expenses"),
        ("$ 192,052", "Net sales $ 192,052 $ 163,220", "$ 192,052"),
        ("net sales fell", "In 2021 net sales rose.", None),
        ("192,053", "Net sales $ 192,052", None),
        ("", "anything", None),
        ("  ", "anything", None),
    ],
)
def test_a_quote_is_found_as_printed_or_not_at_all(quote: str, text: str, expected: str | None) -> None:
    assert found(quote, text) == expected


@given(st.text(min_size=1, max_size=300), st.data())
def test_every_span_of_a_text_is_found_with_the_same_characters(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    quote = text[start:end]
    if quote.strip():
        assert found(quote, text) == quote.strip()


@given(st.text(alphabet="ab c\n-", min_size=1, max_size=60), st.text(alphabet="ab c\n-", min_size=1, max_size=8))
def test_what_is_found_differs_in_white_space_and_line_end_hyphens_only(text: str, quote: str) -> None:
    if (there := found(quote, text)) is not None:
        strip = str.maketrans("", "", " \n-")
        assert there.translate(strip) == quote.translate(strip)


def test_the_first_page_that_holds_the_quote_is_named() -> None:
    pages = [page("nothing here", number=1), page("the quoted words", number=2), page("the quoted words", number=3)]
    location = locate_in_pages("quoted words", pages)
    assert location is not None
    assert (location.page, location.start, location.end) == (2, 4, 16)


def test_boxes_are_one_for_each_line_and_skip_characters_without_one() -> None:
    text = "ab\ncd"
    boxes = np.array([[10, 10, 20, 22], [20, 11, 30, 22], [np.nan] * 4, [10, 30, 20, 42], [20, 30, 30, 42]], np.float32)
    assert boxes_of(page(text, boxes), 0, 5) == ((10.0, 10.0, 30.0, 22.0), (10.0, 30.0, 30.0, 42.0))
    assert boxes_of(page(text, boxes), 1, 3) == ((20.0, 11.0, 30.0, 22.0),)
    assert boxes_of(page(text, boxes), 2, 3) == ()
