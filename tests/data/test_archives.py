"""Archives from strangers, damaged or malicious: one line, nothing half, nothing outside."""

import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.data.archives import Limits
from segcore.errors import DataError
from tests.data.zips import FILES, make_zip, unpack


def refused(archive, out, match, **options):
    """It is refused in one line that names the archive, and no file was written."""
    with pytest.raises(DataError, match=match) as caught:
        unpack(archive, out, **options)
    assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()]


def entry(name, mode=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def patch(archive, old, new):
    """Replaces bytes wherever they stand, in place."""
    content = archive.read_bytes()
    assert old in content and len(old) == len(new)
    archive.write_bytes(content.replace(old, new))


class TestTricks:
    @pytest.mark.parametrize(
        "name",
        ["../x.png", "a/../../x.png", "/x.png", "//host/x.png", "C:\\x.png", "C:x.png", "a\\..\\x.png", "..", "."],
    )
    def test_a_name_that_leads_out(self, name, pack, out):
        refused(pack(("fine.png", b"x"), (name, b"x")), out, "would land outside its folder; nothing was unpacked")

    @pytest.mark.parametrize("name", ["a\0b.png", "a\nb.png", "a\x1bb.png", "a\x7fb.png", "\0Xb.png"])
    def test_a_name_with_a_control_character(self, name, pack, out):
        archive = pack(("fine.png", b"x"), ("aXb.png", b"x"))
        patch(archive, b"aXb.png", name.encode())
        refused(archive, out, "has a control character in its name")

    @pytest.mark.parametrize(
        ("kind", "match"),
        [
            (stat.S_IFLNK, "is a link"),
            (stat.S_IFCHR, "is a device or a pipe"),
            (stat.S_IFBLK, "is a device or a pipe"),
            (stat.S_IFIFO, "is a device or a pipe"),
            (stat.S_IFSOCK, "is a device or a pipe"),
        ],
    )
    def test_an_entry_that_is_no_plain_file(self, kind, match, pack, out):
        refused(pack(("fine.png", b"x"), (entry("x.png", kind | 0o777), "/etc/passwd")), out, match)

    @pytest.mark.parametrize(
        "names", [("a/x.png", "a/X.png"), ("a/x.png", "A/x.png"), ("é.png", "e\u0301.png"), ("a", "A/x.png")]
    )
    def test_two_names_for_one_place(self, names, pack, out):
        refused(pack(*((name, name.encode()) for name in names)), out, "would lie in one place")

    @pytest.mark.parametrize("names", [("a", "a/b.png"), ("a/b/c.png", "a/b")])
    def test_a_file_that_is_another_ones_folder(self, names, pack, out):
        refused(pack(*((name, b"x") for name in names)), out, "would lie in one place")

    def test_one_name_twice(self, pack, out):
        refused(pack(("x.png", b"one"), ("x.png", b"two")), out, "'x.png' and 'x.png' would lie in one place")

    def test_the_same_file_twice_is_one(self, pack, out):
        assert len(unpack(pack(("x.png", b"one"), ("x.png", b"one"), ("y/", b"")), out)) == 1

    def test_an_archive_in_an_archive_stays_one(self, pack, out):
        inner = pack(name="inner.zip")
        unpack(pack(("inner.zip", inner.read_bytes())), out)
        assert (out / "inner.zip").read_bytes() == inner.read_bytes()


class TestBombs:
    def test_more_entries_than_any_data_set(self, pack, out):
        refused(pack(), out, "6 entries, more than 5", limits=Limits(entries=5))

    def test_one_huge_file(self, pack, out):
        refused(pack(), out, r"entry 'a/5\.png' would be 0\.0 MB", limits=Limits(file_bytes=5999))

    def test_more_in_all(self, pack, out):
        refused(pack(), out, r"0\.0 MB would become 0\.0 MB", limits=Limits(total_bytes=20_999))
        assert len(unpack(pack(), out, limits=Limits(total_bytes=21_000))) == 6

    def test_much_out_of_little(self, pack, out):
        archive = pack(("zeros.bmp", bytes(10_000_000)))
        refused(archive, out, "would become 10.0 MB", limits=Limits(small_bytes=1_000_000))
        assert unpack(archive, out)[0].size == 10_000_000, "small things are no danger"

    def test_a_directory_that_declares_less_than_there_is(self, pack, out):
        archive = pack(("zeros.bmp", bytes(1_000_000)))
        patch(archive, struct.pack("<I", 1_000_000), struct.pack("<I", 1000))
        refused(archive, out, "not a whole zip archive .*CRC")

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_honest_pictures_pass(self, compression, pack, out):
        noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
        flat = np.zeros((1024, 2048), np.uint8)
        pictures = [
            ("x.png", cv2.imencode(".png", noise)[1].tobytes()),
            ("y.bmp", cv2.imencode(".bmp", flat)[1].tobytes()),
        ]
        assert len(unpack(pack(*pictures, compression=compression), out, limits=Limits(small_bytes=0))) == 2


class TestDamaged:
    @pytest.mark.parametrize(
        ("content", "match"),
        [
            (b"", "it is empty"),
            (b"not a zip", "it begins with 6e 6f 74 20"),
            (b"<!DOCTYPE html><html>log in", "it is a web page; its site may want you to log in first"),
            (b"\x1f\x8b\x08\x00" + bytes(100), "it begins with 1f 8b 08 00"),
        ],
        ids=["empty", "text", "web page", "gzip"],
    )
    def test_no_zip_at_all(self, content, match, tmp_path, out):
        (tmp_path / "a.zip").write_bytes(content)
        refused(tmp_path / "a.zip", out, f"not a whole zip archive .*{match}.*; fetch it again")

    def test_cut_short(self, pack, out):
        archive = pack(compression=zipfile.ZIP_STORED)
        archive.write_bytes(archive.read_bytes()[:-100])
        refused(archive, out, r"its end is missing after 0\.0 MB")

    def test_a_wrong_crc(self, pack, out):
        archive = pack(("x.png", b"0123456789" * 100), compression=zipfile.ZIP_STORED)
        patch(archive, b"0123456789" * 100, b"0123456780" * 100)
        refused(archive, out, "Bad CRC-32 for file 'x.png'")

    def test_nothing_in_it(self, tmp_path, out):
        zipfile.ZipFile(tmp_path / "a.zip", "w").close()
        refused(tmp_path / "a.zip", out, "has no files in it; is it the archive that is needed")

    def test_encrypted(self, pack, out):
        archive = pack(("x.png", b"x" * 100), compression=zipfile.ZIP_STORED)
        patch(archive, b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00")
        patch(archive, b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00")
        refused(archive, out, "entry 'x.png' is encrypted; unpack it by hand into .*out")

    def test_compressed_in_an_unknown_way(self, pack, out):
        archive = pack(("x.png", b"x" * 100))
        patch(archive, b"\x00\x00\x08\x00", b"\x00\x00\x09\x00")
        refused(archive, out, "is compressed by method 9; unpack it by hand into .*out")

    @given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4), st.booleans())
    @settings(max_examples=150)
    def test_any_bytes_changed_anywhere(self, place, bytes_, cut):
        with tempfile.TemporaryDirectory() as folder:
            out, archive = Path(folder) / "out", Path(folder) / "a.zip"
            content = bytearray(make_zip(archive).read_bytes())
            place %= len(content)
            content[place : None if cut else place + len(bytes_)] = bytes_
            archive.write_bytes(content)
            try:
                unpack(archive, out)
            except DataError as error:
                assert "\n" not in str(error)
            written = [path for path in Path(folder).rglob("*") if path.is_file() and path != archive]
            assert all(out in path.parents for path in written)
            assert all(path.read_bytes() in FILES.values() for path in written), "only whole files"
