"""From predicted label maps to the metrics files.

`<mode>.json` holds the protocol, which network was scored, the scores with their definitions, and the confusion
matrix; `images.npz` the counts per image and class, from which two evaluations can be compared image by image;
`insight/` where the score was lost.
None holds anything that changes from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from segcore.data.datasets import Samples, read_label_ids
from segcore.errors import DataError
from segcore.evaluate import confusion
from segcore.evaluate.boundary import boundary_counts
from segcore.evaluate.insight import Insight, Scene, write_insight
from segcore.evaluate.metrics import metrics
from segcore.evaluate.modes import Mode
from segcore.evaluate.predictions import prediction_path, read_prediction
from segcore.evaluate.uncertainty import Counts
from segcore.files import atomic_write, write_json

MAJORITY = "majority"


class Tally:
    """What is counted of one mode: `matrix` int64 C×C, `boundary` int64 2×C, and TP, FP, FN of each image."""

    def __init__(self, num_classes: int) -> None:
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.boundary = np.zeros((2, num_classes), np.int64)
        self._images: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, label: np.ndarray, prediction: np.ndarray, where: str) -> None:
        """Counts one image; arguments and errors as `confusion_matrix`."""
        classes = len(self.matrix)
        matrix = confusion.confusion_matrix(label, prediction, classes, where=where)
        self.matrix += matrix
        self.boundary += boundary_counts(label, prediction, classes)
        self._images.append(confusion.hits(matrix))

    @property
    def counts(self) -> Counts:
        """Per image, in the order in which they were added."""
        return Counts(*np.stack(self._images, 1))


def score(
    samples: Samples, modes: Sequence[Mode], folder: Path, out: Path, network: Mapping[str, str] | None = None
) -> dict[str, dict]:
    """Scores the predictions in `folder` against the labels.

    Args:
        samples: the labels.
        modes: what was predicted.
        folder: as `predict_missing` left it.
        out: gets `<mode>.json` for each mode, `images.npz`, and the tables of `insight/`.
        network: what is said of it: its file's sha256, backend, precision.

    Returns:
        The content of each JSON file by mode.

    Raises:
        DataError: a prediction of another size than its label, or labels without a pixel that counts.
    """
    classes = samples.labels.num_classes
    tallies = {mode.name: Tally(classes) for mode in modes}
    insights = {mode.name: Insight(classes) for mode in modes}
    for i, name in enumerate(samples.names):
        label = samples.label(i)
        scene = Scene.of(label)
        for mode in modes:
            path = prediction_path(folder, mode, name)
            prediction = read_prediction(path)
            tallies[mode.name].add(label, prediction, str(path))
            insights[mode.name].add(scene, prediction)
    counts = {name: tally.counts for name, tally in tallies.items()}
    about = {mode.name: {"protocol": _protocol(mode), "network": dict(network or {})} for mode in modes}
    reports = {name: report(name, said, tallies[name], samples) for name, said in about.items()}
    for name, content in reports.items():
        write_json(Path(out) / f"{name}.json", content)
    _write_counts(Path(out) / "images.npz", samples, counts)
    write_insight(Path(out) / "insight", insights, counts, samples.names, samples.labels.names)
    return reports


def _write_counts(path: Path, samples: Samples, counts: dict[str, Counts]) -> None:
    arrays = {f"{mode}_{kind}": part for mode, found in counts.items() for kind, part in vars(found).items()}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, names=np.array(samples.names), **arrays)


def score_majority(majority: Path, samples: Samples, out: Path) -> dict:
    """Scores the best prediction that ignores the image: each pixel's majority label over the training list.

    Args:
        majority: uint8 H×W PNG of train ids; enlarged or reduced to each label's size by the nearest pixel.
        samples: the labels.
        out: gets `majority.json`, in the form of a mode's.
    """
    everywhere, tally = read_label_ids(majority), Tally(samples.labels.num_classes)
    for i in range(len(samples)):
        label = samples.label(i)
        prediction = cv2.resize(everywhere, label.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        tally.add(label, prediction, str(majority))
    protocol = {"prediction": "majority label of each pixel over the training list"}
    content = report(MAJORITY, {"protocol": protocol}, tally, samples)
    write_json(Path(out) / f"{MAJORITY}.json", content)
    return content


def report(mode: str, about: dict, tally: Tally, samples: Samples) -> dict:
    """What a mode's JSON file holds: its name, `about` (protocol and network), and the numbers (`metrics.DEFINITIONS`).

    Raises:
        DataError: no pixel counts.
    """
    if not tally.matrix.any():
        raise DataError(f"{samples.label_path(0)} and all other labels of the list hold ignored pixels only")
    numbers = metrics(tally.matrix, tally.boundary, tally.counts, samples.labels)
    return {"mode": mode, **about, "images": len(samples), **numbers}


def _protocol(mode: Mode) -> dict:
    """The mode's settings as JSON has them."""
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(mode).items()}
    settings.pop("name")
    return settings
