from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.retrieval.sentences import MAX_UNIT_CHARS, is_table_row, split_units


def pieces(text: str) -> list[str]:
    return [text[unit.start : unit.end] for unit in split_units(text)]


@pytest.mark.parametrize(
    "line",
    [
        "Net sales $ 192,052 $ 163,220 $ 149,351",
        "Accumulated other comprehensive loss (1,137) (1,297)",
        "2021 2020 2019",
        "Preferred shares outstanding — —",
        "Gross margin percentage 12.9% 13.1%",
        "Operating revenue  41,207",
        "Total current liabilities . . . . . . . . . 1,204 998",
    ],
)
def test_rows_of_tables_are_recognised(line: str) -> None:
    assert is_table_row(line)


@pytest.mark.parametrize(
    "line",
    [
        "The rate rose from 12 percent in 2020 to 14 percent in 2021, mostly because of",
        "Our fiscal year ends on the Sunday closest to August 31.",
        "2020, and 2019 relate to the years ended August 29, 2021, August 30, 2020, and September 1, 2019.",
        "(amounts in millions, except par value and share data)",
        "See Note 12 to the consolidated financial statements included in Item 8 of this report",
        "",
    ],
)
def test_prose_with_figures_is_no_row(line: str) -> None:
    assert not is_table_row(line)


def test_sentences_run_over_lines_and_stop_at_full_stops_only() -> None:
    text = "Mr. Hale joined in 2019. He left after\n4.5 years, e.g. to rest. Net sales of Acme Inc. rose."
    assert pieces(text) == [
        "Mr. Hale joined in 2019.",
        "He left after\n4.5 years, e.g. to rest.",
        "Net sales of Acme Inc. rose.",
    ]


def test_each_row_is_a_unit_of_its_own_and_headings_do_not_join_prose() -> None:
    text = "Results of Operations\nRevenue grew in every region.\n2024 2023\nRevenue 120 110\nCosts 80 75\nCosts fell."
    assert pieces(text) == [
        "Results of Operations",
        "Revenue grew in every region.",
        "2024 2023",
        "Revenue 120 110",
        "Costs 80 75",
        "Costs fell.",
    ]


def test_a_bullet_begins_a_unit() -> None:
    assert pieces("We offer:\n• bulk water\n• piped water") == ["We offer:", "• bulk water", "• piped water"]


@given(st.text(alphabet=st.sampled_from("aB9 .,\n$%()—•\t?"), max_size=2000))
def test_units_cover_all_ink_in_order_without_overlap(text: str) -> None:
    units = split_units(text)
    covered = {i for unit in units for i in range(unit.start, unit.end)}
    assert all(text[i].isspace() for i in range(len(text)) if i not in covered)
    assert all(a.end <= b.start for a, b in pairwise(units))
    assert all(0 < unit.end - unit.start <= MAX_UNIT_CHARS for unit in units)
    assert all(not text[unit.start].isspace() and not text[unit.end - 1].isspace() for unit in units)


@given(st.integers(0, 60), st.integers(0, 60))
def test_units_of_a_span_stay_inside_it(a: int, b: int) -> None:
    text = "One here. Two there.\nRow 1 2 3\nFour. Five and six, seven. Eight 8."
    start, end = sorted((min(a, len(text)), min(b, len(text))))
    assert all(start <= unit.start < unit.end <= end for unit in split_units(text, start, end))
