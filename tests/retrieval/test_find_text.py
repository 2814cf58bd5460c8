"""Searching a document: every place is found, with the very characters that are marked."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.retrieval import locate
from longleaf.retrieval.citations import folded, folded_words
from longleaf.retrieval.find_text import TextHit, find_text, spans_of

LETTERS = st.text(alphabet="abIß é-‐–—’'\"“ﬁİ\n\t  1", max_size=60)


def found(words: str, text: str) -> list[str]:
    return [text[start:end] for start, end in spans_of(words, text)]


@pytest.mark.parametrize(
    ("words", "text", "places"),
    [
        ("net sales", "Net sales rose; NET\nSALES fell; net  sales", ["Net sales", "NET\nSALES", "net  sales"]),
        (" net   sales ", "net sales", ["net sales"]),
        ("net sales", "netsales", []),
        ("is a", "advisable", []),
        ("art", "a rt, part", ["art"]),
        ("operating", "oper-\nating, operating", ["oper-\nating", "operating"]),
        ("long-term", "long-\nterm, long–term, longterm", ["long-\nterm", "long–term"]),
        ("company's", "the company’s", ["company’s"]),
        ('"fair"', "of “fair” value", ["“fair”"]),
        ("find", "to ﬁnd", ["ﬁnd"]),
        ("résumé", "resume Résumé", ["Résumé"]),
        ("aa", "aaaa", ["aa", "aa"]),
        ("$4.5 (a*)", "about $4.5 (a*) or so", ["$4.5 (a*)"]),
        ("", "text", []),
        (" \n", "text", []),
        ("-", "a - b", ["-"]),
    ],
)
def test_what_is_forgiven_and_what_is_not(words, text, places):
    assert found(words, text) == places


@given(LETTERS)
def test_the_quick_folding_is_the_exact_one_without_the_places(text):
    exact, positions = folded(text, gap=" ")
    assert folded_words(text) == exact.strip()
    assert len(positions) == len(exact)
    assert positions == sorted(positions)


@given(LETTERS, st.data())
def test_what_stands_in_a_text_is_found_where_it_stands(text, data):
    words = [word for word in text.split() if word]
    if not words:
        return
    start = data.draw(st.integers(0, len(words) - 1))
    wanted = " ".join(words[start : data.draw(st.integers(start + 1, len(words)))])
    spans = list(spans_of(wanted, " ".join(words)))
    assert spans, wanted
    assert all(0 <= a < b for a, b in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    for a, b in spans:
        assert locate(wanted, " ".join(words)[a:b]) is not None


def test_hits_come_in_reading_order_up_to_the_limit():
    pages = [SimpleNamespace(number=n, text="oil and wick\nand oil") for n in (1, 2, 3)]
    library = SimpleNamespace(pages=lambda document: iter(pages))
    assert find_text(library, None, "OIL", limit=3) == [TextHit(1, 0, 3), TextHit(1, 17, 20), TextHit(2, 0, 3)]
    assert len(find_text(library, None, "oil")) == 6
    assert find_text(library, None, "gas") == []
