import numpy as np
import pytest

from longleaf.ingestion import OutlineEntry
from longleaf.retrieval.furniture import furniture_lines
from longleaf.retrieval.structure import (
    MAX_PATH_DEPTH,
    MAX_TITLE_CHARS,
    find_headings,
    find_tables,
    footnote_start,
    page_lines,
    section_path,
)

PROSE = "The crew of the upper main changed the second pump in spring and found it worn beyond any repair"


def printed(*lines, size=10.0):
    """A page of (text, options) lines under each other: `x`, `size`, `gap` above, or a `y` of its own, in points."""
    texts, boxes, y = [], [], 40.0
    for line in lines:
        text, options = line if isinstance(line, tuple) else (line, {})
        height = options.get("size", size)
        y += options.get("gap", 0.0)
        x = options.get("x", 50.0)
        texts.append(text)
        for i in range(len(text)):
            top = options.get("y", y)
            boxes.append((x + i * height / 2, top, x + (i + 1) * height / 2, top + height))
        boxes.append((np.nan,) * 4)
        y += 0 if "y" in options else height * 1.2
    return "\n".join(texts), np.array(boxes[:-1], np.float32)


def headings(*pages, outline=(), width=612.0):
    lines = [page_lines(*page) if isinstance(page, tuple) else page_lines(page) for page in pages]
    found = find_headings(range(1, len(pages) + 1), lines, outline, page_widths=[width] * len(pages))
    return [[(heading.title, heading.level) for heading in page] for page in found]


def titles(*pages, **options):
    return [title for page in headings(*pages, **options) for title, _ in page]


@pytest.mark.parametrize(
    "title",
    [
        "Item 7. Management’s Discussion",
        "ITEM 8.",
        "Note 5—Debt",
        "NOTE 4 — INVESTMENTS",
        "Part II",
        "Article 5",
        "Chapter 3: Pumps",
    ],
)
def test_numbered_divisions_are_headings_with_and_without_boxes(title):
    assert titles(printed((title, {"gap": 8}), (PROSE, {"gap": 8}))) == [title]
    assert titles(f"{title}\n\n{PROSE}.") == [title]


@pytest.mark.parametrize(
    "line",
    [
        "Item 7. Management’s Discussion and Analysis 23",  # a line of the contents
        "Note 5 to these statements says more of it",
        "Note 5, Debt, for the terms;",
        "Pumps  1,200  1,100",
        "Total pumps 2024",
        "/s/ ANNA BERGER",
        "By: ANNA BERGER",
        "(IN MILLIONS)",
        "PUMPS AND PIPES, INC.",
        "37",
        "$ MILLIONS OF PUMPS",
    ],
)
def test_what_is_no_heading(line):
    assert titles(printed(PROSE + ".", (line, {"gap": 8}), (PROSE, {"gap": 8}))) == []


def test_a_reference_broken_over_two_lines_is_no_heading():
    assert titles(printed(PROSE + ", as is said in", "Note 5", PROSE)) == []


def test_larger_letters_rank_by_size_and_numbers_by_depth():
    page = printed(
        PROSE,
        ("Water Supply", {"size": 20.0, "gap": 10}),
        *[PROSE] * 9,
        ("Pumping stations", {"size": 14.0, "gap": 10}),
        *[PROSE] * 9,
        ("3.2 Seals and bearings", {"gap": 10}),
        *[PROSE] * 9,
    )
    found = headings(page)[0]
    assert [title for title, _ in found] == ["Water Supply", "Pumping stations", "3.2 Seals and bearings"]
    assert found[0][1] < found[1][1] < found[2][1]


def test_a_page_of_large_letters_has_no_headings_by_size():
    slide = printed(("Pumps and pipes", {"size": 30.0}), ("Seals and bearings", {"size": 24.0}), PROSE[:70])
    assert titles(printed(*[PROSE] * 30), slide) == []


def test_a_short_line_in_title_case_over_prose_is_a_minor_heading_unless_it_is_in_the_middle_of_a_table():
    row = "Changes to the second pump  1,200  1,100"
    page = printed(
        PROSE, ("Upper Main Pumps", {"gap": 10}), (PROSE, {"gap": 8}), row, row, ("Lower Main Pumps", {"gap": 9}), row
    )
    assert titles(page) == ["Upper Main Pumps"]


def test_a_heading_broken_over_two_lines_is_one():
    page = printed(("ITEM 7. DISCUSSION OF FINANCIAL CONDITION AND RESULTS OF", {}), "OPERATIONS", (PROSE, {"gap": 12}))
    assert titles(page) == ["ITEM 7. DISCUSSION OF FINANCIAL CONDITION AND RESULTS OF OPERATIONS"]


def test_a_page_of_contents_gives_no_sections_but_the_chapter_that_it_is_of():
    entries = [f"Note {n}. Pumps of the main  {20 + n}" for n in range(1, 9)]
    assert titles(printed("PART I", *entries)) == []
    assert titles(printed("Item 8. Financial Statements", "Index to statements  20", *entries)) == [
        "Item 8. Financial Statements"
    ]


def test_a_continued_heading_has_the_title_of_the_first():
    assert titles(printed(("Note 5—Debt (Continued)", {}), (PROSE, {"gap": 8}))) == ["Note 5—Debt"]


def test_titles_of_the_outline_are_found_among_the_lines_whatever_their_case_and_breaks():
    outline = [
        OutlineEntry(1, "Water Supply", 1),
        OutlineEntry(2, "The Upper Main", 1),
        OutlineEntry(2, "Not printed", 1),
    ]
    page = f"WATER  SUPPLY\n{PROSE}. The upper main is old.\nThe Upper\nMain\n{PROSE}."
    lines = page_lines(page)
    found = find_headings([1], [lines], outline)[0]
    assert [(h.title, h.first, h.last) for h in found] == [
        ("Water Supply", 0, 0),
        ("The Upper Main", 2, 3),
        ("Not printed", 4, 3),
    ]
    assert found[0].level < found[1].level == found[2].level


def test_a_section_path_is_bounded():
    path = section_path(["Part II", *["A title that goes on and on until nobody knows where it began " * 3] * 4])
    assert path.count(" › ") == MAX_PATH_DEPTH - 1
    assert all(len(title) <= MAX_TITLE_CHARS + 1 for title in path.split(" › "))
    assert section_path(["Part II", "Item 8", "Note 5—Debt"]) == "Part II › Item 8 › Note 5—Debt"


def test_a_table_has_its_title_units_column_names_and_the_labels_between_its_rows():
    text = (
        f"{PROSE}.\nPumps in Service\n(in millions, except per share amounts)\nYear ended June 30,\n2024  2023\n"
        "Upper main  12  11\nLower main:\nFirst pump  4  3\nSecond pump  5  5\nThe pumps were counted "
        "in spring by the crew of the main."
    )
    lines = page_lines(text)
    (table,) = find_tables(lines)
    assert lines[table.first].text == "Pumps in Service"
    assert lines[table.data].text == "Upper main  12  11"
    assert lines[table.last].text == "Second pump  5  5"


def test_two_rows_are_no_table_and_prose_ends_one():
    row = "Upper main  12  11"
    assert find_tables(page_lines(f"{row}\n{row}")) == []
    text = f"{row}\n{row}\n{row}\n{PROSE}.\n{row}\n{row}\n{row}"
    assert [(t.first, t.last) for t in find_tables(page_lines(text))] == [(0, 2), (4, 6)]


def test_a_long_label_with_a_colon_stays_in_its_table():
    label = "Adjustments to reconcile the pumps of the main with those in the cellar:"
    row = "Upper main  12  11"
    assert [(t.first, t.last) for t in find_tables(page_lines(f"{row}\n{label}\n{row}\n{row}"))] == [(0, 3)]
    years = f"{row}\n{label}\n2024  2023\n{row}"
    assert [(t.first, t.last) for t in find_tables(page_lines(years))] == [(2, 3)]


def test_small_print_with_a_mark_at_the_bottom_is_a_footnote():
    page = printed(
        *[PROSE] * 5, ("(1) Without the pumps of the lower main,", {"size": 8.0}), ("which is older.", {"size": 8.0})
    )
    lines = page_lines(*page)
    assert footnote_start(lines, 10.0) == 5
    assert footnote_start(page_lines(*printed(*[PROSE] * 5, "(1) As large as the rest")), 10.0) == 6
    assert footnote_start(page_lines(page[0]), np.nan) == 7


def test_a_gap_and_an_indent_open_a_paragraph():
    page = printed(PROSE, PROSE, (PROSE, {"gap": 8}), PROSE, (PROSE, {"x": 70.0}), PROSE)
    assert [line.opens_paragraph for line in page_lines(*page)] == [True, False, True, False, True, False]


def test_without_boxes_a_blank_or_a_short_last_line_opens_a_paragraph():
    text = f"{PROSE}\nend here.\n{PROSE}\n{PROSE}\n\n{PROSE}"
    assert [line.opens_paragraph for line in page_lines(text)] == [True, False, True, False, True]


def furniture(pages, numbers=None):
    lines = [page_lines(*page) if isinstance(page, tuple) else page_lines(page) for page in pages]
    found = furniture_lines(numbers or range(1, len(pages) + 1), lines)
    return [[page[i].text for i in sorted(indices)] for page, indices in zip(lines, found, strict=True)]


WORDS = ["north", "south", "east", "west", "upper", "lower", "inner", "outer", "first", "last"]


def body(n):
    return [
        f"The {WORDS[n % 10]} pump of the {WORDS[(n * 7 + i) % 10]} main was changed in the {WORDS[i]} week"
        for i in range(8)
    ]


def test_furniture_is_found_at_the_edge_of_the_page_wherever_it_stands_in_the_text():
    pages = [
        printed(*body(n)[:2], (f"{n} of 9", {"y": 760}), ("Pumps and Pipes", {"y": 20}), *body(n)[2:])
        for n in range(1, 10)
    ]
    assert furniture(pages) == [[f"{n} of 9", "Pumps and Pipes"] for n in range(1, 10)]


def test_titles_of_chapters_run_on_right_pages_and_that_of_the_book_on_left_ones():
    chapters = ["Springs", "Pumps", "Pipes"]
    tops = [chapters[n // 8] if n % 2 else "The Book of Water" for n in range(24)]
    pages = ["\n".join([top, *body(n)]) for n, top in enumerate(tops)]
    assert furniture(pages) == [[top] for top in tops]


def test_a_company_over_its_statements_on_a_few_pages_is_no_furniture():
    pages = ["\n".join(["Table of Contents", *(["PUMPS, INC."] if 5 < n < 11 else []), *body(n)]) for n in range(40)]
    assert furniture(pages) == [["Table of Contents"]] * 40


@pytest.mark.parametrize(
    ("last", "goes"),
    [
        ("10-K | {n}", True),
        ("Page {n} of 120", True),
        ("AMD 2015 Annual Report {after}", True),
        ("Chapter {chapter}, page {in_chapter}", True),
        ("HARBOUR-000{after}", True),
        ("p.{n}", True),
        ("Form 2.14, printed 31.12.2024", True),
        ("Total due: {cents}.50 EUR", False),
        ("Total due: {n}.50", False),
        ("Total due: {cents} EUR", False),
        ("Total due: {n} EUR", False),
        ("Total due: {n}EUR", False),
        ("Total due: CHF {n}", False),
        ("Total due: 20 EUR", False),
        ("Total due: $ {n}", False),
        ("{n} € in all", False),
        ("Cranes in use: {cents}", False),
        ("Fees of this month {n},204", False),
    ],
)
def test_a_line_that_comes_back_is_furniture_only_where_its_numbers_are(last, goes):
    fields = [
        {"n": n, "after": n + 56, "chapter": n // 4 + 1, "in_chapter": n % 4 + 1, "cents": 900 + n * n * 7 % 61}
        for n in range(1, 13)
    ]
    pages = ["\n".join([*body(n), last.format(**values)]) for n, values in enumerate(fields)]
    assert furniture(pages) == [[last.format(**values)] if goes else [] for values in fields]


def test_a_page_does_not_lose_all_its_lines():
    assert furniture([f"Invoice {n}: 12.50 EUR" for n in range(1, 11)]) == [[]] * 10
    assert furniture([f"Invoice {n}" for n in range(1, 11)]) == [[]] * 10
    pages = [*("\n".join(["Springs", *body(n), str(n)]) for n in range(1, 10)), "Springs\n10"]
    assert furniture(pages) == [*(["Springs", str(n)] for n in range(1, 10)), ["10"]]


def test_a_number_alone_is_a_page_number_only_in_step_with_the_pages():
    pages = ["\n".join([*body(n), last]) for n, last in enumerate(["ii", "iii", "1", "2", "1,204", "640"])]
    assert furniture(pages) == [["ii"], ["iii"], ["1"], ["2"], [], []]
