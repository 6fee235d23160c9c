"""Pretrained weights: found in the data store, or downloaded into it."""

from __future__ import annotations

import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import CheckpointError
from segcore.files import atomic_write, sha256

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class WeightsRecipe:
    """Which backbone file a training starts from.

    Attributes:
        name: file name, or `none` to train from scratch.
        url: where it is published; empty if it has no fixed address, then it must lie in the data store.
        sha256: its digest if known; an unknown one is recorded in the receipt.
        code: digest of the code that fetches, filled in when the recipe is resolved.
    """

    name: str = "none"
    url: str = ""
    sha256: str = ""
    code: str = ""


def fetch_weights(recipe: WeightsRecipe, store: Path, out: Path) -> dict[str, str]:
    """Copies the file into `out/backbone.pth`, downloading it into `store` first if it is not there.

    Returns:
        The receipt: what was taken, from where, with which digest.

    Raises:
        CheckpointError: it cannot be had (says from where and where to put it), or its digest is another.
    """
    if recipe.name == "none":
        return {"pretrained": "none"}
    source = store / recipe.name
    if not source.is_file():
        _download(recipe, source)
    found = sha256(source)
    if recipe.sha256 and found != recipe.sha256:
        raise CheckpointError(f"{source}: sha256 is {found}, the recipe wants {recipe.sha256}; remove it and run again")
    with atomic_write(out / "backbone.pth") as temporary:
        shutil.copyfile(source, temporary)
    return {"pretrained": recipe.name, "url": recipe.url, "sha256": found}


def _download(recipe: WeightsRecipe, target: Path) -> None:
    if not recipe.url:
        raise CheckpointError(
            f"{target}: no such file, and {recipe.name} has no address to download it from; the head of its recipe in "
            f"pipeline/recipes says who publishes it: fetch it by hand and put it there"
        )
    try:
        with (
            urllib.request.urlopen(recipe.url, timeout=TIMEOUT_SECONDS) as response,
            atomic_write(target) as temporary,
            open(temporary, "wb") as file,
        ):
            shutil.copyfileobj(response, file, 1 << 20)
            length = response.headers.get("Content-Length")
            if length and file.tell() != int(length):
                raise OSError(f"the connection ended after {file.tell()} of {length} bytes")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CheckpointError(
            f"{recipe.name} could not be downloaded from {recipe.url} ({reason}); "
            f"fetch it by hand and put it at {target}"
        ) from None
