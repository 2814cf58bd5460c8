"""What a summary can be asked to be, and the words that the reader is given for it.

A document that is read whole stands first and in the same words as for a question, so that one reading serves both.
Knows nothing of how a document is cut, nor of how statements are checked.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from .prompts import NOT_IN_TEXT

__all__ = [
    "PROMPT_VERSION",
    "SummaryFormat",
    "SummaryLength",
    "SummaryOptions",
    "merge_messages",
    "part_instruction",
    "summary_instruction",
    "translation_messages",
    "with_instruction",
]

PROMPT_VERSION = 1
"""Raised whenever the same text and options would be summarised in another way; what is kept is then made anew."""

SummaryLength = Literal["short", "medium", "long"]
SummaryFormat = Literal["prose", "bullets"]

_SENTENCES: dict[str, int] = {"short": 3, "medium": 7, "long": 15}
_PART_SENTENCES: dict[str, int] = {"short": 2, "medium": 3, "long": 5}


@dataclass(frozen=True, slots=True)
class SummaryOptions:
    """What is wanted; equal options are the same work.

    Attributes:
        length: "short" is 3 sentences, "medium" 7, "long" 15; of each section 2, 3 or 5.
        language: Name of the language to write in; None is the document's own.
        focus: What the summary is to be about; None for all that the document says.
        format: Running text, or a line for each statement.

    Raises:
        ValueError: A length or a format that there is not.
    """

    length: SummaryLength = "medium"
    language: str | None = None
    focus: str | None = None
    format: SummaryFormat = "prose"

    def __post_init__(self) -> None:
        if self.length not in _SENTENCES:
            raise ValueError(f"length is one of {', '.join(_SENTENCES)}, not {self.length!r}")
        if self.format not in ("prose", "bullets"):
            raise ValueError(f"format is prose or bullets, not {self.format!r}")
        for name in ("language", "focus"):  # blank is none, and white space makes no difference
            object.__setattr__(self, name, " ".join((getattr(self, name) or "").split()) or None)

    @property
    def n_sentences(self) -> int:
        """Sentences of the whole summary."""
        return _SENTENCES[self.length]

    @property
    def n_part_sentences(self) -> int:
        """Sentences of the summary of one section."""
        return _PART_SENTENCES[self.length]

    @property
    def settings(self) -> str:
        """The key under which a summary with these options is kept."""
        return json.dumps(asdict(self) | {"version": PROMPT_VERSION}, sort_keys=True, ensure_ascii=False)


def summary_instruction(options: SummaryOptions) -> str:
    """What the reader is to do with a whole document that stands before it."""
    return f"Summarise the text above{_about(options)}. {_form(options, options.n_sentences)}{_nothing(options)}"


def part_instruction(options: SummaryOptions) -> str:
    """What the reader is to do with a section; always running text, as it goes into another prompt."""
    return (
        f"Summarise this section of a document{_about(options)}. "
        f"{_form(SummaryOptions(options.length), options.n_part_sentences)}{_nothing(options)}"
    )


def with_instruction(shown: Sequence[BaseMessage], instruction: str) -> list[BaseMessage]:
    """A prompt that shows a text, with this at its end in place of its question."""
    return [shown[0], HumanMessage(instruction)]


def merge_messages(summaries: Sequence[str], options: SummaryOptions, n_sentences: int) -> list[BaseMessage]:
    """Summaries of sections, each under its title, to be made into one of so many sentences."""
    text = "\n\n".join(summaries)
    return [
        SystemMessage(f"You write summaries from nothing but the text below.\n\nSummaries of sections:\n\n{text}"),
        HumanMessage(
            f"Make one summary of the whole document{_about(options)} from these summaries of its sections: choose the "
            f"most important facts of all of them and leave out the rest. {_form(options, n_sentences)}"
        ),
    ]


def translation_messages(statement: str, language: str) -> list[BaseMessage]:
    """One statement, to be said in another language."""
    return [
        SystemMessage("You translate exactly. Names and figures stay as they are."),
        HumanMessage(f"Translate into {language}. Reply with nothing but the translation.\n\n{statement}"),
    ]


def _about(options: SummaryOptions) -> str:
    return f", only what it says about {options.focus}" if options.focus else ""


def _form(options: SummaryOptions, n_sentences: int) -> str:
    # The words of the text, since a statement that has none of them can't be found there again.
    how = "in the words and the language of the text, with names and figures exactly as they stand in it"
    if options.format == "bullets":
        return f'Write at most {n_sentences} lines, each beginning with "- " and stating one fact {how}.'
    return (
        f"Write at most {n_sentences} sentences, each stating one fact {how}. No headings, no lists, no page numbers."
    )


def _nothing(options: SummaryOptions) -> str:
    return f" If the text says nothing about it, reply: {NOT_IN_TEXT}." if options.focus else ""
