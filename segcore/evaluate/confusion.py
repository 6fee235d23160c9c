"""Confusion matrices and what is read off them.

Rows are labels, columns predictions. Scores follow the official Cityscapes rule: the mean is over the classes that
occur in labels or predictions, and says over how many.
"""

from __future__ import annotations

import numpy as np

from segcore.data.labels import IGNORE
from segcore.errors import DataError


def confusion_matrix(
    label: np.ndarray, prediction: np.ndarray, num_classes: int, ignore_index: int = IGNORE, where: str = "prediction"
) -> np.ndarray:
    """Counts pixels.

    Args:
        label: integer H×W, 0 … num_classes-1 or `ignore_index`.
        prediction: integer H×W, 0 … num_classes-1 wherever the label counts.
        num_classes: C.
        ignore_index: pixels with this label are left out.
        where: whose prediction it is, for the error message.

    Returns:
        int64 C×C.

    Raises:
        DataError: the sizes differ, or a value lies outside the classes.
    """
    if label.shape != prediction.shape:
        sizes = ("×".join(map(str, shape)) for shape in (prediction.shape, label.shape))
        raise DataError("{}: the prediction is {} but the label {}; score at the label's size".format(where, *sizes))
    counted = label != ignore_index
    rows, columns = label[counted].astype(np.int64), prediction[counted].astype(np.int64)
    for kind, values in (("label", rows), ("predicted class", columns)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.size:
            raise DataError(f"{where}: {kind} {wrong[0]} is outside 0 … {num_classes - 1}; are these train ids?")
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def hits(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives per class, int64 C each."""
    correct = np.diagonal(matrix).copy()
    return correct, matrix.sum(0) - correct, matrix.sum(1) - correct


def iou(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP+FP+FN) per class, float64 C in 0 … 1; nan for a class in neither labels nor predictions."""
    return _ratio(np.diagonal(matrix), sum(hits(matrix)))


def miou(matrix: np.ndarray) -> tuple[float, int]:
    """Mean IoU over the classes that occur in labels or predictions, and how many these are; nan if none does."""
    values = iou(matrix)
    present = values[~np.isnan(values)]
    return (float(present.mean()) if present.size else float("nan")), int(present.size)


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels that are right; nan if none was counted."""
    return float(_ratio(np.trace(matrix), matrix.sum()))


def mean_accuracy(matrix: np.ndarray) -> float:
    """Mean over the classes that occur in labels of their share of right pixels (recall); nan if none does."""
    recall = _ratio(np.diagonal(matrix), matrix.sum(1))
    return float(recall[~np.isnan(recall)].mean()) if matrix.any() else float("nan")


def frequency_weighted_iou(matrix: np.ndarray) -> float:
    """IoU weighted by the classes' share of the labelled pixels; nan if none was counted."""
    shares = _ratio(matrix.sum(1), matrix.sum())
    return float((shares * np.nan_to_num(iou(matrix))).sum())


def reference_miou(matrix: np.ndarray) -> float:
    """The mIoU that CoinCheung/BiSeNet prints since July 2022, for comparison with its tables only.

    One is added to every denominator and the mean is over all classes, so an absent class counts as 0.
    """
    return float((np.diagonal(matrix) / (sum(hits(matrix)) + 1)).mean())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.true_divide(part, whole)
