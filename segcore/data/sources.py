"""How each data set gets into the data store, and which files make it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from segcore.data.archives import extract
from segcore.data.cityscapes_account import REMEDY, download_packages, find_account
from segcore.data.disk import explained
from segcore.data.download import download
from segcore.data.layouts import LayoutName, Lists, is_unpacked, place, walk
from segcore.data.minicity import MinicityRecipe, write_archives
from segcore.data.statistics import IMAGENET, Statistics
from segcore.data.store import Checksums, StoredFile
from segcore.errors import DataError
from segcore.progress import track


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from and how their files are named.

    Attributes:
        layout: how the files are arranged (see `segcore.data.layouts`): `cityscapes`, `ade20k`, `cocostuff`, `folders`
            (train/ trainannot/ val/ valannot/ …), or `lists`, which say themselves what belongs together.
        archives: zip files to unpack, if the images do not lie there unpacked.
        get: where a person gets them, for the message when they are missing.
        urls: addresses of those archives that anybody may download, the best one first.
        checksums: `md5:…`, `sha1:…` or `sha256:…` of those where it is known.
        into: subfolder for those that are not made for the data set's folder itself.
        account: whose archives need an account; only Cityscapes' way to log in is known.
        test: Cityscapes' test images too, which have no labels that say anything.
        generate: draw the archives instead of waiting for them.
        lists: of layout `lists`, the files that name the pairs.
        statistics: of the data set's photographs as its description has them, which a model's recipe does not change;
            what is found in them is held against these.
        code: digest of the code that fetches and lists, filled in when the recipe is resolved.
    """

    layout: LayoutName
    get: str = ""
    archives: tuple[str, ...] = ()
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    into: dict[str, str] = field(default_factory=dict)
    account: Literal["", "cityscapes"] = ""
    test: bool = False
    generate: MinicityRecipe | None = None
    lists: Lists | None = None
    statistics: Statistics = IMAGENET
    code: str = ""

    def __post_init__(self) -> None:
        for name in (*self.urls, *self.checksums, *self.into):
            if name not in self.archives:
                raise ValueError(f"{name!r} is none of the archives ({', '.join(self.archives) or 'there are none'})")
        if (self.layout == "lists") != bool(self.lists):
            raise ValueError("`lists` (train and val) belongs to `layout: lists`, and to no other")


def fetch(recipe: DataRecipe, folder: Path, memory: Path, further: Sequence[str] = ()) -> list[StoredFile]:
    """Makes sure that the data set lies complete in `folder`; a second call does nothing.

    Args:
        recipe: what is wanted.
        folder: the data set's folder in the data store.
        memory: where checksums are remembered.
        further: other files in it that belong to the data set, such as its label table.

    Returns:
        Every one of its files with size and checksum.

    Raises:
        DataError: something is missing (says what, where to get it and where to put it) or damaged.
    """
    checksums = Checksums(folder, memory)
    if recipe.generate:
        _generate(recipe, folder)
    if recipe.archives and not is_unpacked(recipe, folder):
        _bring(recipe, folder)
    archives = [folder / name for name in recipe.archives if (folder / name).is_file()]
    wanted = {file.path: file for archive in archives for file in _unpack(recipe, archive, checksums)}
    paths = sorted(wanted) if wanted and len(archives) == len(recipe.archives) else walk(recipe, folder)
    with explained(folder):
        files = [checksums.of(path) for path in track([*paths, *further], "read files")]
    checksums.save()
    return files


def _bring(recipe: DataRecipe, folder: Path) -> None:
    """Downloads the archives that are missing, where that can be done."""
    missing = [name for name in recipe.archives if not (folder / name).is_file()]
    closed = [name for name in missing if name not in recipe.urls]
    account = find_account() if closed and recipe.account else None
    if closed and not account:
        otherwise = f"; or {REMEDY}, and run again" if recipe.account else ""
        raise DataError(f"{', '.join(closed)} not found in {folder}; get {recipe.get} and put them there{otherwise}")
    for name in missing:
        if name in recipe.urls:
            download(recipe.urls[name], folder / name, checksum=recipe.checksums.get(name, ""))
    if account:
        download_packages(closed, folder, account)


def _unpack(recipe: DataRecipe, archive: Path, checksums: Checksums) -> list[StoredFile]:
    return extract(archive, partial(place, recipe), checksums, into=recipe.into.get(archive.name, ""))


def _generate(recipe: DataRecipe, folder: Path) -> None:
    # The archives depend on the recipe and the code alone, so a note of both tells whether they are the wanted ones.
    note, made_from = folder / "made-from.txt", f"{recipe.generate} {recipe.code}"
    whole = all((folder / name).is_file() for name in recipe.archives)
    if not (whole and note.is_file() and note.read_text(encoding="utf-8") == made_from):
        folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        write_archives(folder, recipe.generate)
        note.write_text(made_from, encoding="utf-8")
