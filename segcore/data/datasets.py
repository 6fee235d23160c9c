"""Lists and the images they name.

A list is a text file with one `image,label` pair a line, paths relative to `root`; beside it lie `labels.csv` (the
label table) and `root` (where the images are: an absolute path, or one relative to the data store).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segcore.data.labels import LabelTable
from segcore.errors import DataError, UnreadableError
from segcore.files import atomic_write


def read_list(path: Path) -> list[tuple[str, str]]:
    """Reads `image,label` lines.

    Raises:
        DataError: no such file, an empty list, a line without exactly one comma, an image listed twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a UTF-8 text; a list holds `image,label` lines") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); `dvc repro annotations` makes the lists") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split(",")]
        if not line.strip():
            continue
        if len(fields) != 2 or not all(fields):
            raise DataError(f"{path}:{number}: expected `image,label`, got {line.strip()!r}")
        pairs.append((fields[0], fields[1]))
    if not pairs:
        raise DataError(f"{path}: the list is empty, so there is nothing to train on or to score")
    if len({image for image, _ in pairs}) < len(pairs):
        raise DataError(f"{path}: an image stands there twice; every image counts once")
    return pairs


def write_list(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """Writes `image,label` lines, atomically.

    Raises:
        DataError: a path with a comma, which the format cannot carry.
    """
    for name in (name for pair in pairs for name in pair):
        if "," in name or "\n" in name:
            raise DataError(f"{name!r}: a path with a comma cannot stand in an `image,label` list; rename the file")
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{image},{label}\n" for image, label in pairs), encoding="utf-8")


def read_image(path: Path) -> np.ndarray:
    """Reads a picture as uint8 H×W×3 RGB, ignoring any EXIF rotation, for labels know nothing of it."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UnreadableError(f"{path}: {_why_unreadable(path)}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_label_ids(path: Path) -> np.ndarray:
    """Reads a label picture's pixel values as uint8 H×W.

    Raises:
        DataError: not there, damaged, or not a single 8-bit channel (a coloured map would be read as brightness).
    """
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise UnreadableError(f"{path}: {_why_unreadable(path)}")
    if label.ndim != 2 or label.dtype != np.uint8:
        shape = "×".join(map(str, label.shape))
        raise DataError(f"{path}: a label must have one 8-bit channel of class ids, this one is {shape} {label.dtype}")
    return label


def _why_unreadable(path: Path) -> str:
    if not Path(path).exists():
        return "no such file; the list names it, so mend the list or put the file there"
    return "cannot be decoded (truncated, or not a picture); put an intact file in its place"


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
        path = Path(path)
        return cls(read_list(path), root or _root_beside(path), LabelTable.read_csv(path.parent / "labels.csv"))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def names(self) -> list[str]:
        """One unique name an image: its path relative to the root, without the suffix."""
        return [os.path.splitext(image)[0] for image, _ in self.pairs]

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


def _root_beside(path: Path) -> Path:
    try:
        root = Path((path.parent / "root").read_text(encoding="utf-8").strip())
    except OSError:
        raise DataError(f"{path}: no file `root` beside the list says where the images are; give the root") from None
    return root if root.is_absolute() else store_folder() / root
