"""From a photograph and its label map to what the net sees: scaling, cropping, flipping, colour, normalisation.

Follows the current transform of CoinCheung/BiSeNet (section 5.3 of its description): uint8 RGB until the last step,
every colour step truncated to uint8. Random numbers come from the generator that is passed in, one per sample, in the
reference's order: scale, row, column, flip, brightness, contrast, saturation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from segcore.data.labels import IGNORE

# The reference turns contrast around this constant, not around the image's own mean.
CONTRAST_PIVOT = 74


def augment(
    image: np.ndarray,
    label: np.ndarray,
    crop: tuple[int, int],
    scales: tuple[float, float],
    jitter: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """One training sample.

    Args:
        image: uint8 H×W×3 RGB.
        label: uint8 H×W of train ids.
        crop: height and width of the result.
        scales: smallest and largest scale factor.
        jitter: brightness, contrast and saturation factors are drawn from [1 - jitter, 1 + jitter].
        rng: this sample's own generator.

    Returns:
        uint8 image and label of size `crop`; padding is black in the image and 255 in the label.
    """
    image, label = rescale(image, label, rng.uniform(*scales))
    image, label = random_crop(image, label, crop, rng)
    if rng.random() >= 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    if jitter:
        image = brightness(image, rng.uniform(1 - jitter, 1 + jitter))
        image = contrast(image, rng.uniform(1 - jitter, 1 + jitter))
        image = saturation(image, rng.uniform(1 - jitter, 1 + jitter))
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def rescale(image: np.ndarray, label: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Resizes both to ceil(scale·side): the image bilinear, the label nearest."""
    height, width = (math.ceil(side * scale) for side in label.shape)
    if (height, width) == label.shape:
        return image, label
    return (
        cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR),
        cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST),
    )


def random_crop(
    image: np.ndarray, label: np.ndarray, crop: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window of size `crop`; a side that is too short is padded on both ends by (crop - side)//2 + 1 first."""
    if label.shape == crop:
        return image, label
    pads = [(c - side) // 2 + 1 if side < c else 0 for side, c in zip(label.shape, crop, strict=True)]
    if any(pads):
        top, left = pads
        image = cv2.copyMakeBorder(image, top, top, left, left, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        label = cv2.copyMakeBorder(label, top, top, left, left, cv2.BORDER_CONSTANT, value=IGNORE)
    # As in the reference the very last offset is never taken.
    row, column = (int(rng.random() * (side - c)) for side, c in zip(label.shape, crop, strict=True))
    window = (slice(row, row + crop[0]), slice(column, column + crop[1]))
    return image[window], label[window]


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """x -> factor·x, clipped and truncated to uint8."""
    return _curve(image, np.arange(256) * factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """x -> 74 + factor·(x - 74), clipped and truncated to uint8."""
    return _curve(image, CONTRAST_PIVOT + factor * (np.arange(256) - CONTRAST_PIVOT))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Each channel -> factor·x + (1 - factor)·plain mean of the three, clipped and truncated to uint8.

    A float32 3×3 product divided by 3, as the reference computes it: (200,100,50) at 1.3 gives 29 in the last
    channel where real arithmetic gives 30.
    """
    mix = np.full((3, 3), 1 - factor, np.float32)
    np.fill_diagonal(mix, 1 + 2 * factor)
    return np.clip(image.reshape(-1, 3) @ mix / 3, 0, 255).astype(np.uint8).reshape(image.shape)


def _curve(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)[image]


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 H×W×3 RGB -> float32 3×H×W, (x/255 - mean) / std."""
    scaled = (image.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))
