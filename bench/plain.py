"""The baseline of `bench.evaluate`: the four modes as their description reads, one after the other, nothing shared.

The network as it was trained, N×C×H×W throughout, every resized and every softmaxed map at full size, the image read
for each mode anew.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.data.datasets import Samples
from segcore.data.transforms import normalise
from segcore.evaluate.modes import Mode

Timer = Callable[[str], AbstractContextManager]


@torch.inference_mode()
def predict(
    net: nn.Module, samples: Samples, index: int, mode: Mode, statistics: dict, batch: int, timer: Timer
) -> Tensor:
    """The class map int64 H×W of image `index`."""
    with timer("read"):
        image, size = samples.image(index), samples.label(index).shape
        image = torch.from_numpy(normalise(image, **statistics))[None]
    total = torch.zeros(1, samples.labels.num_classes, *size)
    for scale in mode.scales:
        with timer("resize"):
            scaled = resize(image, mode.scaled_size(tuple(image.shape[-2:]), scale))
        total += (windows if mode.crop else whole)(net, scaled, size, mode, batch, timer)
    with timer("argmax"):
        return total[0].argmax(0)


def whole(net: nn.Module, image: Tensor, size: tuple[int, int], mode: Mode, batch: int, timer: Timer) -> Tensor:
    """Softmax of the image, and of its mirror image if the mode wants it, 1×C×H×W."""
    views = [image, image.flip(-1)] if mode.flip else [image]
    found = []
    for mirrored, view in enumerate(views):
        with timer("forward"):
            logits = net(view)
        with timer("resize"):
            logits = resize(logits.flip(-1) if mirrored else logits, size)
        with timer("softmax and sum"):
            found.append(logits.softmax(1))
    return sum(found)


def windows(net: nn.Module, image: Tensor, size: tuple[int, int], mode: Mode, batch: int, timer: Timer) -> Tensor:
    """Sum of the windows' scores, resized, 1×C×H×W."""
    rows, columns = image.shape[-2:]
    missing = [max(crop - side, 0) for crop, side in zip(mode.crop, (rows, columns), strict=True)]
    top, left = missing[0] // 2, missing[1] // 2
    padded = F.pad(image, (left, missing[1] - left, top, missing[0] - top))
    corners, total = mode.windows(tuple(padded.shape[-2:])), None
    for first in range(0, len(corners), batch):
        areas = [(..., slice(y, y + mode.crop[0]), slice(x, x + mode.crop[1])) for y, x in corners[first:][:batch]]
        chunk = torch.cat([padded[area] for area in areas])
        with timer("forward"):
            passes = [net(chunk), net(chunk.flip(-1)).flip(-1)] if mode.flip else [net(chunk)]
        with timer("softmax and sum"):
            scores = sum(logits.softmax(1) for logits in passes)
            scores = scores.exp() if mode.exponential else scores
            if total is None:
                total = torch.zeros(1, scores.shape[1], *padded.shape[-2:])
            for area, found in zip(areas, scores, strict=True):
                total[area] += found
    with timer("resize"):
        return resize(total[..., top : top + rows, left : left + columns], size)


def resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corner on corner."""
    return F.interpolate(values, size, mode="bilinear", align_corners=True)
