"""The bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.evaluate.confusion import hits, iou, miou
from segcore.evaluate.uncertainty import Counts, interval, mean_iou, miou_interval, resampled_iou

stacks = st.integers(1, 6).flatmap(lambda n: arrays(np.int64, (n, 3, 3), elements=st.integers(0, 20)))


def counts_of(stack: np.ndarray) -> Counts:
    return Counts(*np.stack([hits(matrix) for matrix in stack], 1))


@given(stacks)
def test_scores_are_those_of_the_summed_matrix_and_of_each_image(stack: np.ndarray) -> None:
    counts = counts_of(stack)
    assert counts.iou() == pytest.approx(iou(stack.sum(0)), nan_ok=True)
    assert float(mean_iou(counts.iou())) == pytest.approx(miou(stack.sum(0))[0], nan_ok=True)
    assert counts.image_miou() == pytest.approx([miou(matrix)[0] for matrix in stack], nan_ok=True)


def test_resamples_are_scores_of_multisets_of_the_images() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (2, 3, 3))
    possible = [miou(stack[list(drawn)].sum(0))[0] for drawn in ((0, 0), (0, 1), (1, 1))]
    found = np.unique(mean_iou(resampled_iou(counts_of(stack))).round(9))
    assert found == pytest.approx(np.unique(np.round(possible, 9)))


def test_equal_images_leave_no_doubt_and_more_images_less() -> None:
    stack = np.random.default_rng(1).integers(0, 99, (8, 4, 4))
    same = np.stack([stack[0]] * 5)
    assert miou_interval(counts_of(same)) == pytest.approx((miou(stack[0])[0],) * 2)
    few, many = (np.ptp(miou_interval(counts_of(part))) for part in (stack, np.tile(stack, (16, 1, 1))))
    assert 0 < many < few / 3  # a sixteenth of the variance is a quarter of the width


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Images drawn from a known population: its accuracy lies within about 95 of 100 intervals."""
    rng, inside = np.random.default_rng(2), 0
    for _ in range(100):
        right = rng.binomial(100, rng.beta(8, 2, 40))
        stack = np.stack([[[r, 100 - r], [0, 0]] for r in right])
        counts = counts_of(stack)
        low, high = interval(resampled_iou(counts)[:, 0])  # IoU of class 0 is its accuracy here, 0.8 on average
        inside += low <= 0.8 <= high
    assert 86 <= inside <= 99


def test_an_absent_class_stays_nan() -> None:
    counts = counts_of(np.array([[[3, 0, 0], [1, 2, 0], [0, 0, 0]]] * 2))
    assert np.isnan(interval(resampled_iou(counts))).all(0).tolist() == [False, False, True]
