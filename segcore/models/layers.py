"""Blocks and conventions that several networks share."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# How a generation of CoinCheung/BiSeNet brings logits to the image: bilinear by the stride's fixed factor, by pixel
# shuffle, or bilinear with the corners of the map on the corners of the image, which fits any side.
Enlargement = Literal["factor", "shuffle", "corners"]


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


class AbsoluteNorm(nn.Module):
    """Batch norm that scales by |weight| + eps: the in-place activated norm of mapillary, without its activation.

    The first generation of CoinCheung/BiSeNet and MichaelFan01/STDC-Seg train with it. Its state has no
    `num_batches_tracked`. Because the scale is never negative, its gradient is the weight's times the weight's sign.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    @property
    def scale(self) -> Tensor:
        """What each of the C channels is multiplied by; positive."""
        return self.weight.abs() + self.eps

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same."""
        statistics = (self.running_mean, self.running_var)
        return F.batch_norm(x, *statistics, self.scale, self.bias, self.training, self.momentum, self.eps)


def spatial_mean(x: Tensor) -> Tensor:
    """N×C×H×W -> N×C×1×1."""
    return x.mean(dim=(2, 3), keepdim=True)


def accepts_side(side: int) -> bool:
    """Whether a net takes a side unpadded whose strides round up to 1/32 and whose decoder enlarges by fixed factors.

    ⌈side/8⌉ must be a multiple of 4 for both to meet: side in (32k - 8, 32k].
    """
    return -(-side // 8) % 4 == 0


def pad_to_multiple(images: Tensor, accepts: tuple[bool, bool], multiple: int = 32) -> Tensor:
    """Pads the bottom and right with zeros (mean colour) where `accepts` (for H, W) says the net cannot take a side."""
    missing = [0 if ok else -side % multiple for ok, side in zip(accepts, images.shape[-2:], strict=True)]
    return F.pad(images, (0, missing[1], 0, missing[0])) if any(missing) else images


def enlarge(
    logits: Tensor,
    stride: int | None,
    wanted: tuple[int, int] | None,
    input_size: tuple[int, int],
    padded_size: tuple[int, int],
) -> Tensor:
    """Brings logits from their own stride to the wanted size with at most one bilinear interpolation.

    Args:
        logits: N×C×h×w.
        stride: how many input pixels one step of the map spans. None: the map's corners lie on the image's corners
            whatever its size (align_corners=True, which else is False).
        wanted: height and width to return; None is the input's size.
        input_size: the input's height and width as given.
        padded_size: the same after padding.

    Returns:
        N×C×wanted. By default the map is enlarged by its stride and cropped to the input, which keeps every logit over
        its pixel. Another size stretches the map to it, in proportion where the input was padded.
    """
    if logits.requires_grad:
        logits = logits.contiguous()  # losses go through the maps class by class, and would copy the enlarged ones
    if stride is None:
        return stretch(logits, wanted or input_size)
    if wanted is None or wanted == input_size:
        wanted = input_size
        full = (logits.shape[-2] * stride, logits.shape[-1] * stride)
    else:
        full = tuple(round(w * p / i) for w, p, i in zip(wanted, padded_size, input_size, strict=True))
    if full != tuple(logits.shape[-2:]):
        logits = F.interpolate(logits, full, mode="bilinear", align_corners=False)
    return logits if full == wanted else logits[..., : wanted[0], : wanted[1]]


def stretch(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """N×C×h×w -> N×C×size with one bilinear interpolation, corner on corner (align_corners=True)."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)
