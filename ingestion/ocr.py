"""Text and character boxes from a picture of a page, through tesseract (extra `ocr` and the system program)."""

import shutil
from functools import cache

import numpy as np
from numpy.typing import NDArray

from .document import Boxes
from .page_text import clean_text

__all__ = ["INSTALL_OCR", "OCR_DPI", "ocr_missing", "read_picture"]

INSTALL_OCR = "pip install 'longleaf[ocr]' and apt install tesseract-ocr"
OCR_DPI = 200


def ocr_missing() -> str:
    """What is missing for OCR, as a phrase; empty when all is there."""
    try:
        import PIL  # noqa: F401
        import pytesseract  # noqa: F401
    except ImportError as exc:
        return f"the Python package {exc.name} is not installed"
    if shutil.which("tesseract") is None:
        return "the program tesseract is not installed"
    return ""


@cache
def _language() -> str:
    """English where it is installed, else all there is."""
    import pytesseract

    installed = [name for name in pytesseract.get_languages() if name != "osd"]
    return "eng" if "eng" in installed or not installed else "+".join(installed)


def read_picture(pixels: NDArray[np.uint8], width: float, height: float, *, timeout_s: float) -> tuple[str, Boxes]:
    """Read a page.

    Args:
        pixels: `[rows, columns]` grey picture of the whole displayed page.
        width: Of the page, in points.
        height: Likewise.
        timeout_s: Tesseract is stopped after this time.

    Returns:
        The text in tesseract's reading order and `[len(text), 4]` boxes in points; each word's box is divided evenly
        among its characters.

    Raises:
        RuntimeError: Tesseract took too long or failed.
    """
    import pytesseract
    from PIL import Image

    data = pytesseract.image_to_data(
        Image.fromarray(pixels), lang=_language(), timeout=timeout_s, output_type=pytesseract.Output.DICT
    )
    scale_x, scale_y = width / pixels.shape[1], height / pixels.shape[0]
    codes: list[int] = []
    rows: list[tuple[float, float, float, float]] = []
    nothing = (float("nan"),) * 4
    last_line = None
    for i, raw in enumerate(data["text"]):
        word = str(raw).strip()
        if not word or float(data["conf"][i]) < 0:
            continue
        line = (data["block_num"][i], data["par_num"][i], data["line_num"][i])
        if last_line is not None:
            codes.append(0x20 if line == last_line else 0x0A)
            rows.append(nothing)
        last_line = line
        left, top = data["left"][i] * scale_x, data["top"][i] * scale_y
        step, bottom = data["width"][i] * scale_x / len(word), top + data["height"][i] * scale_y
        for k, character in enumerate(word):
            codes.append(ord(character))
            rows.append((left + k * step, top, left + (k + 1) * step, bottom))
    return clean_text(np.array(codes, np.uint32), np.array(rows, np.float32).reshape(-1, 4))
