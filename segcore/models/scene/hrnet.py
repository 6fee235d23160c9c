"""HRNetV2-W48 (Wang et al., TPAMI 2020, arXiv 1908.07919): parallel branches at strides 4, 8, 16 and 32.

The branches exchange their maps after every four residual blocks, so the finest one is never lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from segcore.models.scene.blocks import cbr, conv_norm, enlarge, initialise
from segcore.models.scene.resnet import residual_stage

# Channels of the branches, fine to coarse.
WIDTHS = (48, 96, 192, 384)


def _path(source: int, target: int) -> nn.Module:
    """From branch `source` to the channels of branch `target`, and down to its size; up is left to the caller."""
    inputs, outputs = WIDTHS[source], WIDTHS[target]
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(*conv_norm(inputs, outputs, 1))
    halvings = [cbr(inputs, inputs, stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, nn.Sequential(*conv_norm(inputs, outputs, stride=2)))


class Exchange(nn.Module):
    """A multi-resolution block (paper, figure 3): four residual blocks on each branch, then every branch from all."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(residual_stage(BasicBlock, width, width, 4) for width in WIDTHS[:branches])
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_path(source, target) for source in range(branches)) for target in range(branches)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps N×WIDTHS[i]×h/2^i×w/2^i, as many as branches, to the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [
            F.relu(sum(enlarge(path(x), like) for path, x in zip(paths, maps, strict=True)))
            for paths, like in zip(self.fuse_layers, maps, strict=True)
        ]


def _transition(branches: int) -> nn.ModuleList:
    """One more branch from the coarsest, index by index; those there are go on as they are."""
    added = nn.Sequential(cbr(WIDTHS[branches - 2], WIDTHS[branches - 1], stride=2))
    return nn.ModuleList([*(nn.Identity() for _ in range(branches - 1)), added])


class HRNetV2(nn.Module):
    """N×3×H×W -> one map N×720×⌈H/4⌉×⌈W/4⌉: all branches side by side at the size of the finest."""

    # In the reference its norms forget a hundred times as fast as all others (see `segcore.norms.RunningAverage`).
    norm_rate = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64, stride=2)
        self.layer1 = residual_stage(Bottleneck, 64, 64, 4)
        self.transition1 = nn.ModuleList([cbr(256, WIDTHS[0]), nn.Sequential(cbr(256, WIDTHS[1], stride=2))])
        self.stage2 = nn.Sequential(Exchange(2))
        self.transition2 = _transition(3)
        self.stage3 = nn.Sequential(*(Exchange(3) for _ in range(4)))
        self.transition3 = _transition(4)
        self.stage4 = nn.Sequential(*(Exchange(4) for _ in range(3)))
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        maps = self.stage2([branch(x) for branch in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            maps = stage([branch(x) for branch, x in zip(transition, [*maps, maps[-1]], strict=True)])
        return [torch.cat([enlarge(x, maps[0]) for x in maps], dim=1)]
