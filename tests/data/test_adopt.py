"""From two folders to a data set with a name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import adopt as command
from pipeline.settings import read_yaml
from segcore.data.adopt import draft_table, match_pairs, measure_statistics, split_pairs
from segcore.data.datasets import read_list
from segcore.data.labels import LabelTable
from segcore.errors import DataError
from tests.data.trees import SIZE, lists_of, picture, run


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Five photographs, one of them without a label, and label maps named after them."""
    images, labels = tmp_path / "my photos", tmp_path / "masks"
    for index in range(5):
        picture(images / f"day/{index}.jpg")
        if index < 4:
            picture(labels / f"day/{index}_mask.png", 0, 3, 255)
    return images, labels


def test_two_folders_become_a_data_set(folders, store, monkeypatch, capsys):
    words = ["mine", "--images", str(folders[0]), "--labels", str(folders[1]), "--ending", "_mask", "--val", "0.25"]
    monkeypatch.setattr("sys.argv", ["adopt", *words])
    run(command.main)
    out = capsys.readouterr().out
    assert "3 training and 1 validation pairs, 2 classes" in out
    assert "left out: 1 photographs without a label, 0 labels without a photograph" in out
    statistics = lists_of("mine")
    assert statistics["train"]["images"] == 3 and statistics["val"]["images"] == 1
    image, label = read_list(Path("work/annotations/val.csv"))[0]
    assert image.startswith("images/day/") and label == image.replace("images", "labels").replace(".jpg", "_mask.png")
    recipe = read_yaml(Path("recipe.yaml"))
    assert recipe["train"]["crop"] == [32, 32] and recipe["weights"]["name"] == "none"
    assert recipe["dataset"]["num_classes"] == 2 and recipe["benchmark"]["sizes"] == [list(SIZE)]
    assert recipe["dataset"]["mean"] == pytest.approx([0.5] * 3, abs=0.05)


@pytest.mark.parametrize("there", ["pipeline/datasets/mine.csv", "pipeline/datasets/mine.yaml", "../store/mine"])
def test_nothing_is_written_over(there, folders, store, monkeypatch, capsys):
    Path(there).mkdir(parents=True)
    monkeypatch.setattr("sys.argv", ["adopt", "mine", "--images", str(folders[0]), "--labels", str(folders[1])])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1 and "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../mine", "my set", ""])
def test_a_name_that_is_no_name(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["adopt", name, "--images", "a", "--labels", "b"])
    with pytest.raises(SystemExit) as ended:
        command.parse()
    assert ended.value.code == 2 and "letters, digits" in capsys.readouterr().err


def test_images_and_labels_may_share_a_folder(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png")
    picture(tmp_path / "b_gt.png", 1)
    assert match_pairs(tmp_path, tmp_path)[0] == [("a.jpg", "a.png")]
    assert match_pairs(tmp_path, tmp_path, "_gt") == ([("b.png", "b_gt.png")], 2, 0)


def test_what_does_not_match_is_said(folders):
    with pytest.raises(DataError, match=r"no image in .*the first are day/0\.jpg and day/0_mask\.png.*--ending"):
        match_pairs(*folders)
    with pytest.raises(DataError, match="gone: no such folder"):
        match_pairs(folders[0], folders[1] / "gone")
    picture(folders[0] / "day/0.png")
    with pytest.raises(DataError, match=r"0\.png|0\.jpg.* want the same label"):
        match_pairs(*folders, "_mask")


def test_both_splits_get_something():
    pairs = [(f"{index}.jpg", f"{index}.png") for index in range(10)]
    train, val = split_pairs(pairs, 0.2)
    assert len(val) == 2 and sorted(train + val) == pairs and split_pairs(pairs, 0.2) == (train, val)
    assert [len(part) for part in split_pairs(pairs[:2], 0.0)] == [1, 1]
    assert [len(part) for part in split_pairs(pairs[:2], 1.0)] == [1, 1]
    with pytest.raises(DataError, match="one pair alone"):
        split_pairs(pairs[:1], 0.5)


def test_the_draft_has_a_class_for_each_value(tmp_path):
    paths = [picture(tmp_path / f"{value}.png", value) for value in (200, 0, 255)]
    table = draft_table("mine", paths)
    assert [(e.id, e.train_id) for e in table.entries] == [(0, 0), (200, 1), (255, 255)]
    assert len({entry.color for entry in table.classes}) == 2
    table.write_csv(tmp_path / "mine.csv")
    assert LabelTable.read_csv(tmp_path / "mine.csv") == table
    with pytest.raises(DataError, match="nothing but 255"):
        draft_table("mine", paths[2:])


def test_statistics_are_those_of_all_pixels(tmp_path):
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, high, (9, 7, 3), dtype=np.uint8) for high in (256, 90)]
    for index, image in enumerate(pixels):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image[..., ::-1])
    every = np.concatenate([image.reshape(-1, 3) for image in pixels]) / 255
    mean, std = measure_statistics([tmp_path / "0.png", tmp_path / "1.png"])
    assert mean == pytest.approx(every.mean(0), abs=6e-5) and std == pytest.approx(every.std(0), abs=6e-5)
