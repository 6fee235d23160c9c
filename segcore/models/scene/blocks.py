"""What encoders and decoders share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, padded by kernel // 2, and its norm: N×inputs×H×W -> N×outputs×⌈H/s⌉×⌈W/s⌉."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def cbr(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, norm, ReLU."""
    return nn.Sequential(*conv_norm(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, to height and width of `like` (align_corners=False)."""
    if x.shape[-2:] == like.shape[-2:]:
        return x
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def dilate(stage: nn.Module, dilation: int) -> None:
    """Takes the stride out of a stage and widens its 3×3 convolutions instead.

    A strided 3×3 convolution gets half the dilation: it still works on the finer grid that the stage before left.
    """
    for conv in stage.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        own = dilation // 2 if conv.stride == (2, 2) else dilation
        conv.stride = (1, 1)
        if conv.kernel_size == (3, 3):
            conv.dilation = conv.padding = (own, own)


def initialise(encoder: nn.Module) -> None:
    """Normal convolution weights of variance 2 / (outputs of one group × kernel area); norms as they are."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
