"""Blocks and conventions that several networks share."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Outputs(NamedTuple):
    """What a network returns in training: all N×C×H×W logits (detail: N×1×h×w), at the sizes its loss wants."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...] = ()
    detail: tuple[Tensor, ...] = ()


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm (eps 1e-5, momentum 0.1), ReLU; "CBR" in the tables of the papers.

    Same spatial size for stride 1: the padding is kernel // 2 unless given.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int | None = None) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W -> N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        return self.relu(self.bn(self.conv(x)))


def pad_to_multiple(images: Tensor, accepts: tuple[bool, bool], multiple: int = 32) -> Tensor:
    """Pads the bottom and right with zeros (mean colour) where `accepts` (for H, W) says the net cannot take a side."""
    missing = [0 if ok else -side % multiple for ok, side in zip(accepts, images.shape[-2:], strict=True)]
    return F.pad(images, (0, missing[1], 0, missing[0])) if any(missing) else images


def enlarge(
    logits: Tensor,
    stride: int,
    wanted: tuple[int, int] | None,
    input_size: tuple[int, int],
    padded_size: tuple[int, int],
) -> Tensor:
    """Brings logits from their own stride to the wanted size with one bilinear interpolation (align_corners=False).

    Args:
        logits: N×C×h×w.
        stride: how many input pixels one step of the map spans.
        wanted: height and width to return; None is the input's size.
        input_size: the input's height and width as given.
        padded_size: the same after padding.

    Returns:
        N×C×wanted. By default the map is enlarged by its stride and cropped to the input, which keeps every logit over
        its pixel. Another size stretches the map to it, in proportion where the input was padded.
    """
    if wanted is None or wanted == input_size:
        wanted = input_size
        full = (logits.shape[-2] * stride, logits.shape[-1] * stride)
    else:
        full = tuple(round(w * p / i) for w, p, i in zip(wanted, padded_size, input_size, strict=True))
    logits = F.interpolate(logits, full, mode="bilinear", align_corners=False)
    return logits if full == wanted else logits[..., : wanted[0], : wanted[1]]
