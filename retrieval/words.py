"""The words of a text, as search and evidence compare them."""

import re
import threading
from typing import Any

import snowballstemmer

__all__ = ["content_words", "numbers", "stems"]

_TOKEN = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_FUNCTION_WORDS = """
    a about all also am an and any are as at be been being both but by can could did do does doing for from had has
    have he her him his how i if in into is it its just like may me might more most must my no not of on only or other
    our out over own per shall she should so some such than that the their them then there these they this those
    through to under until up upon us was we were what when where which while who whom whose why will with would you
    your
"""
_STOP = frozenset(_FUNCTION_WORDS.split())


def content_words(text: str) -> list[str]:
    """The words and numbers of a text in order, lower case, without English function words."""
    return [word for word in _TOKEN.findall(text.casefold()) if word not in _STOP]


def stems(text: str) -> list[str]:
    """The stems of a text's content words, in order."""
    return list(_stemmer().stemWords(content_words(text)))


def numbers(text: str) -> set[str]:
    """The numbers of a text without thousands separators."""
    return {match.replace(",", "") for match in _NUMBER.findall(text)}


_LOCAL = threading.local()


def _stemmer() -> Any:
    # One for each thread: a stemmer keeps the word under work in itself.
    if not hasattr(_LOCAL, "stemmer"):
        _LOCAL.stemmer = snowballstemmer.stemmer("english")
    return _LOCAL.stemmer
