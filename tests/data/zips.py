"""Zip archives for tests."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

from segcore.data.archives import extract
from segcore.data.store import Checksums, StoredFile

FILES = {f"a/{index}.png": bytes([index]) * 1000 * (index + 1) for index in range(6)}


def make_zip(
    path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes | str], compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    """Writes an archive of (entry, content) pairs, `FILES` if none are given."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # a name twice may be what is tested
        for entry, content in entries or FILES.items():
            archive.writestr(entry, content)
    return path


def unpack(archive: Path, out: Path, **options: object) -> list[StoredFile]:
    """Extracts everything, with a memory of checksums beside `out`."""
    return extract(archive, lambda path: True, Checksums(out, out.with_name("memory.csv")), **options)
