"""What a summary comes to, its receipt, and where summaries and finished parts of them are kept.

Both lie in the library's table `summaries`: a summary under its options, a part under the hash of what the reader was
shown for it, so that a part is the same work whatever it becomes a part of. Knows nothing of readers and prompts.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from longleaf.errors import DocumentNotFoundError
from longleaf.ingestion import Document, Library

from .citations import Citation
from .receipt import Statement
from .summary_prompts import SummaryOptions

__all__ = ["KeptSummaries", "SectionSummary", "Summary", "SummaryReceipt", "SummaryRoute", "now", "part_key"]

SummaryRoute = Literal["whole-document", "sections", "sentences"]

_PART = "part/"


@dataclass(frozen=True, slots=True)
class SummaryReceipt:
    """What was read for a summary.

    Attributes:
        route: Read whole, by sections that were then put together, or (without a reader) sentences as they stand.
        reason: Why, in plain words.
        pages_total: Pages of the document.
        pages_read: Numbers (1-based) of the pages whose text was read for it, now or in an earlier run.
        pages_unread: Pages without usable text: images where OCR was not at hand, blank pages.
        pages_left: Pages with text that was not read: running headers and nothing else, or what a stop left undone.
        parts: Parts that the document was read in.
        parts_kept: Of these, parts that an earlier run had read.
        parts_done: Of these, parts that are read by now; fewer than `parts` after a stop.
        merge_levels: How often summaries were put together; 0 where there was nothing to put together.
        tokens_document: Tokens of all pages with their marks; None without a reader.
        tokens_budget: Tokens of the reader's context left for the text.
        tokens_prompt: Tokens that the reader was given in this run.
        tokens_reused: Of these, tokens that it did not have to read again.
        tokens_written: Tokens that it wrote.
        seconds_saved: What reading the reused ones had taken before.
        seconds: By step, and in all.
        warnings: What is known to be wrong with the document.
    """

    route: SummaryRoute
    reason: str
    pages_total: int
    pages_read: tuple[int, ...]
    pages_unread: tuple[int, ...]
    pages_left: tuple[int, ...]
    parts: int
    parts_kept: int
    parts_done: int
    merge_levels: int
    tokens_document: int | None
    tokens_budget: int | None
    tokens_prompt: int
    tokens_reused: int
    tokens_written: int
    seconds_saved: float
    seconds: dict[str, float]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SectionSummary:
    """What one part of a document says, in the document's own language.

    Attributes:
        title: The headings it stands under, or its pages.
        pages: Numbers of its pages, 1-based.
        text: The statements; "" where it has nothing to say (about the focus).
        statements: Each with its citations, by index into `citations`.
        citations: Quotes that were found on their pages.
    """

    title: str
    pages: tuple[int, ...]
    text: str
    statements: tuple[Statement, ...] = ()
    citations: tuple[Citation, ...] = ()

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "SectionSummary":
        """The section from what `to_dict` of a summary gave."""
        return cls(
            title=plain["title"],
            pages=tuple(plain["pages"]),
            text=plain["text"],
            statements=_statements(plain["statements"]),
            citations=_citations(plain["citations"]),
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary with what stands behind it; `to_dict` gives the object that `summary --json` prints.

    Attributes:
        document: The document's name.
        sha256: Its identity.
        options: What was wanted.
        text: The statements, as they are to be shown.
        statements: Each with its citations, by index into `citations`; one that nothing on the pages supports says so.
        citations: Quotes that were found on their pages.
        sections: What was put together, in order; none where the document was read whole.
        receipt: What was read.
        model: Who wrote it.
        made_at: ISO 8601, UTC.
        revision: Of the document, which grows when more of its pages are read.
        stopped: Whether the user stopped it; then there are only the sections that were done, and it is not kept.
    """

    document: str
    sha256: str
    options: SummaryOptions
    text: str
    statements: tuple[Statement, ...]
    citations: tuple[Citation, ...]
    sections: tuple[SectionSummary, ...]
    receipt: SummaryReceipt
    model: str
    made_at: str
    revision: int
    stopped: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts, strings and numbers, as they come back from JSON."""
        plain: dict[str, Any] = json.loads(_json(self))
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Summary":
        """The summary that `to_dict` was called on."""
        receipt: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain["receipt"].items()
        }
        built: dict[str, Any] = dict(plain) | {
            "options": SummaryOptions(**plain["options"]),
            "statements": _statements(plain["statements"]),
            "citations": _citations(plain["citations"]),
            "sections": tuple(map(SectionSummary.from_dict, plain["sections"])),
            "receipt": SummaryReceipt(**receipt),
        }
        return cls(**built)


class KeptSummaries:
    """The summaries and parts that a library keeps; they go with their document.

    Args:
        library: Where they lie.
    """

    def __init__(self, library: Library) -> None:
        self._library = library

    def summary(self, document: Document, options: SummaryOptions, model: str) -> Summary | None:
        """The summary as it was kept; None where there is none, or more of the document has been read since."""
        plain = self._get(document, options.settings, model)
        return None if plain is None or plain["revision"] != document.revision else Summary.from_dict(plain)

    def all(self, document: Document) -> list[Summary]:
        """Every whole summary of the document as it is, of any options and by any model; newest first."""
        rows = self._library.connection().execute(
            "SELECT summary FROM summaries WHERE document_id = ? AND substr(settings, 1, ?) <> ?"
            " ORDER BY made_at DESC, rowid DESC",
            (document.id, len(_PART), _PART),
        )
        found = [_under_name(json.loads(row["summary"]), document.name) for row in rows.fetchall()]
        return [Summary.from_dict(plain) for plain in found if plain["revision"] == document.revision]

    def keep_summary(self, document: Document, summary: Summary) -> None:
        """Keeps it in place of an earlier one with the same options by the same model.

        Raises:
            DocumentNotFoundError: The document was removed meanwhile.
            StorageError: Full disk or read-only folder.
        """
        self._put(document, summary.options.settings, summary.model, summary.made_at, _json(summary))

    def part(self, document: Document, key: str, model: str) -> SectionSummary | None:
        """A finished part, by `part_key`."""
        plain = self._get(document, key, model)
        return None if plain is None else SectionSummary.from_dict(plain)

    def keep_part(self, document: Document, key: str, model: str, part: SectionSummary) -> None:
        """Keeps a finished part; raises what `keep_summary` raises."""
        self._put(document, key, model, now(), _json(part))

    def check_is_there(self, document: Document) -> None:
        """Raises DocumentNotFoundError where the document was removed."""
        connection = self._library.connection()
        if not connection.execute("SELECT 1 FROM documents WHERE id = ?", (document.id,)).fetchone():
            raise DocumentNotFoundError(f"{document.name}: no longer in the library")

    def _get(self, document: Document, settings: str, model: str) -> dict[str, Any] | None:
        row = (
            self._library.connection()
            .execute(
                "SELECT summary FROM summaries WHERE document_id = ? AND settings = ? AND model = ?",
                (document.id, settings, model),
            )
            .fetchone()
        )
        return None if row is None else _under_name(json.loads(row["summary"]), document.name)

    def _put(self, document: Document, settings: str, model: str, made_at: str, text: str) -> None:
        with self._library.transaction() as connection:
            self.check_is_there(document)
            connection.execute(
                "INSERT OR REPLACE INTO summaries (document_id, settings, model, made_at, summary)"
                " VALUES (?, ?, ?, ?, ?)",
                (document.id, settings, model, made_at, text),
            )


def part_key(*shown: str) -> str:
    """The key of a part, from all that the reader is shown for it: its text and the instruction."""
    return _PART + hashlib.sha256("\0".join(shown).encode()).hexdigest()


def now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _under_name(plain: dict[str, Any], name: str) -> dict[str, Any]:
    """A kept summary or part under the name that its document goes by now."""
    for citation in plain["citations"]:
        citation["document"] = name
    for section in plain.get("sections", ()):
        _under_name(section, name)
    return plain | {"document": name} if "document" in plain else plain


def _json(value: Summary | SectionSummary) -> str:
    return json.dumps(asdict(value), ensure_ascii=False, allow_nan=False)


def _statements(plain: list[dict[str, Any]]) -> tuple[Statement, ...]:
    return tuple(Statement(s["text"], s["supported"], tuple(s["citations"])) for s in plain)


def _citations(plain: list[dict[str, Any]]) -> tuple[Citation, ...]:
    return tuple(Citation(**(c | {"boxes": tuple(tuple(box) for box in c["boxes"])})) for c in plain)
