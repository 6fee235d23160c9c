"""Unpacking archives that other people made.

Only zip: that is what all data sets here come in (the `.tar` files of STDC's weights are no archives).
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from segcore.data.disk import explained, megabytes, require_space
from segcore.data.store import Checksums, StoredFile
from segcore.errors import DataError
from segcore.progress import track

# What zipfile raises on bytes that make no sense, and what it can decompress.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


@dataclass(frozen=True)
class Limits:
    """What an honest archive stays below; one that does not is taken for a bomb.

    Attributes:
        entries: COCO has 118,000 and all of ImageNet 1.4 million; each costs half a kilobyte of memory.
        file_bytes: OpenCV decodes pictures of up to 2^30 pixels, and a compressed one is smaller.
        total_bytes: Cityscapes' photographs have 11 GB, COCO's 18; the free disk bounds it besides.
        ratio: unpacked bytes over packed ones. Pictures do not shrink, plain label maps (BMP) do by some hundred
            times, deflate cannot by more than 1032.
        small_bytes: up to here no ratio is a danger.
    """

    entries: int = 2_000_000
    file_bytes: int = 1 << 30
    total_bytes: int = 1 << 40
    ratio: int = 500
    small_bytes: int = 1 << 28


class Entry(NamedTuple):
    """An entry of an archive and where it goes, relative to the data set's folder."""

    info: zipfile.ZipInfo
    path: str

    @property
    def file(self) -> StoredFile:
        return StoredFile(self.path, self.info.file_size, f"{self.info.CRC:08x}")


def extract(
    archive: Path,
    wanted: Callable[[str], bool],
    checksums: Checksums,
    *,
    into: str = "",
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> list[StoredFile]:
    """Unpacks the wanted entries into `checksums.folder`, each whole or not at all.

    Entries that already lie there with the right content are left alone, so a second run does nothing and an
    interrupted one goes on. The checksum of every entry written is compared with the archive's.

    Args:
        archive: a zip file.
        wanted: whether an entry, by the path it gets below the data set's folder, is one to unpack.
        checksums: of that folder.
        into: subfolder that the archive is made for.
        limits: what is taken for a bomb.

    Returns:
        The wanted files, as the archive's directory lists them.

    Raises:
        DataError: not a whole zip archive, encrypted, a damaged entry, one that would land outside its folder or on
            another one, a bomb, nothing wanted in it, or the disk refuses.
    """
    with explained(checksums.folder), _opened(archive) as source:
        entries = _choose(archive, source, wanted, into, limits)
        _refuse_unreadable(archive, entries, checksums.folder)
        missing = sum(entry.info.file_size for entry in entries if not _same_size(entry, checksums.folder))
        require_space(checksums.folder, missing, f"unpacking {archive.name}")
        todo = [entry for entry in track(entries, f"look through {archive.name}") if not _is_there(entry, checksums)]
        if todo:
            for entry in track(todo, f"unpack {archive.name}"):
                _write(source, entry.info, checksums.folder / entry.path)
            os.sync()  # before these files are remembered as whole; one by one it would take most of the time
    return [entry.file for entry in entries]


def _choose(
    archive: Path, source: zipfile.ZipFile, wanted: Callable[[str], bool], into: str, limits: Limits
) -> list[Entry]:
    """The wanted entries, once the archive's directory has been found honest."""
    infos = [info for info in source.infolist() if not info.filename.endswith("/")]  # is_dir fails on an empty name
    if len(infos) > limits.entries:
        raise DataError(f"{archive}: {len(infos)} entries, more than {limits.entries}; do not trust this archive")
    for info in infos:
        _refuse_trick(archive, info)
    named = [Entry(info, str(PurePosixPath(into, info.filename))) for info in infos]
    entries = _distinct(archive, [entry for entry in named if wanted(entry.path)])
    if not entries:
        held = f"none of its {len(infos)} files is one of this data set's" if infos else "has no files in it"
        first = f", the first is {infos[0].filename!r}" if infos else ""
        raise DataError(f"{archive}: {held}{first}; is it the archive that is needed?")
    _refuse_oversize(archive, entries, limits)
    return entries


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(archive) as source:
            yield source
    except (*_DAMAGED, RuntimeError, NotImplementedError) as error:
        reason = _why_no_archive(archive) or str(error)
        raise DataError(f"{archive}: not a whole zip archive ({reason}); fetch it again and compare its size") from None


def _why_no_archive(archive: Path) -> str | None:
    with open(archive, "rb") as file:
        start = file.read(512)
    if not start:
        return "it is empty"
    if re.match(rb"\s*<", start):
        return "it is a web page; its site may want you to log in first"
    if start[:2] != b"PK":
        return f"it begins with {start[:4].hex(' ')}"
    return None if zipfile.is_zipfile(archive) else f"its end is missing after {megabytes(archive.stat().st_size)}"


def _refuse_trick(archive: Path, info: zipfile.ZipInfo) -> None:
    """An entry that would land outside its folder, or is no plain file. `orig_filename` is what the archive says."""
    name, path = info.orig_filename, PurePosixPath(info.orig_filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    fault = None
    if path.is_absolute() or ".." in path.parts or "\\" in name or re.match("[A-Za-z]:", name) or not path.parts:
        fault = "would land outside its folder"
    elif any(unicodedata.category(letter) == "Cc" for letter in name):
        fault = "has a control character in its name"
    elif kind == stat.S_IFLNK:
        fault = "is a link"
    elif kind not in (0, stat.S_IFREG):
        fault = "is a device or a pipe"
    if fault:
        raise DataError(f"{archive}: entry {name!r} {fault}; nothing was unpacked, do not trust this archive")


def _distinct(archive: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, one of each path.

    Two that differ only in case or in the way accents are written are one file on many a disk, and a file cannot be
    another's folder.
    """
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(_key(entry.path), entry)
        if other.file != entry.file:
            raise _clash(archive, other, entry)
    for entry in seen.values():
        for folder in PurePosixPath(_key(entry.path)).parents:
            if str(folder) in seen:
                raise _clash(archive, seen[str(folder)], entry)
    return list(seen.values())


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _clash(archive: Path, one: Entry, other: Entry) -> DataError:
    names = f"entries {one.info.filename!r} and {other.info.filename!r}"
    return DataError(f"{archive}: {names} would lie in one place; nothing was unpacked, do not trust this archive")


def _refuse_oversize(archive: Path, entries: Sequence[Entry], limits: Limits) -> None:
    """By what the directory declares: no entry gives more than that when read, whatever its data is."""
    largest = max(entries, key=lambda entry: entry.info.file_size)
    total, packed = sum(entry.info.file_size for entry in entries), archive.stat().st_size
    fault = None
    if largest.info.file_size > limits.file_bytes:
        fault = f"entry {largest.info.filename!r} would be {megabytes(largest.info.file_size)}"
    elif total > limits.total_bytes or total > max(limits.small_bytes, limits.ratio * packed):
        fault = f"{megabytes(packed)} would become {megabytes(total)}"
    if fault:
        raise DataError(f"{archive}: {fault}; nothing was unpacked, do not trust this archive")


def _refuse_unreadable(archive: Path, entries: Sequence[Entry], folder: Path) -> None:
    for info in (entry.info for entry in entries):
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            fault = "is encrypted" if info.flag_bits & 1 else f"is compressed by method {info.compress_type}"
            raise DataError(f"{archive}: entry {info.filename!r} {fault}; unpack it by hand into {folder}")


def _same_size(entry: Entry, folder: Path) -> bool:
    target = folder / entry.path
    return target.is_file() and target.stat().st_size == entry.info.file_size


def _is_there(entry: Entry, checksums: Checksums) -> bool:
    return _same_size(entry, checksums.folder) and checksums.of(entry.path) == entry.file


def _write(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with source.open(info) as content, open(temporary, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
