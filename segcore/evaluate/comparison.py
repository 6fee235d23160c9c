"""Whether two evaluations of the same images can be told apart: the paired bootstrap of the difference in mIoU.

Both are resampled with the same draws, so that what makes an image hard for both cancels out. The verdict is about
these two sets of weights on images like these; whether one recipe beats another also takes several seeds of each.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcore.errors import DataError
from segcore.evaluate.uncertainty import Counts, interval, mean_iou, resampled_iou

VERDICTS = {True: "distinguishable", False: "not distinguishable"}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation left in a folder: names of images and classes, and the counts of each mode."""

    folder: Path
    images: tuple[str, ...]
    classes: tuple[str, ...]
    counts: dict[str, Counts]

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """Reads a folder with `images.npz` and `<mode>.json`; a file in it stands for the folder.

        Raises:
            DataError: a file is missing or damaged.
        """
        folder = Path(path) if Path(path).is_dir() else Path(path).parent
        if not Path(path).exists():
            raise DataError(f"{path}: no such folder or file; `segcore evaluate` writes an evaluation")
        try:
            with np.load(folder / "images.npz", allow_pickle=False) as arrays:
                images = tuple(arrays["names"].tolist())
                modes = [key.removesuffix("_tp") for key in arrays if key.endswith("_tp")]
                counts = {m: Counts(*(arrays[f"{m}_{kind}"] for kind in ("tp", "fp", "fn"))) for m in modes}
            classes = tuple(json.loads((folder / f"{modes[0]}.json").read_text(encoding="utf-8"))["iou"])
        except OSError as error:
            raise DataError(f"{path}: no evaluation there ({error.filename}: {error.strerror})") from None
        except (ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise DataError(f"{folder}: the evaluation is damaged ({error}); evaluate again") from None
        return cls(folder, images, classes, counts)


@dataclass(frozen=True)
class Difference:
    """B less A of one number, with the interval of the difference; None where a side does not have it."""

    name: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str | None:
        """`distinguishable` if the interval leaves 0 out; None without an interval."""
        return None if self.interval is None else VERDICTS[self.interval[0] > 0 or self.interval[1] < 0]


def common_modes(a: Evaluation, b: Evaluation) -> list[str]:
    """The modes of both, in A's order; DataError if there is none."""
    modes = [mode for mode in a.counts if mode in b.counts]
    if not modes:
        have = [f"{side.folder} has {', '.join(side.counts)}" for side in (a, b)]
        raise DataError(f"no mode was scored in both: {'; '.join(have)}")
    return modes


def compare(a: Evaluation, b: Evaluation, mode: str) -> list[Difference]:
    """mIoU first, then the IoU of each class.

    Raises:
        DataError: a side lacks the mode, images, classes or labels differ, or there is only one image.
    """
    for side in (a, b):
        if mode not in side.counts:
            raise DataError(f"{side.folder}: mode {mode!r} was not scored there, only {', '.join(side.counts)}")
    counts = a.counts[mode], _aligned(a, b, mode)
    classes = [(c.iou(), resampled_iou(c)) for c in counts]
    means = [(mean_iou(values), mean_iou(resamples)) for values, resamples in classes]
    rows = [_difference("mIoU", *means)]
    for k, name in enumerate(a.classes):
        rows.append(_difference(name, *((values[k], resamples[:, k]) for values, resamples in classes)))
    return rows


def _difference(name: str, a: tuple[float, np.ndarray], b: tuple[float, np.ndarray]) -> Difference:
    values = [None if np.isnan(side[0]) else float(side[0]) for side in (a, b)]
    if None in values:
        return Difference(name, *values, None, None)
    low, high = interval(b[1] - a[1]).tolist()
    return Difference(name, *values, values[1] - values[0], (low, high))


def _aligned(a: Evaluation, b: Evaluation, mode: str) -> Counts:
    """B's counts in A's order of images, of which everything is known to be the same."""
    _refuse_different("class", a, b, a.classes, b.classes)
    _refuse_different("image", a, b, sorted(a.images), sorted(b.images))
    if len(a.images) < 2:
        raise DataError(f"{a.folder}: one image cannot be resampled; compare on a longer list")
    order = [b.images.index(name) for name in a.images]
    theirs, ours = Counts(*(part[order] for part in vars(b.counts[mode]).values())), a.counts[mode]
    other = np.argwhere(ours.tp + ours.fn != theirs.tp + theirs.fn)
    if len(other):
        image, k = other[0]
        pixels = [int((side.tp + side.fn)[image, k]) for side in (ours, theirs)]
        raise DataError(
            f"the labels differ: {a.images[image]} has {pixels[0]} pixels of {a.classes[k]!r} in {a.folder} and "
            f"{pixels[1]} in {b.folder}; evaluate both against the same labels"
        )
    return theirs


def _refuse_different(kind: str, a: Evaluation, b: Evaluation, ours: Sequence[str], theirs: Sequence[str]) -> None:
    if list(ours) == list(theirs):
        return
    for names, others, side, other in ((ours, theirs, a, b), (theirs, ours, b, a)):
        alone = [name for name in names if name not in set(others)]
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise DataError(
                f"the {kind} lists differ: {alone[0]!r}{more} is in {side.folder} but not in {other.folder}"
            )
    raise DataError(f"{a.folder} and {b.folder} have the same {kind} names in another order; use one label table")
