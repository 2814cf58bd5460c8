import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.ingestion.page_text import clean_text


def laid_out(text, *, width=5.0, height=12.0):
    """Characters of a monospaced page; spaces and line ends have no box."""
    rows, x, y = [], 0.0, 0.0
    for c in text:
        if c in "\r\n":
            rows.append((np.nan,) * 4)
            x, y = 0.0, y + (height if c == "\n" else 0)
        else:
            rows.append((np.nan,) * 4 if c == " " else (x, y, x + width, y + height))
            x += width
    codes = np.array([ord(c) for c in text], np.uint32)
    return codes, np.array(rows, np.float32).reshape(-1, 4)


def clean(text, **options):
    cleaned, boxes = clean_text(*laid_out(text, **options))
    assert boxes.shape == (len(cleaned), 4)
    return cleaned


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("one\r\ntwo", "one\ntwo"),
        ("one\rtwo", "one\ntwo"),
        ("one  \r\n\r\n  two ", "one\ntwo"),
        ("a\u00a0b\u2003c\td", "a b c d"),
        ("a\u200bb\x00c\ufeffd", "abcd"),
        ("ef\ufb01cient \ufb03 \ufb00", "efficient ffi ff"),
        ("\uf0b7 item", "• item"),
        ("infor\ufffemation", "information"),
        ("infor\x02mation", "information"),
        ("2019\ufffe2020", "2019-2020"),
        ("Anglo\ufffeAmerican", "Anglo-American"),
        ("a long-term plan, long\ufffeterm debt", "a long-term plan, long-term debt"),
        ("soft\u00ad\r\nware", "software"),
        ("co\u00adoperate", "co-operate"),
        ("page 1\u00ad\r\n2 of 3", "page 1-\n2 of 3"),
        ("", ""),
        ("\r\n \r\n", ""),
    ],
)
def test_clean_text(raw, expected):
    assert clean(raw) == expected


def test_lone_surrogates_are_dropped():
    codes, boxes = laid_out("abc")
    codes[1] = 0xD834
    assert clean_text(codes, boxes)[0] == "ac"


def test_characters_beyond_the_basic_plane_count_once():
    text, boxes = clean_text(*laid_out("a𝒳b"))
    assert text == "a𝒳b"
    assert len(boxes) == 3


def test_letters_of_a_ligature_share_its_box():
    text, boxes = clean_text(*laid_out("x\ufb01y"))
    assert text == "xfiy"
    np.testing.assert_array_equal(boxes[1], boxes[2])
    np.testing.assert_array_equal(boxes[1], [5, 0, 10, 12])


def test_a_wide_gap_is_two_spaces_and_a_narrow_one_is_one():
    codes, boxes = laid_out("net sales 12 13")
    boxes[10:12, [0, 2]] += 200  # "12" far to the right
    boxes[13:15, [0, 2]] += 204  # "13" a little further
    text, out = clean_text(codes, boxes)
    assert text == "net sales  12 13"
    assert np.isnan(out[9:11]).all()


def test_a_line_that_goes_on_further_right_at_the_same_height_is_the_same_line():
    codes, boxes = laid_out("sales\r\n195\r\nnext")
    boxes[7:10] += [100, -12, 100, -12]  # "195" back up beside "sales"
    assert clean_text(codes, boxes)[0] == "sales  195\nnext"


def test_a_line_that_starts_again_at_the_left_is_another_line():
    codes, boxes = laid_out("sales\r\n195")
    boxes[7:10] += [-100, -12, -100, -12]
    assert clean_text(codes, boxes)[0] == "sales\n195"


def test_characters_without_area_have_no_box():
    codes, boxes = laid_out("ab")
    boxes[1, 2] = boxes[1, 0]
    _, out = clean_text(codes, boxes)
    assert np.isnan(out[1]).all()


code = st.one_of(
    st.integers(0, 0x10FFFF),
    st.sampled_from([0x0A, 0x0D, 0x20, 0xA0, 0xAD, 2, 0xFFFE, 0xFB01, 0xFB03, 0xD800, 0x2D, 0x61, 0x62, 0x31]),
)
edge = st.one_of(st.floats(-50, 900, width=32), st.just(float("nan")))


@given(st.lists(st.tuples(code, edge, edge, edge, edge), max_size=80))
@settings(deadline=None)
def test_text_and_boxes_stay_in_step_whatever_comes(characters):
    codes = np.array([c[0] for c in characters], np.uint32)
    boxes = np.array([c[1:] for c in characters], np.float32).reshape(-1, 4)
    text, out = clean_text(codes, boxes)
    assert out.shape == (len(text), 4)
    assert out.dtype == np.float32
    text.encode()  # no surrogates
    assert not any(c in text for c in "\x00\r\t\xa0\xad\ufffe\ufb01")
    assert text == text.strip(" \n")
    assert "   " not in text
    assert " \n" not in text
    assert "\n " not in text
    assert "\n\n" not in text
    assert np.isnan(out[[c == "\n" for c in text]]).all()
    whole = np.isfinite(out).all(axis=1)
    assert (whole | np.isnan(out).all(axis=1)).all()
