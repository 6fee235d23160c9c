"""Scene parsing's lists: what is written is read, and what is broken is named by line."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.data.odgt import KEYS, Record, measure, read_odgt, write_odgt
from segcore.errors import DataError

names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
    str.strip
)
records = st.builds(Record, names, names, st.integers(1, 9999), st.integers(1, 9999))


@given(st.lists(records, min_size=1, max_size=6, unique_by=lambda record: record.image))
def test_a_list_survives_its_file(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("l") / "l.odgt"
    write_odgt(path, found)
    assert read_odgt(path) == found


def test_the_references_own_lines_are_read(tmp_path):
    """As CSAILVision/semantic-segmentation-pytorch ships them, with entries we do not use, and Windows line ends."""
    line = {"fpath_img": "images/training/a.jpg", "fpath_segm": "annotations/training/a.png", "width": 683}
    text = json.dumps({**line, "height": 512, "scene": "street"}) + "\r\n"
    (tmp_path / "training.odgt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    expected = [Record("images/training/a.jpg", "annotations/training/a.png", 683, 512)]
    assert read_odgt(tmp_path / "training.odgt") == expected


WHOLE = '{"fpath_img": "a.jpg", "fpath_segm": "a.png", "width": 3, "height": 2}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        (WHOLE + "a.jpg,a.png\n", r"l\.odgt:2: not a JSON object: 'a.jpg,a.png'"),
        (WHOLE + "[1, 2]\n", r"l\.odgt:2: not a JSON object"),
        ("[" * 100_000 + "\n", r"l\.odgt:1: not a JSON object"),
        (WHOLE.replace('"width": 3, ', ""), r"l\.odgt:1: has no 'width'; a record holds fpath_img"),
        (WHOLE.replace("3", '"3"'), r"l\.odgt:1: .*two whole numbers"),
        (WHOLE.replace("3", "true"), r"l\.odgt:1: .*two whole numbers"),
        (WHOLE.replace("3", "0"), r"l\.odgt:1: .*two whole numbers"),
        (WHOLE.replace('"a.png"', "null"), r"l\.odgt:1: .*two paths"),
        (WHOLE + WHOLE, "an image stands there twice"),
    ],
)
def test_broken_lists_are_named_by_line(text, message, tmp_path):
    (tmp_path / "l.odgt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_odgt(tmp_path / "l.odgt")
    assert "\n" not in str(caught.value)


def test_a_list_that_is_missing_or_no_text(tmp_path):
    (tmp_path / "l.odgt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not a UTF-8 text"):
        read_odgt(tmp_path / "l.odgt")
    with pytest.raises(DataError, match="cannot be read"):
        read_odgt(tmp_path / "m.odgt")


def test_sizes_are_those_of_the_headers(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((5, 7, 3), np.uint8))
    assert measure([("a.png", "b.png")], tmp_path) == [Record("a.png", "b.png", 7, 5)]
    assert dict(zip(KEYS, measure([("a.png", "b.png")], tmp_path)[0], strict=True))["width"] == 7
    (tmp_path / "a.png").write_text("<html>")
    with pytest.raises(DataError, match="a.png: cannot be opened as a picture"):
        measure([("a.png", "b.png")], tmp_path)
