"""The embedded miniature data set: procedural street scenes with Cityscapes' classes, file names and archives.

No photograph is involved: scenes are drawn from a seed, so that the whole chain runs without an account or a download.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Ge, Gt

from segcore.data.labels import TABLES
from segcore.data.minicity.scene import HEROES, compose
from segcore.errors import DataError
from segcore.files import atomic_write
from segcore.progress import track

ARCHIVES = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
_CITIES = {  # sorted, so that the archives' entries are
    "train": ("altenfurt", "birkenau", "dornheim", "eschenbruck", "feldmark", "grauwinkel", "hagenthal", "kirchsee"),
    "val": ("lindenport", "moorstadt", "neuwalden"),
}
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; fixed, so that equal recipes give equal bytes
_FRAME = 19  # the annotated frame of a Cityscapes snippet
_README = """Minicity: a procedural miniature in the form of the Cityscapes data set
======================================================================

These pictures are no photographs. They were drawn by segcore.data.minicity from a seed; the towns do not exist.
Folders, file names and label ids follow Cityscapes (see https://www.cityscapes-dataset.com), so that whatever reads
the one reads the other:

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png    8-bit RGB
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png     8-bit label ids 0 to 33
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_color.png        the same in the labels' colours

Splits: train and val. There is no test split, and there are no polygons and no instance ids.
Scores on these pictures say whether a training chain works. They say nothing about real streets.

This copy: {recipe}
"""
_LICENSE = """The minicity pictures and labels are made by the program that carries them; its licence (MIT) covers them.
They contain no part of the Cityscapes data set; its terms do not apply to them.
"""


@dataclass(frozen=True)
class MinicityRecipe:
    """What to draw: the seed, the number of images per split and their size in pixels."""

    seed: Annotated[int, Ge(0)] = 0
    train: Annotated[int, Gt(0)] = 200
    val: Annotated[int, Gt(0)] = 24
    height: Annotated[int, Ge(32)] = 256
    width: Annotated[int, Ge(64)] = 512


def render(recipe: MinicityRecipe, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene: the image (H×W×3 uint8 RGB) and its label ids (H×W uint8, Cityscapes ids 0..33).

    Depends on the recipe's seed and size, the split ("train" or "val") and the index only. Scenes take turns in showing
    each rare actor for sure, in an order that is shuffled anew for every turn.

    Raises:
        DataError: a split that is neither "train" nor "val".
    """
    if split not in _CITIES:
        raise DataError(f"minicity has no split {split!r}; it has {' and '.join(_CITIES)}")
    code = list(_CITIES).index(split)
    turn, place = divmod(index, len(HEROES))
    order = np.random.default_rng([recipe.seed, code, turn, 1]).permutation(len(HEROES))
    hero = list(HEROES)[order[place]]
    return compose(np.random.default_rng([recipe.seed, code, index]), recipe.height, recipe.width, hero)


def write_archives(folder: Path, recipe: MinicityRecipe) -> tuple[Path, Path]:
    """Draws all scenes into `leftImg8bit_trainvaltest.zip` and `gtFine_trainvaltest.zip` under `folder`.

    Equal recipes give equal bytes, with the same versions of NumPy and OpenCV on the same kind of processor. Both
    archives appear when both are whole; a failure leaves what stood there before. Returns their paths, pictures first.
    """
    paths = (Path(folder) / ARCHIVES[0], Path(folder) / ARCHIVES[1])
    color = np.zeros((256, 3), np.uint8)
    for entry in TABLES["cityscapes"].entries:
        color[entry.id] = entry.color
    readme = _README.format(recipe=recipe)
    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in paths]
        images, labels = (stack.enter_context(zipfile.ZipFile(path, "w")) for path in temporary)
        for archive in (images, labels):
            _add(archive, "README", readme.encode())
        for split, index, stem in track(_stems(recipe), "drawing minicity", total=recipe.train + recipe.val):
            image, label = render(recipe, split, index)
            _add(images, f"leftImg8bit/{stem}_leftImg8bit.png", _png(image))
            _add(labels, f"gtFine/{stem}_gtFine_color.png", _png(color[label]))
            _add(labels, f"gtFine/{stem}_gtFine_labelIds.png", _png(label))
        for archive in (images, labels):
            _add(archive, "license.txt", _LICENSE.encode())
    return paths


def _stems(recipe: MinicityRecipe) -> Iterator[tuple[str, int, str]]:
    """Split, index and `<split>/<city>/<city>_<sequence>_<frame>` of all scenes, in the order of their names."""
    for split, count in (("train", recipe.train), ("val", recipe.val)):
        cities = _CITIES[split]
        shares = np.array_split(np.arange(count), len(cities))
        for city, share in zip(cities, shares, strict=True):
            for sequence, index in enumerate(share.tolist()):
                yield split, index, f"{split}/{city}/{city}_{sequence:06d}_{_FRAME:06d}"


def _png(pixels: np.ndarray) -> bytes:
    """PNG of an H×W or H×W×3 (RGB) uint8 array."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", pixels)[1].tobytes()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Stores an entry; PNG is compressed already."""
    info = zipfile.ZipInfo(name, _TIMESTAMP)
    info.external_attr = 0o644 << 16
    info.create_system = 3  # Unix, wherever this runs
    archive.writestr(info, content)
