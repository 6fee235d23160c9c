"""From predicted label maps to the metrics files.

`<mode>.json` holds the protocol, the scores, the IoU per class and the confusion matrix; `images.npz` the counts per
image and class, from which two evaluations can be compared image by image. Neither holds anything that changes from
run to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from segcore.data.datasets import Samples, read_label_ids
from segcore.errors import DataError
from segcore.evaluate import confusion
from segcore.evaluate.modes import Mode
from segcore.evaluate.predictions import prediction_path, read_prediction
from segcore.files import atomic_write, write_json

MAJORITY = "majority"


def score(samples: Samples, modes: Sequence[Mode], folder: Path, out: Path) -> dict[str, dict]:
    """Scores the predictions in `folder` against the labels.

    Args:
        samples: the labels.
        modes: what was predicted.
        folder: as `predict_missing` left it.
        out: gets `<mode>.json` for each mode, and `images.npz`.

    Returns:
        The content of each JSON file by mode.

    Raises:
        DataError: a prediction of another size than its label, or labels without a pixel that counts.
    """
    classes = samples.labels.num_classes
    totals = {mode.name: np.zeros((classes, classes), np.int64) for mode in modes}
    rows: dict[str, list[np.ndarray]] = {f"{m.name}_{kind}": [] for m in modes for kind in ("tp", "fp", "fn")}
    for i, name in enumerate(samples.names):
        label = samples.label(i)
        for mode in modes:
            path = prediction_path(folder, mode, name)
            matrix = confusion.confusion_matrix(label, read_prediction(path), classes, where=str(path))
            totals[mode.name] += matrix
            for kind, counts in zip(("tp", "fp", "fn"), confusion.hits(matrix), strict=True):
                rows[f"{mode.name}_{kind}"].append(counts)
    reports = {mode.name: report(mode.name, _protocol(mode), totals[mode.name], samples) for mode in modes}
    for name, content in reports.items():
        write_json(Path(out) / f"{name}.json", content)
    with atomic_write(Path(out) / "images.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, names=np.array(samples.names), **{key: np.stack(row) for key, row in rows.items()})
    return reports


def score_majority(majority: Path, samples: Samples, out: Path) -> dict:
    """Scores the best prediction that ignores the image: each pixel's majority label over the training list.

    Args:
        majority: uint8 H×W PNG of train ids; enlarged or reduced to each label's size by the nearest pixel.
        samples: the labels.
        out: gets `majority.json`, in the form of a mode's.
    """
    everywhere = read_label_ids(majority)
    total = np.zeros((samples.labels.num_classes,) * 2, np.int64)
    for i in range(len(samples)):
        label = samples.label(i)
        prediction = cv2.resize(everywhere, label.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        total += confusion.confusion_matrix(label, prediction, len(total), where=str(majority))
    content = report(MAJORITY, {"prediction": "majority label of each pixel over the training list"}, total, samples)
    write_json(Path(out) / f"{MAJORITY}.json", content)
    return content


def report(mode: str, protocol: dict, matrix: np.ndarray, samples: Samples) -> dict:
    """What a mode's JSON file holds; fractions are in 0 … 1, the IoU of an absent class is null.

    Raises:
        DataError: no pixel counts.
    """
    if not matrix.any():
        raise DataError(f"{samples.label_path(0)} and all other labels of the list hold ignored pixels only")
    value, averaged = confusion.miou(matrix)
    per_class = zip(samples.labels.names, confusion.iou(matrix).tolist(), strict=True)
    return {
        "mode": mode,
        "protocol": protocol,
        "miou": value,
        "classes_averaged": averaged,
        "pixel_accuracy": confusion.pixel_accuracy(matrix),
        "mean_accuracy": confusion.mean_accuracy(matrix),
        "frequency_weighted_iou": confusion.frequency_weighted_iou(matrix),
        "iou": {name: None if np.isnan(one) else one for name, one in per_class},
        "confusion": matrix.tolist(),
        "images": len(samples),
    }


def _protocol(mode: Mode) -> dict:
    """The mode's settings as JSON has them."""
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(mode).items()}
    settings.pop("name")
    return settings
