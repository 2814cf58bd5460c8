"""Opens a PDF for reading whatever state it is in: whole, sloppy, encrypted, cut off, corrupt.

`open_pdf` decides what is accepted. A file that is only sloppy (junk behind its end, a wrong start of the cross
reference table) is taken as it is. One that ends in the middle, or lacks pages, is refused unless `repair` is set.
Where pdfium can't read the original, a readable copy is made: without encryption by pdfium, from broken structure by
pypdf (strict=False), and from a torso by `salvage`, which gives the page objects that are still whole a new page tree.
"""

import logging
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from pypdf import PdfReader, PdfWriter

from longleaf.errors import DamagedFileError, DocumentError, EmptyDocumentError, PasswordError

from .pdf_parser import NEEDS_PASSWORD, PdfFile

__all__ = ["OpenedPdf", "is_cut_off", "open_pdf", "salvage"]

_log = logging.getLogger(__name__)

_OBJECT = re.compile(rb"(?<![0-9])(\d{1,10})[ \t\r\n]+(\d{1,5})[ \t\r\n]+obj\b")
_TAIL = 64 * 1024
_MAX_STREAM = 256 * 2**20


@dataclass(slots=True)
class OpenedPdf:
    """An open PDF, what to tell the reader, and the readable copy (None: the original can be read).

    `is_damaged` means that pages may have lost their text.
    """

    pdf: PdfFile
    warnings: list[str]
    copy: Path | None
    is_damaged: bool = False


def open_pdf(path: Path, password: str | None, *, repair: bool, scratch: Path) -> OpenedPdf:
    """Open a PDF, through a readable copy at `scratch` where that is needed.

    Raises:
        PasswordError: It is encrypted, and the password is missing or wrong.
        DamagedFileError: It is cut off or corrupt, and `repair` is not set or does not help.
        EmptyDocumentError: It has no pages.
    """
    try:
        try:
            pdf, needs_password = PdfFile(path), False
        except PasswordError:
            if password is None:
                raise
            pdf, needs_password = PdfFile(path, password), True
    except DamagedFileError as exc:
        return _open_broken(path, password, repair=repair, scratch=scratch, cause=exc)

    if len(pdf) == 0:
        pdf.close()
        raise EmptyDocumentError(path, "it has 0 pages")
    cut_off = is_cut_off(path)
    if cut_off or not _has_sound_start(path):
        is_whole = pdf.holds_anything if cut_off else pdf.loads  # a whole file may have blank pages
        n_there = sum(is_whole(i) for i in range(len(pdf)))
        if cut_off or n_there < len(pdf):
            what = "it ends in the middle" if cut_off else "some of its pages are missing"
            if n_there == 0 or not repair:
                pdf.close()
                raise DamagedFileError(path, _damage(what, n_there, len(pdf)))
            found = f"{n_there} of {len(pdf)} pages could be recovered, maybe not whole."
            warning = f"The file was damaged ({what}): {found}"
            return OpenedPdf(pdf, [warning], None, is_damaged=True)
    if not needs_password:
        return OpenedPdf(pdf, [], None)
    pdf.save_decrypted(scratch)
    pdf.close()
    warning = "The file is encrypted; the library keeps a copy that opens without the password."
    return OpenedPdf(PdfFile(scratch), [warning], scratch)


def _damage(what: str, n_recovered: int, n_pages: int | None = None) -> str:
    if n_recovered == 0:
        return f"{what}, and no page could be recovered; get the file again"
    of_all = f" of {n_pages}" if n_pages and n_pages > n_recovered else ""
    found = f"{n_recovered}{of_all} page{'' if n_recovered == 1 and not of_all else 's'}"
    return f"{what}; {found} could be recovered: add --repair to take those, or get the file again"


def _open_broken(
    path: Path, password: str | None, *, repair: bool, scratch: Path, cause: DamagedFileError
) -> OpenedPdf:
    """Open what pdfium refuses, through a copy made by pypdf or out of the whole objects that are left."""
    cut_off = is_cut_off(path)
    n_rewritten = None if cut_off else _rewrite(path, scratch, password)
    if n_rewritten:
        pdf = _try_open(scratch)
        if pdf is not None and len(pdf) == n_rewritten and all(pdf.loads(i) for i in range(len(pdf))):
            return OpenedPdf(pdf, ["The file's structure was broken and has been rebuilt."], scratch)
        if pdf is not None:
            pdf.close()
    what = "it ends in the middle" if cut_off else "its structure is broken"
    n_salvaged = salvage(path, scratch)
    pdf = _try_open(scratch) if n_salvaged else None
    n_there = sum(pdf.holds_anything(i) for i in range(len(pdf))) if pdf is not None else 0
    if pdf is None or n_there == 0 or not repair:
        if pdf is not None:
            pdf.close()
        if n_rewritten == 0 and n_there == 0:
            raise EmptyDocumentError(path, "it has 0 pages") from cause
        raise DamagedFileError(path, _damage(what, n_there)) from cause
    pages = "page" if n_there == 1 else "pages"
    warning = f"The file was damaged ({what}): {n_there} {pages} could be recovered, maybe not whole."
    return OpenedPdf(pdf, [warning], scratch, is_damaged=True)


def _try_open(path: Path) -> PdfFile | None:
    try:
        return PdfFile(path)
    except DocumentError:
        return None


def _rewrite(path: Path, target: Path, password: str | None) -> int | None:
    """Let pypdf write a clean copy; the number of pages, None if it can't."""
    try:
        reader = PdfReader(path, strict=False)
        is_locked = reader.is_encrypted and not reader.decrypt(password or "")
        n_pages = 0 if is_locked else len(reader.pages)
        if n_pages:
            writer = PdfWriter(clone_from=reader)
            writer.write(target)
    except Exception as exc:
        _log.info("pypdf can't rewrite %s: %s: %s", path, type(exc).__name__, exc)
        return None
    if is_locked:
        raise PasswordError(path, "the password is wrong" if password else NEEDS_PASSWORD)
    return n_pages


def is_cut_off(path: Path) -> bool:
    """Whether the file ends before its own end mark.

    True when objects follow the last `%%EOF` (a "fast web view" file has one near its front), or when there is none
    and no `startxref` either. Junk behind the mark does not count.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        end = tail.rfind(b"%%EOF")
        if end >= 0:
            return _OBJECT.search(tail, end) is not None
        if re.search(rb"startxref\s+\d+\s", tail):
            return _OBJECT.search(tail, tail.rfind(b"startxref")) is not None
        if size <= _TAIL:
            return True
        file.seek(0)
        data = file.read()
    end = data.rfind(b"%%EOF")
    return end < 0 or _OBJECT.search(data, end) is not None


def _has_sound_start(path: Path) -> bool:
    """Whether the last `startxref` points at a cross reference table or stream."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        marks = re.findall(rb"startxref\s+(\d+)", file.read())
        if not marks:
            return False
        file.seek(min(int(marks[-1]), size))
        there = file.read(40).lstrip()
    return there.startswith(b"xref") or _OBJECT.match(there) is not None


def salvage(path: Path, target: Path) -> int:
    """Write a new PDF around the objects of a torso that are still whole.

    The cross reference table and usually the page tree stand at the end of a PDF and are gone when it is cut. The
    objects before the cut are found by their "n g obj" marks, those in complete object streams are unpacked, every
    object of /Type /Page becomes a page (in file order), and a new page tree, catalogue and table are appended.
    What a page inherited from a lost page tree (rarely its fonts) is lost. Encrypted torsos can't be helped: the
    key is derived from the lost trailer.

    Returns:
        The number of pages written; 0 if there is none, and then no file.
    """
    data = path.read_bytes()
    objects = _whole_objects(data)
    for number in [n for n, body in objects.items() if b"/ObjStm" in body[:400]]:
        for inner, body in _unpack(objects[number]):
            objects.setdefault(inner, body)
    pages = [n for n, body in objects.items() if _is_page(body)]
    if not pages:
        return 0
    tree, catalogue = max(objects) + 1, max(objects) + 2
    kids = b" ".join(b"%d 0 R" % n for n in pages)
    objects[tree] = b"<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 612 792] >>" % (len(pages), kids)
    objects[catalogue] = b"<< /Type /Catalog /Pages %d 0 R >>" % tree
    for n in pages:
        objects[n] = re.sub(rb"/Parent\s+\d+\s+\d+\s+R", b"/Parent %d 0 R" % tree, objects[n], count=1)
    offsets: dict[int, int] = {}
    with target.open("wb") as out:
        out.write(b"%PDF-1.7\n")
        for number, body in objects.items():
            offsets[number] = out.tell()
            out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        start = out.tell()
        out.write(b"xref\n0 1\n0000000000 65535 f \n")
        for number in sorted(offsets):
            out.write(b"%d 1\n%010d 00000 n \n" % (number, offsets[number]))
        out.write(b"trailer\n<< /Size %d /Root %d 0 R >>\n" % (catalogue + 1, catalogue))
        out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return len(pages)


def _whole_objects(data: bytes) -> dict[int, bytes]:
    """The bodies of all objects that end with `endobj`, by number, in file order; the last one of a number counts."""
    marks = list(_OBJECT.finditer(data))
    objects: dict[int, bytes] = {}
    skip_to = 0
    for mark in marks:
        if mark.start() < skip_to:
            continue  # inside a stream
        end = data.find(b"endobj", mark.end())
        stream = data.find(b"stream", mark.end(), end if end >= 0 else None)
        if stream >= 0:
            end_stream = data.find(b"endstream", stream)
            end = data.find(b"endobj", end_stream) if end_stream >= 0 else -1
        if end < 0:
            continue
        objects[int(mark.group(1))] = data[mark.end() : end].strip()
        skip_to = end
    return objects


def _is_page(body: bytes) -> bool:
    return re.search(rb"/Type\s*/Page(?![A-Za-z])", body[:20_000]) is not None and b"stream" not in body[:20_000]


def _unpack(body: bytes) -> list[tuple[int, bytes]]:
    """The objects of a Flate-coded object stream; [] if it is of another kind or broken (PDF 32000-1, 7.5.7)."""
    start = re.search(rb"stream\r?\n", body)
    if start is None:
        return []
    head = body[: start.start()]
    count, first = re.search(rb"/N\s+(\d+)", head), re.search(rb"/First\s+(\d+)", head)
    if not count or not first or b"/FlateDecode" not in head or b"/DecodeParms" in head:
        return []
    try:
        data = zlib.decompressobj().decompress(body[start.end() :], _MAX_STREAM)
        numbers = [int(x) for x in data[: int(first.group(1))].split()[: 2 * int(count.group(1))]]
    except (zlib.error, ValueError):
        return []
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    starts = [int(first.group(1)) + offset for _, offset in pairs]
    ends = [*starts[1:], len(data)]
    return [(number, data[a:b].strip()) for (number, _), a, b in zip(pairs, starts, ends, strict=True)]
