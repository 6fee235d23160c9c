"""Lists and the images they name.

A list is a text file with one `image,label` pair a line, paths relative to `root`; beside it lie `labels.csv` (the
label table) and `root` (where the images are: an absolute path, or one relative to the data store).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from segcore.data.labels import LabelTable
from segcore.data.pictures import decode_ids, decode_image, read_picture
from segcore.errors import DataError
from segcore.files import atomic_write, read_text


def read_list(path: Path) -> list[tuple[str, str]]:
    """Reads `image,label` lines.

    Spaces around a path, empty lines, a first line `image,label`, a byte-order mark and any line ends are fine.

    Raises:
        DataError: no such file, no UTF-8, an empty list, a line without exactly one comma, an image listed twice, two
            images whose names differ in the suffix alone.
    """
    lines: dict[str, tuple[int, str, str]] = {}  # by name
    for number, line in enumerate(read_text(path, "`dvc repro annotations` makes the lists").split("\n"), 1):
        if not line.strip() or (not lines and _is_header(_fields(line))):
            continue
        image, label = _pair(line, f"{path}:{number}")
        first, other, _ = lines.setdefault(_name(image), (number, image, label))
        if first != number:
            problem = "stands there twice" if other == image else f"would share the name of its results with {other}"
            raise DataError(f"{path}:{number}: {image} {problem}, see line {first}; remove or rename one")
    if not lines:
        raise DataError(f"{path}: the list is empty, so there is nothing to train on or to score")
    return [(image, label) for _, image, label in lines.values()]


def write_list(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Writes `image,label` lines, atomically.

    Raises:
        DataError: a path that the format cannot carry: with a comma, a line break, a space at its ends, or no UTF-8.
    """
    for number, pair in enumerate(pairs):
        if not _survives(pair) or (number == 0 and _is_header(list(pair))):
            raise DataError(
                f"{pair[0]!r}, {pair[1]!r}: a path with a comma, a line break, outer spaces or no UTF-8 cannot stand "
                "in an `image,label` list; rename the file"
            )
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{image},{label}\n" for image, label in pairs), encoding="utf-8")


def _survives(pair: tuple[str, str]) -> bool:
    line = ",".join(pair)
    plain = not set("\n\r\ufeff") & set(line) and line.encode(errors="ignore").decode() == line
    return plain and all(pair) and _fields(line) == list(pair)


def _name(image: str) -> str:
    """An image's path without its suffix, made relative: it names files with this image's results."""
    parts = PurePosixPath(os.path.splitext(image)[0]).parts
    return "/".join("up" if part == ".." else part for part in parts if part != "/")


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split(",")]


def _is_header(fields: list[str]) -> bool:
    return [field.lower() for field in fields] == ["image", "label"]


def _pair(line: str, where: str) -> tuple[str, str]:
    fields = _fields(line)
    if len(fields) == 2 and all(fields):
        return fields[0], fields[1]
    problem = f"expected `image,label`, got {line.strip()!r}"
    if len(fields) > 2:
        raise DataError(f"{where}: {problem}; leave out further columns, and commas in file names")
    if len(fields) == 2:
        raise DataError(f"{where}: {problem}; name both files of the pair")
    other = next((sign for sign in (";", "\t", "|") if sign in line), None)
    raise DataError(f"{where}: {problem}; {f'separate with a comma, not {other!r}' if other else 'add the label'}")


def read_image(path: Path) -> np.ndarray:
    """Reads a picture as uint8 H×W×3 RGB, ignoring any EXIF rotation, for labels know nothing of it.

    Raises:
        UnreadableError: not there, damaged, cut off, or of more than `pictures.LARGEST` pixels.
    """
    content, _ = read_picture(path)
    return decode_image(content, path)


def read_label_ids(path: Path) -> np.ndarray:
    """Reads a label picture's class ids as uint8 H×W: pixel values, or the indices of a palette.

    Raises:
        UnreadableError: as `read_image`.
        DataError: not a single channel of 8 bits (a coloured map would be read as brightness), or JPEG.
    """
    content, header = read_picture(path)
    return decode_ids(content, header, path)


class Samples:
    """The images and labels of a list.

    Args:
        pairs: (image, label) paths relative to `root`.
        root: folder the paths start from.
        labels: the label table.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], root: Path, labels: LabelTable) -> None:
        self.pairs, self.root, self.labels = list(pairs), Path(root), labels

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> Samples:
        """Reads a list with the label table and root that lie beside it; `root` overrides the latter."""
        path, pairs = Path(path), read_list(path)
        return cls(pairs, root or root_beside(path, pairs), LabelTable.read_csv(path.parent / "labels.csv"))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def names(self) -> list[str]:
        """One unique name an image: its path relative to the root, without the suffix."""
        return [_name(image) for image, _ in self.pairs]

    def image_path(self, index: int) -> Path:
        """Where image `index` lies."""
        return self.root / self.pairs[index][0]

    def label_path(self, index: int) -> Path:
        """Where label `index` lies."""
        return self.root / self.pairs[index][1]

    def image(self, index: int) -> np.ndarray:
        """uint8 H×W×3 RGB."""
        return read_image(self.image_path(index))

    def label(self, index: int) -> np.ndarray:
        """uint8 H×W of train ids, 255 = ignored."""
        path = self.label_path(index)
        return self.labels.to_train_ids(read_label_ids(path), str(path))

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image and label together.

        Raises:
            DataError: their sizes differ.
        """
        image, label = self.image(index), self.label(index)
        if image.shape[:2] != label.shape:
            raise DataError(size_mismatch(self.image_path(index), image.shape[:2], self.label_path(index), label.shape))
        return image, label


def size_mismatch(image: Path, image_size: tuple[int, ...], label: Path, label_size: tuple[int, ...]) -> str:
    """The one sentence for an image and a label that do not fit (sizes H, W)."""
    return (
        f"{image}: the image is {image_size[0]}×{image_size[1]} but its label {label} is "
        f"{label_size[0]}×{label_size[1]}; they must have the same size"
    )


def store_folder() -> Path:
    """The data store: $SEGCORE_DATA, else `data/` of the project."""
    return Path(os.environ.get("SEGCORE_DATA") or "data")


def root_beside(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """Where the paths of list `path` start, as the file `root` beside it says; absolute paths need none.

    Raises:
        DataError: no such file, or an empty one.
    """
    if all(os.path.isabs(name) for pair in pairs for name in pair):
        return Path("/")
    beside = path.parent / "root"
    text = read_text(beside, "it says where the images of the lists beside it are; write it, or give the root").strip()
    if not text:
        raise DataError(f"{beside}: is empty; it must name the folder that the lists' paths start from")
    return Path(text) if Path(text).is_absolute() else store_folder() / text
