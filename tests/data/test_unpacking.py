"""Unpacking that is interrupted, repeated, out of room, or of an archive that is not the data set's."""

import errno
import shutil
import zipfile

import cv2
import numpy as np
import pytest

from segcore.data.archives import extract
from segcore.data.labels import TABLES
from segcore.data.layouts import find_pairs
from segcore.data.lists import write_lists
from segcore.data.sources import DataRecipe, fetch
from segcore.data.store import Checksums
from segcore.errors import DataError
from tests.data.zips import FILES, unpack


class TestInterrupted:
    def test_whole_files_stay_and_only_the_rest_is_written(self, pack, out, monkeypatch):
        archive, copy = pack(), shutil.copyfileobj

        def interrupt(source, target, size):
            if source.name == "a/3.png":
                target.write(source.read(10))
                raise KeyboardInterrupt
            copy(source, target, size)

        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(shutil, "copyfileobj", interrupt)
            unpack(archive, out)
        whole = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
        assert {path.name for path in whole} == {"0.png", "1.png", "2.png"}
        unpack(archive, out)
        assert all(path.stat().st_mtime_ns == changed for path, changed in whole.items())
        assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")} == FILES

    def test_a_second_run_reads_no_content(self, pack, out, monkeypatch):
        archive, checksums = pack(), Checksums(out, out.with_name("memory.csv"))
        files = extract(archive, lambda path: True, checksums)
        assert [checksums.of(file.path) for file in files] == files
        checksums.save()

        def fail(*_):
            raise AssertionError("read again")

        monkeypatch.setattr(zipfile.ZipFile, "open", fail)
        monkeypatch.setattr("segcore.data.store._crc32", fail)
        assert unpack(archive, out) == files

    def test_a_file_of_the_right_size_and_other_content_is_replaced(self, pack, out):
        archive = pack()
        unpack(archive, out)
        (out / "a/2.png").write_bytes(b"x" * 3000)
        unpack(archive, out)
        assert (out / "a/2.png").read_bytes() == FILES["a/2.png"]


class TestDisk:
    def test_too_little_room_is_said_before_anything_is_written(self, pack, out, monkeypatch):
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 20_999}))
        with pytest.raises(DataError, match=r"out: unpacking a\.zip needs 0\.0 MB.*SEGCORE_DATA, and run again"):
            unpack(pack(), out)
        assert not out.exists()

    def test_a_second_run_needs_no_room(self, pack, out, monkeypatch):
        unpack(pack(), out)
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
        unpack(pack(), out)

    @pytest.mark.parametrize(
        ("error", "match"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room and run again"),
            (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; make room and run again"),
            (PermissionError(errno.EACCES, "Permission denied"), "Permission denied; make .*out and what it holds"),
            (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; make .*out and what it holds"),
            (OSError(errno.EIO, "Input/output error"), "Input/output error; run again; if it comes back"),
        ],
        ids=["full", "quota", "forbidden", "read-only", "broken"],
    )
    def test_a_disk_that_refuses(self, error, match, pack, out, monkeypatch):
        def refuse(*_):
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfileobj", refuse)
            with pytest.raises(DataError, match=match):
                unpack(pack(), out)
        assert not [path for path in out.rglob("*") if path.is_file()]
        assert len(unpack(pack(), out)) == 6

    def test_an_archive_that_may_not_be_read(self, pack, out, monkeypatch):
        def forbid(archive):
            raise PermissionError(errno.EACCES, "Permission denied", str(archive))

        archive = pack()
        monkeypatch.setattr(zipfile, "ZipFile", forbid)
        with pytest.raises(DataError, match=r"a\.zip: Permission denied; make .* readable and writable"):
            unpack(archive, out)

    @pytest.mark.parametrize("name", ["a", "a/0.png/x"])
    def test_something_in_the_way(self, name, pack, out):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("in the way")
        with pytest.raises(DataError, match="something else lies where a file or a folder belongs; move it away"):
            unpack(pack(), out)


class TestDataSet:
    recipe = DataRecipe("cityscapes", "both from the site", ("leftImg8bit.zip", "gtFine.zip"))
    image, label = "leftImg8bit/{}/a/a_0_0_leftImg8bit.png", "gtFine/{}/a/a_0_0_gtFine_labelIds.png"

    def city(self, pack, tmp_path, splits=("train", "val"), top="", label=None):
        good = cv2.imencode(".png", np.full((8, 8), 7, np.uint8))[1].tobytes()
        pack(*((top + self.image.format(split), good) for split in splits), name="leftImg8bit.zip")
        pack(*((top + self.label.format(split), label or good) for split in splits), name="gtFine.zip")
        return [file.path for file in fetch(self.recipe, tmp_path, tmp_path / "memory.csv")]

    def test_one_folder_too_many(self, pack, tmp_path):
        match = (
            "leftImg8bit.zip: none of its 2 files is one of this data set's, the first is 'cityscapes/leftImg8bit/tr"
        )
        with pytest.raises(DataError, match=match):
            self.city(pack, tmp_path, top="cityscapes/")

    def test_splits_of_another_name(self, pack, tmp_path):
        with pytest.raises(DataError, match="none of its 2 files is one of this data set's"):
            self.city(pack, tmp_path, splits=("training", "validation"))

    def test_a_split_is_missing(self, pack, tmp_path):
        with pytest.raises(DataError, match="the val split is empty"):
            find_pairs(self.recipe, self.city(pack, tmp_path, splits=("train",)), tmp_path)

    @pytest.mark.parametrize("bad", [b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
    def test_a_bad_picture_in_a_good_archive(self, bad, pack, tmp_path):
        pairs = find_pairs(self.recipe, self.city(pack, tmp_path, label=bad), tmp_path)
        with pytest.raises(DataError, match="a_0_0_gtFine_labelIds.png and 1 more: cannot be decoded") as caught:
            write_lists(tmp_path / "lists", pairs, TABLES["cityscapes"], tmp_path, "city")
        assert "\n" not in str(caught.value)

    def test_an_archive_that_is_made_for_a_subfolder(self, pack, out):
        files = unpack(pack(), out, into="images")
        assert files[0].path == "images/a/0.png" and (out / files[0].path).read_bytes() == FILES["a/0.png"]

    def test_settings_for_an_archive_that_is_none(self):
        with pytest.raises(ValueError, match="'x.zip' is none of the archives .a.zip."):
            DataRecipe("cityscapes", "", ("a.zip",), urls={"x.zip": ("http://127.0.0.1/x.zip",)})
