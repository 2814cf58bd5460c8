import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.ingestion import Library, OutlineEntry, Page
from longleaf.retrieval import PassageStore
from longleaf.retrieval.furniture import furniture_lines
from longleaf.retrieval.passages import HEADER_CHARS, MIN_CHARS, TABLE_CHARS, TARGET_CHARS, cut_passages
from longleaf.retrieval.structure import page_lines

WORDS = ["north", "south", "east", "west", "upper", "lower", "inner", "outer", "first", "last"]


def prose(n: int, seed: int = 0) -> str:
    """`n` sentences that no other page has: a line that stands on many pages is taken for a running header."""
    return "".join(
        f"The {WORDS[(seed + i) % 10]} crew changed {WORDS[(seed * 7 + i) % 10]} pump in the {WORDS[seed % 10]} main. "
        for i in range(n)
    )


def test_passages_stay_inside_their_page_and_quote_it() -> None:
    pages = [(1, prose(45, 1)), (2, prose(45, 2))]
    passages = cut_passages(pages)
    texts = dict(pages)
    assert len(passages) > 4
    assert all(texts[p.page][p.start : p.end] == p.text for p in passages)
    assert all(len(p.text) <= TARGET_CHARS for p in passages)


def test_the_last_sentence_of_a_passage_opens_the_next() -> None:
    first, second, *_ = cut_passages([(1, "".join(f"Sentence number {i} tells of pumps. " for i in range(80)))])
    assert first.text.rsplit("Sentence", 1)[1] in second.text.split("Sentence", 2)[1]


def test_running_headers_footers_and_page_numbers_belong_to_no_passage() -> None:
    pages = [(n, f"Annual Report 2024\n{prose(3, n)}\nChapter {WORDS[n]} ends.\nPage {n} of 9") for n in range(1, 10)]
    joined = "\n".join(p.text for p in cut_passages(pages))
    assert "Annual Report 2024" not in joined
    assert "of 9" not in joined
    assert joined.count("Chapter ") == 9


def test_amounts_at_the_end_of_pages_are_in_passages() -> None:
    pages = [(n, f"{prose(3, n)}\nTotal due: {100 + n * 13 % 7}.50 EUR") for n in range(1, 11)]
    assert "\n".join(p.text for p in cut_passages(pages)).count("Total due: ") == 10
    assert len(cut_passages([(n, f"Invoice {n}: {n}.50 EUR") for n in range(1, 11)])) == 10


def test_sections_come_from_the_outline_and_carry_over_pages() -> None:
    outline = [OutlineEntry(1, "Water Supply", 1), OutlineEntry(2, "Reservoirs", 2), OutlineEntry(1, "Finance", 3)]
    pages = [
        (1, "Water Supply\n" + prose(6, 1)),
        (2, prose(6, 2) + "\nReservoirs\n" + prose(6, 3)),
        (3, "Finance\n" + prose(6, 4)),
        (4, prose(1, 5)),
    ]
    by_page = {p.page: p.section for p in cut_passages(pages, outline)}
    assert by_page == {1: "Water Supply", 2: "Water Supply › Reservoirs", 3: "Finance", 4: "Finance"}
    sections = [p.section for p in cut_passages(pages, outline) if p.page == 2]
    assert sections[0] == "Water Supply"


def test_a_new_section_begins_a_passage() -> None:
    outline = [OutlineEntry(1, "One", 1), OutlineEntry(1, "Two Here", 1)]
    page = "One\n" + prose(5, 1) + "\nTwo Here\n" + prose(5, 2)
    assert [p.text.split("\n")[0] for p in cut_passages([(1, page)], outline)] == ["One", "Two Here"]


def test_numbered_headings_stand_in_for_a_missing_outline_but_not_the_table_of_contents() -> None:
    pages = [(1, "Item 1. Business 4\nItem 7. Discussion 23\n"), (2, "Item 7. Discussion\n" + prose(3))]
    assert {p.page: p.section for p in cut_passages(pages)} == {1: "", 2: "Item 7. Discussion"}


def test_empty_pages_give_no_passages_but_may_open_a_section() -> None:
    assert cut_passages([(1, ""), (2, " \n ")]) == []
    (passage,) = cut_passages([(1, ""), (2, prose(2))], [OutlineEntry(1, "Water Supply", 1)])
    assert passage.section == "Water Supply"


ROWS = [f"{WORDS[i % 10].title()} main and its {WORDS[i // 10]} pumps  {1200 + i}  {1100 + i}" for i in range(60)]
TABLE_TOP = "Pumps in Service\n(in millions, except per share amounts)\n2024  2023"


def test_a_table_is_one_passage_with_its_title_and_the_sentence_before_it() -> None:
    text = (
        prose(6, 1)
        + "\nThe following table shows the pumps:\n"
        + TABLE_TOP
        + "\n"
        + "\n".join(ROWS[:8])
        + "\n"
        + prose(4, 2)
    )
    tables = [p for p in cut_passages([(1, text)]) if p.kind == "table"]
    assert [p.text for p in tables] == [text[text.index("The following table") : text.index(ROWS[7]) + len(ROWS[7])]]
    assert tables[0].header == ""


def test_further_parts_of_a_long_table_carry_its_title_units_and_columns_outside_their_span() -> None:
    text = TABLE_TOP + "\n" + "\n".join(ROWS)
    first, *further = cut_passages([(1, text)])
    assert first.header == ""
    assert len(further) >= 2
    for part in further:
        assert part.kind == "table"
        assert part.header == "Pumps in Service\n(in millions, except per share amounts)  2024  2023"
        assert part.text.split("\n") == [row for row in ROWS if row in part.text]
        assert len(part.text) <= TABLE_CHARS + max(map(len, ROWS))
    assert "\n".join([first.text, *(part.text for part in further)]) == text


def test_a_header_is_bounded() -> None:
    top = "\n".join(["Pumps of the Upper and Lower Main, in Use"] * 12)
    parts = cut_passages([(1, "As follows:\n" + top + "\n" + "\n".join(ROWS))])
    assert 0 < max(len(p.header) for p in parts) <= 2 * HEADER_CHARS + 1


def test_a_table_that_goes_on_over_the_page_carries_the_header_of_its_beginning() -> None:
    pages = [
        (1, TABLE_TOP + "\n" + "\n".join(ROWS[:12])),
        (2, "\n".join(ROWS[12:20]) + "\n" + prose(4, 3)),
        (3, prose(3, 4)),
    ]
    header = next(p.header for p in cut_passages(pages) if p.page == 2 and p.kind == "table")
    assert header.endswith("2024  2023\n(continued from page 1)")
    pages[1] = (2, "2022  2021\n" + pages[1][1])
    assert [p.header for p in cut_passages(pages) if p.page == 2 and p.kind == "table"] == [""]


def test_a_passage_prefers_to_end_with_a_paragraph() -> None:
    first = prose(11, 1).strip()
    text = first + "\n\n" + prose(9, 2)
    assert MIN_CHARS < len(first) < TARGET_CHARS
    assert cut_passages([(1, text)])[0].text == first


def test_footnotes_stand_apart_from_the_prose_above() -> None:
    text = "\n".join(prose(2, n).strip() for n in range(6))
    note = "(1) Without the pumps of the lower main."
    boxes = [(0.0, 0.0, 0.0, 0.0)] * 0
    for row, line in enumerate([*text.split("\n"), note]):
        size = 7.0 if line == note else 10.0
        boxes += [(50 + 2.0 * i, 12.0 * row, 52 + 2.0 * i, 12.0 * row + size) for i in range(len(line))] + [
            (np.nan,) * 4
        ]
    page = Page(1, "1", f"{text}\n{note}", 612, 792, np.array(boxes[:-1], np.float32), "text")
    last = cut_passages([page])[-1]
    assert (last.kind, last.text) == ("footnote", note)


def test_a_page_without_boxes_is_cut_like_its_text() -> None:
    text = "Item 7. Discussion\n\n" + prose(20, 1)
    page = Page(1, "1", text, 612, 792, np.empty((0, 4), np.float32), "text")
    assert (
        cut_passages([page])
        == cut_passages([(1, text)])
        == cut_passages([(1, text, np.full((len(text), 4), np.nan, np.float32))])
    )


def test_stored_passages_come_back_with_header_and_kind_and_the_header_is_searched(tmp_path) -> None:
    (tmp_path / "pumps.txt").write_text(TABLE_TOP + "\n" + "\n".join(ROWS[:50]) + "\n")
    with Library(tmp_path / "home") as library:
        document = library.add(tmp_path / "pumps.txt").document
        store = PassageStore(library)
        n = store.cut(document)
        rows = (
            library.connection()
            .execute("SELECT rowid FROM passages_text WHERE passages_text MATCH 'share AND service'")
            .fetchall()
        )
        assert len(rows) == n > 2
        parts = [stored.passage for stored in store.get(row[0] for row in rows)]
        assert parts == cut_passages(list(library.pages(document)), document.outline)
        assert {part.kind for part in parts} == {"table"}


LINES = st.sampled_from(
    """Item 7. Discussion|NOTE 4 — INVESTMENTS|PUMPS OF THE MAIN|Upper Main Pumps|3.2 Seals|(in millions)|2024  2023|37|
    Annual Report|First pump  1,200  1,100|Second pump  5  4|Lower main:|(1) Without the lower main.|• The pump.||
    The crew of the upper main changed the second pump in spring. It had been worn|
    beyond repair, as was found when it was opened by the crew.""".replace("|\n    ", "|").split("|")
)
SIZES = st.sampled_from([7.0, 10.0, 10.0, 10.0, 14.0])


@given(
    st.lists(st.lists(st.tuples(LINES, SIZES, st.sampled_from([12.0, 24.0, -30.0])), max_size=40), max_size=5),
    st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_every_character_but_furniture_is_in_a_passage_of_its_page(content, with_boxes) -> None:
    pages = []
    for number, lines in enumerate(content, 1):
        boxes, top = [], 0.0
        for line, size, step in lines:
            boxes += [(50 + 5.0 * i, top, 55 + 5.0 * i, top + size) for i in range(len(line))] + [(np.nan,) * 4]
            top += step
        text = "\n".join(line for line, _, _ in lines)
        table = np.array(boxes[:-1], np.float32).reshape(-1, 4)
        pages.append((number, text, table) if with_boxes else (number, text))
    outline = [
        OutlineEntry(1, "Pumps of the Main", 1),
        OutlineEntry(2, "Not printed", 2),
        OutlineEntry(1, "Past the end", 9),
    ]
    passages = cut_passages(pages, outline)
    assert passages == cut_passages(pages, outline)
    lines = [page_lines(page[1], page[2] if with_boxes else None) for page in pages]
    for page, own, furniture in zip(pages, lines, furniture_lines([page[0] for page in pages], lines), strict=True):
        covered = bytearray(len(page[1]))
        for passage in passages:
            if passage.page == page[0]:
                assert 0 <= passage.start < passage.end <= len(page[1])
                assert passage.text == page[1][passage.start : passage.end] == passage.text.strip()
                covered[passage.start : passage.end] = b"x" * (passage.end - passage.start)
        for index, line in enumerate(own):
            assert any(covered[line.start : line.end]) is (index not in furniture), (line, furniture)
            assert all(covered[line.start : line.end]) is (index not in furniture), (line, furniture)
