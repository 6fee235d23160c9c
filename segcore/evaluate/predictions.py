"""Predicted label maps on disk: one PNG per image and mode.

The files are at once the result, the progress and the way processes meet: what is there is finished, since a file
appears whole or not at all. A killed run goes on with what is missing; several processes share a list by taking every
n-th image, so each image is predicted once, whatever their number.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from segcore.data.datasets import Samples, read_label_ids
from segcore.data.transforms import normalise
from segcore.errors import SegcoreError
from segcore.evaluate.bands import classes as best_classes
from segcore.evaluate.engine import predict_together, short_side_scores
from segcore.evaluate.modes import Mode
from segcore.files import atomic_write
from segcore.progress import Progress

SECONDS_BETWEEN_LOOKS = 0.2


def prediction_path(folder: Path, mode: Mode, name: str) -> Path:
    """Where the prediction of image `name` lies."""
    return Path(folder) / mode.name / f"{name}.png"


def write_prediction(path: Path, classes: np.ndarray) -> None:
    """Writes uint8 H×W train ids as a PNG, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", classes)[1].tobytes())


def read_prediction(path: Path) -> np.ndarray:
    """uint8 H×W of train ids; raises DataError if the file is missing or damaged."""
    return read_label_ids(path)


def predict_missing(
    net: nn.Module,
    samples: Samples,
    modes: Sequence[Mode],
    mean: Sequence[float],
    std: Sequence[float],
    folder: Path,
    *,
    batch: int,
    device: torch.device | str,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Predicts those of the images rank, rank + world size, … of which `folder` lacks a mode.

    Args:
        net: in eval mode, on `device`.
        samples: images and labels; a prediction has its label's size.
        modes: all modes of an image are run together: it is decoded once, and they share forward passes.
        mean: of the RGB channels, range 0 … 1.
        std: likewise.
        folder: where the PNGs go.
        batch: images in one forward pass.
        device: where the net is.
        share: (rank, world size) of this process.
    """
    rank, world_size = share
    names, mine = samples.names, range(rank, len(samples), world_size)
    # An image is done in all modes or not at all: alone, a mode would share other forward passes and round otherwise.
    todo = [i for i in mine if not all(prediction_path(folder, mode, names[i]).exists() for mode in modes)]
    together = [mode for mode in modes if not mode.short_sides]
    count, done = samples.labels.num_classes, len(mine) - len(todo)
    with Progress("evaluate", len(mine), start=done, quiet=rank > 0) as progress:
        for i, (photograph, size) in read_ahead(samples, todo):
            image = torch.from_numpy(normalise(photograph, mean, std)).to(device)
            for mode, classes in predict_together(net, image, size, together, count, batch):
                write_prediction(prediction_path(folder, mode, names[i]), classes.cpu().numpy())
            for mode in (mode for mode in modes if mode.short_sides):
                classes = best_classes(short_side_scores(net, photograph, size, mode, count, mean, std, device))
                write_prediction(prediction_path(folder, mode, names[i]), classes.cpu().numpy())
            progress.advance(1, names[i].rpartition("/")[2])


def read_ahead(samples: Samples, indices: Sequence[int]) -> Iterator[tuple[int, tuple[np.ndarray, tuple[int, int]]]]:
    """Yields each index with its uint8 h×w×3 image and its label's size, reading the next while one is in use.

    Raises:
        DataError: an image or label cannot be read; when its turn has come, not before.
    """

    def read(index: int) -> tuple[np.ndarray, tuple[int, int]]:
        height, width = samples.label(index).shape
        return samples.image(index), (height, width)

    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(read, index) for index in indices[:1]]
        for index, following in zip_longest(indices, indices[1:]):
            found = coming.pop().result()
            if following is not None:
                coming.append(thread.submit(read, following))
            yield index, found


def await_predictions(samples: Samples, modes: Sequence[Mode], folder: Path, patience: float) -> None:
    """Returns when every prediction is there, whichever process makes it.

    Raises:
        SegcoreError: no new one appeared for `patience` seconds.
    """
    missing = [prediction_path(folder, mode, name) for name in samples.names for mode in modes]
    last = time.monotonic()
    while still := [path for path in missing if not path.exists()]:
        now = time.monotonic()
        if len(still) < len(missing):
            last = now
        elif now - last > patience:
            raise SegcoreError(
                f"{still[0]}: missing ({len(still)} predictions in all), and none appeared for {patience:g} s; "
                "another process has stopped: start again, finished images are kept"
            )
        missing = still
        time.sleep(SECONDS_BETWEEN_LOOKS)


def copy_predictions(samples: Samples, modes: Sequence[Mode], source: Path, target: Path) -> None:
    """Copies every prediction from folder to folder, each file atomically."""
    for mode in modes:
        for name in samples.names:
            with atomic_write(prediction_path(target, mode, name)) as temporary:
                shutil.copyfile(prediction_path(source, mode, name), temporary)
