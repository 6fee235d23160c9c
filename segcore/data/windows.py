"""A window of a resized picture without the rest of it: the pixels that resizing the whole and cutting would give.

A pixel of a resized picture depends on a few neighbours, but where these lie follows from the sizes of the *whole*
pictures. OpenCV keeps that geometry for a part in the upper left corner, if it is given factors in place of a size.
Pillow takes any box; where it begins at a place at which the grids of both pictures meet, no rounding differs either.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Size = tuple[int, int]
Span = tuple[int, int]


def upper_left(image: np.ndarray, size: Size, end: Size, interpolation: int) -> np.ndarray:
    """What `cv2.resize` of the whole image to `size` has before row and column `end`.

    Args:
        image: uint8 H×W or H×W×3.
        size: height and width of the whole result.
        end: how many rows and columns of it are wanted.
        interpolation: cv2.INTER_LINEAR or cv2.INTER_NEAREST.
    """
    whole = image.shape[:2]
    if size != whole:
        factors = [new / old for old, new in zip(whole, size, strict=True)]
        # Two pixels more than are looked at, so that no neighbour is missing and rounding the sizes takes none away.
        part = [min(old, math.ceil(e / f) + 2) for old, e, f in zip(whole, end, factors, strict=True)]
        if part == [round(n * f) for n, f in zip(part, factors, strict=True)]:
            part = whole  # OpenCV copies when sizes are equal, whatever the factors
        fy, fx = factors
        image = cv2.resize(image[: part[0], : part[1]], None, fx=fx, fy=fy, interpolation=interpolation)
    return image[: end[0], : end[1]]


def bilinear_window(
    image: np.ndarray, size: Size, rows: Span, columns: Span, change: Callable[[np.ndarray], Image.Image]
) -> np.ndarray:
    """What Pillow's bilinear resizing of the whole, changed image to `size` has in these rows and columns.

    Args:
        image: uint8 H×W×3.
        size: height and width of the whole result.
        rows, columns: first and end, within `size`.
        change: what happens to pixels before they are resized, each by itself; is given those needed, in memory order.
    """
    (top, height, above, below, y), (left, width, before, after, x) = (
        _meeting_points(*axis) for axis in zip(image.shape[:2], size, (rows, columns), strict=True)
    )
    part = change(in_memory_order(image[y[0] : y[1], x[0] : x[1]]))
    # Along rows first, as Pillow always did; since lately it sometimes chooses the other order, which rounds otherwise.
    narrow = part.resize((width, part.height), Image.Resampling.BILINEAR, (before, 0, after, part.height))
    resized = narrow.resize((width, height), Image.Resampling.BILINEAR, (0, above, width, below))
    window = np.asarray(resized)[rows[0] - top :, columns[0] - left :]
    return window[: rows[1] - rows[0], : columns[1] - columns[0]]


def in_memory_order(image: np.ndarray) -> np.ndarray:
    """The same pixels, contiguous. NumPy copies a mirrored view pixel by pixel, OpenCV mirrors a whole row at once."""
    mirrored = image.strides[1] < 0
    return cv2.flip(np.ascontiguousarray(image[:, ::-1]), 1) if mirrored else np.ascontiguousarray(image)


def _meeting_points(old: int, new: int, span: Span) -> tuple[int, int, int, int, Span]:
    """Along one side: the new pixels to compute (first, number), the box they fill, and the old pixels to cut out.

    The box is counted from the first old pixel cut out.
    """
    step = math.gcd(old, new)
    unit, old_unit = new // step, old // step
    first, end = span[0] // unit, -(-span[1] // unit)
    reach = math.ceil(max(old / new, 1)) + 1  # how far the filter looks
    cut = max(first * old_unit - reach, 0), min(end * old_unit + reach, old)
    return first * unit, (end - first) * unit, first * old_unit - cut[0], end * old_unit - cut[0], cut


def nearest_positions(old: int, new: int) -> np.ndarray:
    """int64 `new`: the old pixel that Pillow's nearest resizing takes along one side; steps are added up as it does."""
    step = old / new
    positions = np.cumsum(np.concatenate([[step * 0.5], np.full(new - 1, step)]))
    return np.minimum(positions.astype(np.int64), old - 1)
