"""Plain text and Markdown: encoding, "pages" of about 3,000 characters, headings as outline. No process needed."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from longleaf.errors import EmptyDocumentError, UnsupportedFileError

from .document import OutlineEntry

__all__ = ["ParsedText", "parse_text"]

_PAGE_CHARS = 3_000
_MAX_PAGE_CHARS = 4_500
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufeff]")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_BREAKS = tuple(re.compile(p) for p in (r"\n[ \t]*\n\s*", r"\n", r"[.!?]['\")\]]*\s+", r"\s+"))


@dataclass(slots=True)
class ParsedText:
    """The pages of a text file."""

    pages: list[str]
    outline: list[OutlineEntry] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parse_text(data: bytes, path: Path, *, markdown: bool) -> ParsedText:
    """Decode a text file and cut it into pages.

    A form feed ends a page. Without one a page ends at a paragraph end near 3,000 characters, else at a line end, a
    sentence end or a blank, at the latest after 4,500.

    Args:
        data: The file's bytes: UTF-8, UTF-16 with a byte order mark, else taken for Windows-1252 with a warning.
        path: For errors.
        markdown: Headings (# and underlined) become the outline.

    Raises:
        UnsupportedFileError: It is binary.
        EmptyDocumentError: It has no text.
    """
    text, warnings = _decode(data, path)
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.strip():
        raise EmptyDocumentError(path, "it has no text")
    pages = [page.strip("\n") for page in text.split("\f")]
    while len(pages) > 1 and not pages[-1].strip():
        pages.pop()
    if len(pages) == 1:
        pages = _cut(pages[0])
    outline = _headings(pages) if markdown else []
    return ParsedText(pages, outline, warnings)


def _decode(data: bytes, path: Path) -> tuple[str, list[str]]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            try:
                return data.decode(encoding), []
            except UnicodeDecodeError as exc:
                raise UnsupportedFileError(path, f"it begins like {encoding} text but is not ({exc.reason})") from exc
    sample = data[:65_536]
    n_control = sum(sample.count(bytes([c])) for c in range(32) if c not in b"\t\n\r\f\x1b")
    if n_control > len(sample) // 200:
        raise UnsupportedFileError(path, "it is a binary file; Longleaf takes PDF, plain text and Markdown")
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        return text, ["The text is not UTF-8 and was taken for Windows-1252: check letters with accents."]


def _cut(text: str) -> list[str]:
    pages, start = [], 0
    while len(text) - start > _PAGE_CHARS:
        end = _page_end(text, start)
        pages.append(text[start:end].strip("\n"))
        start = end
    pages.append(text[start:].strip("\n"))
    return [page for page in pages if page.strip()]


def _page_end(text: str, start: int) -> int:
    for pattern in _BREAKS:
        ends = [m.end() for m in pattern.finditer(text, start + _PAGE_CHARS // 2, start + _MAX_PAGE_CHARS)]
        before = [e for e in ends if e <= start + _PAGE_CHARS]
        if before:
            return before[-1]
        if ends:
            return ends[0]
    return start + _PAGE_CHARS


def _headings(pages: list[str]) -> list[OutlineEntry]:
    """ATX and underlined headings outside code fences (CommonMark 4.2 and 4.3)."""
    found: list[OutlineEntry] = []
    fence, previous = "", ""
    for number, page in enumerate(pages, start=1):
        for line in page.splitlines():
            mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
            if mark and (not fence or (mark.group(1).startswith(fence) and not line.strip(" `~"))):
                fence = "" if fence else mark.group(1)
            elif not fence:
                atx = re.match(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$", line)
                under = re.match(r" {0,3}(=+|-+)[ \t]*$", line)
                if atx and atx.group(2):
                    found.append(OutlineEntry(len(atx.group(1)), _title(atx.group(2)), number))
                elif under and previous and not previous.startswith(("#", ">", "-", "*", "|", "    ")):
                    found.append(OutlineEntry(1 if under.group(1)[0] == "=" else 2, _title(previous), number))
            previous = "" if fence else line.strip()
    return found


def _title(text: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"[*_`]{1,3}(\S(?:.*?\S)?)[*_`]{1,3}", r"\1", text).strip()[:500]
