"""From PDF user space to the page as it is displayed: crop box, /Rotate, origin at the top left, y down."""

import numpy as np
from numpy.typing import NDArray

from .document import Boxes

__all__ = ["inside_page", "to_displayed"]


def to_displayed(boxes: Boxes, page_box: tuple[float, float, float, float], rotation: int) -> Boxes:
    """Move boxes from user space to the displayed page.

    Args:
        boxes: `[n, 4]` left, bottom, right, top in user space (y up).
        page_box: The visible box (crop box inside media box): left, bottom, right, top in user space.
        rotation: The page's /Rotate, clockwise degrees: 0, 90, 180 or 270.

    Returns:
        `[n, 4]` x0, y0, x1, y1 on the displayed page (y down).
    """
    left, bottom, right, top = page_box
    x0, y0, x1, y1 = boxes.T
    if rotation == 0:
        columns = (x0 - left, top - y1, x1 - left, top - y0)
    elif rotation == 90:
        columns = (y0 - bottom, x0 - left, y1 - bottom, x1 - left)
    elif rotation == 180:
        columns = (right - x1, y0 - bottom, right - x0, y1 - bottom)
    elif rotation == 270:
        columns = (top - y1, right - x1, top - y0, right - x0)
    else:
        raise ValueError(f"rotation must be 0, 90, 180 or 270, not {rotation}")
    return np.stack(columns, axis=1).astype(np.float32, copy=False)


def inside_page(boxes: Boxes, width: float, height: float) -> NDArray[np.bool_]:
    """Which boxes have a part on the page; True for characters without a box or without area.

    Those are the spaces and line ends that pdfium adds between words, which it may report beside the page (in some
    filings all of them): without them the cells of a table row run into each other.
    """
    x0, y0, x1, y1 = boxes.T
    outside = (x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height)
    has_area = (x1 > x0) & (y1 > y0)
    inside: NDArray[np.bool_] = ~(outside & has_area)  # comparisons with NaN are False, so such characters stay
    return inside
