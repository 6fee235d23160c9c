"""ResNet (He et al., CVPR 2016) and ResNeXt (Xie et al., CVPR 2017) with a stem of three 3×3 convolutions.

The stem ends in 128 channels, twice torchvision's; otherwise the networks are torchvision's, and so are the blocks.
Dilation keeps the last stages at a finer stride without changing a weight.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from segcore.models.scene.blocks import conv_norm, dilate, initialise

Block = type[BasicBlock] | type[Bottleneck]
# Block, blocks of the four stages, groups and their width at the first stage.
RESNETS: dict[str, tuple[Block, tuple[int, ...], int, int]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2), 1, 64),
    "resnet50": (Bottleneck, (3, 4, 6, 3), 1, 64),
    "resnet101": (Bottleneck, (3, 4, 23, 3), 1, 64),
    "resnext101": (Bottleneck, (3, 4, 23, 3), 32, 4),
}


def residual_stage(
    block: Block, inputs: int, planes: int, count: int, stride: int = 1, groups: int = 1, base_width: int = 64
) -> nn.Sequential:
    """N×inputs×H×W -> N×(planes·expansion)×⌈H/stride⌉×⌈W/stride⌉: `count` blocks, the first of which shrinks."""
    outputs = planes * block.expansion
    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(*conv_norm(inputs, outputs, 1, stride))
    blocks = [block(inputs, planes, stride, shortcut, groups, base_width)]
    blocks += [block(outputs, planes, 1, None, groups, base_width) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    """N×3×H×W -> the four stages' maps, at strides 4, 8, 16 and 32; none above `output_stride` (8, 16 or 32)."""

    def __init__(
        self, block: Block, blocks: tuple[int, ...], groups: int, base_width: int, output_stride: int = 32
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, 64, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64)
        self.conv3, self.bn3 = conv_norm(64, 128)
        grouping, times = (groups, base_width), block.expansion
        self.layer1 = residual_stage(block, 128, 64, blocks[0], 1, *grouping)
        self.layer2 = residual_stage(block, 64 * times, 128, blocks[1], 2, *grouping)
        self.layer3 = residual_stage(block, 128 * times, 256, blocks[2], 2, *grouping)
        self.layer4 = residual_stage(block, 256 * times, 512, blocks[3], 2, *grouping)
        for stage, stride in ((self.layer3, 16), (self.layer4, 32)):
            if stride > output_stride:
                dilate(stage, stride // output_stride)
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps
