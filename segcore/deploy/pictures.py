"""Pictures for a benchmark: what engines are compared, calibrated and scored on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from segcore.data.datasets import Samples
from segcore.data.transforms import normalise
from segcore.deploy.parity import fitted


@dataclass(frozen=True)
class Pictures:
    """uint8 H×W×3 RGB pictures by purpose.

    Args:
        photographs: class maps are compared on all of them, and the first ones are timed; real ones, for on noise every
            class map is rounding.
        training: int8 is calibrated on them.
        samples: every engine is scored on them; None: on none.
        why: there are none.
    """

    photographs: Sequence[np.ndarray]
    training: Sequence[np.ndarray] = ()
    samples: Samples | None = None
    why: str = "no list to score on"


def batches(
    photographs: Sequence[np.ndarray], size: tuple[int, int], batch: int, mean: Sequence[float], std: Sequence[float]
) -> list[Tensor]:
    """float32 batch×3×H×W each, together every photograph; the last one is filled up from the first photographs."""
    images = [normalise(fitted(photograph, size), mean, std) for photograph in photographs]
    filled = list(itertools.islice(itertools.cycle(images), math.ceil(len(images) / batch) * batch))
    return list(torch.from_numpy(np.stack(filled)).split(batch)) if filled else []


def to_png(photograph: np.ndarray) -> np.ndarray:
    """The picture as the bytes of a file."""
    return cv2.imencode(".png", photograph[..., ::-1])[1]


def from_png(
    encoded: Sequence[np.ndarray],
    classify: Callable[[Tensor], np.ndarray],
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
) -> list[np.ndarray]:
    """Everything from the bytes of pictures to their class maps at the pictures' own sizes.

    Args:
        encoded: files in memory.
        classify: float32 N×3×H×W normalised RGB -> classes N×H×W.
        size: H and W that it takes.
        mean, std: per channel, of RGB in 0 … 1.
    """
    decoded = [cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1] for content in encoded]
    classes = classify(batches(decoded, size, len(decoded), mean, std)[0])
    return [
        cv2.resize(found.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        for found, picture in zip(classes, decoded, strict=True)
    ]
