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

__all__ = ["Signals", "confidence", "find_support", "says_not_in_text"]

_YES_NO = re.compile(r"^(?:yes|no)\b", re.IGNORECASE)
_MIN_WORDS_HELD = 0.6


@dataclass(frozen=True, slots=True)
class Signals:
    """What the decision between an answer and "not found" rests on; all in [0, 1].

    Attributes:
        similarity: Cosine of question and cited unit (negative ones as 0).
        coverage: Share of the question's words found with the cited unit, around it or in its section's name.
        own_coverage: Share of the question's words in the cited unit and its header alone.
        verbatim: 1 where the reply stands in the cited unit letter for letter, else 0.
        says_yes: The reader's probability of "yes" when asked whether the text states the answer.
        unpressed: 1 where the reader answered at once, 0 where it first said that the answer is not in the text.
    """

    similarity: float
    coverage: float
    own_coverage: float
    verbatim: float
    says_yes: float
    unpressed: float


# Logistic regression over `Signals`, fitted on the project's own questions (`python -m benchmarks.not_found --fit`).
_BIAS = -3.5
_WEIGHTS = Signals(similarity=3.0, coverage=1.0, own_coverage=1.0, verbatim=0.5, says_yes=1.5, unpressed=1.0)


def confidence(signals: Signals) -> float:
    """The chance, in [0, 1], that the cited unit answers the question; an answer is given from 0.5 on."""
    total = _BIAS + sum(getattr(_WEIGHTS, name) * getattr(signals, name) for name in Signals.__slots__)
    return 1.0 / (1.0 + math.exp(-total))


def says_not_in_text(reply: str) -> bool:
    """Whether the reader replied that the text has no answer."""
    words = " ".join(re.findall(r"[a-z]+", reply.casefold()))
    return words.startswith((NOT_IN_TEXT, "the text does not", "not found in the text", "not mentioned in the text"))


def find_support(statement: str, ranked: Sequence[Evidence]) -> tuple[Evidence, bool] | None:
    """The unit that best supports a statement of the reader, and whether it holds it letter for letter.

    A unit supports a statement that stands in it, or one all of whose numbers and most of whose words do (the words may
    also stand in its header). "Yes" and "no" are supported by the best evidence for the question itself.

    Returns:
        None where no unit supports it.
    """
    statement = statement.strip().rstrip(".").strip(" \"'“”")
    if not statement:
        return None
    if _YES_NO.match(statement) and len(statement.split()) <= 3:
        return (ranked[0], False) if ranked else None
    wanted_numbers, wanted = numbers(statement), set(stems(statement))
    best: tuple[float, Evidence, bool] | None = None
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
            best = (score, evidence, verbatim)
    return (best[1], best[2]) if best else None


def _stands_in(statement: str, text: str) -> bool:
    span = locate(statement, text)
    if span is None:
        return False
    # "12" does not stand in "2012".
    before, after = text[span[0] - 1 : span[0]], text[span[1] : span[1] + 1]
    return not (before.isalnum() and statement[0].isalnum()) and not (after.isalnum() and statement[-1].isalnum())
