"""Mean and standard deviation of RGB in 0 … 1 that released weights were trained with.

They belong to the weights, not to the images one has: CoinCheung/BiSeNet takes those of its data sets, everything that
starts from an ImageNet classifier takes ImageNet's.
"""

from __future__ import annotations

from typing import NamedTuple

Color = tuple[float, float, float]


class Statistics(NamedTuple):
    """Per channel, in the order R, G, B."""

    mean: Color
    std: Color


IMAGENET = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# By name of the label table.
DATASETS: dict[str, Statistics] = {
    "cityscapes": Statistics((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    "ade20k": Statistics((0.49343230, 0.46819794, 0.43106043), (0.25680755, 0.25506608, 0.27422913)),
    "cocostuff": Statistics((0.46962251, 0.4464104, 0.40718787), (0.27469736, 0.27012361, 0.28515933)),
}
