"""Decoders: from an encoder's maps, fine to coarse, to logits at the pair's stride.

Every enlargement is bilinear with align_corners=False, every convolution but the classifiers goes without bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.models.scene.blocks import cbr, enlarge

# Pyramid pooling: sides of the pooled maps, and channels each is brought to.
POOLS = (1, 2, 3, 6)
POOL_WIDTH = 512


class Decoder(nn.Module):
    """What the decoders share: `conv_last` ends in the classifier, and there may be a deep branch beside it."""

    conv_last: nn.Module

    def deep(self, maps: list[Tensor]) -> tuple[Tensor, ...]:
        """The deep branch's logits from the second-to-last map; () without one."""
        if not hasattr(self, "cbr_deepsup"):
            return ()
        return (self.conv_last_deepsup(self.dropout_deepsup(self.cbr_deepsup(maps[-2]))),)

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of each head."""
        heads = [self.conv_last, *([self.conv_last_deepsup] if hasattr(self, "cbr_deepsup") else [])]
        return [list(head.modules())[-1] for head in heads]

    def initialise(self) -> None:
        """Kaiming normal (fan-in) weights; norms start a little above zero, so that no ReLU is born dead."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.bias, 1e-4)


class C1(Decoder):
    """One convolution and a classifier on the last map: maps of `channels` -> logits N×num_classes×h×w."""

    def __init__(self, channels: tuple[int, ...], num_classes: int, deep: bool) -> None:
        super().__init__()
        width = channels[-1] // 4
        self.cbr = cbr(channels[-1], width)
        if deep:
            self.cbr_deepsup = cbr(channels[-2], width)
            self.dropout_deepsup = nn.Identity()
        self.conv_last = nn.Conv2d(width, num_classes, 1)
        if deep:
            self.conv_last_deepsup = nn.Conv2d(width, num_classes, 1)
        self.initialise()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """See the class."""
        return self.conv_last(self.cbr(maps[-1]))


class PPM(Decoder):
    """Pyramid pooling on the last map (PSPNet, figure 3): maps of `channels` -> logits N×num_classes×h×w.

    Pooled maps are brought to their width first and enlarged then; UPerNet does it the other way round.
    """

    def __init__(self, channels: tuple[int, ...], num_classes: int, deep: bool) -> None:
        super().__init__()
        inputs, deep_width = channels[-1], channels[-1] // 4
        self.ppm = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(p), *cbr(inputs, POOL_WIDTH, 1)) for p in POOLS)
        if deep:
            self.cbr_deepsup = cbr(channels[-2], deep_width)
        self.conv_last = nn.Sequential(
            *cbr(inputs + len(POOLS) * POOL_WIDTH, POOL_WIDTH),
            nn.Dropout2d(0.1),
            nn.Conv2d(POOL_WIDTH, num_classes, 1),
        )
        if deep:
            self.conv_last_deepsup = nn.Conv2d(deep_width, num_classes, 1)
            self.dropout_deepsup = nn.Dropout2d(0.1)
        self.initialise()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """See the class."""
        last = maps[-1]
        return self.conv_last(torch.cat([last, *(enlarge(pool(last), last) for pool in self.ppm)], dim=1))


class UPerNet(Decoder):
    """Pyramid pooling on the last map and a feature pyramid over all four (UPerNet, figure 4), `width` channels wide.

    Maps of `channels` at four sizes -> logits N×num_classes×h×w at the size of the first.
    """

    def __init__(self, channels: tuple[int, ...], num_classes: int, width: int) -> None:
        super().__init__()
        *laterals, last = channels
        self.ppm_conv = nn.ModuleList(cbr(last, POOL_WIDTH, 1) for _ in POOLS)
        self.ppm_last_conv = cbr(last + len(POOLS) * POOL_WIDTH, width)
        self.fpn_in = nn.ModuleList(cbr(inputs, width, 1) for inputs in laterals)
        # One level deeper than need be: names of the released files.
        self.fpn_out = nn.ModuleList(nn.Sequential(cbr(width, width)) for _ in laterals)
        self.conv_last = nn.Sequential(cbr(len(channels) * width, width), nn.Conv2d(width, num_classes, 1))
        self.initialise()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """See the class."""
        *fine, last = maps
        pooled = [
            conv(enlarge(F.adaptive_avg_pool2d(last, side), last))
            for side, conv in zip(POOLS, self.ppm_conv, strict=True)
        ]
        top = self.ppm_last_conv(torch.cat([last, *pooled], dim=1))
        # Top-down: the running sum goes on as it is, its smoothed copy is a level of the pyramid.
        pyramid, running = [top], top
        for x, lateral, smooth in reversed(list(zip(fine, self.fpn_in, self.fpn_out, strict=True))):
            x = lateral(x)
            running = x + enlarge(running, x)
            pyramid.insert(0, smooth(running))
        return self.conv_last(torch.cat([enlarge(level, pyramid[0]) for level in pyramid], dim=1))
