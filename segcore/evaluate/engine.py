"""Runs one evaluation mode on one image.

The rules are those of CoinCheung/BiSeNet (section "Evaluation" of its description): every resize is bilinear with
align_corners=True except the one to the start size; overlapping windows are added, not averaged. The modes that name
short sides follow CSAILVision/semantic-segmentation-pytorch instead, see `short_side_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from segcore.data.transforms import normalise
from segcore.errors import DataError
from segcore.evaluate.modes import Mode, Size

Forward = Callable[..., Tensor]
# Softmax runs on bands of this many rows: the temporaries stay in the cache, and memory does not double.
BAND = 32


@torch.inference_mode()
def predict(net: nn.Module, image: Tensor, size: Size, mode: Mode, num_classes: int, batch: int = 4) -> Tensor:
    """The class map of one image, uint8 H×W of `size`; arguments as in `scores`."""
    return scores(net, image, size, mode, num_classes, batch).argmax(0).to(torch.uint8)


@torch.inference_mode()
def scores(net: nn.Module, image: Tensor, size: Size, mode: Mode, num_classes: int, batch: int = 4) -> Tensor:
    """Summed class scores of one image.

    Args:
        net: in eval mode; float32 N×3×h×w -> logits N×C×h×w.
        image: float32 3×h×w, normalised RGB, on the net's device.
        size: height and width of the label, and of the result.
        mode: the protocol.
        num_classes: C.
        batch: windows in one forward pass.

    Returns:
        float32 C×H×W; only its argmax has a meaning across modes.

    Raises:
        DataError: the net does not give `num_classes` channels.
    """
    forward = _forward(net, num_classes)
    start = _resize(image, mode.start_size(tuple(image.shape[-2:])), align_corners=False)
    total = image.new_zeros(num_classes, *size)
    for scale in mode.scales:
        scaled = _resize(start, mode.scaled_size(tuple(start.shape[-2:]), scale))
        if mode.crop:
            total += _resize(_window_scores(forward, scaled, mode, num_classes, batch), size)
        else:
            _add_scores(total, *(_resize(forward(view)[0], size) for view in _views(scaled[None], mode.flip)))
    return total


@torch.inference_mode()
def short_side_scores(
    net: nn.Module,
    image: np.ndarray,
    size: Size,
    mode: Mode,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Summed class scores of one image in a mode that names short sides (evaluation of the scene-parsing benchmark).

    The image is resized as uint8 by Pillow, whose bilinear filter widens when it shrinks, and normalised afterwards.

    Args:
        net: in eval mode, on `device`; float32 N×3×h×w and a size H×W -> logits N×C×H×W.
        image: uint8 h×w×3 RGB.
        size: height and width of the label, and of the result.
        mode: the protocol.
        num_classes: C.
        mean: of the RGB channels, range 0 … 1.
        std: likewise.
        device: where the net is.

    Returns:
        float32 C×H×W; the reference's scores are this divided by the number of short sides.

    Raises:
        DataError: the net does not give `num_classes` channels.
    """
    forward, total = _forward(net, num_classes), torch.zeros(num_classes, *size, device=device)
    for short_side in mode.short_sides:
        height, width = mode.short_side_size(image.shape[:2], short_side)
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        view = torch.from_numpy(normalise(resized, mean, std))[None].to(device)
        _add_scores(total, forward(view, size)[0])
    return total


def _forward(net: nn.Module, num_classes: int) -> Forward:
    """`net`, fed channels-last images (and what else it wants) and held to the label table's class count."""

    def forward(images: Tensor, *size: Size) -> Tensor:
        logits = net(images.contiguous(memory_format=torch.channels_last), *size)
        if logits.shape[1] != num_classes:
            raise DataError(
                f"the net gives {logits.shape[1]} classes, the label table has {num_classes}; "
                "score it on the data set it was trained for"
            )
        return logits

    return forward


def _views(images: Tensor, flip: bool) -> list[Tensor]:
    """The images, and their mirror images if `flip`."""
    return [images, images.flip(-1)] if flip else [images]


def _window_scores(forward: Forward, image: Tensor, mode: Mode, num_classes: int, batch: int) -> Tensor:
    """C×h×w sum of the windows' scores, at the image's own size."""
    padded, (top, left) = _pad_to(image, mode.crop)
    total = image.new_zeros(num_classes, *padded.shape[-2:])
    height, width = mode.crop
    areas = [(..., slice(y, y + height), slice(x, x + width)) for y, x in mode.windows(tuple(padded.shape[-2:]))]
    for first in range(0, len(areas), batch):
        chunk = areas[first : first + batch]
        windows = torch.stack([padded[area] for area in chunk])
        passes = [forward(view) for view in _views(windows, mode.flip)]
        for area, *logits in zip(chunk, *passes, strict=True):
            _add_scores(total[area], *logits, exponential=mode.exponential)
    return total[:, top : top + image.shape[-2], left : left + image.shape[-1]]


def _add_scores(total: Tensor, straight: Tensor, mirrored: Tensor | None = None, *, exponential: bool = False) -> None:
    """Adds C×H×W scores to `total`: the softmax over the classes, summed over an image and its mirror image.

    The mirror image's logits come as the net gave them and are turned back here, band by band.
    """
    for top in range(0, total.shape[-2], BAND):
        rows = (..., slice(top, top + BAND), slice(None))
        values = straight[rows].softmax(0)
        if mirrored is not None:
            values += mirrored[rows].flip(-1).softmax(0)
        total[rows] += values.exp_() if exponential else values


def _pad_to(image: Tensor, size: Size) -> tuple[Tensor, Size]:
    """Centres the image on zeros (the mean colour) where it is smaller than `size`; also where its corner then lies."""
    short = [max(wanted - side, 0) for wanted, side in zip(size, image.shape[-2:], strict=True)]
    top, left = (gap // 2 for gap in short)
    return F.pad(image, (left, short[1] - left, top, short[0] - top)), (top, left)


def _resize(values: Tensor, size: Size, align_corners: bool = True) -> Tensor:
    """Bilinear C×h×w -> C×H×W; a resize to the same size would change nothing and is left out."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values[None], size, mode="bilinear", align_corners=align_corners)[0]
