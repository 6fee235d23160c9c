"""Cityscapes' archives from its site, with an account: the way of the site's own downloader (cityscapesScripts).

The site asks for user and password in a form and answers a right one with a redirection and a cookie. Then it lists
the packages that the account may have, the MD5 of each, and hands them out piecewise.

User and password come from CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD, or from a file that nobody else may read, with
the lines `username=…` and `password=…`: the one that CITYSCAPES_CREDENTIALS names, else ~/.config/segcore/cityscapes.
They are sent to the site and nowhere else: no log, no message, no file of a run has them.
"""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, Request, build_opener

from segcore.data.download import download
from segcore.data.web import Web, WebError, offline
from segcore.errors import DataError

SITE = "https://www.cityscapes-dataset.com"
DEFAULT_FILE = Path("~/.config/segcore/cityscapes")
REMEDY = (
    "set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD, or write the lines username=… and password=… into "
    f"{DEFAULT_FILE} (chmod 600)"
)
_REDIRECTIONS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Account:
    """User and password, which show themselves to nobody."""

    username: str = field(repr=False)
    password: str = field(repr=False)


def find_account() -> Account | None:
    """The account of whoever runs this, None if there is none.

    Raises:
        DataError: half an account, or a file that is not as it must be.
    """
    given = [os.environ.get(f"CITYSCAPES_{part}") for part in ("USERNAME", "PASSWORD")]
    if all(given):
        return Account(*given)
    if any(given):
        raise DataError(f"one of CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD is not set; {REMEDY}")
    named = os.environ.get("CITYSCAPES_CREDENTIALS")
    path = Path(named or DEFAULT_FILE).expanduser()
    return _read_account(path) if named or path.exists() else None


def _read_account(path: Path) -> Account:
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise DataError(f"{path}: others may read this password; chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a UTF-8 text; {REMEDY}") from None
    found = {key.strip().lower(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    if not (found.get("username") and found.get("password")):
        raise DataError(f"{path}: must hold the lines username=… and password=…")
    return Account(found["username"], found["password"])


def download_packages(
    names: Iterable[str],
    folder: Path,
    account: Account,
    *,
    site: str = SITE,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Brings packages such as `gtFine_trainvaltest.zip` into `folder`, each checked against the site's MD5.

    Args:
        names: what the site calls them; those that are there already are left alone.
        folder: where they belong; what a broken download left there is gone on with.
        account: who asks.
        site: where.
        sleep: waits for a number of seconds.

    Raises:
        DataError: the site refuses the account, does not offer a package to it, or a package cannot be had whole;
            SEGCORE_OFFLINE forbids to ask.
    """
    wanted = [name for name in names if not (folder / name).is_file()]
    listed = ", ".join(wanted)
    by_hand = f"fetch {listed} by hand and put them into {folder}"
    if not wanted:
        return
    if offline():
        raise DataError(f"{listed} not found in {folder}, and SEGCORE_OFFLINE forbids to ask {site}; {by_hand}")
    session = _Session(account, site, sleep)
    try:
        session.log_in()
        offered = _packages(session.text(f"{site}/downloads/?list"), site)
        for name in wanted:
            if name not in offered:
                raise DataError(f"{site} does not offer {name} to this account; look at {site}/downloads")
            digest = _md5(session.text(f"{site}/md5-sum/?packageID={offered[name]}"), site)
            url = f"{site}/file-handling/?packageID={offered[name]}"
            download([url], folder / name, checksum=f"md5:{digest}", web=session)
    except WebError as error:
        raise DataError(f"{site}: {error}; try again later, or {by_hand}") from None


class _NoRedirection(HTTPRedirectHandler):
    """A redirection is an answer here: after the login that it succeeded, later that it has run out."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Session(Web):
    """A way to the site that signs in, and again when the site has forgotten it."""

    def __init__(self, account: Account, site: str, sleep: Callable[[float], object]) -> None:
        self.account, self.site, self.cookies = account, site, http.cookiejar.CookieJar()
        super().__init__(build_opener(HTTPCookieProcessor(self.cookies), _NoRedirection()), sleep=sleep)

    def log_in(self) -> None:
        """Raises DataError if the account is refused."""
        self.patiently(self._log_in, self.site)

    def open(self, request: Request, *, page: bool = False) -> Any:
        try:
            return super().open(request, page=page)
        except WebError as error:
            if error.status not in (*_REDIRECTIONS, 200, 401, 403):
                raise
        # Hours may lie between login and request. 200 stands for a page in place of the file: the form to log in.
        self._log_in()
        request.remove_header("Cookie")  # the old one, which urllib would not replace
        return super().open(request, page=page)

    def _log_in(self) -> None:
        form = f"{self.site}/login"
        self.cookies.clear()
        super().open(Request(form), page=True).close()  # the cookie that the form's answer must carry
        try:
            super().open(Request(form, self._answer()), page=True).close()
        except WebError as error:
            if error.status in _REDIRECTIONS:
                return
            if error.status not in (401, 403):
                raise
        raise DataError(f"{self.site} refuses this user name or password; {REMEDY}")

    def _answer(self) -> bytes:
        words = {"username": self.account.username, "password": self.account.password, "submit": "Login"}
        return urlencode(words).encode()


def _packages(text: str, site: str) -> dict[str, str]:
    """Name -> number of each package on offer."""
    try:
        return {package["name"]: str(int(package["packageID"])) for package in json.loads(text)}
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{site}: its list of packages has another form than it had; fetch them by hand") from None


def _md5(text: str, site: str) -> str:
    found = re.match(r"\s*([0-9a-fA-F]{32})\b", text)
    if not found:
        raise DataError(f"{site}: its MD5 of a package has another form than it had; fetch them by hand")
    return found[1].lower()
