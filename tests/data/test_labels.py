"""Label tables: the data set's own values, and values nobody knows."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.data.labels import IGNORE, TABLES, Label, LabelTable
from segcore.errors import DataError

OFFICIAL = json.loads((Path(__file__).parents[1] / "golden/cityscapes_labels.json").read_text())


def test_cityscapes_table_is_the_official_one():
    ours = {e.id: (e.name, e.train_id, e.color, e.category) for e in TABLES["cityscapes"].entries}
    theirs = {
        row["id"]: (row["name"], row["trainId"], tuple(row["color"]), row["category"])
        for row in OFFICIAL["labels"]
        if row["id"] >= 0
    }
    assert ours == theirs


def test_every_id_maps_as_in_the_reference():
    ids = np.arange(34, dtype=np.uint8)[None]
    assert TABLES["cityscapes"].to_train_ids(ids, "x")[0].tolist() == OFFICIAL["id_to_train_id"]["table"][:34]


@pytest.mark.parametrize("value", [34, 100, 255])
def test_a_value_outside_the_table_is_an_error_that_names_value_and_file(value):
    with pytest.raises(DataError, match=rf"street\.png: label value {value} is not in the table 'cityscapes'"):
        TABLES["cityscapes"].to_train_ids(np.array([[7, value]], np.uint8), "street.png")


def test_camvid_ignores_eleven():
    table = TABLES["camvid"]
    assert table.num_classes == 11 and table.names[0] == "sky" and table.names[10] == "bicyclist"
    assert table.to_train_ids(np.array([[0, 11]], np.uint8), "x").tolist() == [[0, IGNORE]]


def test_ids_for_a_test_server_come_back():
    table = TABLES["cityscapes"]
    train_ids = np.array([[0, 18, 255]], np.uint8)
    assert table.to_ids(train_ids).tolist() == [[7, 33, 0]]
    assert table.to_train_ids(table.to_ids(train_ids), "x").tolist() == train_ids.tolist()


colors = st.tuples(*[st.integers(0, 255)] * 3)
names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8).map(str.strip)


@st.composite
def tables(draw):
    ids = draw(st.lists(st.integers(0, 255), min_size=1, max_size=12, unique=True))
    classes = draw(st.integers(1, len(ids)))
    train_ids = [*range(classes), *[draw(st.sampled_from([*range(classes), IGNORE])) for _ in ids[classes:]]]
    rows = zip(ids, train_ids, strict=True)
    return LabelTable("t", tuple(Label(i, t, draw(names), draw(colors), draw(names)) for i, t in rows))


@given(tables())
def test_a_table_survives_its_file_and_its_checkpoint(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    table.write_csv(path)
    assert LabelTable.read_csv(path) == table
    assert LabelTable.from_dicts("t", table.to_dicts()) == table


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0), (0, 1)], "id 0 stands there twice"),
        ([(0, 0), (1, 2)], "without a gap"),
        ([(0, 255)], "without a gap"),
        ([(300, 0)], "0 … 255"),
    ],
)
def test_impossible_tables(rows, message):
    with pytest.raises(DataError, match=message):
        LabelTable("t", tuple(Label(i, t, "n", (0, 0, 0)) for i, t in rows))


@pytest.mark.parametrize("text", ["", "id,name\n1,a\n", "id,train_id,name,r,g,b\nx,0,a,0,0,0\n"])
def test_a_broken_label_file_is_one_line(text, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match="labels.csv"):
        LabelTable.read_csv(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"id,train_id,name,r,g,b\n0,0,a,0,0,0\n{'1' * 5000},1,b,0,0,0\n",
            r"labels\.csv:3: id is '1{20}…'; it must be",
        ),
        (
            f"id,train_id,name,r,g,b\n0,0,{'a' * 140_000},0,0,0\n",
            r"labels\.csv:2: field larger .*; close the quotation",
        ),
        (f'"{"a" * 140_000}\n', r"labels\.csv:1: field larger .*; close the quotation"),
    ],
    ids=["digits", "name", "heading"],
)
def test_what_is_too_long_for_a_cell_is_one_short_line(text, message, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        LabelTable.read_csv(tmp_path / "labels.csv")
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 200


@pytest.mark.parametrize(
    ("name", "classes", "raw"),
    [
        ("ade20k", 150, {1: 0, 150: 149, 0: 255}),
        (
            "cocostuff",
            171,
            {
                0: 0,
                10: 10,
                12: 11,
                181: 170,
                255: 255,
            },
        ),
    ],
)
def test_tables_of_the_reference_data_sets(name, classes, raw):
    """As specified for CoinCheung/BiSeNet: ADE20K counts from 1, COCO-Stuff leaves eleven of its 182 ids out."""
    table = TABLES[name]
    assert table.num_classes == classes == len(set(table.names))
    ids = np.array([list(raw)], np.uint8)
    assert table.to_train_ids(ids, "x")[0].tolist() == list(raw.values())
