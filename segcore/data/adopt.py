"""What a data set of one's own needs, from its photographs and label maps: pairs, a label table to edit, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from segcore.data.datasets import read_image, read_label_ids
from segcore.data.labels import IGNORE, Label, LabelTable
from segcore.data.layouts import PICTURES, Pairs
from segcore.data.statistics import Statistics
from segcore.errors import DataError
from segcore.progress import track


def match_pairs(images: Path, labels: Path, ending: str = "") -> tuple[Pairs, int, int]:
    """Pairs of paths, each relative to its folder, sorted: the label of `a/b.jpg` is `a/b<ending>.png`.

    Returns:
        The pairs, how many photographs have no label, and how many labels no photograph.

    Raises:
        DataError: a folder that is missing, no pair at all, or two images for one label.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
    maps = {_key(path, ending): path for path in _pictures(labels) if path.endswith(f"{ending}.png")}
    ours = {labels / path for path in maps.values()}  # both may lie in one folder
    photographs = [path for path in _pictures(images) if images / path not in ours]
    pairs = {}
    for path in photographs:
        key = _key(path)
        if key in pairs:
            raise DataError(f"{images}: {path} and {pairs[key][0]} want the same label; remove one of them")
        if key in maps:
            pairs[key] = (path, maps[key])
    if not pairs:
        first = [(sorted(names) or ["none"])[0] for names in (photographs, _pictures(labels))]
        raise DataError(
            f"no image in {images} has a label in {labels} (the first are {first[0]} and {first[1]}); "
            "name alike what belongs together, or say how labels end (`--ending _mask`)"
        )
    return [pairs[key] for key in sorted(pairs)], len(photographs) - len(pairs), len(maps) - len(pairs)


def _pictures(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*.*") if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    return [path.relative_to(folder).as_posix() for path in found]


def _key(path: str, ending: str = "") -> str:
    return path.rpartition(".")[0].removesuffix(ending)


def split_pairs(pairs: Pairs, share: float) -> tuple[Pairs, Pairs]:
    """Training and validation pairs; the latter get `share`, one at least, by a shuffle that is always the same.

    Raises:
        DataError: a single pair.
    """
    if len(pairs) < 2:
        raise DataError(f"{pairs[0][0]}: one pair alone cannot be split into training and validation")
    order = np.random.default_rng(0).permutation(len(pairs)).tolist()
    number = min(max(round(len(pairs) * share), 1), len(pairs) - 1)
    return [pairs[i] for i in sorted(order[number:])], [pairs[i] for i in sorted(order[:number])]


def draft_table(name: str, paths: Sequence[Path]) -> LabelTable:
    """A table with a class for every value that occurs in these label maps; 255 is ignored. Names are for its owner.

    Raises:
        DataError: a map that cannot be read or has no single 8-bit channel, or nothing but 255.
    """
    found = set().union(*(np.unique(read_label_ids(path)).tolist() for path in track(paths, "look at labels")))
    if not found - {IGNORE}:
        raise DataError(f"{paths[0].parent}: the labels hold nothing but 255, which means ignored")
    entries = [Label(i, train_id, f"class {i}", _color(i)) for train_id, i in enumerate(sorted(found - {IGNORE}))]
    return LabelTable(name, (*entries, Label(IGNORE, IGNORE, "ignored", (0, 0, 0))))


def _color(index: int) -> tuple[int, int, int]:
    """Pascal VOC's scheme, in which neighbouring ids get colours that are far apart."""
    bits = [(index + 1) >> 3 * place for place in range(3)]
    return tuple(sum((b >> channel & 1) << 7 - place for place, b in enumerate(bits)) for channel in range(3))


def measure_statistics(paths: Iterable[Path]) -> Statistics:
    """Mean and standard deviation of RGB in 0 … 1 over all pixels of these photographs, to four digits."""
    number, total, squares = 0, np.zeros(3), np.zeros(3)
    for path in paths:
        counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(read_image(path), 2, 0)]
        number += int(counts[0].sum())
        total += [count @ np.arange(256) for count in counts]
        squares += [count @ np.arange(256) ** 2 for count in counts]
    mean = total / number
    std = np.sqrt(squares / number - mean**2)
    return Statistics(*(tuple(round(float(value) / 255, 4) for value in values) for values in (mean, std)))
