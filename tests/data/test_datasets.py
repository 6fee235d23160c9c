"""The images and labels of a list."""

import cv2
import numpy as np
import pytest

from segcore.data.datasets import Samples, read_image, read_label_ids
from segcore.errors import DataError


def test_pixels_are_rgb_and_labels_train_ids(samples):
    cv2.imwrite(str(samples.image_path(0)), np.full((48, 64, 3), (1, 2, 3), np.uint8))
    assert samples.image(0)[0, 0].tolist() == [3, 2, 1]
    assert set(np.unique(samples.label(0))) == {0, 3, 255}
    assert samples.names[0] == "train/train_000"


def test_a_missing_root_file_is_said(samples):
    with pytest.raises(DataError, match="root"):
        Samples.read(samples.root.parents[1] / "lists/train.csv")


@pytest.mark.parametrize("damage", ["missing", "truncated", "text"])
def test_pictures_that_cannot_be_read(damage, samples):
    path = samples.image_path(0)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20] if damage == "truncated" else b"<html>")
    with pytest.raises(DataError, match="no such file" if damage == "missing" else "cannot be decoded"):
        read_image(path)


def test_a_coloured_label_is_not_read_as_brightness(samples):
    path = samples.label_path(0)
    cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(DataError, match="one 8-bit channel"):
        read_label_ids(path)


def test_a_pair_of_different_sizes_names_both(samples):
    cv2.imwrite(str(samples.label_path(0)), np.zeros((48, 60), np.uint8))
    with pytest.raises(DataError, match="48×64 but its label .*48×60"):
        samples.pair(0)
