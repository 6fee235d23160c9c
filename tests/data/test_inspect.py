"""What `inspect` finds in files, photographs and lists: one flaw at a time in a data set without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segcore.data.inspect import inspect
from segcore.data.inspect.sheet import _notes
from segcore.data.statistics import Statistics
from segcore.errors import DataError
from tests.data.flawless import SIZE, Data


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

    @pytest.mark.parametrize(
        ("name", "why"), [("a" * 300 + ".png", "File name too long"), ("a\0b.png", "embedded null byte")]
    )
    def test_what_no_file_can_be_called(self, data, name, why):
        data.pairs["train"][0] = (name, "train_labels/0.png")
        data.pairs["val"][0] = ("val/0.png", name)
        found = data.only("error", f"is no name of a file ({why})")
        assert found.count == 2 and all(len(file) <= 80 for file in found.files) and "mend the list" in found.remedy

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


class TestSheet:
    def test_the_gravest_finding_of_a_pair_is_said(self, data):
        exif = Image.Exif()
        exif[274] = 6
        data.put("train/0.png", data.pixels("train/0.png"), exif=exif)
        data.put("train_labels/0.png", np.rot90(data.pixels("train_labels/0.png")))
        report = data.inspect()
        assert [finding.level for finding in report.findings] == ["error", "doubt"], "both of train/0.png"
        assert _notes(report) == {("train", 0): "error: photograph and label differ in size"}


class TestReport:
    def test_equal_data_gives_equal_bytes(self, data):
        data.put("train_labels/0.png", np.full(SIZE, 9, np.uint8))
        reports = [json.dumps(inspect(data.lists(), workers=workers).to_dict()) for workers in (1, 3)]
        assert reports[0] == reports[1] and str(data.folder) not in reports[0]

    def test_many_files_are_counted_and_not_all_listed(self, data):
        data.pairs["train"] = [(f"train/x{i}.png", "train_labels/0.png") for i in range(140)]
        found = data.inspect().to_dict()["findings"][0]
        assert (found["count"], len(found["files"])) == (140, 100)
