import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.ingestion.boxes import decode_boxes, encode_boxes

coordinate = st.floats(-200, 1600, width=32)
row = st.one_of(st.tuples(coordinate, coordinate, coordinate, coordinate), st.just((float("nan"),) * 4))


@given(st.lists(row, max_size=60))
@settings(deadline=None)
def test_boxes_come_back_within_a_fortieth_of_a_point(rows):
    boxes = np.array(rows, np.float32).reshape(-1, 4)
    back = decode_boxes(encode_boxes(boxes))
    assert back.shape == boxes.shape
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(back), np.isnan(boxes))
    np.testing.assert_allclose(back, boxes, atol=0.0251)


@pytest.mark.parametrize(("size", "tolerance"), [(3_000, 0.051), (6_000, 0.11), (14_400, 0.26), (30_000, 0.51)])
def test_boxes_of_large_pages_are_kept_more_coarsely(size, tolerance):
    boxes = np.array([[1.23, 2.34, 9.87, 20.5], [size - 10, size - 20, size, size - 5]], np.float32)
    np.testing.assert_allclose(decode_boxes(encode_boxes(boxes)), boxes, atol=tolerance)


def test_a_line_of_text_takes_little_room():
    x = np.arange(3_800) % 80 * 5.53
    y = np.arange(3_800) // 80 * 12.0
    boxes = np.stack([x, y, x + 5.53, y + 12], axis=1).astype(np.float32)
    assert len(encode_boxes(boxes)) < boxes.nbytes / 20


def test_no_characters():
    assert decode_boxes(encode_boxes(np.empty((0, 4), np.float32))).shape == (0, 4)


def test_another_version_is_refused():
    blob = encode_boxes(np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match="version 2"):
        decode_boxes(b"\x02" + blob[1:])


@pytest.mark.parametrize("blob", [b"", b"\x01", struct.pack("<BBI", 1, 20, 5) + b"junk"])
def test_damage_is_a_value_error(blob):
    with pytest.raises(ValueError):
        decode_boxes(blob)


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"\[n, 4\]"):
        encode_boxes(np.zeros((3, 2), np.float32))
