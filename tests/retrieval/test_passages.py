from longleaf.ingestion import OutlineEntry
from longleaf.retrieval.passages import TARGET_CHARS, cut_passages

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


def test_empty_pages_give_no_passages() -> None:
    assert cut_passages([(1, ""), (2, " \n ")]) == []
