import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.ingestion.page_text import clean_text, reading_order
from longleaf.ingestion.pdf_parser import PdfFile


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


LEFT = [
    "The pumping station was built in the spring of the year that",
    "followed the great flood and has been in service ever since, with",
    "only two short interruptions, both of them for repairs that could",
    "not wait. Its three pumps lift water from the river to a basin on",
    "the hill, from where it runs to the houses of the lower town. The",
    "engineers who planned it expected a demand of half of what is now",
    "drawn on a summer day, and yet the pipes have never been replaced,",
    "which says much about the care with which they were laid.",
]
RIGHT = [
    "In winter the demand falls to a third of that, and the second and",
    "third pump rest for weeks. Their bearings are then inspected, and",
    "the seals are changed where they have become hard. A stock of all",
    "parts that wear is kept in the cellar of the station, since their",
    "maker closed long ago and each part has to be turned by a smith in",
    "the neighbouring town, who has kept the drawings. This takes two",
    "months at least, so that nobody likes to see the last of a kind go",
    "from the shelf before the next has come.",
]
TABLE = [("Net sales", "1,204", "1,102"), ("Cost of sales", "(804)", "(733)"), ("Gross profit", "400", "369")] * 3


def printed(tmp_path, draw):
    """The text of a page of 612 x 792 points as ingestion reads it."""
    canvas = pytest.importorskip("reportlab.pdfgen.canvas").Canvas(str(tmp_path / "page.pdf"), pagesize=(612, 792))
    canvas.setFont("Helvetica", 8)
    draw(canvas)
    canvas.save()
    with PdfFile(tmp_path / "page.pdf") as pdf:
        page = pdf.read_page(0)
    assert page.boxes.shape == (len(page.text), 4)
    return page.text


def by_rows(canvas):
    for i, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True)):
        canvas.drawString(50, 700 - 11 * i, left)
        canvas.drawString(320, 700 - 11 * i, right)


def by_columns(canvas):
    for x, column in ((50, LEFT), (320, RIGHT)):
        for i, line in enumerate(column):
            canvas.drawString(x, 700 - 11 * i, line)


def table(canvas):
    for i, (label, this_year, last_year) in enumerate(TABLE):
        canvas.drawString(50, 700 - 11 * i, label)
        canvas.drawRightString(360, 700 - 11 * i, this_year)
        canvas.drawRightString(500, 700 - 11 * i, last_year)


@pytest.mark.parametrize("draw", [by_rows, by_columns])
def test_two_columns_of_prose_are_read_one_after_the_other(tmp_path, draw):
    assert printed(tmp_path, draw).split("\n") == [*LEFT, *RIGHT]


def test_a_title_over_two_columns_and_a_line_under_them_stay_where_they_are(tmp_path):
    title = "How the water of the lower town is lifted, stored and shared among its houses, from the flood to this day"

    def draw(canvas):
        canvas.drawString(50, 730, title)
        by_rows(canvas)
        canvas.drawString(50, 560, title.upper())

    assert printed(tmp_path, draw).split("\n") == [title, *LEFT, *RIGHT, title.upper()]


def test_a_table_keeps_its_rows_with_and_without_columns_of_prose_above(tmp_path):
    rows = ["  ".join(cells) for cells in TABLE]
    assert printed(tmp_path, table).split("\n") == rows

    def draw(canvas):
        canvas.translate(0, 50)
        by_rows(canvas)
        canvas.translate(0, -160)
        table(canvas)

    assert printed(tmp_path, draw).split("\n") == [*LEFT, *RIGHT, *rows]


def test_two_lists_beside_each_other_keep_their_rows(tmp_path):
    names = [
        "Anna Berger",
        "Bruno Castelli",
        "Clara Dupont",
        "David Evans",
        "Elena Fischer",
        "Frank Gruber",
        "Greta Holm",
    ]

    def draw(canvas):
        for i, name in enumerate(names):
            canvas.drawString(50, 700 - 11 * i, name)
            canvas.drawString(320, 700 - 11 * i, f"Head of Department {name[0]}")

    assert printed(tmp_path, draw).split("\n") == [f"{name}  Head of Department {name[0]}" for name in names]


def test_quotes_from_reordered_columns_have_the_boxes_of_their_letters():
    rows = [
        (x, y, line)
        for y, lines in enumerate(zip(LEFT, RIGHT, strict=True))
        for x, line in zip((0, 400), lines, strict=True)
    ]
    codes = np.array([ord(c) for _, _, line in rows for c in line + "\n"], np.uint32)
    boxes = np.concatenate(
        [
            [*([x + 5 * i, 12 * y, x + 5 * i + 5, 12 * y + 10] for i in range(len(line))), [np.nan] * 4]
            for x, y, line in rows
        ]
    ).astype(np.float32)
    text, out = clean_text(*reading_order(codes, boxes))
    assert text == "\n".join([*LEFT, *RIGHT])
    start = text.index("engineers who planned")
    np.testing.assert_array_equal(out[start], [0, 60, 5, 70])


@given(st.lists(st.tuples(code, edge, edge, edge, edge), max_size=80))
@settings(deadline=None)
def test_reading_order_loses_and_invents_no_character(characters):
    codes = np.array([c[0] for c in characters], np.uint32)
    boxes = np.array([c[1:] for c in characters], np.float32).reshape(-1, 4)
    ordered, ordered_boxes = reading_order(codes, boxes)
    assert ordered_boxes.shape == (len(ordered), 4)
    assert sorted(ordered[ordered != 0x0A]) == sorted(codes[codes != 0x0A])
