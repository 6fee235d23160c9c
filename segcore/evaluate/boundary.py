"""Boundary IoU (Cheng et al., CVPR 2021, arXiv 2103.16562): IoU of the bands along the classes' outlines.

A mask's band is what lies in it within d pixels of its outline, d = 2 % of the image's diagonal, the image's border
being part of the outline. Where IoU of a large object hardly sees its edge, this sees little else. Per class the
intersections and unions are summed over the data set, as for IoU.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from segcore.data.labels import IGNORE

SHARE_OF_DIAGONAL = 0.02


def band_width(size: tuple[int, int]) -> int:
    """d for an image of H×W: rounded, at least 1."""
    return max(1, round(SHARE_OF_DIAGONAL * math.hypot(*size)))


def band(classes: np.ndarray, width: int) -> np.ndarray:
    """Where a pixel of another value, or the image's end, is within `width` pixels in rows and columns.

    This is the paper's band of every class at once: `width` erosions by 3×3 take away what a square around a pixel
    finds, and in a map of classes a pixel is in its own class's mask only.

    Args:
        classes: uint8 H×W.
        width: d in pixels.

    Returns:
        bool H×W.
    """
    square = np.ones((2 * width + 1,) * 2, np.uint8)
    found = cv2.erode(classes, square) != cv2.dilate(classes, square)
    found[:width], found[-width:], found[:, :width], found[:, -width:] = True, True, True, True
    return found


def boundary_counts(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int = IGNORE
) -> np.ndarray:
    """Pixels in the intersection and in the union of label's and prediction's bands.

    Ignored pixels are taken out of both maps first, so that their outline is the same in both.

    Args:
        label: uint8 H×W, 0 … num_classes-1 or `ignore_index`.
        prediction: uint8 H×W, 0 … num_classes-1.
        num_classes: C.
        ignore_index: pixels with this label are left out.

    Returns:
        int64 2×C: intersection, union.
    """
    prediction = np.where(label == ignore_index, np.uint8(ignore_index), prediction)
    width = band_width(label.shape)
    true, guessed = band(label, width), band(prediction, width)
    counts = [
        np.bincount(classes, minlength=256)[:num_classes]
        for classes in (label[true & guessed & (label == prediction)], label[true], prediction[guessed])
    ]
    return np.stack([counts[0], counts[1] + counts[2] - counts[0]]).astype(np.int64)


def boundary_iou(counts: np.ndarray) -> np.ndarray:
    """int64 2×C, summed `boundary_counts` -> float64 C in 0 … 1; nan for a class in neither labels nor predictions."""
    with np.errstate(invalid="ignore"):
        return np.true_divide(*counts)
