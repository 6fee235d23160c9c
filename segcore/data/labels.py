"""Label tables: which pixel value means which class, what it is called, and its colour.

A table maps the ids found in label PNGs to train ids 0 … num_classes-1; every other id of the table is ignored (255).
A value that is *not* in the table is an error, found when a label is read and not as a crash inside the loss.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from segcore.errors import DataError
from segcore.files import digest, read_text, write_csv

IGNORE = 255
COLUMNS = ("id", "train_id", "name", "r", "g", "b", "category")
UNKNOWN = -1
# Digits of a number that are looked at; int() refuses more than 4300.
LONGEST = 20


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
    def lookup(self) -> np.ndarray:
        """int16 256: train id of each pixel value, `UNKNOWN` where the table has none."""
        table = np.full(256, UNKNOWN, np.int16)
        for entry in self.entries:
            table[entry.id] = entry.train_id
        return table

    def to_train_ids(self, ids: np.ndarray, where: str) -> np.ndarray:
        """uint8 H×W of pixel values -> uint8 H×W of train ids with 255 = ignored.

        Raises:
            DataError: a value that the table does not know; `where` (a path) is named in the message.
        """
        # Two passes over bytes, for every training sample goes through here.
        unknown = self.lookup == UNKNOWN
        if cv2.LUT(ids, unknown.astype(np.uint8)).max(initial=0):
            values = np.unique(ids[unknown[ids]]).tolist()
            raise DataError(
                f"{where}: label value {', '.join(map(str, values[:8]))} is not in the table {self.name!r} "
                f"(ids {self.entries[0].id} … {self.entries[-1].id}); mend the file or the table"
            )
        return cv2.LUT(ids, self.lookup.astype(np.uint8))

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
        """Reads what `write_csv` wrote, or a table made by hand.

        Spaces around a value, empty lines, headings in any case and order are fine; `category` may be missing.

        Raises:
            DataError: no such file, a missing column, something that is no number (with its line), see also the class.
        """
        text = read_text(path, f"a label table has the columns {','.join(COLUMNS[:6])}")
        rows = _rows(path, text)
        heading = [cell.lower() for cell in rows.pop(0)[1]] if rows else []
        missing = [column for column in COLUMNS[:6] if column not in heading]
        if missing:
            raise DataError(f"{path}:1: no column {missing[0]!r}; the first line must be {','.join(COLUMNS[:6])}")
        entries = [
            _from_row(dict(zip(heading, cells, strict=False)), f"{path}:{line}") for line, cells in rows if any(cells)
        ]
        try:
            return cls(Path(path).stem, tuple(entries))
        except DataError as error:
            raise DataError(f"{path}: {error}; mend the table") from None

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


def _rows(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """Line number and cells of every row."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; close the quotation mark, or shorten the value") from None


def _from_row(row: dict[str, str], where: str) -> Label:
    for column in COLUMNS[:6]:
        if column not in row:
            raise DataError(f"{where}: ends before the column {column!r}; every row needs {','.join(COLUMNS[:6])}")
        if column != "name" and not (row[column].isdecimal() and len(row[column]) <= LONGEST):
            shown = row[column][:LONGEST] + "…" * (len(row[column]) > LONGEST)
            raise DataError(f"{where}: {column} is {shown!r}; it must be a whole number of 0 … 255")
    color = (int(row["r"]), int(row["g"]), int(row["b"]))
    return Label(int(row["id"]), int(row["train_id"]), row["name"], color, row.get("category") or "")


# Tables of known data sets, one file each under tables/:
# - cityscapes: the data set's own (cityscapesScripts, labels.py). The license plate, id -1 there, never occurs in the
#   8-bit label PNGs and is left out: a -1 in a uint8 table is an error with NumPy 2.
# - camvid: the eleven classes of SegNet's distribution, colours of the original data base.
# - ade20k: the 150 classes of the scene-parsing benchmark, named by their first synonym; 0 is unlabelled.
# - cocostuff: 171 classes of COCO-Stuff's 118k version; the eleven ids that never occur are left out. Its colours are
#   Pascal VOC's scheme, for it has none of its own.
TABLES: dict[str, LabelTable] = {
    path.stem: LabelTable.read_csv(path) for path in sorted((Path(__file__).parent / "tables").glob("*.csv"))
}
