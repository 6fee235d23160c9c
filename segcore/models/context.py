"""What BiSeNet (Yu et al., ECCV 2018, arXiv 1808.00897) and STDC-Seg, which builds on it, have in common.

Module names are those of the released checkpoints of CoinCheung/BiSeNet and MichaelFan01/STDC-Seg.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.models.layers import ConvBNReLU, spatial_mean

WIDTH = 128


class AttentionRefinement(nn.Module):
    """Weighs the channels by their spatial mean (BiSeNet, figure 2b): N×inputs×H×W -> N×128×H×W."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, WIDTH)
        self.conv_atten = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(spatial_mean(x))))


class ContextPath(nn.Module):
    """An encoder's maps at 1/16 and 1/32, brought down to 1/8 (BiSeNet, figure 2a).

    Maps are enlarged (nearest) to the exact size of the finer one, so any size of image works. Where a reference
    doubles by a fixed factor instead, the two are the same on every side it accepts.

    Args:
        name: the encoder's name among the children.
        encoder: N×3×H×W -> maps at 1/8, 1/16 and 1/32, sides rounded up.
        widths: channels of the latter two.
    """

    def __init__(self, name: str, encoder: nn.Module, widths: tuple[int, int]) -> None:
        super().__init__()
        self.encoder_name = name
        self.add_module(name, encoder)
        self.arm16 = AttentionRefinement(widths[0])
        self.arm32 = AttentionRefinement(widths[1])
        self.conv_head32 = ConvBNReLU(WIDTH, WIDTH)
        self.conv_head16 = ConvBNReLU(WIDTH, WIDTH)
        self.conv_avg = ConvBNReLU(widths[1], WIDTH, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """N×3×H×W -> the encoder's map at 1/8, context at 1/8 (128 channels) and at 1/16 (128)."""
        eighth, sixteenth, thirtysecond = self.get_submodule(self.encoder_name)(images)
        context = self.arm32(thirtysecond) + self.conv_avg(spatial_mean(thirtysecond))
        context16 = self.conv_head32(F.interpolate(context, sixteenth.shape[-2:]))
        context8 = self.conv_head16(F.interpolate(self.arm16(sixteenth) + context16, eighth.shape[-2:]))
        return eighth, context8, context16


class FeatureFusion(nn.Module):
    """Joins fine and context maps and weighs the channels (BiSeNet, figure 2c): N×inputs+128×h×w -> N×256×h×w.

    Args:
        inputs: channels of the fine map.
        squeeze: attention of two convolutions through 64 channels and without norm, as in the paper. False: of one
            with norm, as CoinCheung/BiSeNet since July 2021 (for TensorRT in fp16).
    """

    def __init__(self, inputs: int, squeeze: bool = True) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(inputs + WIDTH, 256, 1)
        self.squeeze = squeeze
        if squeeze:
            self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
            self.conv2 = nn.Conv2d(64, 256, 1, bias=False)
        else:
            self.conv = nn.Conv2d(256, 256, 1, bias=False)
            self.bn = nn.BatchNorm2d(256)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        """fine N×inputs×h×w, context N×128×h×w."""
        x = self.convblk(torch.cat([fine, context], dim=1))
        mean = spatial_mean(x)
        weights = self.conv2(F.relu(self.conv1(mean))) if self.squeeze else self.bn(self.conv(mean))
        return x + x * torch.sigmoid(weights)


def initialise(net: nn.Module, encoder: str) -> None:
    """Kaiming normal: fan-out and ReLU gain in the module `encoder`, fan-in and gain 1 elsewhere; biases zero."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            inside = name.startswith(f"{encoder}.")
            nn.init.kaiming_normal_(module.weight, 0.0 if inside else 1.0, "fan_out" if inside else "fan_in")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
