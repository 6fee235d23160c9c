"""The data store: where images lie on this machine, and whether they are still the ones that were fetched.

`files.csv` (path, size, crc32) travels with the project and says what a data set consists of. Reading gigabytes before
every stage would cost minutes, so each machine remembers size and modification time of the files it has compared.
"""

from __future__ import annotations

import contextlib
import csv
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from segcore.errors import DataError
from segcore.files import write_csv
from segcore.progress import track

COLUMNS = ("path", "size", "crc32")
REMEDY = "`dvc repro -f fetch` puts the data set in order"


class StoredFile(NamedTuple):
    """One file of a data set: path relative to its folder, size in bytes, CRC-32 as eight hex digits."""

    path: str
    size: int
    crc32: str


def find_dataset(name: str, further: Sequence[str | Path], default: Path) -> Path:
    """The folder of data set `name`: in the first store that has it, else in the first that can be written to.

    Stores are $SEGCORE_DATA, then `further`, then `default`.
    """
    environment = os.environ.get("SEGCORE_DATA")
    stores = [Path(store).expanduser() for store in (environment, *further, default) if store]
    there = [store for store in stores if (store / name).is_dir()]
    open_ones = [store for store in stores if not store.exists() or os.access(store, os.W_OK)]
    return [*there, *open_ones, *stores][0] / name


class Checksums:
    """CRC-32 of a folder's files, each read once: `memory` keeps size and modification time beside the value."""

    def __init__(self, folder: Path, memory: Path) -> None:
        self.folder, self.memory = Path(folder), Path(memory)
        self.known: dict[str, tuple[int, int, str]] = {}
        if self.memory.exists():
            with open(self.memory, newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                next(rows, None)
                with contextlib.suppress(ValueError):  # a damaged memory is no memory
                    self.known = {path: (int(size), int(changed), crc) for path, size, changed, crc in rows}

    def of(self, path: str) -> StoredFile:
        """Size and checksum of a file.

        Raises:
            DataError: it is not there.
        """
        try:
            status = (self.folder / path).stat()
        except OSError:
            raise DataError(f"{self.folder / path}: no such file; {REMEDY}") from None
        size, changed, crc = self.known.get(path, (-1, -1, ""))
        if (size, changed) != (status.st_size, status.st_mtime_ns):
            crc = _crc32(self.folder / path)
            self.known[path] = (status.st_size, status.st_mtime_ns, crc)
        return StoredFile(path, status.st_size, crc)

    def save(self) -> None:
        """Writes the memory."""
        rows = ((path, *self.known[path]) for path in sorted(self.known))
        write_csv(self.memory, ("path", "size", "changed_ns", "crc32"), rows)


def read_files(path: Path) -> list[StoredFile]:
    """Reads files.csv.

    Raises:
        DataError: it is not there or not such a file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [StoredFile(row["path"], int(row["size"]), row["crc32"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a list of files ({error}); {REMEDY}") from None


def write_files(path: Path, files: Iterable[StoredFile]) -> None:
    """Writes files.csv, sorted by path."""
    write_csv(path, COLUMNS, sorted(files))


def verify(folder: Path, files_csv: Path, memory: Path) -> None:
    """Makes sure that the images here are the ones files.csv lists.

    Raises:
        DataError: the folder or a file is missing, or a file has other content.
    """
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: the images are not on this machine; {REMEDY}")
    checksums = Checksums(folder, memory)
    listed = read_files(files_csv)
    fresh = [file for file in listed if file.path not in checksums.known]
    for file in track(listed, "compare checksums") if fresh else listed:
        found = checksums.of(file.path)
        if found != file:
            raise DataError(
                f"{folder / file.path}: {found.size} bytes with checksum {found.crc32}, but {file.size} bytes with "
                f"{file.crc32} were fetched; {REMEDY}"
            )
    checksums.save()


def _crc32(path: Path) -> str:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
