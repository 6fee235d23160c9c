"""The pictures an int8 file is calibrated on: training images, never those it will be scored on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.datasets import Samples, read_list
from segcore.data.labels import LabelTable
from segcore.data.transforms import normalise
from segcore.deploy.export import DeployGraph
from segcore.deploy.parity import fitted
from segcore.errors import DataError
from segcore.files import sha256
from segcore.progress import track

HELD_OUT = {"val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True)
class Calibration:
    """Training images, and which of them are taken.

    Args:
        path: the list.
        samples: what it names.
        seed: of the choice.
        count: images taken at most.
    """

    path: Path
    samples: Samples
    seed: int = 1
    count: int = 64

    def chosen(self) -> list[int]:
        """Their places in the list, in its order."""
        everything = np.random.default_rng(self.seed).permutation(len(self.samples))
        return sorted(everything[: self.count].tolist())

    def batches(self, graph: DeployGraph, size: tuple[int, int] | None, normalisation: dict) -> list[np.ndarray]:
        """The images as `graph` takes them, one a batch."""
        found = []
        for index in track(self.chosen(), "calibration images"):
            image = fitted(self.samples.image(index), size)
            if graph.takes == "float32":
                image = normalise(image, normalisation["mean"], normalisation["std"])
            found.append(image[None])
        return found

    def record(self) -> dict[str, Any]:
        """What the file says of it."""
        names = self.samples.names
        return {
            "list": self.path.name,
            "list_sha256": sha256(self.path),
            "seed": self.seed,
            "images": [names[index] for index in self.chosen()],
        }


def refuse_held_out(path: Path, samples: Samples, trained_on: str | None, labels: LabelTable) -> None:
    """Raises DataError if a list is known to hold images that the model is to be scored on.

    Known are a list that is named so, and one that shares images with a list beside it that is named so; the very list
    that the model was trained on (sha256 `trained_on`) passes.
    """
    if sha256(path) == trained_on:
        return
    if _held_out(path):
        raise DataError(
            f"{path}: is named as a list to score on; int8 is calibrated on training images, give their list"
        )
    mine = {samples.image_path(i) for i in range(len(samples))}
    for other in sorted(path.parent.glob("*.csv")):
        if _held_out(other):
            theirs = Samples(read_list(other), samples.root, labels)
            shared = [each for each in map(theirs.image_path, range(len(theirs))) if each in mine]
            if shared:
                raise DataError(
                    f"{path}: shares {len(shared)} images with {other.name}, {shared[0]} for one; "
                    "int8 is calibrated on training images that no score is made of"
                )


def _held_out(path: Path) -> bool:
    return not HELD_OUT.isdisjoint(re.split(r"[^a-z]+", path.stem.lower()))
