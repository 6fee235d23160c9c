"""MobileNetV2 (Sandler et al., CVPR 2018) at width 1, without its last 1×1 layer, dilated to stride 8."""

from __future__ import annotations

from torch import Tensor, nn

from segcore.models.scene.blocks import conv_norm, dilate, initialise

# Expansion, channels, blocks and stride of each group (paper, table 2).
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The modules whose output is handed out.
TAPS = (2, 4, 7, 14, 17)


class InvertedResidual(nn.Module):
    """N×inputs×H×W -> N×outputs×⌈H/stride⌉×⌈W/stride⌉: widen, filter depthwise, narrow (paper, figure 4d)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        widen = [*conv_norm(inputs, hidden, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            *conv_norm(hidden, hidden, stride=stride, groups=hidden),
            nn.ReLU6(inplace=True),
            *conv_norm(hidden, outputs, 1),
        )
        # Decided before dilation takes the stride out: a block that once shrank has no shortcut.
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """N×3×H×W -> maps of 24 channels at 1/4 and of 32, 64, 160 and 320 at 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleList([nn.Sequential(*conv_norm(3, 32, stride=2), nn.ReLU6(inplace=True))])
        inputs = 32
        for expansion, outputs, count, stride in GROUPS:
            for index in range(count):
                self.features.append(InvertedResidual(inputs, outputs, stride if index == 0 else 1, expansion))
                inputs = outputs
        dilate(self.features[7:14], 2)  # stride 16
        dilate(self.features[14:], 4)  # stride 32
        initialise(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        maps = []
        for index, feature in enumerate(self.features):
            x = feature(x)
            if index in TAPS:
                maps.append(x)
        return maps
