"""From archives and folders to checked lists: what works, and every way it can go wrong."""

import json
import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from segcore.data.archives import extract
from segcore.data.datasets import read_list
from segcore.data.labels import TABLES
from segcore.data.layouts import find_pairs
from segcore.data.lists import write_lists
from segcore.data.minicity import MinicityRecipe
from segcore.data.pretrained import WeightsRecipe, fetch_weights
from segcore.data.sources import DataRecipe, fetch
from segcore.data.store import Checksums, find_dataset, read_files, verify, write_files
from segcore.errors import CheckpointError, DataError

CITY = DataRecipe("cityscapes", "both from somewhere", ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip"))
MINI = replace(CITY, generate=MinicityRecipe(train=3, val=2, height=64, width=128))
FOLDERS = DataRecipe("folders", "it from somewhere")


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "memory.csv"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A fetched miniature set, and what is remembered of it."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder, fetch(MINI, folder / "city", folder / "memory.csv")


@pytest.fixture
def city(drawn, tmp_path):
    """A copy of it."""
    shutil.copytree(drawn[0], tmp_path, dirs_exist_ok=True)
    return tmp_path / "city", drawn[1]


class TestCityscapesLayout:
    def test_archives_become_pairs_lists_and_statistics(self, city, tmp_path):
        folder, files = city
        pairs = find_pairs(MINI, [file.path for file in files], folder)
        assert {split: len(found) for split, found in pairs.items()} == {"train": 3, "val": 2}
        write_lists(tmp_path / "lists", pairs, TABLES["cityscapes"], folder, "city")
        image, label = read_list(tmp_path / "lists/val.csv")[0]
        assert image.replace("leftImg8bit", "x") == label.replace("gtFine", "x").replace("x_labelIds", "x")
        assert (tmp_path / "lists/root").read_text() == "city\n"
        assert len(read_list(tmp_path / "lists/trainval.csv")) == 5
        statistics = json.loads((tmp_path / "lists/statistics.json").read_text())
        assert statistics["train"]["classes"]["road"]["images"] == 3
        assert statistics["val"]["sizes"] == {"64×128": 2}
        majority = cv2.imread(str(tmp_path / "lists/majority.png"), cv2.IMREAD_UNCHANGED)
        assert majority.shape == (64, 128) and majority.max() < 19

    def test_a_second_fetch_writes_nothing(self, city, memory):
        folder, files = city
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert fetch(MINI, folder, memory) == files
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_another_recipe_is_drawn_anew(self, city, memory):
        folder, files = city
        other = replace(MINI, generate=replace(MINI.generate, seed=1))
        assert fetch(other, folder, memory) != files

    def test_other_drawing_code_draws_anew(self, city, memory):
        folder, _ = city
        before = (folder / CITY.archives[0]).stat().st_mtime_ns
        fetch(replace(MINI, code="edited"), folder, memory)
        assert (folder / CITY.archives[0]).stat().st_mtime_ns > before

    def test_a_file_that_rotted_is_found_and_mended(self, city, memory, tmp_path):
        folder, files = city
        write_files(tmp_path / "files.csv", files)
        verify(folder, tmp_path / "files.csv", memory)
        victim = folder / files[0].path
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-1] + b"x")
        with pytest.raises(DataError, match="dvc repro -f fetch"):
            verify(folder, tmp_path / "files.csv", memory)
        assert fetch(MINI, folder, memory) == files and victim.read_bytes() == whole

    def test_missing_archives_are_named_with_source_and_place(self, tmp_path, memory):
        with pytest.raises(DataError, match="leftImg8bit.*gtFine.* not found in .*empty; get both from somewhere"):
            fetch(CITY, tmp_path / "empty", memory)

    def test_unpacked_trees_do_without_archives(self, city, memory):
        folder, files = city
        for name in CITY.archives:
            (folder / name).unlink()
        assert fetch(CITY, folder, memory) == sorted(files)

    def test_a_truncated_archive(self, city, memory):
        folder, _ = city
        archive = folder / CITY.archives[0]
        archive.write_bytes(archive.read_bytes()[:2000])
        with pytest.raises(DataError, match="not a whole zip archive"):
            fetch(CITY, folder, memory)

    def test_a_damaged_entry_leaves_no_half_file(self, tmp_path, memory):
        name = "leftImg8bit/train/a/a_000000_000000_leftImg8bit.png"
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, b"0123456789" * 100)
        content = bytearray((tmp_path / "a.zip").read_bytes())
        content[200] ^= 1
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(DataError, match="not a whole zip archive"):
            extract(tmp_path / "a.zip", lambda _: True, Checksums(tmp_path / "out", memory))
        assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]

    @pytest.mark.parametrize("name", ["../out.png", "/abs.png", "a/../../b.png", "C:\\x.png", "a\\..\\b.png"])
    def test_an_entry_outside_its_folder_stops_everything(self, name, tmp_path, memory):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("fine.png", b"x")
            archive.writestr(name, b"x")
        with pytest.raises(DataError, match="would land outside"):
            extract(tmp_path / "a.zip", lambda _: True, Checksums(tmp_path / "out", memory))
        assert not (tmp_path / "out").exists()

    def test_a_link_in_an_archive_is_refused(self, tmp_path, memory):
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(entry, "/etc/passwd")
        with pytest.raises(DataError, match="is a link"):
            extract(tmp_path / "a.zip", lambda _: True, Checksums(tmp_path / "out", memory))


class TestFolders:
    def test_pairs_share_a_stem_whatever_the_suffix(self, camvid_folder, memory):
        png = camvid_folder / "train/train_000.png"
        cv2.imwrite(str(png.with_suffix(".jpg")), cv2.imread(str(png)))
        png.unlink()
        pairs = find_pairs(FOLDERS, [file.path for file in fetch(FOLDERS, camvid_folder, memory)], camvid_folder)
        assert pairs["train"][0] == ("train/train_000.jpg", "trainannot/train_000.png")
        assert len(pairs["train"]) == 6 and len(pairs["val"]) == 3 and "test" not in pairs

    def test_the_test_split_is_taken_where_present(self, camvid_folder, memory):
        for top in ("test", "testannot"):
            (camvid_folder / top).mkdir()
            source = camvid_folder / top.replace("test", "val") / "val_000.png"
            (camvid_folder / top / "x.png").write_bytes(source.read_bytes())
        files = fetch(FOLDERS, camvid_folder, memory)
        assert find_pairs(FOLDERS, [file.path for file in files], camvid_folder)["test"] == [
            ("test/x.png", "testannot/x.png")
        ]

    def test_a_missing_folder_is_named(self, camvid_folder, memory):
        (camvid_folder / "valannot").rename(camvid_folder / "elsewhere")
        with pytest.raises(DataError, match="valannot: no such folder; get it from somewhere"):
            fetch(FOLDERS, camvid_folder, memory)

    @pytest.mark.parametrize("top", ["train", "valannot"])
    def test_a_lonely_file_is_named(self, top, camvid_folder, memory):
        sorted((camvid_folder / top).iterdir())[0].unlink()
        with pytest.raises(DataError, match="_000.png: has no (image|label) beside it"):
            find_pairs(FOLDERS, [file.path for file in fetch(FOLDERS, camvid_folder, memory)], camvid_folder)

    def test_an_empty_split_is_named(self, camvid_folder, memory):
        for top in ("val", "valannot"):
            for path in (camvid_folder / top).iterdir():
                path.unlink()
        with pytest.raises(DataError, match="the val split is empty"):
            find_pairs(FOLDERS, [file.path for file in fetch(FOLDERS, camvid_folder, memory)], camvid_folder)

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            (np.full((48, 64), 12, np.uint8), "label value 12 is not in the table 'camvid'"),
            (np.zeros((48, 60), np.uint8), "48×64 but its label"),
            (np.zeros((48, 64, 3), np.uint8), "one 8-bit channel"),
        ],
    )
    def test_a_bad_label_stops_before_anything_is_listed(self, label, message, camvid_folder, memory, tmp_path):
        cv2.imwrite(str(camvid_folder / "valannot/val_001.png"), label)
        pairs = find_pairs(FOLDERS, [file.path for file in fetch(FOLDERS, camvid_folder, memory)], camvid_folder)
        with pytest.raises(DataError, match=message):
            write_lists(tmp_path / "lists", pairs, TABLES["camvid"], camvid_folder, "camvid")
        assert not (tmp_path / "lists").exists(), "nothing half-written"

    def test_majority_is_the_most_frequent_class_of_every_place(self, camvid_folder, memory, tmp_path):
        pairs = find_pairs(FOLDERS, [file.path for file in fetch(FOLDERS, camvid_folder, memory)], camvid_folder)
        write_lists(tmp_path / "lists", pairs, TABLES["camvid"], camvid_folder, "camvid")
        majority = cv2.imread(str(tmp_path / "lists/majority.png"), cv2.IMREAD_UNCHANGED)
        assert (majority[2:, :32] == 0).all() and (majority[2:, 32:] == 3).all()


def test_the_first_store_that_has_a_data_set_wins(tmp_path, monkeypatch):
    (tmp_path / "second/camvid").mkdir(parents=True)
    monkeypatch.setenv("SEGCORE_DATA", str(tmp_path / "first"))
    assert find_dataset("camvid", [tmp_path / "second"], tmp_path / "third") == tmp_path / "second/camvid"
    assert find_dataset("other", [tmp_path / "second"], tmp_path / "third") == tmp_path / "first/other"
    monkeypatch.delenv("SEGCORE_DATA")
    assert find_dataset("other", [], tmp_path / "third") == tmp_path / "third/other"


def test_files_csv_survives(city, tmp_path):
    write_files(tmp_path / "files.csv", city[1])
    assert read_files(tmp_path / "files.csv") == sorted(city[1])
    (tmp_path / "files.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not a list of files"):
        read_files(tmp_path / "files.csv")


class TestPretrained:
    def test_none_is_a_receipt(self, tmp_path):
        assert fetch_weights(WeightsRecipe(), tmp_path, tmp_path / "out") == {"pretrained": "none"}

    def test_a_file_put_there_is_taken_and_its_digest_recorded(self, tmp_path):
        (tmp_path / "b.pth").write_bytes(b"weights")
        receipt = fetch_weights(WeightsRecipe("b.pth", "https://example.org/b.pth"), tmp_path, tmp_path / "out")
        assert (tmp_path / "out/backbone.pth").read_bytes() == b"weights" and len(receipt["sha256"]) == 64

    def test_another_digest_is_refused(self, tmp_path):
        (tmp_path / "b.pth").write_bytes(b"weights")
        with pytest.raises(CheckpointError, match="the recipe wants abc"):
            fetch_weights(WeightsRecipe("b.pth", "", "abc"), tmp_path, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_an_unreachable_source_says_where_to_put_the_file(self, tmp_path):
        recipe = WeightsRecipe("b.pth", (tmp_path / "nowhere").as_uri())
        with pytest.raises(CheckpointError, match="fetch it by hand and put it at .*store/b.pth"):
            fetch_weights(recipe, tmp_path / "store", tmp_path / "out")

    def test_a_reachable_source_is_downloaded_once(self, tmp_path):
        (tmp_path / "origin").write_bytes(b"weights")
        recipe = WeightsRecipe("b.pth", (tmp_path / "origin").as_uri())
        fetch_weights(recipe, tmp_path / "store", tmp_path / "out")
        (tmp_path / "origin").unlink()
        assert fetch_weights(recipe, tmp_path / "store", tmp_path / "out")["pretrained"] == "b.pth"
