"""Decides which sentence or row supports what the reader wrote, and how far that can be trusted.

A small reader answers whether or not the answer is there, and half of its wrong answers are copied from the text, so
neither its word nor a matching quote is enough. What is weighed is how well question, quote and reply agree.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .citations import locate
from .evidence import Evidence
from .prompts import NOT_IN_TEXT
from .words import numbers, stems

__all__ = ["Signals", "confidence", "find_support", "names_held", "says_not_in_text"]

_YES_NO = re.compile(r"^(?:yes|no)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<![.?!:] )(?<!^)(?<!\w)[A-Z][a-z]\w+")
_MIN_WORDS_HELD = 0.6
# "The salary of its manager is not in the text" declines; "Sales were 5 million, those of 2023 are not in the text" and
# "Sales rose and profits are not in the text" answer.
_NOT_THERE = rf"(?:{NOT_IN_TEXT}|not (?:found|mentioned|given|stated|provided) in the text)\b"
_DECLINES = re.compile(
    rf"\W*(?:(?:no|sorry)\W+)?"
    rf"(?:{_NOT_THERE}|the text does not\b|(?:(?!\b(?:and|but|while)\b)[^,;:!?])+ {_NOT_THERE}\W*$)"
)


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision between an answer and "not found" rests on; all in [0, 1].

    Attributes:
        similarity: Cosine of question and cited unit (negative ones as 0).
        own_coverage: Share of the question's words in the cited unit and its header, rare ones counting more.
        names_held: Share of the question's names and numbers on the cited page or in its document's title.
        says_yes: The reader's probability of "yes" when asked whether the text states the answer.
    """

    similarity: float
    own_coverage: float
    names_held: float
    says_yes: float


# Logistic regression over `Signals`, fitted on the project's own questions (`python -m benchmarks.not_found --fit`);
# with these weights, of 40 questions without an answer 34 get "not found", and of 60 with one 35 get an answer, 34 of
# them with a right page.
# A reader that says "not in the text" is believed: pressed for an answer all the same, it was right in 8 of 50 cases,
# and no signal told those from the others.
_BIAS = -2.9
_WEIGHTS = Signals(similarity=0.3, own_coverage=0.7, names_held=2.1, says_yes=1.8)


def confidence(signals: Signals) -> float:
    """The chance, in [0, 1], that the cited unit answers the question; an answer is given from 0.5 on."""
    total = _BIAS + sum(getattr(_WEIGHTS, name) * getattr(signals, name) for name in Signals.__slots__)
    return 1.0 / (1.0 + math.exp(-total))


def says_not_in_text(reply: str) -> bool:
    """Whether the reader replied that the text has no answer."""
    return _DECLINES.match(" ".join(reply.casefold().split())) is not None


def names_held(question: str, place: str) -> float:
    """Share of the question's names and numbers that a place holds: 1 where it has none.

    A name is a word with a capital that does not open a sentence. A question about 2014 is not answered on a page that
    speaks of 2022 to 2024, however well the rest agrees.
    """
    names = {word.casefold() for word in _NAME.findall(question)} | numbers(question)
    place = place.casefold().replace(",", "")
    return sum(name in place for name in names) / len(names) if names else 1.0


def find_support(statement: str, ranked: Sequence[Evidence]) -> Evidence | None:
    """The unit that best supports a statement of the reader.

    A unit supports a statement that stands in it, or one all of whose numbers and most of whose words do (the words may
    also stand in its header). "Yes" and "no" are supported by the best evidence for the question itself.

    Returns:
        None where no unit supports it.
    """
    statement = statement.strip().rstrip(".").strip(" \"'“”")
    if not statement:
        return None
    if _YES_NO.match(statement) and len(statement.split()) <= 3:
        return ranked[0] if ranked else None
    wanted_numbers, wanted = numbers(statement), set(stems(statement))
    best: tuple[float, Evidence] | None = None
    for evidence in ranked:
        verbatim = _stands_in(statement, evidence.text)
        score = evidence.score + (1.0 if verbatim else 0.0)
        if not verbatim:
            if wanted_numbers - numbers(evidence.text) or not wanted:
                continue
            held = len(wanted.intersection(stems(evidence.text_with_header))) / len(wanted)
            if held < _MIN_WORDS_HELD:
                continue
            score += 0.5 * held
        if best is None or score > best[0]:
            best = (score, evidence)
    return best[1] if best else None


def _stands_in(statement: str, text: str) -> bool:
    span = locate(statement, text)
    if span is None:
        return False
    # "12" does not stand in "2012".
    before, after = text[span[0] - 1 : span[0]], text[span[1] : span[1] + 1]
    return not (before.isalnum() and statement[0].isalnum()) and not (after.isalnum() and statement[-1].isalnum())
