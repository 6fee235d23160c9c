"""Tiny trees of every data set through the stages' own functions, up to the lists; and what is wrong with a tree."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

import pipeline.resolve as resolve_module
from pipeline import annotations, fetch
from pipeline.settings import read_yaml
from segcore.data.datasets import Samples, read_list
from segcore.data.labels import TABLES, Label, LabelTable
from segcore.data.layouts import Lists, find_pairs, place, walk
from segcore.data.odgt import measure, write_odgt
from segcore.data.sources import DataRecipe
from segcore.errors import DataError, RecipeError
from tests.data.trees import SIZE, lists_of, picture, run


def zipped(archive: Path, folder: Path) -> None:
    """All of `folder` in an archive; the folder goes."""
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(folder.rglob("*.*")):
            out.write(path, path.relative_to(folder).as_posix())
    shutil.rmtree(folder)


def make_cityscapes(folder: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for index in range(count):
            stem = f"{split}/aachen/aachen_{index:06}_000019"
            picture(folder / f"a/leftImg8bit/{stem}_leftImg8bit.png")
            picture(folder / f"b/gtFine/{stem}_gtFine_labelIds.png", 7, 0, 23)
            picture(folder / f"b/gtFine/{stem}_gtFine_instanceIds.png", 7)
            (folder / f"b/gtFine/{stem}_gtFine_polygons.json").write_text("{}")
    zipped(folder / "leftImg8bit_trainvaltest.zip", folder / "a")
    zipped(folder / "gtFine_trainvaltest.zip", folder / "b")


def make_ade20k(folder: Path) -> None:
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for index in range(1, count + 1):
            name = f"{split}/ADE_{short}_{index:08}"
            picture(folder / f"a/ADEChallengeData2016/images/{name}.jpg")
            picture(folder / f"a/ADEChallengeData2016/annotations/{name}.png", 0, 1, 150 if index == 1 else 2)
    (folder / "a/ADEChallengeData2016/sceneCategories.txt").write_text("ADE_train_00000001 street\n")
    zipped(folder / "ADEChallengeData2016.zip", folder / "a")


def make_cocostuff(folder: Path) -> None:
    for split, count in (("train2017", 3), ("val2017", 2)):
        for index in range(count):
            picture(folder / f"{split[:-4]}/{split}/{index:012}.jpg")
            picture(folder / f"labels/{split}/{index:012}.png", 0, (181, 255, 12)[index])
    for name in ("train", "val"):
        zipped(folder / f"{name}2017.zip", folder / name)
    zipped(folder / "stuffthingmaps_trainval2017.zip", folder / "labels")


def make_camvid(folder: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            picture(folder / f"{split}/{index}.jpg")
            picture(folder / f"{split}annot/{index}.png", 0, 3)


@pytest.mark.parametrize(
    ("dataset", "make", "pair", "present"),
    [
        (
            "cityscapes",
            make_cityscapes,
            (
                "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png",
                "gtFine/val/aachen/aachen_000000_000019_gtFine_labelIds.png",
            ),
            {"road": 3, "sky": 3},
        ),
        (
            "ade20k",
            make_ade20k,
            (
                "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg",
                "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png",
            ),
            {"wall": 3, "building": 2, "flag": 1},
        ),
        (
            "cocostuff",
            make_cocostuff,
            ("images/val2017/000000000000.jpg", "labels/val2017/000000000000.png"),
            {"person": 3, "wood": 1, TABLES["cocostuff"].names[11]: 1},
        ),
        ("camvid", make_camvid, ("val/0.jpg", "valannot/0.png"), {"sky": 3, "road": 3}),
    ],
)
def test_a_tree_becomes_lists(dataset, make, pair, present, store):
    """From archives (CamVid: folders), by the table of the data set; test splits and other files are left alone."""
    make(store / dataset)
    statistics = lists_of(dataset)
    found = {name: entry["images"] for name, entry in statistics["train"]["classes"].items() if entry["images"]}
    assert found == present
    assert read_list(Path("work/annotations/val.csv"))[0] == pair
    assert len(read_list(Path("work/annotations/trainval.csv"))) == 5
    image, label = Samples.read(Path("work/annotations/train.csv")).pair(0)
    assert image.shape == (*SIZE, 3) and label.shape == SIZE


@pytest.mark.parametrize("prefix", ["ADEChallengeData2016/", ""])
def test_ade20k_may_lie_there_unpacked(prefix, store):
    make_ade20k(store / "ade20k")
    with zipfile.ZipFile(store / "ade20k/ADEChallengeData2016.zip") as archive:
        archive.extractall(store / "ade20k")
    (store / "ade20k/ADEChallengeData2016.zip").unlink()
    if not prefix:
        for top in ("images", "annotations"):
            (store / "ade20k/ADEChallengeData2016" / top).rename(store / "ade20k" / top)
    assert lists_of("ade20k")["val"]["images"] == 2
    assert read_list(Path("work/annotations/val.csv"))[0][0].startswith(f"{prefix}images/validation/")


def test_cocostuff_may_have_folders_of_its_own(store):
    """As CoinCheung/BiSeNet wants it; linked folders are followed."""
    for split in ("train2017", "val2017"):
        picture(store / f"elsewhere/{split}/a.jpg")
        picture(store / f"cocostuff/labels/{split}/a.png", 0, 181)
    (store / "cocostuff/images").mkdir()
    for split in ("train2017", "val2017"):
        (store / f"cocostuff/images/{split}").symlink_to(store / f"elsewhere/{split}")
    assert lists_of("cocostuff")["train"]["classes"]["person"]["images"] == 1
    assert read_list(Path("work/annotations/train.csv")) == [("images/train2017/a.jpg", "labels/train2017/a.png")]


def test_one_archive_of_three_is_not_enough(store):
    make_cocostuff(store / "cocostuff")
    (store / "cocostuff/stuffthingmaps_trainval2017.zip").unlink()
    recipe = DataRecipe("cocostuff", "them somewhere", ("train2017.zip", "val2017.zip", "stuffthingmaps.zip"))
    with pytest.raises(DataError, match=r"stuffthingmaps\.zip not found in .*cocostuff; get them somewhere"):
        fetch.fetch(recipe, store / "cocostuff", store / "memory.csv")


@pytest.mark.parametrize(
    ("layout", "path"),
    [
        ("cityscapes", "a_leftImg8bit.png"),
        ("cityscapes", "leftImg8bit/test/a/a_leftImg8bit.png"),
        ("cityscapes", "gtFine/train/a/a_gtFine_color.png"),
        ("ade20k", "ADEChallengeData2016/images/training/a.png"),
        ("ade20k", "ADEChallengeData2016/objectInfo150.txt"),
        ("ade20k", "a.jpg"),
        ("cocostuff", "annotations/instances_val2017.json"),
        ("cocostuff", "unlabeled2017/a.jpg"),
        ("folders", "train/.a.png.x7f.tmp.png"),
        ("folders", "train/Thumbs.db"),
    ],
)
def test_files_that_nobody_reads(layout, path):
    assert place(DataRecipe(layout), path) is None


class TestOwnLists:
    """`-S dataset=mine` with pipeline/datasets/mine.yaml, two lists and a label table."""

    RECIPE = "dataset: {labels: labels.csv}\ndata: {layout: lists, lists: {train: train.csv, val: %s}}\n"

    @pytest.fixture
    def mine(self, store: Path) -> Path:
        folder = store / "mine"
        for index in range(5):
            picture(folder / f"photos/ä {index}.jpg")
            picture(folder / f"masks/{index}.png", 4, (4, 4, 9, 255, 9)[index])
        rows = [f"photos/ä {index}.jpg, masks/{index}.png\n" for index in range(5)]
        (folder / "train.csv").write_text("".join(rows[:3]), encoding="utf-8")
        (folder / "val.csv").write_text("".join(rows[3:]), encoding="utf-8")
        table = (Label(4, 0, "crop", (0, 255, 0)), Label(9, 1, "weed", (255, 0, 0)), Label(255, 255, "none", (0, 0, 0)))
        LabelTable("labels", table).write_csv(folder / "labels.csv")
        self.describe(self.RECIPE % "val.csv")
        return folder

    def describe(self, text: str) -> None:
        sections = "evaluate: {crop: [24, 32]}\nbenchmark: {sizes: [[24, 32]]}\nabout: {title: Mine}\n"
        (resolve_module.FOLDER / "datasets/mine.yaml").write_text(text + sections)

    def test_one_file_makes_a_data_set(self, mine, capsys):
        statistics = lists_of("mine")
        assert statistics["train"]["classes"] == {
            "crop": {"pixels": 1920, "images": 3},
            "weed": {"pixels": 384, "images": 1},
        }
        assert read_list(Path("work/annotations/val.csv")) == [
            ("photos/ä 3.jpg", "masks/3.png"),
            ("photos/ä 4.jpg", "masks/4.png"),
        ]
        info = read_yaml(Path("recipe.yaml"))["dataset"]
        assert info["num_classes"] == 2 and info["mean"] == [0.485, 0.456, 0.406]
        assert "no mean and std; ImageNet's are taken" in capsys.readouterr().out
        listed = Path("work/fetch/files.csv").read_text()
        assert all(name in listed for name in ("labels.csv", "train.csv", "val.csv", "masks/4.png"))

    def test_a_list_of_scene_parsing_will_do(self, mine):
        write_odgt(mine / "val.odgt", measure([("photos/ä 4.jpg", "masks/4.png")], mine))
        self.describe(self.RECIPE % "val.odgt")
        assert lists_of("mine")["val"]["images"] == 1

    def test_the_table_may_lie_in_the_project(self, mine):
        Path("mine.csv").write_bytes((mine / "labels.csv").read_bytes())
        self.describe((self.RECIPE % "val.csv").replace("labels.csv", "mine.csv"))
        lists_of("mine")
        assert "mine.csv" not in Path("work/fetch/files.csv").read_text()

    def test_a_table_edited_after_resolve_is_noticed(self, mine, capsys):
        lists_of("mine")
        text = (mine / "labels.csv").read_text()
        (mine / "labels.csv").write_text(text.replace("weed", "flower"))
        run(fetch.main)
        with pytest.raises(SystemExit) as ended:
            annotations.main()
        assert ended.value.code == 1 and "dvc repro -f resolve" in capsys.readouterr().err

    def test_a_listed_file_that_is_not_there(self, mine):
        (mine / "masks/2.png").unlink()
        recipe = DataRecipe("lists", lists=Lists("train.csv", "val.csv"))
        with pytest.raises(DataError, match=r"masks/2\.png: no such file, but a list names it"):
            walk(recipe, mine)
        with pytest.raises(DataError, match=r"test\.csv: no such list"):
            find_pairs(DataRecipe("lists", lists=Lists("train.csv", "val.csv", "test.csv")), [], mine)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "dataset: {labels: camvit}\ndata: {layout: folders}\n",
                r"dataset\.labels must be one of ade20k.*'camvit'",
            ),
            ("dataset: {labels: gone.csv}\ndata: {layout: folders}\n", r"or a \.csv file in .*mine or in this project"),
            ("dataset: {labels: labels.csv}\ndata: {layout: lists}\n", "data: `lists` .* belongs to `layout: lists`"),
            ("dataset: {labels: camvid}\ndata: {layout: listen, get: x}\n", "data.layout"),
            ("dataset: {labels: camvid, mean: [0.4, 0.4, 0.4]}\ndata: {layout: folders}\n", r"dataset\.std"),
        ],
    )
    def test_a_wrong_description_is_one_line(self, text, message, mine):
        self.describe(text)
        Path("params.yaml").write_text("model: bisenetv2\ndataset: mine\n")
        with pytest.raises(RecipeError, match=message) as caught:
            resolve_module.resolve(resolve_module.params())
        assert "\n" not in str(caught.value)
