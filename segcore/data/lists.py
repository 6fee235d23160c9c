"""From the files of a data set to training and validation lists that have been looked at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from segcore.data.datasets import Samples, write_list
from segcore.data.inspect import Report, inspect
from segcore.data.labels import LabelTable
from segcore.data.layouts import Pairs
from segcore.data.statistics import Statistics
from segcore.files import atomic_write, write_json


def write_lists(
    out: Path,
    pairs: dict[str, Pairs],
    labels: LabelTable,
    folder: Path,
    root: str,
    workers: int = 2,
    expected: Statistics | None = None,
) -> Report:
    """Inspects the data and writes the lists with what belongs beside them.

    `out` gets `<split>.csv`, `trainval.csv`, `labels.csv`, `root`, `statistics.json` (pixels per class and split),
    `inspection.json` (what there is to say of the data) and `majority.png`, the most frequent train id at every place
    over the training labels: the best prediction that ignores the image, and so the score to beat.

    Args:
        out: folder to write to.
        pairs: see `segcore.data.layouts.find_pairs`.
        labels: the label table.
        folder: where the images are on this machine.
        root: what the file `root` shall say.
        workers: threads that read.
        expected: mean and deviation that photographs will be normalised with.

    Raises:
        DataError: the first of the inspection's errors; then nothing is written.
    """
    # Everything is looked at before anything is written.
    report = inspect(
        {split: Samples(found, folder, labels) for split, found in pairs.items()}, expected, False, workers
    )
    report.refuse_errors(f"`segcore inspect {folder}` lists all")
    censuses = {name: split.census for name, split in report.survey.splits.items()}
    for split, found in pairs.items():
        write_list(out / f"{split}.csv", found)
    write_list(out / "trainval.csv", pairs["train"] + pairs["val"])
    labels.write_csv(out / "labels.csv")
    write_json(out / "statistics.json", {split: census.summary(labels) for split, census in censuses.items()})
    write_json(out / "inspection.json", report.to_dict())
    _write_png(out / "majority.png", censuses["train"].majority())
    with atomic_write(out / "root") as temporary:
        temporary.write_text(f"{root}\n", encoding="utf-8")
    return report


def _write_png(path: Path, image: np.ndarray) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1].tobytes())
