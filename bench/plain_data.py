"""The baseline of `bench.data`: the published training transforms as their descriptions read, step after step.

The whole picture is read, scaled and, where colours come first, coloured; then it is cut.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from segcore.data.labels import LabelTable

Size = tuple[int, int]
Scales = tuple[float, float]
Pair = tuple[np.ndarray, np.ndarray]


def read(image: Path, label: Path, table: LabelTable) -> Pair:
    """Pixels and train ids by OpenCV, as CoinCheung/BiSeNet reads them."""
    pixels = cv2.cvtColor(cv2.imread(str(image)), cv2.COLOR_BGR2RGB)
    return pixels, lookup(table)[cv2.imread(str(label), cv2.IMREAD_UNCHANGED)]


def bisenet(pixels: np.ndarray, ids: np.ndarray, crop: Size, scales: Scales, jitter: float, rng) -> Pair:
    """CoinCheung/BiSeNet, section 5.3: scale, pad, crop, flip, three colour steps."""
    scale = rng.uniform(*scales)
    height, width = (math.ceil(side * scale) for side in ids.shape)
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
    if ids.shape != crop:
        pixels, ids = _padded_window(pixels, ids, crop, rng)
    if rng.random() >= 0.5:
        pixels, ids = pixels[:, ::-1], ids[:, ::-1]
    brightness, contrast, saturation = (rng.uniform(1 - jitter, 1 + jitter) for _ in range(3))
    values = np.arange(256)
    pixels = np.clip(values * brightness, 0, 255).astype(np.uint8)[pixels]
    pixels = np.clip(74 + contrast * (values - 74), 0, 255).astype(np.uint8)[pixels]
    mix = np.full((3, 3), 1 - saturation, np.float32)
    np.fill_diagonal(mix, 1 + 2 * saturation)
    pixels = np.clip(pixels.reshape(-1, 3) @ mix / 3, 0, 255).astype(np.uint8).reshape(pixels.shape)
    return pixels, np.ascontiguousarray(ids)


def _padded_window(pixels: np.ndarray, ids: np.ndarray, crop: Size, rng: np.random.Generator) -> Pair:
    top, left = ((c - side) // 2 + 1 if side < c else 0 for side, c in zip(ids.shape, crop, strict=True))
    pixels = cv2.copyMakeBorder(pixels, top, top, left, left, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    ids = cv2.copyMakeBorder(ids, top, top, left, left, cv2.BORDER_CONSTANT, value=255)
    row, column = (int(rng.random() * (side - c)) for side, c in zip(ids.shape, crop, strict=True))
    window = (slice(row, row + crop[0]), slice(column, column + crop[1]))
    return pixels[window], ids[window]


def open_pair(image: Path, label: Path) -> tuple[Image.Image, Image.Image]:
    """Pictures by Pillow, as MichaelFan01/STDC-Seg reads them."""
    return Image.open(image).convert("RGB"), Image.open(label)


def stdc(
    pixels: Image.Image,
    ids: Image.Image,
    table: LabelTable,
    crop: Size,
    scales: Scales,
    jitter: float,
    rng: np.random.Generator,
    steps: int,
) -> Pair:
    """MichaelFan01/STDC-Seg, section 8: three colour steps, flip, scale, crop, label table; all of it Pillow's."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        pixels = enhance(pixels).enhance(rng.uniform(1 - jitter, 1 + jitter))
    if rng.random() <= 0.5:
        pixels, ids = (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in (pixels, ids))
    scale = rng.choice(np.linspace(*scales, steps))
    pixels, ids = _resized(pixels, ids, tuple(int(side * scale) for side in ids.size))
    height, width = crop
    if ids.size != (width, height):
        w, h = ids.size
        if w < width or h < height:
            factor = width / w if w < h else height / h
            pixels, ids = _resized(pixels, ids, (int(factor * w + 1), int(factor * h + 1)))
        left, top = int(rng.random() * (ids.size[0] - width)), int(rng.random() * (ids.size[1] - height))
        pixels, ids = (picture.crop((left, top, left + width, top + height)) for picture in (pixels, ids))
    return np.asarray(pixels), lookup(table)[np.asarray(ids)]


def _resized(pixels: Image.Image, ids: Image.Image, size: Size) -> tuple[Image.Image, Image.Image]:
    return pixels.resize(size, Image.Resampling.BILINEAR), ids.resize(size, Image.Resampling.NEAREST)


def lookup(table: LabelTable) -> np.ndarray:
    """uint8 256: train id of each label value."""
    values = np.full(256, 255, np.uint8)
    for entry in table.entries:
        values[entry.id] = entry.train_id
    return values
