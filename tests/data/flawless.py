"""A little data set in which `inspect` finds nothing, and how to damage it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segcore.data.datasets import Samples
from segcore.data.inspect import Finding, Report, inspect
from segcore.data.labels import Label, LabelTable
from segcore.data.statistics import Statistics

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
MINE = LabelTable(
    "mine", tuple(Label(k, k, f"class {k}", COLORS[k]) for k in range(3)) + (Label(255, 255, "v", (0, 0, 0)),)
)
SIZE = (32, 48)


class Data:
    """Six training and three validation pairs without a flaw, and how to damage them."""

    def __init__(self, folder: Path, labels: LabelTable = MINE) -> None:
        self.folder, self.labels = folder, labels
        self.pairs = {
            split: [(f"{split}/{i}.png", f"{split}_labels/{i}.png") for i in range(count)]
            for split, count in (("train", 6), ("val", 3))
        }
        for k, (image, label) in enumerate(self.pairs["train"] + self.pairs["val"]):
            rng = np.random.default_rng(k)
            coarse = rng.integers(0, 255, (4, 6, 3)).astype(np.uint8)
            self.put(image, cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
            ids = rng.integers(0, 3, (4, 6)).astype(np.uint8)
            self.put(label, cv2.resize(ids, SIZE[::-1], interpolation=cv2.INTER_NEAREST))

    def put(self, name: str, pixels: np.ndarray, **options: object) -> None:
        """Writes a picture under `name`, of the format its suffix says."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(self.folder / name, **options)

    def pixels(self, name: str) -> np.ndarray:
        return np.array(Image.open(self.folder / name))

    def map_labels(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Replaces every label by what `change` makes of it."""
        for _, label in self.pairs["train"] + self.pairs["val"]:
            self.put(label, np.asarray(change(self.pixels(label)), np.uint8))

    def lists(self) -> dict[str, Samples]:
        return {split: Samples(pairs, self.folder, self.labels) for split, pairs in self.pairs.items()}

    def inspect(self, expected: Statistics | None = None, thorough: bool = False) -> Report:
        return inspect(self.lists(), expected, thorough)

    def only(self, level: str, what: str) -> Finding:
        """The one finding there is; it has that level and those words."""
        findings = self.inspect().findings
        assert [finding.level for finding in findings] == [level], findings
        assert what in findings[0].what, findings[0].what
        return findings[0]
