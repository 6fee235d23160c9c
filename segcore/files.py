"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from segcore.errors import DataError, SegcoreError

REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT): "make room and run again",
    (errno.EACCES, errno.EPERM, errno.EROFS): "see that it may be read and written, and run again",
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR): "see that nothing else lies there",
}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; moves it into place on success, removes it on failure.

    The content is flushed to disk before the move, so that neither a kill nor a full disk leaves half a file
    under the final name: what stood there before stays whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp" + path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: Path, remedy: str) -> str:
    """A person's text file: without its byte-order mark, line ends as \\n; `remedy` is for when it is not there.

    Raises:
        DataError: it cannot be read, or is no UTF-8.
    """
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not a UTF-8 text; save it with the encoding UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON with a final newline, atomically; NaN is refused, for it is not JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a comma-separated table with \\n line ends, atomically."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """Hex digest of plain values (anything JSON can write), for identities: equal values, equal digest."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, message: str) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends.

    Raises:
        SegcoreError: with `message` and the number of the process that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        if not _lock(file):
            file.seek(0)
            raise SegcoreError(f"{message} (process {file.read() or 'unknown'})")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def held(path: Path) -> bool:
    """Whether another process holds the lock of `exclusive`."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            return not _lock(file)
    except FileNotFoundError:  # nor the folder
        return False


def _lock(file: TextIO) -> bool:
    """Takes the lock, which the file's closing ends; False where another process has it."""
    try:
        # lockf and not flock: a lock of this process alone, which forked loaders do not keep after its death.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def explain(error: OSError, where: object = "") -> str:
    """One line on what the file system refused; `where` it was if the error does not say, as that of a full disk."""
    remedy = next((f"; {text}" for kinds, text in REMEDIES.items() if error.errno in kinds), "")
    place = error.filename or where
    return f"{place}: {error.strerror or error}{remedy}" if place else f"{error.strerror or error}{remedy}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
