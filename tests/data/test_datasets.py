"""Lists and the pictures they name."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.data.datasets import Samples, read_image, read_label_ids, read_list, write_list
from segcore.errors import DataError

names = (
    st.text(
        st.characters(blacklist_characters=",\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", blacklist_categories=("Cs",)),
        min_size=1,
        max_size=12,
    )
    .map(str.strip)
    .filter(bool)
)


@given(st.lists(st.tuples(names, names), min_size=1, max_size=6, unique_by=lambda pair: pair[0]))
def test_a_list_survives_its_file(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("l") / "l.csv"
    write_list(path, pairs)
    assert read_list(path) == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("a.png\n", r"l\.csv:1: expected `image,label`"),
        ("a.png,b.png\nc.png,d.png,e.png\n", r"l\.csv:2"),
        ("a.png,b.png\na.png,c.png\n", "twice"),
    ],
)
def test_broken_lists_are_named_by_line(text, message, tmp_path):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / "l.csv")


def test_a_comma_in_a_file_name_is_refused_when_writing(tmp_path):
    with pytest.raises(DataError, match="comma"):
        write_list(tmp_path / "l.csv", [("a,b.png", "c.png")])
    assert not (tmp_path / "l.csv").exists()


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
