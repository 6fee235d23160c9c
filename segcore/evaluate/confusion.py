"""Confusion matrices and what is read off them.

Rows are labels, columns predictions. Scores follow the official Cityscapes rule: the mean is over the classes that
occur in labels or predictions, and says over how many.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return mean(values), int((~np.isnan(values)).sum())


def pixel_accuracy(matrix: np.ndarray) -> float:
    """Share of the counted pixels that are right; nan if none was counted."""
    return float(_ratio(np.trace(matrix), matrix.sum()))


def mean_accuracy(matrix: np.ndarray) -> float:
    """Mean recall over the classes that occur in labels; nan if none does."""
    return mean(recall(matrix))


def frequency_weighted_iou(matrix: np.ndarray) -> float:
    """IoU weighted by the classes' share of the labelled pixels; nan if none was counted."""
    shares = _ratio(matrix.sum(1), matrix.sum())
    return float((shares * np.nan_to_num(iou(matrix))).sum())


def precision(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP+FP) per class, float64 C in 0 … 1; nan for a class that is never predicted."""
    return _ratio(np.diagonal(matrix), matrix.sum(0))


def recall(matrix: np.ndarray) -> np.ndarray:
    """TP / (TP+FN) per class, float64 C in 0 … 1; nan for a class in no label."""
    return _ratio(np.diagonal(matrix), matrix.sum(1))


def f1(matrix: np.ndarray) -> np.ndarray:
    """2TP / (2TP+FP+FN) per class, also called Dice, float64 C in 0 … 1; nan where `iou` is."""
    correct, false, missed = hits(matrix)
    return _ratio(2 * correct, 2 * correct + false + missed)


def macro_f1(matrix: np.ndarray) -> float:
    """Mean F1 over the classes that occur in labels or predictions; nan if none does."""
    return mean(f1(matrix))


def micro_f1(matrix: np.ndarray) -> float:
    """F1 of the counts summed over the classes; nan if no pixel was counted.

    As every pixel has one label and one prediction, each error is one FP and one FN, and this is the pixel accuracy.
    """
    correct, false, missed = (int(counts.sum()) for counts in hits(matrix))
    return float(_ratio(2 * correct, 2 * correct + false + missed))


def overall_score(matrix: np.ndarray) -> float:
    """(mIoU + pixel accuracy) / 2, the final score of the ADE20K scene-parsing benchmark; nan if none was counted."""
    return (miou(matrix)[0] + pixel_accuracy(matrix)) / 2


def merge_classes(matrix: np.ndarray, groups: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Counts of groups of classes, such as Cityscapes' categories; a mistake within a group is none.

    Args:
        matrix: int64 C×C.
        groups: the group of each class.

    Returns:
        The G groups in order of appearance, and int64 G×G. Its IoU is the category score of cityscapesScripts.
    """
    names = list(dict.fromkeys(groups))
    member = np.array([[group == name for group in groups] for name in names], np.int64)
    return names, member @ matrix @ member.T


def mean(values: np.ndarray) -> float:
    """Mean of the values that are not nan; nan if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def reference_miou(matrix: np.ndarray) -> float:
    """The mIoU that CoinCheung/BiSeNet prints since July 2022, for comparison with its tables only.

    One is added to every denominator and the mean is over all classes, so an absent class counts as 0.
    """
    return float((np.diagonal(matrix) / (sum(hits(matrix)) + 1)).mean())


def reference_f1(matrix: np.ndarray) -> tuple[float, float]:
    """Macro and micro F1 as CoinCheung/BiSeNet prints them, for comparison with its tables only.

    One is added to the denominators of precision and recall, 1e-6 to that of F1; the macro mean is over all classes.
    """

    def score(correct: np.ndarray, false: np.ndarray, missed: np.ndarray) -> np.ndarray:
        exact, found = correct / (correct + false + 1), correct / (correct + missed + 1)
        return 2 * exact * found / (exact + found + 1e-6)

    counts = hits(matrix)
    return float(score(*counts).mean()), float(score(*(part.sum() for part in counts)))


def absent_as_zero_miou(matrix: np.ndarray) -> float:
    """The mIoU of CSAILVision/semantic-segmentation-pytorch, for comparison with its output only.

    The mean is over all classes and an absent one counts as 0; on the full ADE20K validation set none is absent.
    """
    return float(np.nan_to_num(iou(matrix)).mean())


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.true_divide(part, whole)
