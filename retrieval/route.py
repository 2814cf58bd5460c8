"""Decides how a question is answered: by reading the whole document, or from passages found in it. Always says why."""

from dataclasses import dataclass
from typing import Literal

from longleaf.errors import QuestionError

__all__ = ["Route", "RouteName", "choose_route"]

RouteName = Literal["whole-document", "retrieval"]


@dataclass(frozen=True, slots=True)
class Route:
    """The way a question takes, and the reason in plain words."""

    name: RouteName
    reason: str


def choose_route(
    tokens_document: int | None,
    tokens_budget: int,
    context_tokens: int,
    model: str,
    asked_for: Literal["auto", "whole-document", "retrieval"] = "auto",
) -> Route:
    """The route for documents of so many tokens.

    Args:
        tokens_document: Tokens of all pages with their page marks; None where no reader counts them.
        tokens_budget: Tokens of the context left for them when question and answer have theirs.
        context_tokens: The context that the model is run with.
        model: The reader's name, for the reason.
        asked_for: What the user wants; "auto" leaves it to the token count.

    Raises:
        QuestionError: The whole document was asked for and does not fit.
    """
    if tokens_document is None:
        return Route("retrieval", "no reader is installed: the answer is the sentences found, as they stand")
    fits = tokens_document <= tokens_budget
    if asked_for == "retrieval":
        return Route("retrieval", "asked for")
    if asked_for == "whole-document" and not fits:
        raise QuestionError(
            f"the whole document has {tokens_document:,} tokens; {model} is run with a context of {context_tokens:,}, "
            f"of which {tokens_budget:,} are left for it: use --route auto, or a larger --context-tokens"
        )
    if fits:
        return Route("whole-document", f"{tokens_document:,} of {tokens_budget:,} tokens that {model} has room for")
    return Route(
        "retrieval",
        f"the document has {tokens_document:,} tokens; {model}, run with a context of {context_tokens:,}, has room for "
        f"{tokens_budget:,}",
    )
