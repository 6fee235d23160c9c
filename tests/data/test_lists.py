"""Lists and what lies beside them: whatever an editor makes of them is read, the rest is one line with its number."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.data.datasets import Samples, read_list, write_list
from segcore.data.labels import TABLES, LabelTable
from segcore.errors import DataError

# Any name that a file system and the format can carry; two images must differ in more than the suffix.
names = (
    st.text(st.characters(exclude_characters=",\n\r\ufeff\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
    .map(str.strip)
    .filter(lambda name: name not in ("", ".", "..") and "/" not in name and not name.startswith("."))
)
folders = st.lists(st.sampled_from(["a", "b ß", "träin", "データ"]), max_size=2).map("/".join)
paths = st.builds(lambda folder, name: f"{folder}/{name}" if folder else name, folders, names)
pair_lists = st.lists(
    st.tuples(paths, paths), min_size=1, max_size=6, unique_by=lambda pair: os.path.splitext(pair[0])[0]
).filter(lambda pairs: [name.lower() for name in pairs[0]] != ["image", "label"])


@given(pairs=pair_lists)
def test_a_list_survives_its_file(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("l") / "l.csv"
    write_list(path, pairs)
    assert read_list(path) == pairs


@given(
    pairs=pair_lists,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    spaces=st.sampled_from(["", " ", "\t "]),
    heading=st.sampled_from(["", "image,label", "Image, Label"]),
    last=st.booleans(),
)
def test_whatever_an_editor_makes_of_a_list_is_read(tmp_path_factory, pairs, end, mark, spaces, heading, last):
    path = tmp_path_factory.mktemp("l") / "l.csv"
    lines = [heading] * bool(heading) + [f"{spaces}{image}{spaces},{spaces}{label}{spaces}" for image, label in pairs]
    text = end.join([*lines, ""] if last else lines)
    path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
    assert read_list(path) == pairs


BROKEN = {
    "empty": (b"", r"l\.csv: the list is empty"),
    "blank lines": (b"\r\n \n\n", r"l\.csv: the list is empty"),
    "heading alone": (b"image,label\n", r"l\.csv: the list is empty"),
    "no label": (b"image,label\na.png\n", r"l\.csv:2: expected `image,label`, got 'a.png'; add the label"),
    "empty label": (b"a.png,b.png\nc.png,\n", r"l\.csv:2: .*; name both files"),
    "a third column": (b"a.png,b.png\n\nc.png,d.png,0.5\n", r"l\.csv:3: .*further columns"),
    "semicolons": (b"a.png;b.png\n", r"l\.csv:1: .*separate with a comma, not ';'"),
    "tabulators": (b"a.png\tb.png\n", r"l\.csv:1: .*separate with a comma, not '\\t'"),
    "a line twice": (b"a.png,b.png\nc.png,d.png\na.png,b.png\n", r"l\.csv:3: a\.png stands there twice, see line 1"),
    "one name": (b"a.png,b.png\na.jpg,d.png\n", r"l\.csv:2: a\.jpg would share .* with a\.png, see line 1"),
    "Latin-1": ("a.png,b.png\nstraße.png,c.png\n".encode("latin-1"), r"l\.csv:2: not a UTF-8 text"),
    "UTF-16": ("a.png,b.png\n".encode("utf-16"), r"l\.csv:1: not a UTF-8 text"),
    "a picture": (cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes(), r"l\.csv:1: not a UTF-8 text"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_list_is_one_line_with_its_number(case, tmp_path):
    content, message = BROKEN[case]
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_list(tmp_path / "l.csv")
    assert "\n" not in str(caught.value)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="l.csv: cannot be read .No such file.*dvc repro annotations"):
        read_list(tmp_path / "l.csv")


@pytest.mark.parametrize(
    "pairs",
    [
        [("a,b.png", "c.png")],
        [("a\nb.png", "c.png")],
        [("a\rb.png", "c.png")],
        [("a.png", " c.png")],
        [("\ufeffa.png", "c.png")],
        [("a\udcff.png", "c.png")],
        [("a.png", "")],
        [("Image", "label")],
    ],
)
def test_a_name_the_format_cannot_carry_is_refused_when_writing(pairs, tmp_path):
    with pytest.raises(DataError, match="rename the file"):
        write_list(tmp_path / "l.csv", pairs)
    assert not (tmp_path / "l.csv").exists()


class TestBesideALists:
    """`root` and labels.csv, and where paths lead."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "l.csv").write_text("bilder/straße 1.png,b.png\n", encoding="utf-8")
        (tmp_path / "root").write_text(str(tmp_path / "images"))
        TABLES["camvid"].write_csv(tmp_path / "labels.csv")
        (tmp_path / "images/bilder").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "images/bilder/straße 1.png"), np.full((4, 4, 3), 9, np.uint8))
        cv2.imwrite(str(tmp_path / "images/b.png"), np.full((4, 4), 3, np.uint8))
        return tmp_path

    def test_names_beyond_ascii(self, folder):
        image, label = Samples.read(folder / "l.csv").pair(0)
        assert image[0, 0].tolist() == [9, 9, 9] and label[0, 0] == 3

    @pytest.mark.parametrize("text", ["\ufeff{}\r\n", "  {}  \n\n"])
    def test_a_root_as_editors_save_it(self, folder, text):
        (folder / "root").write_text(text.format(folder / "images"), encoding="utf-8")
        assert Samples.read(folder / "l.csv").image_path(0).exists()

    @pytest.mark.parametrize(("text", "message"), [("\n", "root: is empty"), (None, "root: cannot be read .*write it")])
    def test_a_root_that_says_nothing(self, folder, text, message):
        (folder / "root").unlink() if text is None else (folder / "root").write_text(text)
        with pytest.raises(DataError, match=message):
            Samples.read(folder / "l.csv")

    def test_a_relative_root_is_in_the_data_store(self, folder, monkeypatch):
        monkeypatch.setenv("SEGCORE_DATA", str(folder))
        (folder / "root").write_text("images")
        assert Samples.read(folder / "l.csv").image_path(0).exists()

    def test_absolute_paths_need_no_root_and_their_results_stay_in_their_folder(self, folder):
        image, label = folder / "images/bilder/straße 1.png", folder / "images/b.png"
        write_list(folder / "l.csv", [(str(image), str(label))])
        (folder / "root").unlink()
        samples = Samples.read(folder / "l.csv")
        assert samples.image_path(0) == image and samples.label(0)[0, 0] == 3
        assert not samples.names[0].startswith("/")

    def test_results_of_a_path_upwards_stay_in_their_folder(self, folder):
        write_list(folder / "l.csv", [("../images/b.png", "b.png"), ("./c/d.png", "d.png")])
        assert Samples.read(folder / "l.csv").names == ["up/images/b", "c/d"]

    def test_a_missing_picture_names_the_list(self, folder):
        (folder / "images/b.png").unlink()
        with pytest.raises(DataError, match="b.png: no such file; mend the list or its root"):
            Samples.read(folder / "l.csv").pair(0)


HEAD = "id,train_id,name,r,g,b\n"
TABLES_BROKEN = {
    "missing": (None, "labels.csv: cannot be read .*columns id,train_id"),
    "empty": ("", "labels.csv:1: no column 'id'"),
    "no colours": ("id,train_id,name\n0,0,road\n", "labels.csv:1: no column 'r'"),
    "no heading": ("0,0,road,1,2,3\n", "labels.csv:1: no column 'id'"),
    "a word": (HEAD + "0,0,road,1,2,3\nx,1,car,1,2,3\n", "labels.csv:3: id is 'x'"),
    "minus one": (HEAD + "-1,255,plate,1,2,3\n", "labels.csv:2: id is '-1'; it must be a whole number"),
    "a short row": (HEAD + "\n0,0,road,1,2\n", "labels.csv:3: ends before the column 'b'"),
    "an id twice": (HEAD + "0,0,road,1,2,3\n0,1,car,1,2,3\n", "labels.csv: .*id 0 stands there twice"),
    "a gap": (HEAD + "0,0,road,1,2,3\n1,2,car,1,2,3\n", "labels.csv: .*without a gap, got .0, 2."),
    "a colour of 256": (HEAD + "0,0,road,1,2,256\n", "labels.csv: .*0 … 255"),
    "no rows": (HEAD, "labels.csv: .*without a gap"),
}


@pytest.mark.parametrize("case", TABLES_BROKEN)
def test_a_broken_label_table_is_one_line(case, tmp_path):
    text, message = TABLES_BROKEN[case]
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        LabelTable.read_csv(tmp_path / "labels.csv")
    assert "\n" not in str(caught.value)


def test_a_label_table_from_a_spreadsheet(tmp_path):
    text = '\ufeffName, ID, Train_ID, R, G, B\r\n\r\nroad , 0, 0, 128, 64,128\r\n"car, parked",1,1,0,0,142\r\n,,,,,\r\n'
    (tmp_path / "labels.csv").write_bytes(text.encode())
    table = LabelTable.read_csv(tmp_path / "labels.csv")
    assert table.names == ("road", "car, parked") and table.palette.tolist() == [[128, 64, 128], [0, 0, 142]]
