"""The lists of CSAILVision/semantic-segmentation-pytorch: one JSON object a line, `.odgt` (section 4.1).

    {"fpath_img": "a.jpg", "fpath_segm": "a.png", "width": 683, "height": 512}

Its training groups and scales images by width and height before it opens them, so both have to be right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from segcore.errors import DataError
from segcore.files import atomic_write

KEYS = ("fpath_img", "fpath_segm", "width", "height")


class Record(NamedTuple):
    """One line: paths relative to the images' root, and the image's size in pixels."""

    image: str
    label: str
    width: int
    height: int


def read_odgt(path: Path) -> list[Record]:
    """Reads a list; entries beside the four known ones are left alone.

    Raises:
        DataError: no such file, no text, no record at all, an image listed twice, or a line that is no such object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a UTF-8 text; a .odgt list holds one JSON object a line") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    records = [_record(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if not records:
        raise DataError(f"{path}: the list is empty, so there is nothing to train on or to score")
    if len({record.image for record in records}) < len(records):
        raise DataError(f"{path}: an image stands there twice; every image counts once")
    return records


def _record(where: str, line: str) -> Record:
    try:
        content = json.loads(line)
        image, label, width, height = (content[key] for key in KEYS)
    except (ValueError, TypeError, RecursionError):
        raise DataError(f"{where}: not a JSON object: {line.strip()[:60]!r}") from None
    except KeyError as error:
        raise DataError(f"{where}: has no {error.args[0]!r}; a record holds {', '.join(KEYS)}") from None
    sizes = all(type(side) is int and side > 0 for side in (width, height))
    if not sizes or not all(isinstance(name, str) and name.strip() for name in (image, label)):
        raise DataError(f"{where}: {', '.join(KEYS)} must be two paths and two whole numbers of pixels")
    return Record(image, label, width, height)


def write_odgt(path: Path, records: Iterable[Record]) -> None:
    """Writes a list, atomically."""
    with atomic_write(path) as temporary:
        lines = (json.dumps(dict(zip(KEYS, record, strict=True))) for record in records)
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def measure(pairs: Sequence[tuple[str, str]], root: Path) -> list[Record]:
    """The records of (image, label) pairs, with the sizes that the images' headers give.

    Raises:
        DataError: an image that cannot be opened.
    """
    return [Record(image, label, *_size(root / image)) for image, label in pairs]


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:  # reads the header only
            return image.size
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be opened as a picture ({error}); replace it") from None
