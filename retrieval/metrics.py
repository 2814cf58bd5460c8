"""Measures of pages found and of texts answered, and their intervals.

Exact match and token F1 are those of SQuAD (Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, and its evaluation
script v1.1). Intervals are Wilson's (1927) at 95 %. For a mean of values in [0, 1], such as F1, the same formula is
used: no such mean varies more than a share, so its interval is rather too wide than too narrow.

Works on texts, ranks and numbers alone: knows nothing of question files, answers or how they came about.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .search import Hit

__all__ = [
    "Figure",
    "PageKey",
    "agrees",
    "distinct_pages",
    "exact_match",
    "holds",
    "normalised",
    "ranks_of",
    "retrieval_figures",
    "share",
    "shares",
    "token_f1",
]

KS = (1, 3, 5, 10, 20)
RIGHT_F1 = 0.5
"""A reply with at least this token F1 agrees with the gold answer, if it does not hold the gold answer's words."""
_Z95 = 1.959964
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_CENTS = re.compile(r"(?<=\d)\.0+\b(?!\.\d)")

PageKey = tuple[int, int]
"""Document's id and page number (1-based)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A share or mean in [0, 1] over n questions, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def share(values: Iterable[float]) -> Figure | None:
    """The mean of values in [0, 1] with Wilson's 95 % interval; None where there are no values."""
    listed = [float(value) for value in values]
    n = len(listed)
    if not n:
        return None
    p = sum(listed) / n
    middle = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    return Figure(round(p, 4), round(max(middle - half, 0.0), 4), round(min(middle + half, 1.0), 4), n)


def shares(values: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    """The share of each, by its name; what has no values is left out."""
    return {name: figure for name, each in values.items() if (figure := share(each)) is not None}


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1 where the answer equals a gold answer, normalised."""
    return float(any(normalised(answer) == normalised(g) for g in gold))


def token_f1(answer: str, gold: Iterable[str]) -> float:
    """The best token F1 with a gold answer, normalised."""
    return max((_f1(normalised(answer).split(), normalised(g).split()) for g in gold), default=0.0)


def _f1(a: list[str], b: list[str]) -> float:
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b)) if shared else 0.0


def holds(text: str, gold: Iterable[str]) -> bool:
    """Whether the words of a gold answer stand in the text one after the other, normalised; $500.00 is 500."""
    words = f" {normalised(_NO_CENTS.sub('', text))} "
    return any(f" {wanted} " in words for g in gold if (wanted := normalised(_NO_CENTS.sub("", g))))


def agrees(reply: str, gold: Sequence[str]) -> bool:
    """Whether a reply comes to a gold answer: it holds its words, or their token F1 is at least 0.5.

    A rough rule: it says which failures to look at, and is no measure of its own.
    """
    return holds(reply, gold) or token_f1(reply, gold) >= RIGHT_F1


def distinct_pages(hits: Iterable[Hit]) -> list[PageKey]:
    """The pages that passages stand on, each once, in the order found."""
    return list(dict.fromkeys((hit.stored.document_id, hit.stored.passage.page) for hit in hits))


def ranks_of(gold: Iterable[PageKey], ranked: Sequence[PageKey]) -> list[int | None]:
    """The rank (from 1) of each gold page among distinct pages; None where it is not among them."""
    places = {key: rank for rank, key in enumerate(ranked, 1)}
    return [places.get(key) for key in gold]


def retrieval_figures(ranks: Sequence[Sequence[int | None]], ks: Sequence[int] = KS) -> dict[str, Figure]:
    """Page recall@k, all_pages@k and mean reciprocal rank over questions, each given by the ranks of its gold pages."""
    values: dict[str, list[float]] = {}
    for k in ks:
        values[f"recall@{k}"] = [any(r is not None and r <= k for r in each) for each in ranks]
    several = [each for each in ranks if len(each) > 1]
    for k in ks:
        values[f"all_pages@{k}"] = [all(r is not None and r <= k for r in each) for each in several]
    values["mrr"] = [max((1 / r for r in each if r is not None), default=0.0) for each in ranks]
    return shares(values)
