"""Where a score is lost: the worst images, the costliest confusions, small objects, and pixels near class boundaries.

    worst_images.csv        the images with the lowest mIoU of their own
    confusions.csv          what was taken for what, how often, and what mIoU would gain without it
    object_size.csv         IoU of small, medium and large objects of each class
    boundary_distance.csv   mIoU of the pixels at each distance from the next class

An object is an 8-connected component of a class in the label: touching cars are one. It is small up to 0.1 % of the
image's pixels, medium up to 1 %, large beyond. Its true positives and false negatives are its own; which object a false
positive belongs to nobody can say, so each image's false positives of a class are shared among that class's objects
there in proportion to their area (as in Wang et al., NeurIPS 2023, arXiv 2310.19252); those of an image without the
class belong to none and are left out. The distance of a pixel is 1 where two classes of the label touch, and one more
for every step from there in any of eight directions; ignored pixels and the image's end are no boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from segcore.data.labels import IGNORE
from segcore.evaluate import confusion
from segcore.evaluate.uncertainty import Counts
from segcore.files import write_csv

SIZES = ("small", "medium", "large")
SIZE_LIMITS = (0.001, 0.01)  # shares of the image
BAND_ENDS = (1, 2, 4, 8, 16)  # last distance of each band in pixels; one more band lies beyond
WORST = 20
COSTLIEST = 15
MEAN = "(mean)"
_BAND_OF = np.searchsorted(BAND_ENDS, np.arange(256)).astype(np.uint8)


@dataclass(frozen=True)
class Scene:
    """What a label says of itself, found once for all modes.

    Attributes:
        label: uint8 H×W of train ids, 255 = ignored.
        band: uint8 H×W, which band of distances to the nearest boundary a pixel is in.
        place: int32 H×W, the number of the object a pixel belongs to, 0 where ignored.
        classes: int64 K+1, the class of each object (that of number 0 is meaningless, as below).
        area: int64 K+1, in pixels.
        size: int64 K+1, index into SIZES.
    """

    label: np.ndarray
    band: np.ndarray
    place: np.ndarray
    classes: np.ndarray
    area: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, label: np.ndarray) -> Scene:
        """Looks at one uint8 H×W label."""
        place, classes = np.zeros(label.shape, np.int32), [0]
        for number in np.flatnonzero(np.bincount(label.ravel(), minlength=256)[:IGNORE]).tolist():
            mask = label == number
            count, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
            np.copyto(place, parts + (len(classes) - 1), where=mask)
            classes += [number] * (count - 1)
        area = np.bincount(place.ravel(), minlength=len(classes))
        size = np.searchsorted(np.array(SIZE_LIMITS) * label.size, area)
        return cls(label, distance_band(label), place, np.array(classes), area, size)


def distance_band(label: np.ndarray) -> np.ndarray:
    """uint8 H×W of train ids -> uint8 H×W: index of the band (see BAND_ENDS) of each pixel's distance."""
    square, ignored = np.ones((3, 3), np.uint8), label == IGNORE
    # Ignored pixels must neither be the lowest nor the highest class of a neighbourhood.
    outline = cv2.erode(label, square) != cv2.dilate(np.where(ignored, np.uint8(0), label), square)
    inside = np.where(outline & ~ignored, np.uint8(0), np.uint8(1))
    beyond = cv2.distanceTransform(inside, cv2.DIST_C, 3)
    return _BAND_OF[np.minimum(beyond + 1, 255).astype(np.uint8)]


class Insight:
    """Counts of one mode over the images of a list: `bands` int64 B×C×C, objects' numbers float64 3×C each."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.bands = np.zeros((len(BAND_ENDS) + 1, num_classes, num_classes), np.int64)
        self.objects, self.area, self.correct, self.false = np.zeros((4, len(SIZES), num_classes))

    def add(self, scene: Scene, prediction: np.ndarray) -> None:
        """Counts one image; `prediction` is uint8 H×W of train ids."""
        counted = scene.label != IGNORE
        cells = scene.band[counted].astype(np.int64)
        for classes in (scene.label, prediction):
            cells = cells * self.num_classes + classes[counted]
        bands = np.bincount(cells, minlength=self.bands.size).reshape(self.bands.shape)
        self.bands += bands
        self._add_objects(scene, prediction, confusion.hits(bands.sum(0))[1])

    def _add_objects(self, scene: Scene, prediction: np.ndarray, false: np.ndarray) -> None:
        correct = np.bincount(scene.place[scene.label == prediction], minlength=len(scene.area))[1:]
        classes, area = scene.classes[1:], scene.area[1:]
        share = area / np.bincount(classes, area, self.num_classes)[classes]
        cells = scene.size[1:] * self.num_classes + classes
        values = (np.ones(len(area)), area, correct, false[classes] * share)
        for total, value in zip((self.objects, self.area, self.correct, self.false), values, strict=True):
            total += np.bincount(cells, value, total.size).reshape(total.shape)


def write_insight(
    folder: Path,
    insights: Mapping[str, Insight],
    counts: Mapping[str, Counts],
    images: Sequence[str],
    names: Sequence[str],
) -> None:
    """Writes the four tables; fractions are in 0 … 1 with 6 decimals.

    Args:
        folder: where to.
        insights: by mode.
        counts: by mode, per image.
        images: names of the images.
        names: names of the classes.
    """
    tables = {
        "worst_images": ("mode,rank,image,miou,pixel_accuracy", lambda m: _worst_images(counts[m], images)),
        "confusions": (
            "mode,label,predicted,pixels,share,miou_gain",
            lambda m: costliest_confusions(insights[m].bands.sum(0), names),
        ),
        "object_size": ("mode,class,size,objects,pixels,recall,iou", lambda m: _object_sizes(insights[m], names)),
        "boundary_distance": (
            "mode,from_px,to_px,pixels,accuracy,miou,classes_averaged",
            lambda m: _boundary_distances(insights[m]),
        ),
    }
    for name, (header, rows) in tables.items():
        lines = ((mode, *map(_plain, row)) for mode in insights for row in rows(mode))
        write_csv(Path(folder) / f"{name}.csv", header.split(","), lines)


def _worst_images(counts: Counts, images: Sequence[str]) -> Iterator[tuple]:
    """From the worst on; images without a scored pixel are left out."""
    values = counts.image_miou()
    order = np.argsort(values, kind="stable")
    for rank, index in enumerate(order[~np.isnan(values[order])][:WORST].tolist(), 1):
        correct, labelled = counts.tp[index].sum(), (counts.tp[index] + counts.fn[index]).sum()
        yield rank, images[index], float(values[index]), float(correct / labelled)


def costliest_confusions(matrix: np.ndarray, names: Sequence[str]) -> Iterator[tuple]:
    """The pairs that cost most pixels and those that cost most mIoU, by what mIoU would gain."""
    gains, pixels = miou_gains(matrix), matrix.copy()
    np.fill_diagonal(pixels, 0)
    order = {int(i) for values in (gains, pixels) for i in np.argsort(-values, axis=None, kind="stable")[:COSTLIEST]}
    for index in sorted(order, key=lambda i: (-gains.flat[i], i)):
        label, predicted = divmod(index, len(names))
        if pixels.flat[index]:
            count = int(pixels.flat[index])
            yield names[label], names[predicted], count, float(count / matrix.sum()), float(gains.flat[index])


def miou_gains(matrix: np.ndarray) -> np.ndarray:
    """What mIoU would gain if the pixels of one confusion (row label, column prediction) were right, float64 C×C.

    A class that was there only by this confusion would then be absent, and so leave the mean.
    """
    correct, false, missed = confusion.hits(matrix)
    union, iou = correct + false + missed, np.nan_to_num(confusion.iou(matrix))
    rest = union[None, :] - matrix
    label_iou = np.divide(correct[:, None] + matrix, union[:, None], out=np.zeros(matrix.shape), where=matrix > 0)
    other_iou = np.divide(correct[None, :], rest, out=np.zeros(matrix.shape), where=rest > 0)
    classes = (union > 0).sum() - ((rest == 0) & (matrix > 0))
    total = iou.sum() - iou[:, None] - iou[None, :] + label_iou + other_iou
    gains = total / np.maximum(classes, 1) - confusion.miou(matrix)[0]
    gains[(matrix == 0) | np.eye(len(matrix), dtype=bool)] = 0
    return gains


def _object_sizes(insight: Insight, names: Sequence[str]) -> Iterator[tuple]:
    """One row for each class and size that occur, and each size's mean over its classes."""
    with np.errstate(invalid="ignore"):
        recall = insight.correct / insight.area
        iou = insight.correct / (insight.area + insight.false)
    for size, total in enumerate(zip(insight.objects, insight.area, recall, iou, strict=True)):
        present = np.flatnonzero(total[0])
        for index in present:
            objects, area, *scores = (values[index] for values in total)
            yield names[index], SIZES[size], int(objects), int(area), *map(float, scores)
        if present.size:
            means = (float(confusion.mean(values)) for values in total[2:])
            yield MEAN, SIZES[size], int(total[0].sum()), int(total[1].sum()), *means


def _boundary_distances(insight: Insight) -> Iterator[tuple]:
    """One row for each band with pixels; the last one has no end."""
    for first, last, matrix in zip((0, *BAND_ENDS), (*BAND_ENDS, ""), insight.bands, strict=True):
        if matrix.any():
            yield first + 1, last, int(matrix.sum()), confusion.pixel_accuracy(matrix), *confusion.miou(matrix)


def _plain(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value
