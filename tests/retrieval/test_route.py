import pytest

from longleaf.errors import QuestionError
from longleaf.retrieval.route import choose_route


def test_a_document_that_just_fits_is_read_whole_and_one_token_more_is_not() -> None:
    assert choose_route(3872, 3872, 4096, "m").name == "whole-document"
    assert choose_route(3873, 3872, 4096, "m").name == "retrieval"


def test_the_reason_gives_the_figures() -> None:
    assert choose_route(98_412, 3_872, 4_096, "m").reason == (
        "the document has 98,412 tokens; m, run with a context of 4,096, has room for 3,872"
    )


def test_retrieval_may_be_asked_for_and_whole_document_only_where_it_fits() -> None:
    assert choose_route(10, 3872, 4096, "m", "retrieval").name == "retrieval"
    assert choose_route(10, 3872, 4096, "m", "whole-document").name == "whole-document"
    with pytest.raises(QuestionError, match=r"5,000 tokens.*--context-tokens"):
        choose_route(5000, 3872, 4096, "m", "whole-document")


def test_without_a_reader_nothing_is_read_whole() -> None:
    route = choose_route(None, 0, 0, "")
    assert route.name == "retrieval"
    assert "no reader" in route.reason
