"""A server on 127.0.0.1 that keeps files, and spoils its answers as it is told beforehand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from segcore.data.download import download
from segcore.data.web import Web
from segcore.errors import DataError

Spoiler = Callable[["Handler", bytes], None]
CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
WORD = "pässword&=%"
CITYSCAPES = {"gtFine_trainvaltest.zip": 1, "leftImg8bit_trainvaltest.zip": 3}


class Site:
    """What the server has and what it was asked.

    Attributes:
        files: path -> content.
        validators: headers that tell versions; an ETag that follows the content unless given.
        ranges: whether it can begin in the middle, and whether it heeds If-Range then.
        asked: (method, path, Range header) of each request.
        sent: bytes of files that left the server.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.spoilers: dict[str, list[Spoiler]] = defaultdict(list)
        self.validators: dict[str, str] | None = None
        self.ranges = self.if_range = True
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.url = ""

    def spoil(self, path: str, *spoilers: Spoiler) -> None:
        """Each request for `path` meets the next of these, until none is left."""
        self.spoilers[path] += spoilers

    def answer(self, request: Handler) -> None:
        """A file or 404."""
        path = request.path
        content = self.files.get(path)
        if self.spoilers[path]:
            self.spoilers[path].pop(0)(request, content or b"")
        elif content is None:
            request.reply(404, b"no such file")
        else:
            self.serve(request, content)

    def serve(self, request: Handler, content: bytes, keep: int | None = None) -> None:
        """The file or its rest; with `keep`, the connection ends after so many bytes."""
        validators = self.validators
        if validators is None:
            validators = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        start = self._start(request, validators)
        if start and start >= len(content):
            request.reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {"Content-Length": str(len(content) - start), **validators}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:][:keep]
        request.reply(206 if start else 200, body, headers)
        self.sent += len(body)

    def _start(self, request: Handler, validators: dict[str, str]) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range")
        changed = self.if_range and condition is not None and condition not in validators.values()
        return int(found[1]) if found and self.ranges and not changed else 0


class CityscapesSite(Site):
    """The site of Cityscapes: a login, a list, MD5 sums, and packages for those who are signed in."""

    def __init__(self, archives: dict[str, bytes]) -> None:
        super().__init__()
        self.archives = archives
        self.signed_in: set[str] = set()
        self.refused = 0

    def answer(self, request: Handler) -> None:
        url = urlsplit(request.path)
        number = parse_qs(url.query).get("packageID", ["0"])[0]
        name = next((name for name, each in CITYSCAPES.items() if str(each) == number), None)
        if self.spoilers[url.path]:
            self.spoilers[url.path].pop(0)(request, self.archives.get(name, b""))
        elif url.path == "/login":
            self._login(request)
        elif not any(token in request.headers.get("Cookie", "") for token in self.signed_in):
            request.reply(302, b"", {"Location": "/login"})
        elif url.path == "/downloads/":
            rows = [{"name": each, "packageID": str(CITYSCAPES[each]), "size": "1MB"} for each in self.archives]
            request.reply(200, json.dumps(rows).encode(), {"Content-Type": "application/json"})
        elif name not in self.archives:
            request.reply(404, b"")
        elif url.path == "/md5-sum/":
            request.reply(200, f"{hashlib.md5(self.archives[name]).hexdigest()}  {name}\n".encode())
        else:
            self.serve(request, self.archives[name])

    def _login(self, request: Handler) -> None:
        if request.command == "GET":
            token = f"session{len(self.asked)}"
            request.reply(200, b"<html>log in</html>", {"Content-Type": "text/html", "Set-Cookie": f"id={token}"})
            return
        given = parse_qs(request.body.decode())
        right = {"username": ["user@example.org"], "password": [WORD], "submit": ["Login"]}
        cookie = request.headers.get("Cookie", "")
        if given != right or not cookie:
            self.refused += 1
            request.reply(200, b"<html>wrong</html>", {"Content-Type": "text/html"})
            return
        self.signed_in.add(cookie)
        request.reply(302, b"", {"Location": "/downloads/"})


class Handler(BaseHTTPRequestHandler):
    """Hands every request to the site."""

    site: Site
    body = b""

    def reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """A whole answer, unless `headers` declare another length."""
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def do_GET(self) -> None:
        self.site.asked.append((self.command, self.path, self.headers.get("Range")))
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.site.answer(self)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


def status(code: int, **headers: str) -> Spoiler:
    """An answer without a file; `Retry_After="7"` sets Retry-After."""
    return lambda request, _: request.reply(code, b"", {k.replace("_", "-"): v for k, v in headers.items()})


def cut(after: int) -> Spoiler:
    """The connection ends `after` so many bytes of this answer."""
    return lambda request, content: request.site.serve(request, content, after)


def page(kind: str = "text/html", text: bytes = b"<!DOCTYPE html><html>Please log in</html>") -> Spoiler:
    """A web page where a file was asked for."""
    return lambda request, _: request.reply(200, text, {"Content-Type": kind})


def silence(seconds: float, after: int = 0) -> Spoiler:
    """So many bytes, and then nothing for a while."""

    def be_silent(request: Handler, content: bytes) -> None:
        if after:
            request.site.serve(request, content, after)
            request.wfile.flush()
        time.sleep(seconds)

    return be_silent


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Runs the server in a thread; `site.url` is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": site}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(site: Site, target: Path, web: Web, **options: object) -> None:
    """Downloads the site's file."""
    download([site.url + "/a.zip"], target, web=web, **options)


def refused(site: Site, target: Path, web: Web, match: str, **options: object) -> str:
    """The one line that says why the file cannot be had and where to put it."""
    with pytest.raises(DataError, match=match) as caught:
        fetch(site, target, web, **options)
    message = str(caught.value)
    assert "\n" not in message and f"put it at {target}" in message and not target.exists()
    return message


def leftovers(target: Path) -> list[str]:
    """What lies beside the file."""
    return sorted(path.name for path in target.parent.iterdir() if path != target)
