"""Takes a question apart for searching: its terms, the places it names, and the names and years that choose a document.

Knows words only; nothing of passages, indexes or models.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .glossary import places_named
from .words import content_words

__all__ = ["Question", "match_expression", "understand"]

# Words by which a question speaks to whoever answers it. In a long question they are instructions ("round your answer
# to two decimal places, using only the information in …"); rare in documents, they would outweigh its subject.
_INSTRUCTION_WORDS = """
    answer answers question questions round rounded decimal decimals place places please provide provided give given
    calculate compute use used using based information only following respond response state stated show shown detail
    details assume assuming percent percentage unit units define defined explain
"""
_INSTRUCTIONS = frozenset(_INSTRUCTION_WORDS.split())
_LONG_QUESTION_WORDS = 9
"""A question with more content words than this has its instructions left out."""

_COMPOUND = re.compile(r"\d+(?:[.,/-]\d+)+|\w+(?:[&./-]\w+)+")
_NAME = re.compile(
    r"(?<![.?!:] )(?<!^)\b[A-Z][a-z]\w+|\b(?!FY\d)\d?[A-Z]{2,}\w*|\b\d+[A-Z]+\b"
)  # Adobe, AMD, JPMorgan, 3M
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_FISCAL_YEAR = re.compile(r"\bFY\s?['’]?((?:19|20)?\d\d)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """A question as search sees it.

    Attributes:
        text: As it was asked.
        terms: Content words, and compounds such as "R&D", "10-K" or "88-4172" as they are written.
        places: Texts to search for besides, one for each place that the question names.
        names: Names and years in it, lower case: they choose among documents.
    """

    text: str
    terms: tuple[str, ...]
    places: tuple[str, ...]
    names: frozenset[str]


def understand(text: str) -> Question:
    """Takes a question apart."""
    text_of_search = _FISCAL_YEAR.sub(_year, text)
    words = content_words(text_of_search)
    if len(words) > _LONG_QUESTION_WORDS:
        words = [word for word in words if word not in _INSTRUCTIONS] or words
    compounds = _COMPOUND.findall(text_of_search.casefold())
    # 88 and 4172 alone are other numbers than 88-4172; the R of R&D and the s of Adobe's alone say nothing.
    parts = {part for compound in compounds if compound[0].isdigit() for part in re.findall(r"\w+", compound)}
    parts -= set(_YEAR.findall(text_of_search))  # 2019-2021 is two years
    words = [word for word in words if word not in parts and (len(word) > 1 or word.isdigit())]
    names = {name.casefold() for name in _NAME.findall(text)} | set(_YEAR.findall(text_of_search))
    return Question(text, tuple(dict.fromkeys([*words, *compounds])), tuple(places_named(text)), frozenset(names))


def _year(match: re.Match[str]) -> str:
    """For "FY2017" and "FY17" "fiscal 2017": documents spell it out."""
    digits = match.group(1)
    return f"fiscal {digits if len(digits) == 4 else ('19' if digits >= '70' else '20') + digits}"


def match_expression(terms: Sequence[str]) -> str:
    """The FTS5 query for passages that hold any of the terms; a compound matches its parts side by side."""
    return " OR ".join('"' + term.replace('"', " ") + '"' for term in terms)
