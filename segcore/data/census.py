"""Counts over label maps: pixels and images of every class, and the most frequent class of every place."""

from __future__ import annotations

import math
from collections import Counter

import cv2
import numpy as np

from segcore.data.labels import IGNORE, LabelTable

# Counters of the map of places, classes times pixels; 19 classes at 1024×2048 are 40 million.
MOST_COUNTERS = 2**27
_FULL = 255  # images after which the one-byte counters overflow


def count_values(picture: np.ndarray, channel: int = 0) -> np.ndarray:
    """How often each value occurs in one channel of a uint8 H×W or H×W×C array: int64, 256 numbers.

    Three times as fast as `np.bincount`. OpenCV hands its counts over as float32, exact up to 2²⁴, hence the strips.
    """
    rows = max(1, 2**24 // max(picture.shape[1], 1))
    strips = (picture[top : top + rows] for top in range(0, picture.shape[0], rows))
    counts = (cv2.calcHist([strip], [channel], None, [256], [0, 256]).ravel() for strip in strips)
    return sum((count.astype(np.int64) for count in counts), np.zeros(256, np.int64))


class Census:
    """Counts classes over label maps, in all and (with `keep_map`) at every place of the first map's size."""

    def __init__(self, num_classes: int, keep_map: bool) -> None:
        self.num_classes, self.keep_map = num_classes, keep_map
        self.images = 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.present = np.zeros(num_classes, np.int64)
        self.ignored = 0
        self.sizes: Counter[str] = Counter()
        self._places: np.ndarray | None = None  # C×H×W
        self._fresh: np.ndarray | None = None  # the same of the last images, in bytes
        self._since = 0

    def add(self, label: np.ndarray) -> None:
        """Counts one uint8 H×W map of train ids."""
        counts = count_values(label)
        self.images += 1
        self.pixels += counts[: self.num_classes]
        self.present += counts[: self.num_classes] > 0
        self.ignored += int(counts[IGNORE])
        self.sizes["×".join(map(str, label.shape))] += 1
        if self.keep_map:
            self._add_places(label, np.flatnonzero(counts[: self.num_classes]))

    def _add_places(self, label: np.ndarray, classes: np.ndarray) -> None:
        if self._places is None:
            # Larger maps than memory likes are counted at a reduced size; the result is resized for use anyway.
            step = max(1, math.ceil(math.sqrt(self.num_classes * label.size / MOST_COUNTERS)))
            shape = (self.num_classes, *(math.ceil(side / step) for side in label.shape))
            self._places, self._fresh = np.zeros(shape, np.uint32), np.zeros(shape, np.uint8)
        height, width = self._places.shape[1:]
        if label.shape != (height, width):
            label = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
        for k in classes.tolist():  # less 255 is plus 1
            np.subtract(self._fresh[k], cv2.compare(label, k, cv2.CMP_EQ), out=self._fresh[k])
        self._since += 1
        if self._since == _FULL:
            self._carry()

    def _carry(self) -> None:
        self._places += self._fresh
        self._fresh[:] = 0
        self._since = 0

    def majority(self) -> np.ndarray:
        """uint8 H×W: the most frequent train id of every place; ties go to the lower id."""
        self._carry()
        return self._places.argmax(0).astype(np.uint8)

    def summary(self, labels: LabelTable) -> dict[str, object]:
        """Plain numbers: images, sizes, share of ignored pixels, and per class its pixels and images."""
        total = int(self.pixels.sum()) + self.ignored
        classes = zip(labels.names, self.pixels.tolist(), self.present.tolist(), strict=True)
        return {
            "images": self.images,
            "sizes": dict(self.sizes),
            "ignored": round(self.ignored / max(total, 1), 6),
            "classes": {name: {"pixels": pixels, "images": images} for name, pixels, images in classes},
        }
