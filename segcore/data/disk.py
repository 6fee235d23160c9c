"""What the disk of the data store refuses, said so that a person can mend it."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from segcore.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Makes sure that the disk of `folder` (which may not exist yet) has `needed` bytes free.

    Raises:
        DataError: it has not; nothing was written.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DataError(
            f"{folder}: {purpose} needs {megabytes(needed)}, {megabytes(free)} are free; make room, or name a data "
            "store on another disk with SEGCORE_DATA, and run again"
        )


@contextlib.contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns an error of the file system below `folder` into one line with its remedy.

    Raises:
        DataError: the disk is full, something may not be read or written, or lies where another thing belongs.
    """
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or folder
        raise DataError(f"{where}: {error.strerror or error}; {_remedy(error, folder)}") from None


def _remedy(error: OSError, folder: Path) -> str:
    if error.errno in _FULL:
        return "make room and run again, what is there already is kept"
    if error.errno in _IN_THE_WAY:
        return "something else lies where a file or a folder belongs; move it away and run again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make {folder} and what it holds readable and writable, or name another data store with SEGCORE_DATA"
    return "run again; if it comes back, the disk may be damaged"


def megabytes(count: float) -> str:
    """A number of bytes for a person."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
