"""Label tables: which pixel value means which class, what it is called, and its colour.

A table maps the ids found in label PNGs to train ids 0 … num_classes-1; every other id of the table is ignored (255).
A value that is *not* in the table is an error, found when a label is read and not as a crash inside the loss.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from segcore.errors import DataError
from segcore.files import digest, write_csv

IGNORE = 255
COLUMNS = ("id", "train_id", "name", "r", "g", "b", "category")
_UNKNOWN = -1


@dataclass(frozen=True)
class Label:
    """One row of a table; `train_id` 255 is ignored in training and scoring, `color` is RGB 0 … 255."""

    id: int
    train_id: int
    name: str
    color: tuple[int, int, int]
    category: str = ""


@dataclass(frozen=True)
class LabelTable:
    """All labels of a data set. Train ids are 0 … n-1 without a gap; several ids may share one.

    Raises:
        DataError: an id twice, a gap in the train ids, a value outside 0 … 255.
    """

    name: str
    entries: tuple[Label, ...]

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.entries]
        known = sorted({entry.train_id for entry in self.entries} - {IGNORE})
        if len(set(ids)) != len(ids):
            raise DataError(f"label table {self.name}: id {max(ids, key=ids.count)} stands there twice")
        if not known or known != list(range(len(known))):
            raise DataError(f"label table {self.name}: train ids must be 0 … n-1 without a gap, got {known}")
        values = [value for entry in self.entries for value in (entry.id, *entry.color)]
        if min(values) < 0 or max(values) > 255:
            raise DataError(f"label table {self.name}: ids and colours must lie in 0 … 255")

    @cached_property
    def classes(self) -> tuple[Label, ...]:
        """The scored classes, by train id (the first row of each)."""
        first = {}
        for entry in self.entries:
            first.setdefault(entry.train_id, entry)
        return tuple(first[k] for k in sorted(set(first) - {IGNORE}))

    @property
    def num_classes(self) -> int:
        """Number of scored classes."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names by train id."""
        return tuple(entry.name for entry in self.classes)

    @property
    def palette(self) -> np.ndarray:
        """uint8 num_classes×3, RGB by train id."""
        return np.array([entry.color for entry in self.classes], np.uint8)

    @property
    def digest(self) -> str:
        """Identity of what the numbers depend on: ids, train ids and names, not the colours."""
        return digest([(entry.id, entry.train_id, entry.name) for entry in self.entries])

    @cached_property
    def _lookup(self) -> np.ndarray:
        table = np.full(256, _UNKNOWN, np.int16)
        for entry in self.entries:
            table[entry.id] = entry.train_id
        return table

    def to_train_ids(self, ids: np.ndarray, where: str) -> np.ndarray:
        """uint8 H×W of pixel values -> uint8 H×W of train ids with 255 = ignored.

        Raises:
            DataError: a value that the table does not know; `where` (a path) is named in the message.
        """
        mapped = self._lookup[ids]
        if (mapped == _UNKNOWN).any():
            unknown = np.unique(ids[mapped == _UNKNOWN]).tolist()
            raise DataError(
                f"{where}: label value {', '.join(map(str, unknown[:8]))} is not in the table {self.name!r} "
                f"(ids {self.entries[0].id} … {self.entries[-1].id}); mend the file or the table"
            )
        return mapped.astype(np.uint8)

    def to_ids(self, train_ids: np.ndarray) -> np.ndarray:
        """uint8 H×W of train ids -> the ids a benchmark server wants; ignored becomes the table's first ignored id."""
        ignored = next((entry.id for entry in self.entries if entry.train_id == IGNORE), IGNORE)
        table = np.full(256, ignored, np.uint8)
        for train_id, entry in enumerate(self.classes):
            table[train_id] = entry.id
        return table[train_ids]

    def write_csv(self, path: Path) -> None:
        """Writes `id,train_id,name,r,g,b,category`."""
        rows = ((e.id, e.train_id, e.name, *e.color, e.category) for e in self.entries)
        write_csv(path, COLUMNS, rows)

    @classmethod
    def read_csv(cls, path: Path) -> LabelTable:
        """Reads what `write_csv` wrote; the column `category` may be missing.

        Raises:
            DataError: no such file, a missing column, or something that is no number.
        """
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            return cls(Path(path).stem, tuple(_from_row(row) for row in rows))
        except OSError as error:
            raise DataError(f"{path}: the label table cannot be read ({error.strerror})") from None
        except (KeyError, ValueError, TypeError, DataError) as error:
            raise DataError(f"{path}: not a label table with columns {','.join(COLUMNS[:6])} ({error})") from None

    def to_dicts(self) -> list[dict[str, object]]:
        """Plain containers, for a checkpoint."""
        return [
            {"id": e.id, "train_id": e.train_id, "name": e.name, "color": list(e.color), "category": e.category}
            for e in self.entries
        ]

    @classmethod
    def from_dicts(cls, name: str, rows: Sequence[dict]) -> LabelTable:
        """The reverse of `to_dicts`."""
        return cls(name, tuple(Label(**{**row, "color": tuple(row["color"])}) for row in rows))


def _from_row(row: dict[str, str]) -> Label:
    color = (int(row["r"]), int(row["g"]), int(row["b"]))
    return Label(int(row["id"]), int(row["train_id"]), row["name"], color, row.get("category") or "")


# The data set's own table (cityscapesScripts, labels.py). The license plate, id -1 there, never occurs in the
# 8-bit label PNGs and is left out: a -1 in a uint8 table is an error with NumPy 2.
_CITYSCAPES = (
    (0, IGNORE, "unlabeled", (0, 0, 0), "void"),
    (1, IGNORE, "ego vehicle", (0, 0, 0), "void"),
    (2, IGNORE, "rectification border", (0, 0, 0), "void"),
    (3, IGNORE, "out of roi", (0, 0, 0), "void"),
    (4, IGNORE, "static", (0, 0, 0), "void"),
    (5, IGNORE, "dynamic", (111, 74, 0), "void"),
    (6, IGNORE, "ground", (81, 0, 81), "void"),
    (7, 0, "road", (128, 64, 128), "flat"),
    (8, 1, "sidewalk", (244, 35, 232), "flat"),
    (9, IGNORE, "parking", (250, 170, 160), "flat"),
    (10, IGNORE, "rail track", (230, 150, 140), "flat"),
    (11, 2, "building", (70, 70, 70), "construction"),
    (12, 3, "wall", (102, 102, 156), "construction"),
    (13, 4, "fence", (190, 153, 153), "construction"),
    (14, IGNORE, "guard rail", (180, 165, 180), "construction"),
    (15, IGNORE, "bridge", (150, 100, 100), "construction"),
    (16, IGNORE, "tunnel", (150, 120, 90), "construction"),
    (17, 5, "pole", (153, 153, 153), "object"),
    (18, IGNORE, "polegroup", (153, 153, 153), "object"),
    (19, 6, "traffic light", (250, 170, 30), "object"),
    (20, 7, "traffic sign", (220, 220, 0), "object"),
    (21, 8, "vegetation", (107, 142, 35), "nature"),
    (22, 9, "terrain", (152, 251, 152), "nature"),
    (23, 10, "sky", (70, 130, 180), "sky"),
    (24, 11, "person", (220, 20, 60), "human"),
    (25, 12, "rider", (255, 0, 0), "human"),
    (26, 13, "car", (0, 0, 142), "vehicle"),
    (27, 14, "truck", (0, 0, 70), "vehicle"),
    (28, 15, "bus", (0, 60, 100), "vehicle"),
    (29, IGNORE, "caravan", (0, 0, 90), "vehicle"),
    (30, IGNORE, "trailer", (0, 0, 110), "vehicle"),
    (31, 16, "train", (0, 80, 100), "vehicle"),
    (32, 17, "motorcycle", (0, 0, 230), "vehicle"),
    (33, 18, "bicycle", (119, 11, 32), "vehicle"),
)

# The eleven classes of SegNet's distribution of CamVid, colours of the original data base.
_CAMVID = (
    (0, 0, "sky", (128, 128, 128), "sky"),
    (1, 1, "building", (128, 0, 0), "construction"),
    (2, 2, "pole", (192, 192, 128), "object"),
    (3, 3, "road", (128, 64, 128), "flat"),
    (4, 4, "sidewalk", (0, 0, 192), "flat"),
    (5, 5, "tree", (128, 128, 0), "nature"),
    (6, 6, "sign", (192, 128, 128), "object"),
    (7, 7, "fence", (64, 64, 128), "construction"),
    (8, 8, "car", (64, 0, 128), "vehicle"),
    (9, 9, "pedestrian", (64, 64, 0), "human"),
    (10, 10, "bicyclist", (0, 128, 192), "human"),
    (11, IGNORE, "unlabelled", (0, 0, 0), "void"),
)

TABLES: dict[str, LabelTable] = {
    name: LabelTable(name, tuple(Label(*row) for row in rows))
    for name, rows in {"cityscapes": _CITYSCAPES, "camvid": _CAMVID}.items()
}
