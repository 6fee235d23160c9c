"""Picture files: what is read, and the one line for what cannot be."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from segcore.data.datasets import read_image, read_label_ids
from segcore.data.pictures import PictureError, UnreadablePictureError, peek, read_header
from segcore.errors import DataError, UnreadableError

SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8), (64, 48))  # H×W×3 RGB
PHOTO = Image.fromarray(SMOOTH)
IDS = np.random.default_rng(1).integers(0, 12, (48, 64)).astype(np.uint8)
LABEL = Image.fromarray(IDS)


def saved(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG whose head holds another one, end mark included, as cameras write it; its own end is missing."""
    inner, outer = saved(PHOTO.resize((16, 12)), "JPEG"), saved(PHOTO, "JPEG")
    head = b"\xff\xe1" + struct.pack(">H", 8 + len(inner)) + b"Exif\x00\x00" + inner
    return outer[:2] + head + outer[2:-300]


def bomb(form: str) -> bytes:
    """A few kB that claim gigapixels."""
    content = bytearray(saved(PHOTO.convert("L"), form))
    if form == "PNG":
        content[16:24] = struct.pack(">II", 100_000, 100_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    else:
        place = content.index(b"\xff\xc0") + 5
        content[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(content)


def flipped(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 0x55]) + content[len(content) // 2 + 1 :]


def png(width: int = 64, depth: int = 8, rows: int = 48, filtered: int = 0, flaw: int = 0) -> bytes:
    """A PNG of black rows that claims 48 of them; `flaw` is what its head's checksum is off by."""

    def chunk(name: bytes, content: bytes, off: int = 0) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content) ^ off)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 48, depth, 2, 0, 0, 0), flaw)
    pixels = chunk(b"IDAT", zlib.compress((bytes([filtered]) + bytes(3 * 64)) * rows))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


PNG, JPEG = saved(PHOTO), saved(PHOTO, "JPEG")
UNREADABLE = {
    "zero bytes": (b"", "is empty"),
    "text": (b"hello, I am no picture at all", "cannot be decoded"),
    "web page": (b"<!DOCTYPE html><html>Please log in</html>", "it is a web page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "head only": (PNG[:20], "cannot be decoded"),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated"),
    "PNG without its end": (PNG[:-4], "truncated"),
    "PNG with a wrong bit": (flipped(PNG), "damaged"),
    "PNG without width": (png(width=0), "cannot be decoded"),
    "PNG of 7 bits": (png(depth=7), "cannot be decoded"),
    "PNG with a wrong checksum": (png(flaw=1), "cannot be decoded"),
    "PNG with too few rows": (png(rows=20), "damaged"),
    "PNG with an unknown filter": (png(filtered=9), "damaged"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "JPEG without its end": (JPEG[:-2], "truncated"),
    "cut behind a thumbnail": (with_thumbnail(), "truncated"),
    "PPM of terapixels": (b"P6 9999999 9999999 255\n", "refused before decoding"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(50), "not a picture"),
    "zip": (b"PK\x03\x04" + bytes(50), "not a picture"),
    "PNG bomb": (bomb("PNG"), "refused before decoding"),
    "JPEG bomb": (bomb("JPEG"), "refused before decoding"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_decoded_is_one_line(case: str, tmp_path: Path) -> None:
    content, message = UNREADABLE[case]
    (tmp_path / "street.png").write_bytes(content)
    with pytest.raises(UnreadableError, match=message) as caught:
        read_image(tmp_path / "street.png")
    assert str(caught.value).startswith(f"{tmp_path / 'street.png'}: ")
    assert "\n" not in str(caught.value) and "; " in str(caught.value), "one line, and what to do"
    if message != "damaged":  # which is found by decoding, and colours are refused before
        with pytest.raises(UnreadableError, match=message):
            read_label_ids(tmp_path / "street.png")


def test_a_damaged_label(tmp_path: Path) -> None:
    for name, picture in {"grey": LABEL, "palette": LABEL.quantize(12)}.items():
        (tmp_path / f"{name}.png").write_bytes(flipped(saved(picture)))
        with pytest.raises(UnreadableError, match=f"{name}.png: cannot be decoded .damaged"):
            read_label_ids(tmp_path / f"{name}.png")


def test_half_a_jpeg_is_what_opencv_would_have_read(tmp_path: Path) -> None:
    """The reason for looking: no error, and a lower half of invented grey."""
    (tmp_path / "a.jpg").write_bytes(JPEG[:-200])
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == SMOOTH.shape


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b.png", "no such file; mend"),
        ("A.PNG", "there is a.png: upper"),
        ("x\\a.png", "write / instead"),
        ("f", "folder"),
    ],
)
def test_a_path_that_leads_nowhere(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "f").mkdir()
    for read in (read_image, read_label_ids, peek):
        with pytest.raises(UnreadableError, match=message):
            read(tmp_path / name)


WRONG_LABELS = {
    "RGB": (saved(PHOTO), "this one is RGB of 8 bits"),
    "RGBA": (saved(PHOTO.convert("RGBA")), "RGB with alpha"),
    "grey with alpha": (saved(LABEL.convert("LA")), "grey with alpha"),
    "16 bits": (saved(Image.fromarray(IDS.astype(np.uint16))), "grey of 16 bits"),
    "16 bits in colour": (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))[1].tobytes(), "RGB of 16 bits"),
    "1 bit": (saved(LABEL.convert("1")), "grey of 1 bits .* would be read as grey levels"),
    "JPEG": (saved(LABEL, "JPEG"), "is a JPEG"),
    "16-bit TIFF": (saved(Image.fromarray(IDS.astype(np.uint16)), "TIFF"), "grey of 16 bits"),
}


@pytest.mark.parametrize("case", WRONG_LABELS)
def test_what_cannot_be_a_label_is_not_taken_for_a_file_to_skip(case: str, tmp_path: Path) -> None:
    content, message = WRONG_LABELS[case]
    (tmp_path / "label.png").write_bytes(content)
    with pytest.raises(DataError, match=f"label.png: .*{message}") as caught:
        read_label_ids(tmp_path / "label.png")
    assert not isinstance(caught.value, UnreadableError)


@given(
    ids=arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)),
    seed=st.integers(0, 9),
    bits=st.sampled_from([1, 2, 4, 8]),
)
def test_a_palette_counts_by_index_and_not_by_colour(tmp_path_factory, ids, seed, bits) -> None:
    path = tmp_path_factory.mktemp("p") / "label.png"
    ids = ids & (2**bits - 1)
    picture = Image.fromarray(ids)
    picture.putpalette(np.random.default_rng(seed).bytes(3 * 2**bits))
    picture.save(path, bits=bits)
    assert np.array_equal(read_label_ids(path), ids) and np.array_equal(np.asarray(Image.open(path)), ids)
    assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim == 3, "OpenCV gives the colours"


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)))
def test_grey_labels_are_what_pillow_and_opencv_read(tmp_path_factory, ids) -> None:
    for suffix in (".png", ".bmp", ".tif"):
        path = tmp_path_factory.mktemp("g") / f"label{suffix}"
        Image.fromarray(ids).save(path)
        for theirs in (np.asarray(Image.open(path)), cv2.imread(str(path), cv2.IMREAD_UNCHANGED)):
            assert np.array_equal(read_label_ids(path), theirs)


TURNED = Image.Exif()
TURNED[274] = 6
PHOTOGRAPHS = {
    "RGB": (saved(PHOTO), ("PNG", "RGB", 8, 1)),
    "alpha": (saved(PHOTO.convert("RGBA")), ("PNG", "RGB with alpha", 8, 1)),
    "palette": (saved(PHOTO.quantize(256)), ("PNG", "palette", 8, 1)),
    "black": (png(), ("PNG", "RGB", 8, 1)),
    "few colours": (saved(PHOTO.quantize(4)), ("PNG", "palette", 2, 1)),
    "16 bits": (cv2.imencode(".png", SMOOTH[..., ::-1].astype(np.uint16) * 257)[1].tobytes(), ("PNG", "RGB", 16, 1)),
    "grey": (saved(PHOTO.convert("L"), "JPEG"), ("JPEG", "grey", 8, 1)),
    "CMYK": (saved(PHOTO.convert("CMYK"), "JPEG", quality=95), ("JPEG", "CMYK", 8, 1)),
    "EXIF turns it": (saved(PHOTO, "JPEG", exif=TURNED, quality=95), ("JPEG", "RGB", 8, 6)),
    "EXIF in a PNG": (saved(PHOTO, exif=TURNED), ("PNG", "RGB", 8, 6)),
    "progressive": (saved(PHOTO, "JPEG", progressive=True, quality=95), ("JPEG", "RGB", 8, 1)),
    "something behind": (saved(PHOTO, "JPEG", quality=95) + bytes(9000), ("JPEG", "RGB", 8, 1)),
    "WebP": (saved(PHOTO, "WEBP", lossless=True), ("WEBP", "RGB", 8, 1)),
}


@pytest.mark.parametrize("case", PHOTOGRAPHS)
def test_odd_photographs_are_recognised_and_read_as_they_are_stored(case: str, tmp_path: Path) -> None:
    """Named .png all of them: the content counts."""
    content, expected = PHOTOGRAPHS[case]
    (tmp_path / "street.png").write_bytes(content)
    size, header = peek(tmp_path / "street.png")
    assert (header.format, header.kind, header.bits, header.orientation) == expected
    assert size == len(content) and header.size == (48, 64)
    image = read_image(tmp_path / "street.png")
    truth = {"black": 0 * SMOOTH, "grey": np.repeat(np.asarray(PHOTO.convert("L"))[..., None], 3, 2)}.get(case, SMOOTH)
    assert image.shape == truth.shape and image.dtype == np.uint8
    close = {"few colours": 60, "palette": 12, "CMYK": 12}.get(case, 3)
    assert np.abs(image.astype(int) - truth).mean() < close, "neither turned nor in the order B, G, R"


def test_fill_bytes_before_a_marker_are_allowed() -> None:
    for content in (JPEG[:2] + b"\xff" + JPEG[2:], JPEG):
        assert read_header(io.BytesIO(content), Path("a.jpg")).size == (48, 64)


def test_an_error_survives_the_way_between_processes() -> None:
    error = UnreadablePictureError(Path("a.png"), "is empty", "replace it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.png: is empty; replace it"
    assert isinstance(again, PictureError) and isinstance(again, UnreadableError)
