"""Windows of resized pictures are those of the whole."""

import math

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segcore.data.windows import bilinear_window, in_memory_order, nearest_positions, upper_left

side = st.integers(1, 90)
factor = st.floats(0.12, 2.3) | st.sampled_from([k / 8 for k in range(1, 17)]) | st.floats(0.97, 1.03)


@st.composite
def resizings(draw):
    """A picture, the size it gets, and a window of that."""
    size, by = (draw(side), draw(side)), draw(factor)
    new = tuple(max(math.ceil(n * by) - draw(st.integers(0, 1)), 1) for n in size)
    spans = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)))) for n in new]
    picture = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, (*size, 3), dtype=np.uint8)
    return picture, new, [(first, last + 1) for first, last in spans]


@settings(max_examples=300)
@given(resizings())
def test_opencvs_upper_left_corner(resizing):
    picture, size, spans = resizing
    end = tuple(end for _, end in spans)
    for interpolation, pixels in ((cv2.INTER_LINEAR, picture), (cv2.INTER_NEAREST, picture[..., 0].copy())):
        whole = cv2.resize(pixels, size[::-1], interpolation=interpolation)
        assert np.array_equal(upper_left(pixels, size, end, interpolation), whole[: end[0], : end[1]])


@settings(max_examples=300)
@given(resizings())
def test_pillows_windows(resizing):
    picture, size, ((top, bottom), (left, right)) = resizing
    # Along rows first, whichever order Pillow prefers for this picture.
    narrow = Image.fromarray(picture).resize((size[1], len(picture)), Image.Resampling.BILINEAR)
    whole = np.asarray(narrow.resize(size[::-1], Image.Resampling.BILINEAR))
    window = bilinear_window(picture, size, (top, bottom), (left, right), Image.fromarray)
    assert np.array_equal(window, whole[top:bottom, left:right])


@settings(max_examples=200)
@given(resizings())
def test_pillows_nearest(resizing):
    picture, size, _ = resizing
    ids = picture[..., 0].copy()
    rows, columns = (nearest_positions(old, new) for old, new in zip(ids.shape, size, strict=True))
    theirs = np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(ids[rows][:, columns], theirs)


def test_a_mirrored_view_is_put_in_order():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for view in (picture[:, ::-1], picture[1:4, 2:], picture[1:4, ::-1][:, 2:5]):
        ordered = in_memory_order(view)
        assert ordered.flags.c_contiguous and np.array_equal(ordered, view)
