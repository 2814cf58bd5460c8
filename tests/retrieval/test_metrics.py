"""Metrics against values worked out by hand."""

import pytest

from longleaf.retrieval.metrics import (
    agrees,
    exact_match,
    holds,
    normalised,
    ranks_of,
    retrieval_figures,
    share,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("The  Cat's, a hat!", "cats hat"), ("An $11,717.5", "117175"), ("Theory another", "theory another"), ("A", "")],
)
def test_text_is_normalised_as_squad_does_it(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "em", "f1"),
    [
        ("The Panthers", ["panthers", "x"], 1.0, 1.0),
        ("in Odense in 1998", ["Odense"], 0.0, 2 * 1 / (4 + 1)),
        ("in in Odense", ["in Odense"], 0.0, 2 * 2 / (3 + 2)),  # a word counts as often as both have it
        ("Malmö", ["Odense"], 0.0, 0.0),
        ("", ["Odense"], 0.0, 0.0),
        ("anything", [], 0.0, 0.0),
    ],
)
def test_exact_match_and_f1_are_those_of_squad(answer: str, gold: list[str], em: float, f1: float) -> None:
    assert exact_match(answer, gold) == em
    assert token_f1(answer, gold) == pytest.approx(f1)


def test_a_text_holds_an_answer_by_whole_words_only() -> None:
    assert holds("Total revenue 11,717 11,108", ["11,717"])
    assert not holds("built in 2012", ["12"])
    assert not holds("the a", ["the"])  # nothing is left of it to look for
    assert holds("11,588", ["$11588.00"])
    assert holds("a loss of $2.0 million", ["2"])
    assert not holds("see 1.0.3", ["1"])
    assert not holds("115,880", ["$11588.00"])


def test_a_reply_agrees_by_its_words_or_half_of_them() -> None:
    assert agrees("It was built in Odense in 1998.", ["Odense"])
    assert agrees("77,197", ["$77,197 thousand ($77,197,000)"])
    assert not agrees("Not in the text.", ["Odense"])


@pytest.mark.parametrize(
    ("values", "expected"),
    # Wilson's interval: 8 of 10 is .490 to .943, 0 of 10 is 0 to .278 (Newcombe 1998, method 3)
    [([1] * 8 + [0] * 2, (0.8, 0.4902, 0.9433, 10)), ([0] * 10, (0.0, 0.0, 0.2775, 10)), ([1], (1.0, 0.2065, 1.0, 1))],
)
def test_a_share_comes_with_wilsons_interval(values: list[float], expected: tuple[float, ...]) -> None:
    figure = share(values)
    assert figure is not None
    assert (figure.value, figure.low, figure.high, figure.n) == pytest.approx(expected, abs=2e-4)


def test_no_values_have_no_share() -> None:
    assert share([]) is None


def test_recall_and_mrr_count_the_best_gold_page_and_all_pages_the_worst() -> None:
    ranks = [ranks_of([(1, 4), (1, 9)], [(1, 9), (2, 4), (1, 4)]), ranks_of([(1, 1)], [(1, 2), (1, 1)]), [None]]
    assert ranks == [[3, 1], [2], [None]]
    found = retrieval_figures(ranks)
    assert {name: round(figure.value, 3) for name, figure in found.items()} == {
        "recall@1": 0.333, "recall@3": 0.667, "recall@5": 0.667, "recall@10": 0.667, "recall@20": 0.667,
        "all_pages@1": 0.0, "all_pages@3": 1.0, "all_pages@5": 1.0, "all_pages@10": 1.0, "all_pages@20": 1.0,
        "mrr": 0.5,
    }  # fmt: skip
    assert (found["recall@1"].n, found["all_pages@1"].n) == (3, 1)  # of questions with several gold pages only
