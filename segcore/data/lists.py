"""From the files of a data set to training and validation lists that have been looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import Image

from segcore.data.datasets import Samples, read_label_ids, size_mismatch, write_list
from segcore.data.labels import IGNORE, LabelTable
from segcore.data.sources import SPLITS, DataRecipe
from segcore.errors import DataError
from segcore.files import atomic_write, write_json
from segcore.progress import track

Pairs = list[tuple[str, str]]


def find_pairs(recipe: DataRecipe, paths: Iterable[str]) -> dict[str, Pairs]:
    """Groups a data set's files into (image, label) pairs by split, sorted by path.

    Raises:
        DataError: an image without its label or the reverse, two images with one stem, or an empty split.
    """
    images: dict[tuple[str, str], str] = {}
    labels: dict[tuple[str, str], str] = {}
    for path in paths:
        split, stem, is_label = _place(recipe, PurePosixPath(path))
        into = labels if is_label else images
        if (split, stem) in into:
            raise DataError(f"{path} and {into[split, stem]} share a stem in one split; remove one of them")
        into[split, stem] = path
    for key in sorted(images.keys() ^ labels.keys()):
        have, lack = (images[key], "label") if key in images else (labels[key], "image")
        raise DataError(f"{have}: has no {lack} beside it; complete or remove the pair, then `dvc repro -f fetch`")
    pairs = {split: [(images[k], labels[k]) for k in sorted(images) if k[0] == split] for split in SPLITS}
    for split in ("train", "val"):
        if not pairs[split]:
            raise DataError(f"the {split} split is empty: no image of it was found; look at what `fetch` listed")
    return {split: found for split, found in pairs.items() if found}


def _place(recipe: DataRecipe, path: PurePosixPath) -> tuple[str, str, bool]:
    if recipe.layout == "cityscapes":
        top, split, *_ = path.parts
        return split, path.name.removesuffix("_leftImg8bit.png").removesuffix("_gtFine_labelIds.png"), top == "gtFine"
    split = path.parts[0].removesuffix("annot")
    return split, path.stem, path.parts[0] != split


def write_lists(
    out: Path, pairs: dict[str, Pairs], labels: LabelTable, folder: Path, root: str, workers: int = 2
) -> None:
    """Looks at every pair and writes the lists with what belongs beside them.

    `out` gets `<split>.csv`, `trainval.csv`, `labels.csv`, `root`, `statistics.json` (pixels per class and split) and
    `majority.png`, the most frequent train id at every place over the training labels: the best prediction that
    ignores the image, and so the score to beat.

    Args:
        out: folder to write to.
        pairs: see `find_pairs`.
        labels: the label table.
        folder: where the images are on this machine.
        root: what the file `root` shall say.
        workers: threads that read.

    Raises:
        DataError: a pair of different sizes, a label value outside the table, a damaged file.
    """
    # Everything is looked at before anything is written.
    censuses = {split: _take_census(Samples(found, folder, labels), split, workers) for split, found in pairs.items()}
    for split, found in pairs.items():
        write_list(out / f"{split}.csv", found)
    write_list(out / "trainval.csv", pairs["train"] + pairs["val"])
    labels.write_csv(out / "labels.csv")
    write_json(out / "statistics.json", {split: census.summary(labels) for split, census in censuses.items()})
    _write_png(out / "majority.png", censuses["train"].majority())
    with atomic_write(out / "root") as temporary:
        temporary.write_text(f"{root}\n", encoding="utf-8")


def _take_census(samples: Samples, split: str, workers: int) -> Census:
    census = Census(samples.labels.num_classes, keep_map=split == "train")
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        # In portions, so that decoded maps do not pile up and an error does not wait for the whole list.
        portions = batched(range(len(samples)), 32)
        labels = (pool.map(lambda index: _checked_label(samples, index), portion) for portion in portions)
        for label in track(chain.from_iterable(labels), f"check {split}", len(samples)):
            census.add(label)
    return census


def batched(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Slices of at most `size` items."""
    return (items[first : first + size] for first in range(0, len(items), size))


def _checked_label(samples: Samples, index: int) -> np.ndarray:
    label_path, image_path = samples.label_path(index), samples.image_path(index)
    ids = read_label_ids(label_path)
    try:
        with Image.open(image_path) as image:  # reads the header only
            size = (image.height, image.width)
    except (OSError, SyntaxError) as error:
        raise DataError(f"{image_path}: cannot be opened as a picture ({error}); replace it") from None
    if size != ids.shape:
        raise DataError(size_mismatch(image_path, size, label_path, ids.shape))
    return samples.labels.to_train_ids(ids, str(label_path))


class Census:
    """Counts classes over label maps, in all and (with `keep_map`) at every place of the first map's size."""

    def __init__(self, num_classes: int, keep_map: bool) -> None:
        self.num_classes, self.keep_map = num_classes, keep_map
        self.images = 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.present = np.zeros(num_classes, np.int64)
        self.ignored = 0
        self.sizes: Counter[str] = Counter()
        self.places: np.ndarray | None = None

    def add(self, label: np.ndarray) -> None:
        """Counts one uint8 H×W map of train ids."""
        counts = np.bincount(label.ravel(), minlength=256)
        self.images += 1
        self.pixels += counts[: self.num_classes]
        self.present += counts[: self.num_classes] > 0
        self.ignored += int(counts[IGNORE])
        self.sizes["×".join(map(str, label.shape))] += 1
        if self.keep_map:
            self._add_places(label)

    def _add_places(self, label: np.ndarray) -> None:
        if self.places is None:
            self.places = np.zeros((self.num_classes, *label.shape), np.uint32)
        height, width = self.places.shape[1:]
        if label.shape != (height, width):
            label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        rows, columns = np.nonzero(label != IGNORE)
        self.places[label[rows, columns], rows, columns] += 1

    def majority(self) -> np.ndarray:
        """uint8 H×W: the most frequent train id of every place; ties go to the lower id."""
        return self.places.argmax(0).astype(np.uint8)

    def summary(self, labels: LabelTable) -> dict[str, object]:
        """Plain numbers: images, sizes, share of ignored pixels, and per class its pixels and images."""
        total = int(self.pixels.sum()) + self.ignored
        classes = zip(labels.names, self.pixels.tolist(), self.present.tolist(), strict=True)
        return {
            "images": self.images,
            "sizes": dict(self.sizes),
            "ignored": round(self.ignored / total, 6),
            "classes": {name: {"pixels": pixels, "images": images} for name, pixels, images in classes},
        }


def _write_png(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1].tobytes())
