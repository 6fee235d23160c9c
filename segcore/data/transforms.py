"""From a photograph and its label map to what the net sees: scaling, cropping, flipping, colour, normalisation.

Two published transforms, `bisenet` in this file and `stdc` in `segcore.data.transforms_stdc`. Random numbers come from
the generator that is passed in, one per sample. Pixels are uint8 RGB until the last step. Only what the crop shows is
ever scaled and coloured, with the result that scaling and colouring everything would have.

`bisenet` is the current transform of CoinCheung/BiSeNet (section 5.3 of its description): draws in the order scale,
row, column, flip, brightness, contrast, saturation; every colour step is truncated to uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from segcore.data.labels import IGNORE
from segcore.data.transforms_stdc import augment_stdc, draw_scale
from segcore.data.windows import upper_left

Published = Literal["bisenet", "stdc"]

# The reference turns contrast around this constant, not around the image's own mean.
CONTRAST_PIVOT = 74
# Pixels whose float32 values stay in a core's cache.
STRIP = 1 << 14


def augment(
    image: np.ndarray,
    label: np.ndarray,
    crop: tuple[int, int],
    scales: tuple[float, float],
    jitter: float,
    rng: np.random.Generator,
    transform: Published = "bisenet",
    scale_steps: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One training sample.

    Args:
        image: uint8 H×W×3 RGB.
        label: uint8 H×W of train ids.
        crop: height and width of the result.
        scales: smallest and largest scale factor.
        jitter: brightness, contrast and saturation factors are drawn from [1 - jitter, 1 + jitter].
        rng: this sample's own generator.
        transform: whose order and arithmetic.
        scale_steps: so many factors from the smallest to the largest, evenly spaced and equally likely; None: any
            factor between them.

    Returns:
        Image and label of size `crop`; padding is black in the image and 255 in the label.
    """
    if transform == "stdc":
        return augment_stdc(image, label, crop, scales, jitter, rng, scale_steps)
    image, label = scaled_crop(image, label, crop, draw_scale(scales, scale_steps, rng), rng)
    if rng.random() >= 0.5:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    if jitter:
        factors = [rng.uniform(1 - jitter, 1 + jitter) for _ in range(3)]
        image = saturation(cv2.LUT(np.ascontiguousarray(image), colour_curve(*factors[:2])), factors[2])
    return np.require(image, requirements=["C", "W"]), np.require(label, requirements=["C", "W"])


def scaled_crop(
    image: np.ndarray, label: np.ndarray, crop: tuple[int, int], scale: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A window of size `crop` of both scaled to ceil(scale·side), the image bilinear, the label nearest.

    A side that is then too short is padded on both ends by (crop - side)//2 + 1, before the window is placed.
    """
    size = tuple(math.ceil(side * scale) for side in label.shape)
    pads = [(c - side) // 2 + 1 if side < c else 0 for side, c in zip(size, crop, strict=True)]
    # As in the reference the very last offset is never taken, and none is drawn where there is no choice at all.
    room = [side + 2 * pad - c for side, pad, c in zip(size, pads, crop, strict=True)]
    first = [int(rng.random() * n) - pad for n, pad in zip(room, pads, strict=True)] if size != crop else [0, 0]
    end = [min(at + c, side) for at, c, side in zip(first, crop, size, strict=True)]
    window = tuple(slice(max(at, 0), None) for at in first)
    place = tuple(slice(max(-at, 0), stop - at) for at, stop in zip(first, end, strict=True))
    return (
        _placed(upper_left(image, size, end, cv2.INTER_LINEAR)[window], crop, place, 0),
        _placed(upper_left(label, size, end, cv2.INTER_NEAREST)[window], crop, place, IGNORE),
    )


def _placed(window: np.ndarray, crop: tuple[int, int], place: tuple[slice, slice], around: int) -> np.ndarray:
    if window.shape[:2] == crop:
        return window
    result = np.full((*crop, *window.shape[2:]), around, np.uint8)
    result[place] = window
    return result


def colour_curve(brightness: float, contrast: float) -> np.ndarray:
    """uint8 256: x -> b·x, then x -> 74 + c·(x - 74), each clipped and truncated to uint8."""
    brighter = np.clip(np.arange(256) * brightness, 0, 255).astype(np.uint8)
    steeper = np.clip(CONTRAST_PIVOT + contrast * (np.arange(256) - CONTRAST_PIVOT), 0, 255).astype(np.uint8)
    return steeper[brighter]


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Each channel -> factor·x + (1 - factor)·plain mean of the three, clipped and truncated to uint8.

    A float32 3×3 product divided by 3, as the reference computes it: (200,100,50) at 1.3 gives 29 in the last
    channel where real arithmetic gives 30.
    """
    mix = np.full((3, 3), 1 - factor, np.float32)
    np.fill_diagonal(mix, 1 + 2 * factor)
    pixels = np.ascontiguousarray(image).reshape(-1, 3)
    result = np.empty_like(pixels)
    for first in range(0, len(pixels), STRIP):
        mixed = pixels[first : first + STRIP].astype(np.float32) @ mix
        mixed /= 3
        result[first : first + STRIP] = np.clip(mixed, 0, 255, out=mixed)
    return result.reshape(image.shape)


def normalise(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 H×W×3 RGB -> float32 3×H×W, (x/255 - mean) / std."""
    scaled = (image.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))
