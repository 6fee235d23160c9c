"""Runs evaluation modes on one image.

The rules are those of CoinCheung/BiSeNet (section "Evaluation" of its description): every resize is bilinear with
align_corners=True except the one to the start size; overlapping windows are added, not averaged. The modes that name
short sides follow CSAILVision/semantic-segmentation-pytorch instead, see `short_side_scores`.

Modes that cut the image alike share their forward passes: ss is one view of msf, and the windows of ssc are among
those of mscf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from segcore.data.transforms import normalise
from segcore.errors import DataError
from segcore.evaluate.bands import add_resized, add_softmax, add_window, classes
from segcore.evaluate.modes import Mode, Size

Forward = Callable[..., Iterator[Tensor]]
# Fewer images go into a forward pass if their logits would take more bytes than this.
LOGITS_LIMIT = 2**28


def predict_together(
    net: nn.Module, image: Tensor, size: Size, modes: Sequence[Mode], num_classes: int, batch: int = 4
) -> Iterator[tuple[Mode, Tensor]]:
    """The class maps of one image in several modes, which share the forward passes they have in common.

    Args:
        net: in eval mode; float32 N×3×h×w -> logits N×C×h×w.
        image: float32 3×h×w, normalised RGB, on the net's device.
        size: height and width of the label, and of the results.
        modes: the protocols, none with short sides.
        num_classes: C.
        batch: images in one forward pass, mirror images included; fewer where the logits would be too large.

    Yields:
        Each mode as soon as it is finished, with its uint8 H×W.

    Raises:
        DataError: the net does not give `num_classes` channels.
    """
    groups: dict[tuple, list[Mode]] = {}
    for mode in sorted(modes, key=lambda mode: -len(mode.scales)):  # so that scales come in the longest mode's order
        groups.setdefault(mode.cut, []).append(mode)
    for group in groups.values():
        for mode, total in _scores(net, image, size, group, num_classes, batch):
            yield mode, classes(total)


@torch.inference_mode()
def _scores(
    net: nn.Module, image: Tensor, size: Size, modes: Sequence[Mode], num_classes: int, batch: int
) -> Iterator[tuple[Mode, Tensor]]:
    """Yields each of some modes of one cut with its sums float32 C×H×W, as soon as they are finished."""
    forward, cut, totals = _forward(net, num_classes, batch), modes[0], {}
    add = _add_windows if cut.crop else _add_whole
    start = _resize(image, cut.start_size(_size(image)), align_corners=False)
    scales = list(dict.fromkeys(scale for mode in modes for scale in mode.scales))
    for number, scale in enumerate(scales, 1):
        scaled = _resize(start, cut.scaled_size(_size(start), scale))
        users = [mode for mode in modes if scale in mode.scales]
        for mode in users:
            totals.setdefault(mode, image.new_zeros(num_classes, *size))
        add(forward, scaled, {mode: totals[mode] for mode in users})
        for mode in users:
            if not set(mode.scales) & set(scales[number:]):
                yield mode, totals.pop(mode)


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
        view = torch.from_numpy(normalise(resized, mean, std)).to(device)
        add_softmax(total, next(forward([view], size)))
    return total


def _forward(net: nn.Module, num_classes: int, batch: int = 1) -> Forward:
    """`net`, held to the label table's class count: gives the logits C×h×w of each of some images 3×h×w of one size.

    The net is fed channels-last batches (and what else it wants); only one batch of logits is kept at a time.
    """

    def one_pass(images: list[Tensor], *size: Size) -> Tensor:
        logits = net(torch.stack(images).contiguous(memory_format=torch.channels_last), *size)
        if logits.shape[1] != num_classes:
            raise DataError(
                f"the net gives {logits.shape[1]} classes, the label table has {num_classes}; "
                "score it on the data set it was trained for"
            )
        return logits

    def forward(images: Iterable[Tensor], *size: Size) -> Iterator[Tensor]:
        images = iter(images)
        first = next(images)
        most = max(1, min(batch, LOGITS_LIMIT // (4 * num_classes * first[0].numel())))
        images = chain([first], images)
        while chunk := list(islice(images, most)):
            yield from one_pass(chunk, *size)

    return forward


def _views(image: Tensor, flip: bool) -> list[Tensor]:
    """The image, and its mirror image if `flip`."""
    return [image, image.flip(-1)] if flip else [image]


def _add_whole(forward: Forward, image: Tensor, totals: dict[Mode, Tensor]) -> None:
    """Adds the whole image's scores to each mode's C×H×W."""
    views = _views(image, any(mode.flip for mode in totals))
    found = forward(views)
    for mirrored in (False, True)[: len(views)]:
        logits = next(found)
        for mode, total in totals.items():
            if mode.flip or not mirrored:
                add_softmax(total, logits, mirrored)
        del logits  # before the next pass asks for memory


def _add_windows(forward: Forward, image: Tensor, totals: dict[Mode, Tensor]) -> None:
    """Adds the scores of the image's windows, summed at the image's own size, to each mode's C×H×W."""
    cut, flip = next(iter(totals)), any(mode.flip for mode in totals)
    padded, (top, left) = _pad_to(image, cut.crop)
    (height, width), (rows, columns) = cut.crop, _size(image)
    areas = [(..., slice(y, y + height), slice(x, x + width)) for y, x in cut.windows(_size(padded))]
    sums = {mode: image.new_zeros(len(total), *_size(padded)) for mode, total in totals.items()}
    found = forward(view for area in areas for view in _views(padded[area], flip))
    for area in areas:
        straight, mirrored = next(found), next(found) if flip else None
        for mode, total in sums.items():
            add_window(total[area], straight, mirrored if mode.flip else None, mode.exponential)
        del straight, mirrored  # likewise
    for mode, total in totals.items():
        add_resized(total, sums.pop(mode)[:, top : top + rows, left : left + columns])


def _pad_to(image: Tensor, size: Size) -> tuple[Tensor, Size]:
    """Centres the image on zeros (the mean colour) where it is smaller than `size`; also where its corner then lies."""
    short = [max(wanted - side, 0) for wanted, side in zip(size, image.shape[-2:], strict=True)]
    top, left = (gap // 2 for gap in short)
    return F.pad(image, (left, short[1] - left, top, short[0] - top)), (top, left)


def _resize(values: Tensor, size: Size, align_corners: bool = True) -> Tensor:
    """Bilinear C×h×w -> C×H×W; a resize to the same size would change nothing and is left out."""
    if _size(values) == tuple(size):
        return values
    return F.interpolate(values[None], size, mode="bilinear", align_corners=align_corners)[0]


def _size(values: Tensor) -> Size:
    height, width = values.shape[-2:]
    return height, width
