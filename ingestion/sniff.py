"""What a file is, by its first bytes; its name only tells Markdown from plain text."""

import stat
import zipfile
from pathlib import Path

from longleaf.errors import EmptyDocumentError, UnsupportedFileError

from .document import MediaType

__all__ = ["media_type_of"]

_TAKEN = "Longleaf takes PDF, plain text and Markdown"
_MARKDOWN_SUFFIXES = {".md", ".markdown", ".mdown", ".mkd"}
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\xd0\xcf\x11\xe0", "an old Office file (.doc, .xls, .ppt)"),
    (b"{\\rtf", "an RTF file"),
    (b"%!PS", "a PostScript file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3", "an SQLite database"),
)
_OFFICE = (("word/", "a Word file (.docx)"), ("xl/", "an Excel file (.xlsx)"), ("ppt/", "a PowerPoint file (.pptx)"))


def media_type_of(path: Path) -> MediaType:
    """Look at the file.

    Raises:
        UnsupportedFileError: There is no such file, it can't be read, or it is of another kind; the error says which.
        EmptyDocumentError: It has zero bytes.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnsupportedFileError(path, "this is a folder; name the files in it")
        if not stat.S_ISREG(mode):
            raise UnsupportedFileError(path, "this is not a regular file")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as exc:
        raise UnsupportedFileError(path, "there is no such file") from exc
    except PermissionError as exc:
        raise UnsupportedFileError(path, "it can't be read: no permission") from exc
    except (OSError, ValueError) as exc:
        raise UnsupportedFileError(path, f"it can't be read: {exc}") from exc
    if not head:
        raise EmptyDocumentError(path, "the file is empty (zero bytes)")
    if b"%PDF-" in head[:1024]:
        return "application/pdf"
    what = _foreign(path, head)
    if what is None and path.suffix.lower() == ".pdf":
        what = "not a PDF, whatever its name says"
    if what:
        raise UnsupportedFileError(path, f"it is {what}; {_TAKEN}")
    return "text/markdown" if path.suffix.lower() in _MARKDOWN_SUFFIXES else "text/plain"


def _foreign(path: Path, head: bytes) -> str | None:
    for magic, what in _MAGIC:
        if head.startswith(magic) and (magic != b"BM" or b"\x00" in head[:32]):
            return what
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP image"
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML): print it to PDF first"
    if start.startswith(b"<?xml"):
        return "a web page (HTML): print it to PDF first" if b"<html" in start else "an XML file"
    return None


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return "a broken ZIP archive"
    for start, what in _OFFICE:
        if any(name.startswith(start) for name in names):
            return f"{what}: save it as PDF first"
    if "mimetype" in names:
        return "an OpenDocument or EPUB file: save it as PDF first"
    return "a ZIP archive: unpack it first"
