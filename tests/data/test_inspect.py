"""What `inspect` finds: one flaw at a time in a data set without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segcore.data.census import Census, count_values
from segcore.data.datasets import Samples
from segcore.data.inspect import Finding, Report, inspect
from segcore.data.labels import IGNORE, TABLES, Label, LabelTable
from segcore.data.minicity import MinicityRecipe, render
from segcore.data.statistics import Statistics
from segcore.errors import DataError

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
MINE = LabelTable(
    "mine", tuple(Label(k, k, f"class {k}", COLORS[k]) for k in range(3)) + (Label(255, 255, "v", (0, 0, 0)),)
)
SIZE = (32, 48)


class Data:
    """Six training and three validation pairs without a flaw, and how to damage them."""

    def __init__(self, folder: Path, labels: LabelTable = MINE) -> None:
        self.folder, self.labels = folder, labels
        self.pairs = {
            split: [(f"{split}/{i}.png", f"{split}_labels/{i}.png") for i in range(count)]
            for split, count in (("train", 6), ("val", 3))
        }
        for k, (image, label) in enumerate(self.pairs["train"] + self.pairs["val"]):
            rng = np.random.default_rng(k)
            coarse = rng.integers(0, 255, (4, 6, 3)).astype(np.uint8)
            self.put(image, cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
            ids = rng.integers(0, 3, (4, 6)).astype(np.uint8)
            self.put(label, cv2.resize(ids, SIZE[::-1], interpolation=cv2.INTER_NEAREST))

    def put(self, name: str, pixels: np.ndarray, **options: object) -> None:
        """Writes a picture under `name`, of the format its suffix says."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.folder / name, **options)

    def pixels(self, name: str) -> np.ndarray:
        return np.array(Image.open(self.folder / name))

    def map_labels(self, change) -> None:
        """Replaces every label by what `change` makes of it."""
        for _, label in self.pairs["train"] + self.pairs["val"]:
            self.put(label, np.asarray(change(self.pixels(label)), np.uint8))

    def lists(self) -> dict[str, Samples]:
        return {split: Samples(pairs, self.folder, self.labels) for split, pairs in self.pairs.items()}

    def inspect(self, expected: Statistics | None = None, thorough: bool = False) -> Report:
        return inspect(self.lists(), expected, thorough)

    def only(self, level: str, what: str) -> Finding:
        """The one finding there is; it has that level and those words."""
        findings = self.inspect().findings
        assert [finding.level for finding in findings] == [level], findings
        assert what in findings[0].what, findings[0].what
        return findings[0]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "images")


def test_nothing_to_find_fault_with(data):
    report = data.inspect()
    assert report.findings == () and report.to_dict()["splits"]["train"]["decoded"] == 6
    report.refuse_errors("…")


class TestFiles:
    def test_what_is_missing_or_damaged_is_grouped_and_named(self, data):
        (data.folder / "train/1.png").unlink()
        (data.folder / "val_labels/2.png").unlink()
        (data.folder / "train/3.png").write_bytes(b"")
        report = data.inspect()
        found = {finding.what: finding.files for finding in report.errors}
        assert found == {"no such file": ("train/1.png", "val_labels/2.png"), "is empty (zero bytes)": ("train/3.png",)}
        with pytest.raises(DataError, match=r"train/1.png and 1 more: no such file; mend.* .1 more .*look further"):
            report.refuse_errors("look further")

    def test_damage_in_the_pixels_is_found_where_they_are_decoded(self, data):
        content = bytearray((data.folder / "val/2.png").read_bytes())
        content[len(content) // 2] ^= 0x55
        (data.folder / "val/2.png").write_bytes(content)
        assert data.only("error", "cannot be decoded (damaged)").files == ("val/2.png",)

    def test_photographs_are_a_sample_unless_thorough(self, data, monkeypatch):
        monkeypatch.setattr("segcore.data.inspect.survey.DECODED", 3)
        assert [split.census.images for split in data.inspect().survey.splits.values()] == [6, 3], "labels: all"
        assert [len(split.looks) for split in data.inspect().survey.splits.values()] == [2, 1]
        assert [len(split.looks) for split in data.inspect(thorough=True).survey.splits.values()] == [6, 3]

    @pytest.mark.parametrize(
        ("orientation", "remedy"), [(6, "EXIF turns the photograph"), (1, "height and width are swapped")]
    )
    def test_a_label_made_from_the_turned_photograph(self, data, orientation, remedy):
        exif = Image.Exif()
        exif[274] = orientation
        data.put("train/0.png", data.pixels("train/0.png"), exif=exif)
        data.put("train_labels/0.png", np.rot90(data.pixels("train_labels/0.png")))
        error = data.inspect().errors[0]
        assert "the image is 32×48 but its label train_labels/0.png is 48×32" in error.where and remedy in error.remedy

    def test_another_size(self, data):
        data.put("val_labels/1.png", data.pixels("val_labels/1.png")[:, :40])
        assert "nearest neighbour" in data.only("error", "differ in size").remedy

    def test_a_name_that_lies(self, data):
        Image.open(data.folder / "train/0.png").save(data.folder / "train/0.jpg", "PNG")
        data.pairs["train"][0] = ("train/0.jpg", "train_labels/0.png")
        assert data.only("doubt", "is a PNG by its content").files == ("train/0.jpg",)

    def test_the_columns_of_a_list_swapped(self, data):
        data.pairs["train"][0] = ("train/0.png", "train/0.png")
        assert {finding.what for finding in data.inspect().errors} >= {"is its own label"}


class TestPhotographs:
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            (lambda p: p.quantize(16), "a palette"),
            (lambda p: p.convert("RGBA"), "alpha"),
            (lambda p: p.convert("L"), "is grey, among photographs in colour"),
            (lambda p: p.convert("L").convert("RGB"), "is grey, among photographs in colour"),
            (lambda p: Image.new("RGB", p.size, (3, 4, 5)), "one single colour"),
        ],
    )
    def test_an_odd_one(self, data, change, what):
        change(Image.open(data.folder / "train/2.png")).save(data.folder / "train/2.png")
        assert data.only("doubt", what).files == ("train/2.png",)

    def test_sixteen_bits(self, data):
        cv2.imwrite(str(data.folder / "train/2.png"), data.pixels("train/2.png")[..., ::-1].astype(np.uint16) * 257)
        data.only("doubt", "more than 8 bits")

    def test_cmyk_and_exif_in_a_jpeg(self, data):
        exif = Image.Exif()
        exif[274] = 3
        photo = Image.open(data.folder / "train/2.png").convert("CMYK")
        photo.save(data.folder / "train/2.jpg", quality=95, exif=exif)
        data.pairs["train"][2] = ("train/2.jpg", "train_labels/2.png")
        found = [finding.what for finding in data.inspect().findings]
        assert len(found) == 2 and "CMYK" in found[0] and "EXIF rotation" in found[1]

    def test_all_grey(self, data):
        for image, _ in data.pairs["train"] + data.pairs["val"]:
            Image.open(data.folder / image).convert("L").save(data.folder / image)
        assert data.only("doubt", "all photographs are grey").count == 9

    def test_statistics_are_those_of_the_training_pixels(self, data):
        pixels = np.concatenate([data.pixels(image).reshape(-1, 3) for image, _ in data.pairs["train"]]) / 255
        measured = data.inspect().survey.splits["train"].statistics
        assert measured.mean == pytest.approx(pixels.mean(0), abs=1e-4)
        assert measured.std == pytest.approx(pixels.std(0), abs=1e-4)

    def test_statistics_of_a_wrong_unit_or_order(self, data):
        for image, _ in data.pairs["train"] + data.pairs["val"]:
            data.put(image, (data.pixels(image) * (0.9, 0.7, 0.5)).astype(np.uint8))
        measured = data.inspect().survey.splits["train"].statistics
        assert data.inspect(measured).findings == ()
        times_255 = Statistics(*(tuple(255 * x for x in part) for part in measured))
        assert "to be normalised with" in data.inspect(times_255).findings[0].what
        backwards = Statistics(measured.mean[::-1], measured.std[::-1])
        assert "in the order B, G, R" in data.inspect(backwards).findings[0].remedy


class TestTwoLists:
    def test_one_line_in_both(self, data):
        data.pairs["val"][0] = data.pairs["train"][0]
        assert data.only("error", "stands in both train and val").files == ("train/0.png",)

    @pytest.mark.parametrize(("copies", "level"), [(1, "doubt"), (2, "error")])
    def test_one_content_in_both(self, data, copies, level):
        for i in range(copies):
            shutil.copy(data.folder / f"train/{i}.png", data.folder / f"val/{i}.png")
        found = data.only(level, "the same picture is in train and in val")
        assert found.files[0] == "val/0.png = train/0.png" and found.count == copies

    def test_one_content_twice_in_one(self, data):
        shutil.copy(data.folder / "train/0.png", data.folder / "train/5.png")
        assert data.only("doubt", "stands in one list twice").files == ("train/5.png = train/0.png",)

    def test_the_same_picture_saved_anew(self, data):
        data.pairs["val"][0] = ("val/0.jpg", "val_labels/0.png")
        data.put("val/0.jpg", data.pixels("train/4.png"), quality=95, subsampling=0)
        assert data.only("doubt", "a picture of val looks like one of train").files == ("val/0.jpg ≈ train/4.png",)


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


class TestReport:
    def test_equal_data_gives_equal_bytes(self, data):
        data.put("train_labels/0.png", np.full(SIZE, 9, np.uint8))
        reports = [json.dumps(inspect(data.lists(), workers=workers).to_dict()) for workers in (1, 3)]
        assert reports[0] == reports[1] and str(data.folder) not in reports[0]

    def test_many_files_are_counted_and_not_all_listed(self, data):
        data.pairs["train"] = [(f"train/x{i}.png", "train_labels/0.png") for i in range(140)]
        found = data.inspect().to_dict()["findings"][0]
        assert (found["count"], len(found["files"])) == (140, 100)


class TestCensus:
    def test_counts_beyond_what_float32_holds(self):
        assert count_values(np.full((5000, 4000), 3, np.uint8))[3] == 20_000_000

    def test_the_most_frequent_class_of_every_place_over_many_labels(self):
        labels = np.random.default_rng(0).integers(0, 4, (600, 5, 7)).astype(np.uint8)
        labels[labels == 3] = IGNORE
        census = Census(3, keep_map=True)
        for label in labels:
            census.add(label)
        counts = np.stack([(labels == k).sum(0) for k in range(3)])
        assert np.array_equal(census.majority(), counts.argmax(0))
        assert census.pixels.tolist() == counts.sum((1, 2)).tolist() and census.ignored == (labels == IGNORE).sum()

    def test_a_class_that_fills_the_small_counters_is_still_the_most_frequent(self):
        census = Census(3, keep_map=True)
        for k in [2] * 300 + [1] * 100:  # 300 is 44 in a byte
            census.add(np.full((2, 2), k, np.uint8))
        assert (census.majority() == 2).all()

    def test_large_maps_are_counted_at_a_reduced_size(self, monkeypatch):
        monkeypatch.setattr("segcore.data.census.MOST_COUNTERS", 3000)
        census = Census(3, keep_map=True)
        label = np.zeros((100, 200), np.uint8)
        label[:, 100:] = 2
        census.add(label)
        majority = census.majority()
        assert majority.size <= 1000 and set(majority[:, 0]) == {0} and set(majority[:, -1]) == {2}
        assert census.pixels.tolist() == [10_000, 0, 10_000], "the counts are of all pixels"
