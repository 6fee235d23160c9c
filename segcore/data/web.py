"""Asking servers with patience: time-outs, growing pauses, and reasons a person understands."""

from __future__ import annotations

import email.utils
import http.client
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from segcore.errors import DataError

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0  # to connect, and between two pieces of an answer
ATTEMPTS = 5  # in a row that bring nothing, with pauses of 1, 2, 4 and 8 s
LONGEST_PAUSE = 120.0  # a server that asks for a longer one is left alone
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
_TEXT_BYTES = 1 << 22  # the longest text anybody asks for here is a list of packages


class WebError(DataError):
    """An address that could not be read.

    Attributes:
        passing: asking again may help.
        status: the server's, if it answered.
        pause: seconds it asks to wait.
        gained: something was received before it failed.
        headers: what came with the status.
    """

    def __init__(
        self,
        reason: str,
        *,
        passing: bool = False,
        status: int | None = None,
        pause: float | None = None,
        gained: bool = False,
        headers: Any = None,
    ) -> None:
        super().__init__(reason)
        self.passing, self.status, self.pause, self.gained, self.headers = passing, status, pause, gained, headers


class Web:
    """A way to the servers.

    Args:
        opener: urllib's, which follows redirections and heeds the proxies of the environment.
        timeout: seconds of silence after which a connection is given up.
        attempts: failures in a row after which an address is given up.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        opener: urllib.request.OpenerDirector | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.opener = opener or urllib.request.build_opener()
        self.timeout, self.attempts, self.sleep = timeout, attempts, sleep

    def open(self, request: urllib.request.Request, *, page: bool = False) -> Any:
        """One request; the answer is a context manager with `headers`, and `status` if it came by HTTP.

        Args:
            request: what is asked.
            page: a web page (HTML) may come; otherwise it is one that stands in the way of what was wanted.

        Raises:
            WebError: there is no answer, it is a refusal, or a web page.
        """
        if urlsplit(request.full_url).scheme not in ("http", "https", "file"):
            raise WebError("not an address of http, https or file")
        try:
            response = self.opener.open(request, timeout=self.timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _explain(error, request.full_url) from None
        if not page and response.headers.get_content_type() == "text/html":
            response.close()
            raise WebError("a web page came instead of the file", status=getattr(response, "status", None))
        return response

    def text(self, url: str) -> str:
        """A short text, asked for with patience.

        Raises:
            WebError: it cannot be had.
        """

        def ask() -> str:
            with self.open(urllib.request.Request(url)) as response:
                return read(response, _TEXT_BYTES).decode("utf-8", "replace")

        return self.patiently(ask, url)

    def patiently(self, ask: Callable[[], T], what: str) -> T:
        """Repeats `ask` after pauses, as long as that may help; an attempt that gained something counts as none.

        Raises:
            WebError: the last one of `ask`.
        """
        failures = 0
        while True:
            try:
                return ask()
            except WebError as error:
                failures = 1 if error.gained else failures + 1
                if not error.passing or failures >= self.attempts:
                    raise
                pause = 2.0 ** (failures - 1) if error.pause is None else error.pause
                if pause > LONGEST_PAUSE:
                    raise WebError(f"{error}; it asks to come back in {pause:.0f} s", status=error.status) from None
                print(f"{what}: {error}; asking again in {pause:.0f} s", file=sys.stderr, flush=True)
                self.sleep(pause)


def read(response: Any, size: int, *, gained: bool = False) -> bytes:
    """What has arrived of an answer, up to `size` bytes; empty at its end.

    Raises:
        WebError: the connection broke; `gained` as given.
    """
    try:
        return response.read1(size)
    except (OSError, http.client.HTTPException) as error:
        reason = _explain(error, "")
        raise WebError(f"the connection broke ({reason})", passing=True, gained=gained) from None


def offline() -> bool:
    """Whether SEGCORE_OFFLINE forbids asking anybody."""
    return os.environ.get("SEGCORE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _explain(error: Exception, url: str) -> WebError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        pause = _retry_after(error.headers.get("Retry-After"))
        reason = f"the server answers {error.code} {error.reason}".rstrip()
        return WebError(reason, passing=error.code in _MAY_PASS, status=error.code, pause=pause, headers=error.headers)
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return WebError("no answer in time", passing=True)
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    final = isinstance(cause, ssl.SSLCertVerificationError | ValueError) or url.startswith("file:")
    return WebError(reason, passing=not final)


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
