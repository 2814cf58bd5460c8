"""Text, character boxes and page images of a PDF, through pdfium's C interface.

Knows one open file and its pages; nothing of repair, OCR or storage. The boxes are pdfium's "loose" ones: as high as
the line, which is what a mark on a page should cover. They are fetched by a C call per character straight into an
array (an own ctypes prototype with plain addresses), three times as fast as pypdfium2's `get_charbox`.
"""

import ctypes
from collections import deque
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from numpy.typing import NDArray

from longleaf.errors import DamagedFileError, PasswordError

from .document import Boxes
from .geometry import inside_page, to_displayed
from .page_text import Codes, clean_text, reading_order

__all__ = ["NEEDS_PASSWORD", "PdfFile", "PdfPage"]

NEEDS_PASSWORD = "it is encrypted and needs a password (--password)"

_Verdict = Literal["text", "scan", "garbage"]

_FEW_LETTERS = 50
_GARBAGE_SHARE = 0.4
_SMALL_IMAGE = 0.005  # of the page
_PAGE_FILLING = 0.6
_DRAWN_SEGMENTS = 100  # this many path segments without a character: letters drawn as outlines
_MAX_OBJECTS = 5_000
_MAX_PIXELS = 50_000_000

# One C call per character, without holding objects: (text page, index, address of the result) -> success.
_per_char = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_get_unicode_type = ctypes.PYFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int)


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_loose_char_box = _per_char(_address(pdfium_c.FPDFText_GetLooseCharBox))
_get_unicode = _get_unicode_type(_address(pdfium_c.FPDFText_GetUnicode))


@dataclass(frozen=True, slots=True)
class PdfPage:
    """A page as pdfium reads it; `verdict` says whether its text can be used or the page needs OCR, and `why`.

    `has_images` is only looked up on pages with little text.
    """

    text: str
    boxes: Boxes
    width: float
    height: float
    verdict: _Verdict
    why: str = ""
    has_images: bool = False


class PdfFile:
    """An open PDF.

    Args:
        path: The file.
        password: User or owner password, if it needs one.

    Raises:
        PasswordError: It is encrypted, and the password is missing or wrong.
        DamagedFileError: pdfium can't open it.

    ```python
    with PdfFile(path) as pdf:
        page = pdf.read_page(0)
    ```
    """

    def __init__(self, path: Path, password: str | None = None) -> None:
        self.path = path
        try:
            self._pdf = pdfium.PdfDocument(path, password=password)
        except pdfium.PdfiumError as exc:
            if getattr(exc, "err_code", None) == pdfium_c.FPDF_ERR_PASSWORD:
                raise PasswordError(path, "the password is wrong" if password else NEEDS_PASSWORD) from exc
            raise DamagedFileError(path, f"it can't be opened as a PDF ({exc})") from exc
        self._forms_ready = False
        self._n_pages = len(self._pdf)

    def __len__(self) -> int:
        return self._n_pages

    def __enter__(self) -> "PdfFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._pdf.close()

    @property
    def is_encrypted(self) -> bool:
        """Whether it is encrypted at all, be it only with an owner password."""
        return bool(pdfium_c.FPDF_GetSecurityHandlerRevision(self._pdf.raw) != -1)

    def save_decrypted(self, target: Path) -> None:
        """Write a copy without encryption."""
        self._pdf.save(target, flags=pdfium_c.FPDF_REMOVE_SECURITY)

    def loads(self, page_index: int) -> bool:
        """Whether the page is there at all."""
        page = pdfium_c.FPDF_LoadPage(self._pdf.raw, page_index)
        if page:
            pdfium_c.FPDF_ClosePage(page)
        return bool(page)

    def holds_anything(self, page_index: int) -> bool:
        """Whether the page is there and has text or an image."""
        try:
            page = self.read_page(page_index)
        except DamagedFileError:
            return False
        return bool(page.text) or page.has_images

    def read_page(self, page_index: int) -> PdfPage:
        """Read the text of one page.

        Raises:
            DamagedFileError: The page can't be loaded.
        """
        page = pdfium_c.FPDF_LoadPage(self._pdf.raw, page_index)
        if not page:
            raise DamagedFileError(self.path, f"page {page_index + 1} can't be loaded")
        try:
            text_page = pdfium_c.FPDFText_LoadPage(page)
            if not text_page:
                raise DamagedFileError(self.path, f"the text of page {page_index + 1} can't be loaded")
            try:
                codes, user_boxes = _characters(text_page)
            finally:
                pdfium_c.FPDFText_ClosePage(text_page)
            width, height = pdfium_c.FPDF_GetPageWidthF(page), pdfium_c.FPDF_GetPageHeightF(page)
            rotation = 90 * max(0, pdfium_c.FPDFPage_GetRotation(page))
            boxes = to_displayed(user_boxes, _page_box(page), rotation)
            visible = inside_page(boxes, width, height)
            if not visible.all():
                codes, boxes = codes[visible], boxes[visible]
            verdict, why, has_images = _judge(codes, page, width * height)
            text, boxes = clean_text(*reading_order(codes, boxes))
            return PdfPage(text, boxes, float(width), float(height), verdict, why, has_images)
        finally:
            pdfium_c.FPDF_ClosePage(page)

    def render(self, page_index: int, dpi: float, *, grey: bool = False) -> NDArray[np.uint8]:
        """Draw one page as displayed: `[height, width]` grey or `[height, width, 3]` RGB.

        Very large pages are drawn with fewer dots, at most 50 million pixels.
        """
        if not self._forms_ready:
            if self._pdf.get_formtype() != pdfium_c.FORMTYPE_NONE:
                self._pdf.init_forms()
            self._forms_ready = True
        page = self._pdf[page_index]
        try:
            scale = dpi / 72
            n_pixels = page.get_width() * page.get_height() * scale * scale
            if n_pixels > _MAX_PIXELS:
                scale *= (_MAX_PIXELS / n_pixels) ** 0.5
            bitmap = page.render(scale=scale, grayscale=grey, rev_byteorder=True)
            pixels: NDArray[np.uint8] = bitmap.to_numpy()
            pixels = (pixels.reshape(pixels.shape[:2]) if grey else pixels[:, :, :3]).copy()
            bitmap.close()
            return pixels
        finally:
            page.close()


def _characters(text_page: Any) -> tuple[Codes, Boxes]:
    """Code points `[n]` and loose boxes `[n, 4]` (left, bottom, right, top in user space)."""
    n = pdfium_c.FPDFText_CountChars(text_page)
    if n <= 0:
        return np.empty(0, np.uint32), np.empty((0, 4), np.float32)
    handle = ctypes.cast(text_page, ctypes.c_void_p).value
    ltrb = np.full((n, 4), np.nan, np.float32)  # FS_RECTF: left, top, right, bottom
    start = ltrb.ctypes.data
    deque(map(_loose_char_box, repeat(handle), range(n), range(start, start + 16 * n, 16)), maxlen=0)

    utf16 = np.zeros(n + 1, np.uint16)
    pointer = utf16.ctypes.data_as(ctypes.POINTER(ctypes.c_ushort))
    n_written = pdfium_c.FPDFText_GetText(text_page, 0, n, pointer)
    units = utf16[:n]
    if n_written != n + 1 or bool(((units >= 0xD800) & (units < 0xE000)).any()):
        # Text and character list are out of step: pdfium leaves some characters out of the text.
        codes = np.fromiter(map(_get_unicode, repeat(handle), range(n)), np.uint32, n)
    else:
        codes = units.astype(np.uint32)
    return codes, ltrb[:, [0, 3, 2, 1]]


def _page_box(page: Any) -> tuple[float, float, float, float]:
    rect = pdfium_c.FS_RECTF()
    pdfium_c.FPDF_GetPageBoundingBox(page, rect)
    return rect.left, rect.bottom, rect.right, rect.top


def _judge(codes: Codes, page: Any, page_area: float) -> tuple[_Verdict, str, bool]:
    """Decide whether the text layer can be used, say why not, and whether images were seen."""
    solid = codes[(codes > 0x20) & (codes != 0xA0) & (codes != 0xFFFE)]
    n = len(solid)
    bad = ((solid >= 0xE000) & (solid <= 0xF8FF)) | (solid == 0xFFFD) | ((solid >= 0x7F) & (solid < 0xA0))
    n_bad = int(bad.sum()) + int(((codes < 0x20) & (codes != 0x0D) & (codes != 0x0A) & (codes != 0x02)).sum())
    if n >= _FEW_LETTERS and n_bad <= _GARBAGE_SHARE * n:
        return "text", "", False
    if n_bad > _GARBAGE_SHARE * max(n, 1) and n_bad >= 10:
        return "garbage", f"{n_bad} of {max(n, n_bad)} characters of its text layer have no meaning", False
    image_area, n_segments = _drawn(page)
    cover = image_area / page_area if page_area > 0 else 0.0
    if n == 0 and (cover > _SMALL_IMAGE or n_segments >= _DRAWN_SEGMENTS):
        why = "it is an image" if cover > _SMALL_IMAGE else "its letters are drawn as outlines"
        return "scan", why, cover > _SMALL_IMAGE
    if n - n_bad < _FEW_LETTERS and cover > _PAGE_FILLING:
        return "scan", f"it is an image with only {n} characters of text", True
    return "text", "", cover > _SMALL_IMAGE


def _drawn(page: Any) -> tuple[float, int]:
    """Area covered by images (each clipped to nothing; overlaps count twice) and number of path segments."""
    area, n_segments, n_seen = 0.0, 0, 0
    n_objects = min(pdfium_c.FPDFPage_CountObjects(page), _MAX_OBJECTS)
    stack = [pdfium_c.FPDFPage_GetObject(page, i) for i in range(n_objects)]
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    while stack and n_seen < _MAX_OBJECTS:
        thing = stack.pop()
        n_seen += 1
        kind = pdfium_c.FPDFPageObj_GetType(thing)
        if kind == pdfium_c.FPDF_PAGEOBJ_IMAGE:
            if pdfium_c.FPDFPageObj_GetBounds(thing, left, bottom, right, top):
                area += abs((right.value - left.value) * (top.value - bottom.value))
        elif kind == pdfium_c.FPDF_PAGEOBJ_PATH:
            n_segments += max(0, pdfium_c.FPDFPath_CountSegments(thing))
        elif kind == pdfium_c.FPDF_PAGEOBJ_FORM:
            n_inner = max(0, pdfium_c.FPDFFormObj_CountObjects(thing))
            # Bounds inside a form are in the form's own space: an image there counts by the form's bounds.
            inner = [pdfium_c.FPDFFormObj_GetObject(thing, i) for i in range(min(n_inner, _MAX_OBJECTS))]
            kinds = [pdfium_c.FPDFPageObj_GetType(o) for o in inner]
            if pdfium_c.FPDF_PAGEOBJ_IMAGE in kinds and pdfium_c.FPDFPageObj_GetBounds(thing, left, bottom, right, top):
                area += abs((right.value - left.value) * (top.value - bottom.value))
            stack.extend(o for o, k in zip(inner, kinds, strict=True) if k != pdfium_c.FPDF_PAGEOBJ_IMAGE)
    return area, n_segments
