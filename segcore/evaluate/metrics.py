"""The numbers of a mode's JSON file, and what each of them means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from segcore.data.labels import LabelTable
from segcore.evaluate import confusion
from segcore.evaluate.boundary import boundary_iou
from segcore.evaluate.uncertainty import Counts, miou_interval

# Stands in each file beside the numbers, so that a file alone says what it holds.
DEFINITIONS = {
    "counts": "pixels of all images together, at the labels' own size, ignored pixels left out; TP, FP and FN are true "
    "positives, false positives and false negatives of a class; every number is a fraction in 0 … 1; null where "
    "nothing can be divided by, and then in no mean",
    "miou": "mean of iou over the classes that occur in labels or predictions, the rule of cityscapesScripts",
    "miou_interval": "middle 95 % of the mIoU of 1000 resamples of the images; another seed of training is not in it",
    "classes_averaged": "how many classes the mean of iou and of f1 is over",
    "pixel_accuracy": "right pixels / all pixels",
    "mean_accuracy": "mean of recall over the classes that occur in labels (macro recall)",
    "frequency_weighted_iou": "sum over classes of iou times the class's share of the label pixels",
    "overall_score": "(miou + pixel_accuracy) / 2, the final score of the ADE20K scene-parsing benchmark",
    "macro_precision": "mean of precision over the classes that are predicted",
    "macro_f1": "mean of f1 over the classes that occur in labels or predictions",
    "micro_f1": "F1 of TP, FP and FN summed over the classes; with one label a pixel it equals pixel_accuracy",
    "boundary_miou": "mean of boundary_iou over the classes that occur in labels or predictions",
    "iou": "TP / (TP+FP+FN)",
    "boundary_iou": "iou of the bands within 2 % of the image's diagonal inside the outlines of a class in label and "
    "prediction (Cheng et al. 2021), intersections and unions summed over the images; ignored pixels are outside "
    "both, the image's border is outline",
    "precision": "TP / (TP+FP)",
    "recall": "TP / (TP+FN)",
    "f1": "2TP / (2TP+FP+FN), also called Dice",
    "category_miou": "mean of category_iou over the categories that occur in labels or predictions",
    "category_iou": "iou of a category's classes taken as one, the rule of cityscapesScripts",
    "confusion": "pixels by label (row) and prediction (column)",
}


def metrics(matrix: np.ndarray, boundary: np.ndarray, counts: Counts, labels: LabelTable) -> dict[str, Any]:
    """All numbers of one mode.

    Args:
        matrix: int64 C×C, rows label, columns prediction.
        boundary: int64 2×C, summed `boundary_counts`.
        counts: per image; they add up to the matrix.
        labels: names of the classes; with a category for each of them there are category scores too.

    Returns:
        What DEFINITIONS names, and DEFINITIONS itself less what is not there.
    """
    value, averaged = confusion.miou(matrix)
    found: dict[str, Any] = {
        "miou": value,
        "miou_interval": list(miou_interval(counts)),
        "classes_averaged": averaged,
        "pixel_accuracy": confusion.pixel_accuracy(matrix),
        "mean_accuracy": confusion.mean_accuracy(matrix),
        "frequency_weighted_iou": confusion.frequency_weighted_iou(matrix),
        "overall_score": confusion.overall_score(matrix),
        "macro_precision": confusion.mean(confusion.precision(matrix)),
        "macro_f1": confusion.macro_f1(matrix),
        "micro_f1": confusion.micro_f1(matrix),
        "boundary_miou": confusion.mean(boundary_iou(boundary)),
        **_categories(matrix, labels),
        "iou": _by_name(labels.names, confusion.iou(matrix)),
        "boundary_iou": _by_name(labels.names, boundary_iou(boundary)),
        "precision": _by_name(labels.names, confusion.precision(matrix)),
        "recall": _by_name(labels.names, confusion.recall(matrix)),
        "f1": _by_name(labels.names, confusion.f1(matrix)),
        "confusion": matrix.tolist(),
    }
    return found | {"definitions": {k: text for k, text in DEFINITIONS.items() if k in found or k == "counts"}}


def _categories(matrix: np.ndarray, labels: LabelTable) -> dict[str, Any]:
    groups = [entry.category for entry in labels.classes]
    if not all(groups):
        return {}
    names, merged = confusion.merge_classes(matrix, groups)
    return {"category_miou": confusion.miou(merged)[0], "category_iou": _by_name(names, confusion.iou(merged))}


def _by_name(names: Iterable[str], values: np.ndarray) -> dict[str, float | None]:
    pairs = zip(names, values.tolist(), strict=True)
    return {name: None if np.isnan(value) else value for name, value in pairs}
