"""STDC-Seg (Fan et al., CVPR 2021, arXiv 2104.13188) as MichaelFan01/STDC-Seg publishes it.

A backbone of short-term dense concatenations gives maps at 1/8, 1/16 and 1/32; a context path brings the coarse ones
down to 1/8, where they are fused with the fine one. Training adds two class heads on the context path and a head that
learns where edges are ("detail guidance"). Module names are those of the released checkpoints. As in the reference
there is no dropout, the classifiers have no bias, and average pooling counts its zero padding.

Every norm is an ordinary batch norm; `segcore.models.checkpoints` converts the in-place norms of released files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segcore.models.context import WIDTH, ContextPath, FeatureFusion, initialise
from segcore.models.layers import ConvBNReLU, Outputs, stretch

# Blocks at strides 8, 16 and 32: STDCNet813 and STDCNet1446.
BLOCKS = {"stdc1": (2, 2, 2), "stdc2": (4, 5, 3)}


class DenseConcatenation(nn.Module):
    """STDC module (paper, figure 3b and c): N×inputs×H×W -> N×outputs×⌈H/stride⌉×⌈W/stride⌉, stride 1 or 2.

    Four convolutions in a row, each on fewer channels; their results side by side are the output. With stride 2 the
    first runs at full resolution, then a depthwise convolution (without ReLU) shrinks what goes on and a pooling what
    is put out.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        widths = (outputs // 2, outputs // 4, outputs // 8, outputs // 8)
        self.conv_list = nn.ModuleList([ConvBNReLU(inputs, widths[0], 1)])
        self.conv_list += [ConvBNReLU(*pair) for pair in zip(widths[:-1], widths[1:], strict=True)]
        self.avd_layer: nn.Module = nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if stride == 2:
            depthwise = nn.Conv2d(widths[0], widths[0], 3, 2, 1, groups=widths[0], bias=False)
            self.avd_layer = nn.Sequential(depthwise, nn.BatchNorm2d(widths[0]))
            self.skip = nn.AvgPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        first, *others = self.conv_list
        x = first(x)
        parts = [self.skip(x)]
        x = self.avd_layer(x)
        for conv in others:
            x = conv(x)
            parts.append(x)
        return torch.cat(parts, dim=1)


class Backbone(nn.Module):
    """N×3×H×W -> maps at 1/8 (256 channels), 1/16 (512) and 1/32 (1024); sides are rounded up."""

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.features = nn.ModuleList([ConvBNReLU(3, 32, stride=2), ConvBNReLU(32, 64, stride=2)])
        self.stage_ends: list[int] = []
        inputs = 64
        for count, outputs in zip(blocks, (256, 512, 1024), strict=True):
            self.features += [DenseConcatenation(inputs, outputs, 2)]
            self.features += [DenseConcatenation(outputs, outputs, 1) for _ in range(count - 1)]
            self.stage_ends.append(len(self.features) - 1)
            inputs = outputs

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.stage_ends:
                maps.append(x)
        eighth, sixteenth, thirtysecond = maps
        return eighth, sixteenth, thirtysecond


class Head(nn.Module):
    """CBR, then a classifier without bias: N×inputs×h×w -> N×outputs×h×w."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, width)
        self.conv_out = nn.Conv2d(width, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv_out(self.conv(x))


class STDC(nn.Module):
    """The network; see `segcore.models.build_model` for how it is called. Any side works unpadded."""

    # Children whose parameters learn with the head's (tenfold) rate; here the fusion is among them.
    heads = ("ffm", "conv_out", "conv_out16", "conv_out32", "conv_out_sp8")
    # Modules that a pretrained backbone file fills.
    backbone = ("cp.backbone",)

    def __init__(self, blocks: tuple[int, int, int], num_classes: int = 19, auxiliary: bool = False) -> None:
        super().__init__()
        self.cp = ContextPath("backbone", Backbone(blocks), (512, 1024))
        self.ffm = FeatureFusion(256)
        self.conv_out = Head(256, 256, num_classes)
        self.auxiliary = auxiliary
        if auxiliary:
            # Names as released; they hang on the maps at 1/8 and 1/16.
            self.conv_out16 = Head(WIDTH, 64, num_classes)
            self.conv_out32 = Head(WIDTH, 64, num_classes)
            # The published setting guides the map at 1/8 only.
            self.conv_out_sp8 = Head(256, 64, 1)
        initialise(self, self.backbone[0])

    @staticmethod
    def decays(parameter: Tensor) -> bool:
        """Weight decay falls on convolution weights, not on norms."""
        return parameter.dim() == 4

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of every head there is that tells classes apart."""
        names = ("conv_out", "conv_out16", "conv_out32")
        return [getattr(self, name).conv_out for name in names if hasattr(self, name)]

    def decode(self, images: Tensor) -> Tensor:
        """N×3×H×W -> logits N×num_classes×⌈H/8⌉×⌈W/8⌉."""
        fine, context8, _ = self.cp(images)
        return self.conv_out(self.ffm(fine, context8))

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor | Outputs:
        """See `segcore.models.build_model`; `Outputs.detail` is one map of edge logits, N×1×⌈H/8⌉×⌈W/8⌉."""
        size = size or (images.shape[-2], images.shape[-1])
        fine, context8, context16 = self.cp(images)
        logits = stretch(self.conv_out(self.ffm(fine, context8)), size)
        if not (self.auxiliary and self.training):
            return logits
        auxiliary = (stretch(self.conv_out16(context8), size), stretch(self.conv_out32(context16), size))
        return Outputs(logits, auxiliary, (self.conv_out_sp8(fine),))


def build(name: str, num_classes: int, auxiliary: bool) -> STDC:
    """Builds the network called `name`: stdc1 or stdc2."""
    return STDC(BLOCKS[name], num_classes, auxiliary)
