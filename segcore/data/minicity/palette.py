"""Colours of the procedural street scenes, drawn so that they overlap between classes: colour alone tells little."""

from __future__ import annotations

import cv2
import numpy as np

from segcore.data.minicity.paint import BRICK, PLASTER, Colour


def any_colour(rng: np.random.Generator, saturation: float = 0.35) -> Colour:
    """A colour as paint, plaster and cloth have it: any hue, mostly greyish, any brightness."""
    hue, grey = rng.uniform(0, 180), rng.beta(1, 2) * 2 * saturation
    hsv = np.array([[[hue, 255 * min(grey, 0.9), rng.uniform(35, 235)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)


def masonry(rng: np.random.Generator) -> tuple[Colour, int]:
    """Colour and material of a built surface: brick, render, stone or concrete; anything from brown to blue-grey."""
    tones = np.array(
        [
            [150, 80, 62],
            [120, 92, 74],
            [196, 184, 160],
            [172, 172, 170],
            [110, 112, 116],
            [206, 178, 120],
            [140, 150, 160],
            [128, 138, 112],
        ]
    )
    colour = tones[rng.integers(len(tones))] * rng.uniform(0.6, 1.15) + rng.normal(0, 8, 3)
    if rng.random() < 0.15:
        colour = any_colour(rng, 0.4)
    return colour, BRICK if rng.random() < 0.4 else PLASTER


def leaves(rng: np.random.Generator) -> Colour:
    """Foliage from fresh green over olive to autumn brown and winter grey."""
    tones = np.array([[74, 98, 48], [92, 108, 62], [58, 78, 50], [122, 112, 60], [140, 98, 56], [104, 96, 84]])
    return tones[rng.choice(6, p=[0.3, 0.2, 0.2, 0.12, 0.09, 0.09])] * rng.uniform(0.7, 1.2) + rng.normal(0, 5, 3)


def lawn(rng: np.random.Generator) -> Colour:
    """Grass from green to straw, bare soil, gravel."""
    tones = np.array([[88, 116, 56], [112, 122, 66], [140, 128, 84], [116, 96, 72], [128, 126, 112]])
    return tones[rng.choice(5, p=[0.4, 0.25, 0.15, 0.1, 0.1])] * rng.uniform(0.75, 1.2)


def pavement(rng: np.random.Generator) -> Colour:
    """Slabs and asphalt of walkways, from reddish to dark grey."""
    tones = np.array([[150, 146, 140], [122, 122, 122], [98, 98, 102], [150, 122, 108], [176, 168, 152]])
    return tones[rng.integers(5)] * rng.uniform(0.75, 1.1)
