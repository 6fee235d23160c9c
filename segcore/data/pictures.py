"""Picture files: what they are before anything is decoded, and their pixels as images or class ids.

Decoders are obliging. OpenCV fills the missing half of a JPEG with grey, spreads the values of a 1-bit map to 0 and 255
and turns the indices of a palette into colours; Pillow halves 16 bits in silence. So a file's own head decides here
whether and how it is decoded.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from segcore.errors import DataError, UnreadableError

LARGEST = 178_956_970  # pixels that Pillow opens; a bomb of a few kB may claim thousands of times as many
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")
SUFFIXES = {
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "JPEG2000": {".jp2", ".j2k", ".jpx"},
}
PNG, IEND = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
PNG_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
MODES = {  # Pillow's
    "1": ("grey", 1),
    "L": ("grey", 8),
    "I;16": ("grey", 16),
    "I;16B": ("grey", 16),
    "I": ("grey", 32),
    "F": ("grey", 32),
    "P": ("palette", 8),
    "LA": ("grey with alpha", 8),
    "PA": ("palette with alpha", 8),
    "RGBA": ("RGB with alpha", 8),
}
ORIENTATION = 274  # EXIF tag
INTACT = "put an intact file in its place"
IMPOSTORS = {
    b"version https://git-lfs": ("is a Git LFS pointer, not the picture", "fetch the pictures with `git lfs pull`"),
    b"<": ("cannot be decoded: it is a web page or XML", "download it anew; a login may be needed"),
}

# Half as many are accepted, and Pillow's warning would only add a line to that.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class PictureError(DataError):
    """A picture that cannot serve: `what` is wrong with it, and the `remedy`.

    An error that crosses from one process to another is rebuilt from its message, `path` alone.
    """

    def __init__(self, path: Path | str, what: str = "", remedy: str = "") -> None:
        super().__init__(f"{path}: {what}; {remedy}" if what else str(path))
        self.what, self.remedy = what, remedy


class UnreadablePictureError(PictureError, UnreadableError):
    """A picture that is missing, damaged or too large to be decoded."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        format: one of FORMATS.
        kind: grey, palette, RGB, CMYK, …, with alpha or not.
        bits: of one channel.
        orientation: how EXIF wants it turned, 1 … 8; 1 is not at all.
    """

    format: str
    height: int
    width: int
    kind: str
    bits: int
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.kind} of {self.bits} bits ({self.format})"


def read_picture(path: Path) -> tuple[bytes, Header]:
    """A file's content and head.

    Raises:
        UnreadablePictureError: see `read_header`; no such file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _missing(Path(path), error) from None
    return content, read_header(io.BytesIO(content), path)


def peek(path: Path) -> tuple[int, Header]:
    """A file's size in bytes and its head, from its first and last bytes alone.

    Raises:
        UnreadablePictureError: see `read_header`; no such file.
    """
    try:
        with open(path, "rb") as file:
            return file.seek(0, io.SEEK_END), read_header(file, path)
    except OSError as error:
        raise _missing(Path(path), error) from None


def read_header(file: BinaryIO, path: Path) -> Header:
    """The head of an open file; `path` is for the message.

    Raises:
        UnreadablePictureError: empty, no picture, cut off, or of more than LARGEST pixels.
    """
    file.seek(0)
    start = file.read(29)
    if not start:
        raise UnreadablePictureError(path, "is empty (zero bytes)", INTACT)
    for beginning, (what, remedy) in IMPOSTORS.items():
        if start.startswith(beginning):
            raise UnreadablePictureError(path, what, remedy)
    try:
        picture = Image.open(file, formats=FORMATS)
        (width, height), (kind, bits) = picture.size, MODES.get(picture.mode, (picture.mode, 8))
        if start.startswith(PNG):  # of which Pillow does not tell the depth
            bits, kind = start[24], PNG_KINDS[start[25]]
        orientation = picture.getexif().get(ORIENTATION, 1) if "exif" in picture.info else 1
    except Image.DecompressionBombError:
        what = f"claims more than {LARGEST:,} pixels and is refused before decoding"
        raise UnreadablePictureError(path, what, "cut it into tiles, or put an intact file in its place") from None
    except (OSError, SyntaxError, ValueError, KeyError, struct.error):
        raise UnreadablePictureError(path, "cannot be decoded (truncated, or not a picture)", INTACT) from None
    form = "JPEG" if picture.format == "MPO" else picture.format
    if not _whole(file, form):
        raise UnreadablePictureError(path, "cannot be decoded: its end is missing (truncated)", INTACT)
    return Header(form, height, width, kind, bits, orientation)


def decode_image(content: bytes, path: Path) -> np.ndarray:
    """A whole picture's pixels, uint8 H×W×3 RGB, not turned as EXIF may want it, for labels know nothing of that.

    16 bits lose their lower eight, alpha is dropped, CMYK and palettes become RGB.
    """
    image = _decode(content, cv2.IMREAD_COLOR, path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def decode_ids(content: bytes, header: Header, path: Path) -> np.ndarray:
    """A label's class ids, uint8 H×W: the pixel values, of a palette the indices and not the colours.

    Raises:
        PictureError: colours, another depth than 8 bits, alpha, lossy compression.
        UnreadablePictureError: damaged.
    """
    if header.format == "JPEG":
        raise PictureError(path, "is a JPEG, whose compression invents ids at every border", "save labels as PNG")
    if header.kind == "palette":
        return _palette_indices(content, path)
    if (header.kind, header.bits) != ("grey", 8):
        what = f"a label must have one 8-bit channel of class ids, this one is {header}"
        raise PictureError(path, what, _remedy_for(header))
    return _decode(content, cv2.IMREAD_GRAYSCALE, path)


def _decode(content: bytes, how: int, path: Path) -> np.ndarray:
    with contextlib.suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), how | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is not None:
            return picture
    raise UnreadablePictureError(path, "cannot be decoded (damaged)", INTACT)


def _palette_indices(content: bytes, path: Path) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(content), formats=FORMATS))
    except (OSError, SyntaxError, ValueError):
        raise UnreadablePictureError(path, "cannot be decoded (damaged)", INTACT) from None


def _remedy_for(label: Header) -> str:
    if label.kind.startswith("RGB"):
        return "write the ids instead of the classes' colours, or one channel if all three are equal"
    if label.bits < 8:
        return "its values would be read as grey levels up to 255, so save the ids with 8 bits"
    return "save the ids as 8-bit grey or with a palette"


def _missing(path: Path, error: OSError) -> UnreadablePictureError:
    if path.is_dir():
        return UnreadablePictureError(path, "is a folder", "the list must name pictures")
    if path.exists():
        return UnreadablePictureError(path, f"cannot be read ({error.strerror})", "let this user read it")
    if "\\" in path.name:
        return UnreadablePictureError(path, "no such file", "write / instead of \\ between folders")
    folder = path.parent.iterdir() if path.parent.is_dir() else ()
    for other in sorted(other.name for other in folder if other.name.casefold() == path.name.casefold()):
        return UnreadablePictureError(path, "no such file", f"there is {other}: upper and lower case must agree")
    return UnreadablePictureError(path, "no such file", "mend the list or its root, or put the file there")


def _whole(file: BinaryIO, form: str | None) -> bool:
    """Whether the mark that ends a PNG or JPEG is there; other formats are known when they are decoded."""
    if form not in ("PNG", "JPEG"):
        return True
    mark, start = (IEND, len(PNG)) if form == "PNG" else (b"\xff\xd9", _first_scan(file))
    end = file.seek(0, io.SEEK_END)
    for length in (4096, end):  # cameras append things, so a mark that is not near the end may be further up
        file.seek(max(start, end - length))
        if mark in file.read():
            return True
    return False


def _first_scan(file: BinaryIO) -> int:
    """Where a JPEG's pixels begin: a thumbnail in its head has an end mark too, which does not count."""
    place = file.seek(2)
    while len(segment := file.read(4)) == 4:
        marker, length = struct.unpack(">HH", segment)
        if marker == 0xFFDA:
            return place
        if marker < 0xFF00:  # no marker at all: nothing is known of this head
            return 2
        place = file.seek(place + 1 if marker == 0xFFFF else place + 2 + length)
    return place
