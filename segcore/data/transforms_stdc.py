"""The training transform of MichaelFan01/STDC-Seg (section 8 of its description), and of the first BiSeNet before it.

Colours first, by Pillow's enhancers over the whole photograph, then flip, scale, crop: draws in the order brightness,
contrast, saturation, flip, scale, column, row. Sizes are cut down to whole pixels. A picture smaller than the crop is
not padded but enlarged again until its narrower side fits. STDC-Seg draws from twelve scales (0.125 … 1.5), the first
BiSeNet from six (0.75 … 2).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from segcore.data.labels import IGNORE
from segcore.data.windows import Size, bilinear_window, nearest_positions

Change = Callable[[np.ndarray], Image.Image]


def augment_stdc(
    image: np.ndarray,
    label: np.ndarray,
    crop: Size,
    scales: tuple[float, float],
    jitter: float,
    rng: np.random.Generator,
    scale_steps: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """One training sample; arguments and result as in `segcore.data.transforms.augment`."""
    factors = [rng.uniform(1 - jitter, 1 + jitter) for _ in range(3)] if jitter else None
    change = enhancer(image, *factors) if factors else Image.fromarray
    if rng.random() <= 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    scale = draw_scale(scales, scale_steps, rng)
    sizes = [tuple(max(int(side * scale), 1) for side in label.shape)]
    if enlarged := _enlarged(sizes[0], crop):
        sizes.append(enlarged)
    column, row = (int(rng.random() * (sizes[-1][axis] - crop[axis])) if sizes[0] != crop else 0 for axis in (1, 0))
    # Where the enlarged picture still lacks columns (or rows), offsets are negative, and what lies outside is padding.
    spans = [(max(at, 0), min(at + c, side)) for at, c, side in zip((row, column), crop, sizes[-1], strict=True)]
    place = tuple(slice(first - at, end - at) for (first, end), at in zip(spans, (row, column), strict=True))
    photograph, target = np.zeros((*crop, 3), np.uint8), np.full(crop, IGNORE, np.uint8)
    photograph[place] = _scaled(image, sizes, spans, change)
    target[place] = _picked(label, sizes, spans)
    return photograph, target


def draw_scale(scales: tuple[float, float], steps: int | None, rng: np.random.Generator) -> float:
    """One of `steps` evenly spaced factors, or with None any between the smallest and the largest."""
    return float(rng.choice(np.linspace(*scales, steps))) if steps else rng.uniform(*scales)


def enhancer(image: np.ndarray, brightness: float, contrast: float, saturation: float) -> Change:
    """Pillow's Brightness, Contrast and Color for any part of `image`; contrast is about the whole image's mean grey.

    The first two change each value by itself, so Pillow is shown all 256 of them once.
    """
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    brighter = ImageEnhance.Brightness(ramp).enhance(brightness)
    grey = np.asarray(Image.fromarray(cv2.LUT(image, np.asarray(brighter))).convert("L"))
    mean = int(cv2.sumElems(grey)[0] / grey.size + 0.5)
    curve = np.asarray(Image.blend(Image.new("L", ramp.size, mean), brighter, contrast))
    return lambda part: ImageEnhance.Color(Image.fromarray(cv2.LUT(part, curve))).enhance(saturation)


def _enlarged(size: Size, crop: Size) -> Size | None:
    """The size after the second scaling that a picture smaller than the crop gets; the *narrower* side decides."""
    if size[0] >= crop[0] and size[1] >= crop[1]:
        return None
    factor = crop[1] / size[1] if size[1] < size[0] else crop[0] / size[0]
    return tuple(int(factor * side + 1) for side in size)


def _scaled(image: np.ndarray, sizes: list[Size], spans: list[tuple[int, int]], change: Change) -> np.ndarray:
    if len(sizes) == 1:
        return bilinear_window(image, sizes[0], *spans, change)
    small = bilinear_window(image, sizes[0], (0, sizes[0][0]), (0, sizes[0][1]), change)
    return bilinear_window(small, sizes[1], *spans, Image.fromarray)


def _picked(label: np.ndarray, sizes: list[Size], spans: list[tuple[int, int]]) -> np.ndarray:
    rows, columns = np.arange(*spans[0]), np.arange(*spans[1])
    for old, new in reversed(list(zip([label.shape, *sizes], sizes, strict=False))):
        rows, columns = nearest_positions(old[0], new[0])[rows], nearest_positions(old[1], new[1])[columns]
    return label[rows].take(columns, axis=1)
