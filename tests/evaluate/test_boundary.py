"""Boundary IoU against the paper's own construction, mask by mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.evaluate.boundary import band, band_width, boundary_counts, boundary_iou

CLASSES = 4
coarse = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.integers(0, CLASSES - 1))


def published_band(mask: np.ndarray, width: int) -> np.ndarray:
    """`mask_to_boundary` of the authors' boundary-iou-api, with the width given."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return mask - eroded[1:-1, 1:-1]


@given(coarse, st.integers(1, 9), st.integers(1, 6))
def test_the_band_is_every_classes_published_band_at_once(small: np.ndarray, zoom: int, width: int) -> None:
    classes = small.repeat(zoom, 0).repeat(zoom, 1)
    expected = sum(published_band((classes == k).astype(np.uint8), width) for k in range(CLASSES))
    assert np.array_equal(band(classes, width), expected.astype(bool))


@pytest.mark.parametrize("size, width", [((1024, 2048), 46), ((192, 384), 9), ((720, 960), 24), ((10, 10), 1)])
def test_width_is_two_per_cent_of_the_diagonal(size: tuple[int, int], width: int) -> None:
    assert band_width(size) == width


@given(st.integers(0, 2**32 - 1))
def test_counts_are_those_of_the_single_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, prediction = (rng.integers(0, CLASSES, (6, 9), np.uint8).repeat(9, 0).repeat(9, 1) for _ in range(2))
    label[rng.random((6, 9)).repeat(9, 0).repeat(9, 1) < 0.2] = 255
    prediction = np.where(rng.random(label.shape) < 0.7, np.where(label == 255, 0, label), prediction)
    counted, width = label != 255, band_width(label.shape)
    for k, (shared, either) in enumerate(boundary_counts(label, prediction, CLASSES).T):
        masks = ((label == k).astype(np.uint8), ((prediction == k) & counted).astype(np.uint8))
        true, guessed = (published_band(mask, width).astype(bool) for mask in masks)
        assert (shared, either) == ((true & guessed).sum(), (true | guessed).sum())


def test_a_thin_error_costs_the_boundary_more_than_the_area() -> None:
    label = np.zeros((200, 200), np.uint8)
    label[40:160, 40:160] = 1
    shifted = np.roll(label, 4, 1)
    shared, either = boundary_counts(label, shifted, 2)[:, 1]
    mask = (label == 1, shifted == 1)
    assert shared / either < 0.6 < 0.9 < (mask[0] & mask[1]).sum() / (mask[0] | mask[1]).sum()


def test_an_absent_class_is_nan() -> None:
    counts = boundary_counts(np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8), 2)
    assert boundary_iou(counts)[0] == 1 and np.isnan(boundary_iou(counts)[1])
