"""Large files over doubtful lines: what has arrived is kept, what is kept is checked, and a name means a whole file.

NAME.part holds what has arrived of NAME, NAME.part.json where from and how the server knows its version. A broken
download goes on from there, after hours too, unless the server has another version by then or cannot begin in the
middle: then it starts anew. Only a file of the right size and checksum gets its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request

from segcore.data.disk import explained, require_space
from segcore.data.web import Web, WebError, offline, read
from segcore.errors import DataError
from segcore.files import exclusive, write_json
from segcore.progress import Progress

_BLOCK = 1 << 16
# So much must arrive for an attempt to count as none: a line that brings less each time is as good as dead.
_WORTH_WHILE = 1 << 20
_MB = 1_000_000


def download(
    urls: Sequence[str], target: Path, *, size: int | None = None, checksum: str = "", web: Web | None = None
) -> None:
    """Brings a file to `target` if it is not there yet.

    Args:
        urls: its addresses, the best one first; the next is asked when one is given up.
        target: where it belongs.
        size: in bytes, if known.
        checksum: `md5:…`, `sha1:…` or `sha256:…` in hex digits, if known.
        web: the way to the servers.

    Raises:
        DataError: it cannot be had (says why at each address, and where to put it by hand), SEGCORE_OFFLINE forbids to
            ask, another process is bringing it, or the disk refuses.
    """
    target, by_hand = Path(target), f"fetch it by hand and put it at {target}"
    if target.is_file():
        return
    if offline():
        raise DataError(f"{target}: no such file, and SEGCORE_OFFLINE forbids to ask {' or '.join(urls)}; {by_hand}")
    lock = target.with_name(f".{target.name}.lock")
    reasons = []
    with explained(target.parent), exclusive(lock, f"{target}: another process is downloading it; wait for that one"):
        try:
            for url in urls:
                if target.is_file():
                    break
                try:
                    _bring(url, _Part(target), size, checksum, web or Web())
                except WebError as error:
                    reasons.append(f"{url} ({error})")
        finally:
            lock.unlink(missing_ok=True)  # while it is held: who makes a new one sees what has become of this
    if not target.is_file():
        raise DataError(f"{target.name} could not be downloaded from {' nor from '.join(reasons)}; {by_hand}")


def compare(path: Path, checksum: str) -> str:
    """The digest of a file, by the algorithm that `checksum` names before the colon, in the same form.

    Raises:
        DataError: no such algorithm.
    """
    algorithm = checksum.partition(":")[0]
    if algorithm not in ("md5", "sha1", "sha256"):
        raise DataError(f"{checksum!r}: a checksum is md5:…, sha1:… or sha256:… in hex digits")
    value = hashlib.new(algorithm, usedforsecurity=False)
    total = path.stat().st_size
    with open(path, "rb") as file, Progress(f"check {path.name} (MB)", total // _MB, quiet=total < 100 * _MB) as bar:
        while block := file.read(1 << 22):
            value.update(block)
            _show(bar, file.tell())
    return f"{algorithm}:{value.hexdigest()}"


@dataclass(frozen=True)
class _Version:
    """What a server says of a file: its size in bytes, and its validators; None where it says nothing."""

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, url: str, response: Any) -> _Version:
        place = _content_range(response.headers)
        length = response.headers.get("Content-Length", "")
        size = place[1] if place else int(length) if length.isdigit() else None
        return cls(url, size, response.headers.get("ETag"), response.headers.get("Last-Modified"))

    def matches(self, other: _Version) -> bool:
        """Whether both may be one version; a server need not repeat everything with the rest of a file."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return all(None in pair or pair[0] == pair[1] for pair in pairs)

    @property
    def condition(self) -> dict[str, str]:
        """Asks for the whole file instead of its rest if it has changed; a weak validator must not be used for that."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        validator = strong or self.modified
        return {"If-Range": validator} if validator else {}


class _Part:
    """The beginning of a file, and of which version it is."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path, self.note = (target.with_name(f"{target.name}.part{end}") for end in ("", ".json"))

    @property
    def length(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self, url: str) -> _Version | None:
        """The version it is of, if that came from `url`; a damaged note is no note."""
        try:
            version = _Version(**json.loads(self.note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return version if version.url == url and self.path.is_file() else None

    def begin(self, version: _Version) -> None:
        self.discard()
        write_json(self.note, asdict(version))

    def discard(self) -> None:
        # The note goes first: a part without one is never gone on with.
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def finish(self) -> None:
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.note.unlink(missing_ok=True)


def _bring(url: str, part: _Part, size: int | None, checksum: str, web: Web) -> None:
    """Everything from one address: the pieces, the checks, the move."""

    def attempt() -> bool:
        return _receive(url, part, size, web)

    resumed = web.patiently(attempt, part.target.name)
    fault = _fault(part, size, checksum)
    if fault and resumed:  # pieces of two versions that a careless server called one
        part.discard()
        web.patiently(attempt, part.target.name)
        fault = _fault(part, size, checksum)
    if fault:
        part.discard()
        raise WebError(fault)
    part.finish()


def _fault(part: _Part, size: int | None, checksum: str) -> str | None:
    if size is not None and part.length != size:
        return f"{part.length} bytes came instead of {size}"
    found = compare(part.path, checksum) if checksum else ""
    return f"{found} came instead of {checksum}" if found != checksum.lower() else None


def _receive(url: str, part: _Part, size: int | None, web: Web) -> bool:
    """Appends what one connection brings; returns whether it went on with an earlier one.

    Raises:
        WebError: the file is not complete yet, or will never be from here.
    """
    known = part.version(url)
    start = part.length if known else 0
    if known and start == known.size:
        return True
    headers = {"User-Agent": "segcore"}
    if start:
        headers |= {"Range": f"bytes={start}-", **known.condition}
    try:
        response = web.open(Request(url, headers=headers))
    except WebError as error:
        if error.status == 416 and start:
            return _at_the_end(part, start, error)
        raise
    with response:
        version = _Version.of(url, response)
        if getattr(response, "status", None) != 206:
            start = 0
        elif (_content_range(response.headers) or ())[:1] != (start,) or not version.matches(known):
            part.discard()
            raise WebError("the file has changed there since its first part came; starting anew", passing=True)
        if size is not None and version.size not in (None, size):
            raise WebError(f"{version.size} bytes lie there instead of {size}")
        first = read(response, _BLOCK)
        if not start:
            if _is_page(first):
                raise WebError("a web page came instead of the file")
            if not first:
                raise WebError("nothing came instead of the file", passing=version.size != 0)
            part.begin(version)
        require_space(part.target.parent, (version.size or 0) - start, part.target.name)
        _copy(first, response, part, start, version.size)
    return start > 0


def _at_the_end(part: _Part, start: int, error: WebError) -> bool:
    """The server has nothing after `start`: either all is here, or the file has become shorter."""
    if re.fullmatch(rf"bytes \*/{start}", error.headers.get("Content-Range", "").strip()):
        return True
    part.discard()
    raise WebError("the file has become shorter there; starting anew", passing=True) from None


def _copy(block: bytes, response: Any, part: _Part, start: int, total: int | None) -> None:
    began, done = time.monotonic(), start
    bar = Progress(f"{part.target.name} (MB)", (total or 0) // _MB, start=start // _MB, quiet=total is None)
    with open(part.path, "ab") as file, bar:
        while block:
            file.write(block)
            done += len(block)
            speed = (done - start) / _MB / max(time.monotonic() - began, 1e-3)
            _show(bar, done, f"{speed:.1f} MB/s")
            block = read(response, _BLOCK, gained=done - start >= _WORTH_WHILE)
    if total is not None and done != total:
        reason = f"the connection ended after {done} of {total} bytes"
        raise WebError(reason, passing=True, gained=done - start >= _WORTH_WHILE)


def _show(bar: Progress, done: int, note: str = "") -> None:
    if step := done // _MB - bar.done:
        bar.advance(step, note)


def _is_page(block: bytes) -> bool:
    """Whether a file begins as web pages do."""
    return re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)", block, re.IGNORECASE) is not None


def _content_range(headers: Any) -> tuple[int, int | None] | None:
    """First byte and total size of a piece (None if the server does not know it)."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    return (int(found[1]), int(found[2]) if found[2].isdigit() else None) if found else None
