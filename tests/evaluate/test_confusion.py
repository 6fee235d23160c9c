"""Confusion matrices against a naive loop, and the rules of the scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.errors import DataError
from segcore.evaluate import confusion as c

CLASSES = 5
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
pairs = sizes.flatmap(
    lambda size: st.tuples(
        arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 3, 4, 255])),
        arrays(np.uint8, size, elements=st.integers(0, CLASSES - 1)),
    )
)


@given(pairs)
def test_matrix_equals_a_naive_count(pair: tuple[np.ndarray, np.ndarray]) -> None:
    label, prediction = pair
    expected = [[0] * CLASSES for _ in range(CLASSES)]
    for truth, guess in zip(label.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if truth != 255:
            expected[truth][guess] += 1
    matrix = c.confusion_matrix(label, prediction, CLASSES)
    assert matrix.dtype == np.int64 and matrix.tolist() == expected


@given(pairs)
def test_scores_equal_the_definitions(pair: tuple[np.ndarray, np.ndarray]) -> None:
    label, prediction = pair
    matrix = c.confusion_matrix(label, prediction, CLASSES)
    counted = label != 255
    values, weighted, recalls = [], 0.0, []
    for k in range(CLASSES):
        truth, guess = (label == k) & counted, (prediction == k) & counted
        union = (truth | guess).sum()
        values.append((truth & guess).sum() / union if union else math.nan)
        if truth.any():
            weighted += values[-1] * truth.sum() / counted.sum()
            recalls.append((truth & guess).sum() / truth.sum())
    assert c.iou(matrix) == pytest.approx(values, nan_ok=True)
    present = [value for value in values if not math.isnan(value)]
    assert c.miou(matrix)[1] == len(present)
    if present:
        assert c.miou(matrix)[0] == pytest.approx(np.mean(present))
        assert c.pixel_accuracy(matrix) == pytest.approx((label == prediction)[counted].mean())
        assert c.mean_accuracy(matrix) == pytest.approx(np.mean(recalls))
        assert c.frequency_weighted_iou(matrix) == pytest.approx(weighted)
    else:
        assert math.isnan(c.miou(matrix)[0]) and math.isnan(c.mean_accuracy(matrix))


@given(pairs)
def test_hits_add_up(pair: tuple[np.ndarray, np.ndarray]) -> None:
    label, prediction = pair
    correct, false, missed = c.hits(c.confusion_matrix(label, prediction, CLASSES))
    assert (correct + missed).sum() == (correct + false).sum() == (label != 255).sum()


def test_perfect_prediction_scores_one_over_the_present_classes() -> None:
    label = np.array([[0, 1, 255], [3, 3, 255]], np.uint8)
    matrix = c.confusion_matrix(label, np.where(label == 255, 2, label), CLASSES)
    assert c.miou(matrix) == (1.0, 3)  # 2 is predicted only where nothing counts, 4 nowhere
    assert c.pixel_accuracy(matrix) == c.mean_accuracy(matrix) == c.frequency_weighted_iou(matrix) == 1.0


def test_class_only_predicted_counts_as_zero_and_absent_one_not_at_all() -> None:
    matrix = c.confusion_matrix(np.array([[0, 0]]), np.array([[0, 2]]), CLASSES)
    assert c.miou(matrix) == (0.25, 2)
    assert c.mean_accuracy(matrix) == 0.5


def test_reference_miou_adds_one_and_counts_absent_classes_as_zero() -> None:
    matrix = c.confusion_matrix(np.zeros((1, 3), np.uint8), np.zeros((1, 3), np.uint8), 2)
    assert c.reference_miou(matrix) == pytest.approx((3 / 4 + 0) / 2)


@pytest.mark.parametrize(
    "label, prediction, message",
    [
        (np.zeros((4, 6), np.uint8), np.zeros((2, 3), np.uint8), "x.png: the prediction is 2×3 but the label 4×6"),
        (np.full((1, 1), 7), np.zeros((1, 1)), r"x.png: label 7 is outside 0 … 4"),
        (np.zeros((1, 1)), np.full((1, 1), 255), r"x.png: predicted class 255 is outside"),
    ],
)
def test_bad_input_is_named(label: np.ndarray, prediction: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        c.confusion_matrix(label, prediction, CLASSES, where="x.png")
