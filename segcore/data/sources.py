"""How each data set gets into the data store, and which files make it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from segcore.data.archives import extract
from segcore.data.cityscapes_account import REMEDY, download_packages, find_account
from segcore.data.disk import explained
from segcore.data.download import download
from segcore.data.minicity import MinicityRecipe, write_archives
from segcore.data.store import Checksums, StoredFile
from segcore.errors import DataError
from segcore.progress import track

SPLITS = ("train", "val", "test")
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class DataRecipe:
    """Where images come from and how their files are named.

    Attributes:
        layout: `cityscapes` (leftImg8bit/ and gtFine/, by city) or `folders` (train/ trainannot/ val/ valannot/ and,
            where present, test/ testannot/; image and label share a stem).
        archives: zip files to unpack, if the images do not lie there unpacked.
        get: where a person gets them, for the message when they are missing.
        urls: addresses of those archives that anybody may download, the best one first.
        checksums: `md5:…`, `sha1:…` or `sha256:…` of those where it is known.
        into: subfolder for those that are not made for the data set's folder itself.
        account: whose archives need an account; only Cityscapes' way to log in is known.
        test: Cityscapes' test images too, which have no labels that say anything.
        generate: draw the archives instead of waiting for them.
        code: digest of the code that fetches and lists, filled in when the recipe is resolved.
    """

    layout: Literal["cityscapes", "folders"]
    get: str
    archives: tuple[str, ...] = ()
    urls: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    into: dict[str, str] = field(default_factory=dict)
    account: Literal["", "cityscapes"] = ""
    test: bool = False
    generate: MinicityRecipe | None = None
    code: str = ""

    def __post_init__(self) -> None:
        for name in (*self.urls, *self.checksums, *self.into):
            if name not in self.archives:
                raise ValueError(f"{name!r} is none of the archives ({', '.join(self.archives) or 'there are none'})")


def fetch(recipe: DataRecipe, folder: Path, memory: Path) -> list[StoredFile]:
    """Makes sure that the data set lies complete in `folder`; a second call does nothing.

    Args:
        recipe: what is wanted.
        folder: the data set's folder in the data store.
        memory: where checksums are remembered.

    Returns:
        Every image and label file with size and checksum.

    Raises:
        DataError: something is missing (says what, where to get it and where to put it) or damaged.
    """
    checksums = Checksums(folder, memory)
    if recipe.generate:
        _generate(recipe, folder)
    if not _unpacked(recipe, folder):
        _bring(recipe, folder)
    archives = [folder / name for name in recipe.archives if (folder / name).is_file()]
    wanted = {file.path: file for archive in archives for file in _unpack(recipe, archive, checksums)}
    paths = sorted(wanted) if wanted and len(archives) == len(recipe.archives) else walk(recipe, folder)
    with explained(folder):
        files = [checksums.of(path) for path in track(paths, "read files")]
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
    wanted = partial(_wanted, test=recipe.test)
    return extract(archive, wanted, checksums, into=recipe.into.get(archive.name, ""))


def _generate(recipe: DataRecipe, folder: Path) -> None:
    # The archives depend on the recipe and the code alone, so a note of both tells whether they are the wanted ones.
    note, made_from = folder / "made-from.txt", f"{recipe.generate} {recipe.code}"
    whole = all((folder / name).is_file() for name in recipe.archives)
    if not (whole and note.is_file() and note.read_text(encoding="utf-8") == made_from):
        folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        write_archives(folder, recipe.generate)
        note.write_text(made_from, encoding="utf-8")


def _wanted(path: str, test: bool = False) -> bool:
    """Of the Cityscapes archives only photographs and id maps: the rest (instances, polygons) nobody reads here."""
    split = path.split("/")[1:2]
    splits = (["train"], ["val"], ["test"]) if test else (["train"], ["val"])
    return split in splits and path.endswith(("_leftImg8bit.png", "_gtFine_labelIds.png"))


def _unpacked(recipe: DataRecipe, folder: Path) -> bool:
    return bool(recipe.archives) and all((folder / top).is_dir() for top in ("leftImg8bit", "gtFine"))


def walk(recipe: DataRecipe, folder: Path) -> list[str]:
    """Paths of all image and label files that lie unpacked in `folder`, sorted.

    Raises:
        DataError: a folder of the layout is missing.
    """
    if recipe.layout == "cityscapes":
        found = (path for top in ("leftImg8bit", "gtFine") for path in (folder / top).rglob("*.png"))
        paths = [path.relative_to(folder).as_posix() for path in found]
        return sorted(path for path in paths if _wanted(path, recipe.test))
    tops = [top for split in SPLITS for top in (split, f"{split}annot")]
    for top in (top for top in tops if not top.startswith("test") and not (folder / top).is_dir()):
        raise DataError(f"{folder / top}: no such folder; get {recipe.get} and put {', '.join(tops[:4])} into {folder}")
    found = (path for top in tops for path in sorted((folder / top).glob("*")) if (folder / top).is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found if path.suffix.lower() in PICTURES)
