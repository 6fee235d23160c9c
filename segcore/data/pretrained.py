"""Pretrained weights: found in the data store, or downloaded into it.

`pretrained.csv` lists the files that networks here start from: who publishes them, at which addresses, and their sha256
where it is known. Where it is not, the one of the file first used is written beside it (NAME.sha256, as `sha256sum`
writes it), and a file of another content is refused from then on.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from segcore.data.disk import explained
from segcore.data.download import download
from segcore.data.web import Web
from segcore.errors import CheckpointError, DataError, did_you_mean
from segcore.files import atomic_write, sha256

TABLE = Path(__file__).with_name("pretrained.csv")
# sha256 of the receipt of a start from random weights. Model files carry their receipt's, so that this one is known.
NONE_RECEIPT = hashlib.sha256(b'{\n  "pretrained": "none"\n}\n').hexdigest()


@dataclass(frozen=True)
class WeightsRecipe:
    """Which backbone file a training starts from.

    Attributes:
        name: file name, or `none` to train from scratch. One that `pretrained.csv` lists needs no more.
        url: where it is published; empty if the table says it, or if it has no fixed address: then it must lie in the
            data store. One that the table does not have stands for another file, to which its digest does not apply.
        sha256: its digest if known; the table's counts where this is empty.
        code: digest of the code that fetches, filled in when the recipe is resolved.
    """

    name: str = "none"
    url: str = ""
    sha256: str = ""
    code: str = ""


class Published(NamedTuple):
    """A line of `pretrained.csv`.

    Attributes:
        networks: pattern of the names of the networks that start from it, such as `bisenetv1*`.
        published_by: where a person finds it.
        sha256: empty if not known.
        urls: its addresses, the best one first; none if it has no fixed one.
    """

    name: str
    networks: str
    published_by: str
    sha256: str
    urls: tuple[str, ...]


def published() -> dict[str, Published]:
    """The files of `pretrained.csv` by name."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        return {row["name"]: Published(**{**row, "urls": tuple(row["urls"].split())}) for row in csv.DictReader(file)}


def fetch_weights(recipe: WeightsRecipe, store: Path, out: Path, web: Web | None = None) -> dict[str, str]:
    """Copies the file into `out/backbone.pth`, downloading it into `store` first if it is not there.

    Args:
        recipe: which file.
        store: the data store's folder of weights; a file that somebody put there is taken.
        out: folder to copy to.
        web: the way to the servers.

    Returns:
        The receipt: what was taken, where it is published, with which digest. It is the same on every machine.

    Raises:
        CheckpointError: it cannot be had (says from where and where to put it), it is no weights file, or its digest is
            not the one of the recipe, of the table, of its name or of its first use.
    """
    if recipe.name == "none":
        return {"pretrained": "none"}
    source, (urls, expected) = store / recipe.name, _addresses(recipe)
    if not urls and not source.is_file():
        raise CheckpointError(f"{source}: no such file, and {_no_address(recipe.name)}; put it there")
    try:
        download(urls, source, checksum=f"sha256:{expected}" if expected else "", web=web)
        with explained(store):
            found = _check(source, expected)
            with atomic_write(out / "backbone.pth") as temporary:
                shutil.copyfile(source, temporary)
    except DataError as error:
        raise CheckpointError(str(error)) from None
    return {"pretrained": recipe.name, "url": urls[0] if urls else "", "sha256": found}


def _addresses(recipe: WeightsRecipe) -> tuple[tuple[str, ...], str]:
    """Addresses in order, and the sha256 if known; the table's unless the recipe names an address of its own."""
    known = published().get(recipe.name)
    if known is None or recipe.url not in ("", *known.urls):
        return ((recipe.url,) if recipe.url else ()), recipe.sha256
    return tuple(sorted(known.urls, key=lambda url: url != recipe.url)), recipe.sha256 or known.sha256


def _no_address(name: str) -> str:
    if known := published().get(name):
        return f"{name} has no address to download it from; fetch it by hand from {known.published_by}"
    return f"{name} has no address to download it from and is in no table ({did_you_mean(name, published())})"


def _check(source: Path, expected: str) -> str:
    """The file's sha256, compared with all that is known of it and recorded.

    Raises:
        CheckpointError: it is another, or the file is a web page or empty.
    """
    with open(source, "rb") as file:
        start = file.read(64)
    if not start or re.match(rb"\s*<", start):
        fault = "is a web page and no weights file" if start else "is empty"
        raise CheckpointError(f"{source}: {fault}; remove it, and fetch it from its page with a browser if need be")
    found = sha256(source)
    if expected and found != expected.lower():
        raise CheckpointError(f"{source}: sha256 is {found}, the recipe wants {expected}; remove it and run again")
    named = re.search(r"-([0-9a-f]{8})\.pth$", source.name)  # torchvision's way
    if named and not found.startswith(named[1]):
        raise CheckpointError(f"{source}: sha256 is {found}, its name says {named[1]}…; remove it and run again")
    _compare_with_first_use(source, found)
    return found


def _compare_with_first_use(source: Path, found: str) -> None:
    record = source.with_name(f"{source.name}.sha256")
    first = record.read_text(encoding="utf-8").split()[:1] if record.is_file() else []
    if first and first != [found]:
        raise CheckpointError(
            f"{source}: sha256 is {found}, but {first[0]} when it was first used ({record}); put that file back, or "
            "remove the record to start from this one"
        )
    if not first:
        try:
            with atomic_write(record) as temporary:
                temporary.write_text(f"{found}  {source.name}\n", encoding="utf-8")
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # Somebody else's store: the receipt has it.
