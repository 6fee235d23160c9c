"""How the files of a data set are laid out: which of them are images and labels, and which two belong together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from segcore.data.datasets import read_list
from segcore.data.odgt import read_odgt
from segcore.errors import DataError

if TYPE_CHECKING:
    from segcore.data.sources import DataRecipe

SPLITS = ("train", "val", "test")
PICTURES = (".png", ".jpg", ".jpeg")

LayoutName = Literal["cityscapes", "ade20k", "cocostuff", "folders", "lists"]
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Lists:
    """Files with the pairs of each split: `image,label` lines, or .odgt. Paths start from the data set's folder."""

    train: str
    val: str
    test: str | None = None

    def files(self) -> dict[str, str]:
        """The list of each split that there is."""
        return {split: name for split in SPLITS if (name := getattr(self, split))}


class Place(NamedTuple):
    """Where a file belongs: image and label of a pair share split and stem."""

    split: str
    stem: str
    is_label: bool


def _cityscapes(path: PurePosixPath) -> Place | None:
    """leftImg8bit/<split>/<city>/*_leftImg8bit.png and gtFine/<split>/<city>/*_gtFine_labelIds.png."""
    split = path.parts[1] if len(path.parts) > 2 else ""
    for suffix, is_label in (("_leftImg8bit.png", False), ("_gtFine_labelIds.png", True)):
        if path.name.endswith(suffix) and split in SPLITS:
            return Place(split, path.name.removesuffix(suffix), is_label)
    return None


def _ade20k(path: PurePosixPath) -> Place | None:
    """images/{training,validation}/*.jpg and annotations/{training,validation}/*.png, wherever these two lie."""
    kind, split = path.parts[-3:-1] if len(path.parts) > 2 else ("", "")
    if split not in ("training", "validation") or (kind, path.suffix) not in _ADE20K_KINDS:
        return None
    return Place("train" if split == "training" else "val", path.stem, kind == "annotations")


_ADE20K_KINDS = (("images", ".jpg"), ("annotations", ".png"))


def _cocostuff(path: PurePosixPath) -> Place | None:
    """{train2017,val2017}/*.jpg and {train2017,val2017}/*.png, in the same two folders or in others of that name."""
    split = path.parent.name
    if split not in ("train2017", "val2017") or path.suffix not in (".jpg", ".png"):
        return None
    return Place(split.removesuffix("2017"), path.stem, path.suffix == ".png")


def _folders(path: PurePosixPath) -> Place | None:
    """train/ trainannot/ val/ valannot/ and, where present, test/ testannot/; image and label share a stem."""
    if path.suffix.lower() not in PICTURES:
        return None
    split = path.parts[0].removesuffix("annot")
    return Place(split, path.stem, path.parts[0] != split)


# Those that are known by their folders: where files are looked for, and what their paths say (None: nobody reads it).
LAYOUTS: dict[str, tuple[tuple[str, ...], Callable[[PurePosixPath], Place | None]]] = {
    "cityscapes": (("leftImg8bit", "gtFine"), _cityscapes),
    "ade20k": (("ADEChallengeData2016", "images", "annotations"), _ade20k),
    "cocostuff": (("train2017", "val2017", "images", "labels", "annotations", "stuffthingmaps"), _cocostuff),
    "folders": (tuple(top for split in SPLITS for top in (split, f"{split}annot")), _folders),
}


def place(recipe: DataRecipe, path: str) -> Place | None:
    """Where a file belongs by its path below the data set's folder; None for one that nobody reads."""
    pure = PurePosixPath(path)
    found = None if pure.name.startswith(".") else LAYOUTS[recipe.layout][1](pure)
    unwanted = found and found.split == "test" and recipe.layout == "cityscapes" and not recipe.test
    return None if unwanted else found


def is_unpacked(recipe: DataRecipe, folder: Path) -> bool:
    """Whether images and labels to train on and to score lie in `folder`, so that their archives need not."""
    found = {place(recipe, path)._replace(stem="") for path in _found(recipe, folder)}
    return found >= {Place(split, "", is_label) for split in ("train", "val") for is_label in (False, True)}


def walk(recipe: DataRecipe, folder: Path) -> list[str]:
    """The images and labels that lie in `folder`, sorted; of layout `lists` those listed, and the lists themselves.

    Raises:
        DataError: a folder or a listed file that is missing, or a list that cannot be read.
    """
    if recipe.lists:
        named = {path for pairs in _listed(recipe.lists, folder).values() for pair in pairs for path in pair}
        for path in sorted(named):
            if not (folder / path).is_file():
                raise DataError(f"{folder / path}: no such file, but a list names it; mend the list or put it there")
        return sorted({*named, *recipe.lists.files().values()})
    if recipe.layout == "folders":
        tops = LAYOUTS["folders"][0][:4]
        for top in (folder / top for top in tops if not (folder / top).is_dir()):
            raise DataError(f"{top}: no such folder; get {recipe.get} and put {', '.join(tops)} into {folder}")
    return sorted(_found(recipe, folder))


def _found(recipe: DataRecipe, folder: Path) -> Iterator[str]:
    for top in LAYOUTS[recipe.layout][0]:
        for parent, _, names in os.walk(folder / top, followlinks=True):
            paths = (Path(parent, name).relative_to(folder).as_posix() for name in names)
            yield from (path for path in paths if place(recipe, path))


def find_pairs(recipe: DataRecipe, paths: Iterable[str], folder: Path) -> dict[str, Pairs]:
    """Groups a data set's files into (image, label) pairs by split: as its lists have them, or else sorted by path.

    Raises:
        DataError: an image without its label or the reverse, two images with one stem, or an empty split.
    """
    if recipe.lists:
        return _listed(recipe.lists, folder)
    kinds: tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]] = ({}, {})
    for path in paths:
        split, stem, is_label = place(recipe, path)
        if (split, stem) in kinds[is_label]:
            raise DataError(f"{path} and {kinds[is_label][split, stem]} share a stem in one split; remove one of them")
        kinds[is_label][split, stem] = path
    images, labels = kinds
    for key in sorted(images.keys() ^ labels.keys()):
        have, lack = (images[key], "label") if key in images else (labels[key], "image")
        raise DataError(f"{have}: has no {lack} beside it; complete or remove the pair, then `dvc repro -f fetch`")
    pairs = {split: [(images[k], labels[k]) for k in sorted(images) if k[0] == split] for split in SPLITS}
    for split in ("train", "val"):
        if not pairs[split]:
            raise DataError(f"the {split} split is empty: no image of it was found; look at what `fetch` listed")
    return {split: found for split, found in pairs.items() if found}


def _listed(lists: Lists, folder: Path) -> dict[str, Pairs]:
    return {split: _read(folder / name) for split, name in lists.files().items()}


def _read(path: Path) -> Pairs:
    if not path.is_file():
        raise DataError(f"{path}: no such list; the recipe names it under `data.lists`")
    return read_pairs(path)


def read_pairs(path: Path) -> Pairs:
    """The pairs of a list, `image,label` a line, or scene parsing's records if its name ends in .odgt.

    Raises:
        DataError: it cannot be read, or a line is not of that form.
    """
    return [(r.image, r.label) for r in read_odgt(path)] if path.suffix == ".odgt" else read_list(path)
