"""Boxes on the displayed page."""

import numpy as np
import pytest

from longleaf.ingestion.geometry import inside_page, to_displayed


def test_what_lies_beside_the_page_is_outside_and_added_characters_stay() -> None:
    boxes = np.array(
        [
            [10, 10, 20, 20],  # on the page
            [-30, 10, -20, 20],  # to the left of it
            [95, 10, 105, 20],  # over its edge
            [10, 210, 20, 220],  # below it
            [0, 0, 0, 0],  # a space that pdfium added, reported at the corner
            [-5, 300, -5, 300],  # one reported far away
            [np.nan] * 4,
        ],
        np.float32,
    )
    assert inside_page(boxes, 100, 200).tolist() == [True, False, True, False, True, True, True]


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [(0, [10, 160, 30, 180]), (90, [20, 10, 40, 30]), (180, [70, 20, 90, 40]), (270, [160, 70, 180, 90])],
)
def test_rotation(rotation: int, expected: list[float]) -> None:
    box = np.array([[10, 20, 30, 40]], np.float32)
    assert to_displayed(box, (0, 0, 100, 200), rotation)[0].tolist() == expected
