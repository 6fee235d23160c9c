"""How far a score hangs on which images were scored: the bootstrap over images.

Images are drawn with replacement as often as there are images, their counts are added up, and mIoU is computed anew;
the middle 95 % of the results are the interval. It says nothing about what another seed would have given: only further
training runs can. The draws are fixed, so that equal counts give equal intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives per image and class, each int64 N×C."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    def __len__(self) -> int:
        return len(self.tp)

    def iou(self) -> np.ndarray:
        """IoU per class over all images, float64 C; nan for an absent class."""
        return _iou(np.stack([self.tp, self.fp, self.fn]).sum(1))

    def image_miou(self) -> np.ndarray:
        """mIoU of each image, float64 N: mean over the classes in its label or its prediction; nan where none is."""
        return mean_iou(_iou(np.stack([self.tp, self.fp, self.fn])))


def mean_iou(iou: np.ndarray) -> np.ndarray:
    """float64 …×C -> the mean over the classes that are not nan; nan where all are."""
    present = (~np.isnan(iou)).sum(-1)
    return np.divide(np.nan_to_num(iou).sum(-1), present, out=np.full(present.shape, np.nan), where=present > 0)


def resampled_iou(counts: Counts) -> np.ndarray:
    """IoU per class of every resample, float64 RESAMPLES×C; equally many images are always drawn alike."""
    images = len(counts)
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    # In float64, which is exact to 2^53 pixels and much faster than integers.
    drawn = [draws.astype(np.float64) @ part.astype(np.float64) for part in (counts.tp, counts.fp, counts.fn)]
    return _iou(np.stack(drawn))


def miou_interval(counts: Counts) -> tuple[float, float]:
    """Lower and upper end of the interval of mIoU."""
    low, high = interval(mean_iou(resampled_iou(counts)))
    return float(low), float(high)


def interval(values: np.ndarray) -> np.ndarray:
    """RESAMPLES×… -> 2×…: the ends of the middle `LEVEL`; nan where every resample is."""
    tail = (1 - LEVEL) / 2
    ends = np.full((2, *values.shape[1:]), np.nan)
    known = ~np.isnan(values).all(0)
    ends[:, known] = np.nanquantile(values[:, known], [tail, 1 - tail], axis=0)
    return ends


def _iou(counts: np.ndarray) -> np.ndarray:
    """3×… of TP, FP, FN -> …; nan where all three are 0."""
    union = counts.sum(0)
    return np.divide(counts[0], union, out=np.full(union.shape, np.nan), where=union > 0)
