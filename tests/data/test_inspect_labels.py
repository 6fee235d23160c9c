"""What `inspect` finds in labels: values, classes, and ids that mean something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segcore.data.labels import IGNORE, TABLES, Label, LabelTable
from segcore.data.minicity import MinicityRecipe, render
from tests.data.flawless import MINE, SIZE, Data


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "images")


class TestLabels:
    def test_values_outside_the_table_are_named_by_file(self, data):
        for name, value in (("train_labels/1.png", 7), ("val_labels/0.png", 99)):
            ids = data.pixels(name)
            ids[:3] = value
            data.put(name, ids)
        found = data.only("error", "label values 7, 99 are not in the table 'mine' (ids 0 … 255)")
        assert found.files == ("train_labels/1.png (7)", "val_labels/0.png (99)")

    @pytest.mark.parametrize(
        ("change", "remedy"),
        [
            (lambda ids: ids + 1, "count from 1"),
            (lambda ids: ids * 127, "grey levels of a painted mask"),
            (lambda ids: cv2.GaussianBlur(ids * 60, (9, 9), 3), "interpolating"),
        ],
    )
    def test_what_happened_is_guessed(self, data, change, remedy):
        data.map_labels(change)
        assert remedy in data.inspect().errors[0].remedy

    def test_palettes_are_read_by_index(self, data):
        for _, label in data.pairs["train"]:
            picture = Image.fromarray(data.pixels(label))
            picture.putpalette(MINE.palette.tobytes())
            picture.save(data.folder / label)
        assert data.inspect().findings == ()

    def test_colours_and_depths_are_refused(self, data):
        Image.fromarray(MINE.palette[data.pixels("train_labels/0.png")]).save(data.folder / "train_labels/0.png")
        Image.fromarray(data.pixels("train_labels/1.png").astype(np.uint16)).save(data.folder / "train_labels/1.png")
        found = {finding.what: finding.files for finding in data.inspect().errors}
        assert list(found.values()) == [("train_labels/0.png",), ("train_labels/1.png",)]
        assert "RGB of 8 bits" in list(found)[0] and "grey of 16 bits" in list(found)[1]

    def test_a_class_missing_in_one_list(self, data):
        for _, label in data.pairs["train"]:
            data.put(label, np.minimum(data.pixels(label), 1))
        found = data.only("doubt", "no pixel of class 2")
        assert found.files == ("train",) and "cannot be learnt" in found.remedy

    def test_one_class_only_and_255_as_the_other(self, data):
        data.map_labels(lambda ids: np.where(ids == 1, 255, 0))
        errors = data.inspect().errors
        assert [error.files for error in errors] == [("train",), ("val",)]
        assert "one class only, 'class 0'" in errors[0].what and "is 255 a class" in errors[0].remedy

    def test_ignored_pixels(self, data):
        data.put("train_labels/0.png", np.full(SIZE, IGNORE, np.uint8))
        assert data.only("doubt", "all of the label is ignored").files == ("train_labels/0.png",)
        data.map_labels(lambda ids: np.where(np.arange(48) < 30, IGNORE, ids))
        assert "ignored" in data.inspect().findings[0].what and "%" in data.inspect().findings[0].what

    @pytest.mark.parametrize(("split", "level"), [("val", "error"), ("test", "doubt")])
    def test_labels_that_are_ignored_altogether(self, data, split, level):
        for _, label in data.pairs["val"]:
            data.put(label, np.full(SIZE, IGNORE, np.uint8))
        data.pairs[split] = data.pairs.pop("val")
        assert data.only(level, "ignored pixels only").files == (split,)

    def test_one_label_for_two_photographs(self, data):
        shutil.copy(data.folder / "train_labels/0.png", data.folder / "train_labels/3.png")
        found = data.only("doubt", "different photographs have the same label")
        assert found.files == ("train_labels/0.png = train_labels/3.png",)


class TestIdsThatLookRight:
    """Values that the table knows, or nearly, and that mean something else."""

    @pytest.fixture(scope="class")
    def city(self, tmp_path_factory) -> Data:
        """Street scenes with Cityscapes' ids."""
        data = Data(tmp_path_factory.mktemp("city"), TABLES["cityscapes"])
        recipe = MinicityRecipe(height=64, width=128)
        for split, pairs in data.pairs.items():
            for i, (image, label) in enumerate(pairs):
                for name, pixels in zip((image, label), render(recipe, split, i), strict=True):
                    data.put(name, pixels)
        return data

    @pytest.fixture
    def copy(self, city, tmp_path) -> Data:
        shutil.copytree(city.folder, tmp_path / "city")
        copy = Data.__new__(Data)
        copy.folder, copy.labels, copy.pairs = tmp_path / "city", city.labels, city.pairs
        return copy

    def test_cityscapes_as_it_should_be(self, city):
        assert city.inspect().errors == []

    @pytest.mark.parametrize("ignored", [255, 0])
    def test_train_ids_would_be_mapped_twice(self, copy, ignored):
        def to_train_ids(ids):
            mapped = TABLES["cityscapes"].to_train_ids(ids, "x")
            return np.where(mapped == IGNORE, ignored, mapped)

        copy.map_labels(to_train_ids)
        (error,) = copy.inspect().errors
        assert "second time" in error.remedy and "labelIds.png" in error.remedy

    def test_label_ids_would_not_be_mapped_at_all(self, copy):
        classes = TABLES["cityscapes"].classes
        copy.labels = LabelTable("mine", tuple(Label(k, k, c.name, c.color) for k, c in enumerate(classes)))
        assert "these look like the ids of cityscapes" in copy.inspect().errors[0].remedy

    def ade(self, folder: Path, change) -> Data:
        """Labels of ADE20K's ids, the more frequent the lower as there, and what `change` makes of them."""
        data, rng = Data(folder, TABLES["ade20k"]), np.random.default_rng(0)
        data.map_labels(lambda ids: change(np.minimum(rng.geometric(0.03, SIZE), 150) * (rng.random(SIZE) > 0.02)))
        return data

    @pytest.mark.parametrize(
        ("change", "level", "words"),
        [
            (lambda ids: ids, None, ""),
            (lambda ids: np.minimum(ids, 149), None, ""),
            (lambda ids: np.where(ids == 0, 255, ids - 1), "error", "train ids"),
            (lambda ids: np.maximum(ids, 1) - 1, "doubt", "shifted by one"),
        ],
    )
    def test_ade20k_shifted_by_one(self, tmp_path, change, level, words):
        findings = [f for f in self.ade(tmp_path, change).inspect().findings if "no pixel of" not in f.what]
        assert [f.level for f in findings] == ([level] if level else [])
        assert all(words in finding.remedy for finding in findings)

    def test_original_ade20k_with_a_table_of_train_ids(self, tmp_path):
        data = self.ade(tmp_path, lambda ids: ids)
        classes = TABLES["ade20k"].classes
        data.labels = LabelTable("mine", tuple(Label(k, k, c.name, c.color) for k, c in enumerate(classes)))
        assert "the ids of ade20k" in data.inspect().errors[0].remedy

    def test_cocostuff_already_renumbered(self, tmp_path):
        data, rng = Data(tmp_path, TABLES["cocostuff"]), np.random.default_rng(0)
        data.map_labels(lambda ids: rng.integers(0, 171, SIZE))
        assert "would map a second time" in data.inspect().errors[0].remedy
