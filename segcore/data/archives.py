"""Unpacking archives that other people made."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from segcore.data.store import Checksums, StoredFile
from segcore.errors import DataError
from segcore.files import atomic_write
from segcore.progress import track


def extract(archive: Path, wanted: Callable[[str], bool], checksums: Checksums) -> list[StoredFile]:
    """Unpacks the wanted entries into `checksums.folder`, each whole or not at all.

    Entries that already lie there with the right content are left alone, so a second run does nothing and an
    interrupted one goes on. The checksum of every entry written is compared with the archive's.

    Returns:
        The wanted files, as the archive's directory lists them.

    Raises:
        DataError: not a whole zip archive, a damaged entry, or one that would land outside its folder.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if not entry.is_dir()]
            for entry in entries:
                _refuse_outside(archive, entry)
            entries = [entry for entry in entries if wanted(entry.filename)]
            for entry in track(entries, f"unpack {archive.name}"):
                if not _is_there(entry, checksums):
                    _write(source, entry, checksums.folder / entry.filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: not a whole zip archive ({error}); fetch it again and compare its size") from None
    return [StoredFile(entry.filename, entry.file_size, f"{entry.CRC:08x}") for entry in entries]


def _refuse_outside(archive: Path, entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    path = PurePosixPath(name)
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name) or link:
        kind = "is a link" if link else "would land outside its folder"
        raise DataError(f"{archive}: entry {name!r} {kind}; nothing was unpacked, do not trust this archive")


def _is_there(entry: zipfile.ZipInfo, checksums: Checksums) -> bool:
    target = checksums.folder / entry.filename
    if not target.is_file() or target.stat().st_size != entry.file_size:
        return False
    return checksums.of(entry.filename).crc32 == f"{entry.CRC:08x}"


def _write(source: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with source.open(entry) as content, atomic_write(target) as temporary, open(temporary, "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
