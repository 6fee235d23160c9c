"""BiSeNetV2 (Yu et al., IJCV 2021, arXiv 2004.02147) as CoinCheung/BiSeNet trained it from 2020 on.

A wide and shallow detail branch and a narrow and deep semantic branch meet in the bilateral guided aggregation.
Module names are those of the released checkpoints. Differences from the paper, all as in the reference: a ReLU after
the depthwise convolutions of the gather-and-expansion layers, a CBR at the end of the context embedding, nearest
enlargement in the aggregation, auxiliary heads with a second stage of u² channels. Three generations of it have been
published; they differ in how maps are enlarged and in the heads (`GENERATIONS`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.models.layers import ConvBNReLU, Enlargement, Outputs, accepts_side, enlarge, pad_to_multiple, stretch

GENERATIONS: dict[str, Enlargement] = {
    "bisenetv2": "factor",  # since 2021-07-07
    "bisenetv2_2020": "shuffle",  # 2020-09 to 2021-06, when TensorRT could not parse bilinear resizing
    "bisenetv2_old": "corners",  # 2020-08: any side; heads of a single stage
}
HEAD_WIDTH = 1024
AUXILIARY_WIDTH = 128


class DetailBranch(nn.Sequential):
    """N×3×H×W -> N×128×H/8×W/8: eight plain convolutions in three stages."""

    def __init__(self) -> None:
        super().__init__()
        self.S1 = nn.Sequential(ConvBNReLU(3, 64, stride=2), ConvBNReLU(64, 64))
        self.S2 = nn.Sequential(ConvBNReLU(64, 64, stride=2), ConvBNReLU(64, 64), ConvBNReLU(64, 64))
        self.S3 = nn.Sequential(ConvBNReLU(64, 128, stride=2), ConvBNReLU(128, 128), ConvBNReLU(128, 128))


class StemBlock(nn.Module):
    """N×3×H×W -> N×16×H/4×W/4: a convolution and a max pooling side by side (paper, figure 4a)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvBNReLU(3, 16, stride=2)
        self.left = nn.Sequential(ConvBNReLU(16, 8, 1), ConvBNReLU(8, 16, stride=2))
        self.right = nn.MaxPool2d(3, 2, 1)
        self.fuse = ConvBNReLU(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.conv(x)
        return self.fuse(torch.cat([self.left(x), self.right(x)], dim=1))


def _norm_conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> list[nn.Module]:
    groups = inputs if depthwise else 1
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class GatherExpand(nn.Module):
    """Gather-and-expansion layer with stride 1 (paper, figure 5b): N×C×H×W -> N×C×H×W, expansion 6."""

    def __init__(self, width: int) -> None:
        super().__init__()
        expanded = 6 * width
        self.conv1 = ConvBNReLU(width, width)
        self.dwconv = nn.Sequential(*_norm_conv(width, expanded, 3, depthwise=True), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_norm_conv(expanded, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return F.relu(self.conv2(self.dwconv(self.conv1(x))) + x)


class GatherExpandDown(nn.Module):
    """Gather-and-expansion layer with stride 2 (paper, figure 5c): N×c×H×W -> N×C×H/2×W/2, expansion 6."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        expanded = 6 * inputs
        self.conv1 = ConvBNReLU(inputs, inputs)
        self.dwconv1 = nn.Sequential(*_norm_conv(inputs, expanded, 3, 2, depthwise=True))
        self.dwconv2 = nn.Sequential(*_norm_conv(expanded, expanded, 3, depthwise=True), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(*_norm_conv(expanded, outputs, 1))
        self.shortcut = nn.Sequential(
            *_norm_conv(inputs, inputs, 3, 2, depthwise=True), *_norm_conv(inputs, outputs, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        expanded = self.dwconv2(self.dwconv1(self.conv1(x)))
        return F.relu(self.conv2(expanded) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Adds the embedded spatial mean to every position (paper, figure 4b): N×128×H×W -> N×128×H×W."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(128)
        self.conv_gap = ConvBNReLU(128, 128, 1)
        self.conv_last = ConvBNReLU(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        context = self.conv_gap(self.bn(x.mean(dim=(2, 3), keepdim=True)))
        return self.conv_last(context + x)


class SemanticBranch(nn.Module):
    """N×3×H×W -> maps at 1/4 (16 channels), 1/8 (32), 1/16 (64), 1/32 (128) and the embedded one at 1/32 (128)."""

    def __init__(self) -> None:
        super().__init__()
        self.S1S2 = StemBlock()
        self.S3 = nn.Sequential(GatherExpandDown(16, 32), GatherExpand(32))
        self.S4 = nn.Sequential(GatherExpandDown(32, 64), GatherExpand(64))
        self.S5_4 = nn.Sequential(GatherExpandDown(64, 128), GatherExpand(128), GatherExpand(128), GatherExpand(128))
        self.S5_5 = ContextEmbedding()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        f2 = self.S1S2(x)
        f3 = self.S3(f2)
        f4 = self.S4(f3)
        f5 = self.S5_4(f4)
        return f2, f3, f4, f5, self.S5_5(f5)


class BilateralGuidedAggregation(nn.Module):
    """Each branch gates the other at its own scale (paper, figure 6): 1/8 and 1/32 -> N×128×H/8×W/8.

    The average pooling counts its zero padding, which some runtimes do not by default. Coarse maps are enlarged
    (nearest) by a fixed 4, or with `corners` (bilinear) to the detail's size, which may be any.
    """

    def __init__(self, corners: bool = False) -> None:
        super().__init__()
        self.corners = corners
        self.left1 = nn.Sequential(*_norm_conv(128, 128, 3, depthwise=True), nn.Conv2d(128, 128, 1, bias=False))
        self.left2 = nn.Sequential(*_norm_conv(128, 128, 3, 2), nn.AvgPool2d(3, 2, 1))
        self.right1 = nn.Sequential(*_norm_conv(128, 128, 3))
        self.right2 = nn.Sequential(*_norm_conv(128, 128, 3, depthwise=True), nn.Conv2d(128, 128, 1, bias=False))
        self.conv = nn.Sequential(*_norm_conv(128, 128, 3), nn.ReLU(inplace=True))

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """detail N×128×H/8×W/8, semantic N×128×H/32×W/32."""
        size = (detail.shape[-2], detail.shape[-1])
        fine = self.left1(detail) * torch.sigmoid(self._enlarge(self.right1(semantic), size))
        coarse = self.left2(detail) * torch.sigmoid(self.right2(semantic))
        return self.conv(fine + self._enlarge(coarse, size))

    def _enlarge(self, coarse: Tensor, size: tuple[int, int]) -> Tensor:
        return stretch(coarse, size) if self.corners else F.interpolate(coarse, scale_factor=4.0)


class Head(nn.Module):
    """CBR, dropout, then the classifier: N×C×h×w -> logits N×num_classes at the stride that `stride` says.

    Args:
        inputs, width: channels before and after the CBR.
        num_classes: number of output channels.
        factor: stride u of the head's input.
        enlargement: the generation.
        auxiliary: whether the head is one of those that only training needs.
    """

    def __init__(
        self, inputs: int, width: int, num_classes: int, factor: int, enlargement: Enlargement, auxiliary: bool = True
    ) -> None:
        super().__init__()
        self.conv = ConvBNReLU(inputs, width)
        self.drop = nn.Dropout(0.1)
        classifier = {"factor": _doubling, "shuffle": _shuffling, "corners": _single}[enlargement]
        # What `enlarge` is to do with the logits.
        self.stride: int | None
        self.conv_out, self.stride = classifier(width, num_classes, factor, auxiliary)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv_out(self.drop(self.conv(x)))


class DoubledCBR(nn.Sequential):
    """Nearest enlargement by 2, then a CBR: N×C×h×w -> N×outputs×2h×2w.

    On a doubled map a 3×3 kernel sees 2×2 different values, others for each of the four pixels that came of one. Four
    2×2 kernels, sums of the weights that meet the same value, do the same: 4/9 of the products, no doubled map to keep.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2), ConvBNReLU(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        cbr, (height, width) = self[1], x.shape[-2:]
        # Which rows (and columns) of the kernel meet the first and the second value, for the even and the odd pixel.
        sums = x.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]).to(cbr.conv.weight.dtype)
        kernels = torch.einsum("pik,qjl,ockl->pqocij", sums, sums, cbr.conv.weight).flatten(0, 2)
        windows = F.conv2d(x, kernels.contiguous(memory_format=torch.channels_last), padding=1)
        pixels = windows.permute(0, 2, 3, 1).unflatten(-1, (2, 2, -1))
        rows = [
            torch.stack([pixels[:, p : p + height, q : q + width, p, q] for q in (0, 1)], 3).flatten(2, 3)
            for p in (0, 1)
        ]
        return cbr.relu(cbr.bn(torch.stack(rows, 2).flatten(1, 2).permute(0, 3, 1, 2)))


# A head's classifier in each generation, and the stride of its logits. Names within are those of the released files.
def _doubling(width: int, num_classes: int, factor: int, auxiliary: bool) -> tuple[nn.Module, int]:
    """An auxiliary head doubles its map and squeezes it to u² channels first."""
    if not auxiliary:
        return nn.Sequential(nn.Identity(), nn.Conv2d(width, num_classes, 1)), factor
    return nn.Sequential(DoubledCBR(width, factor**2), nn.Conv2d(factor**2, num_classes, 1)), factor // 2


def _shuffling(width: int, num_classes: int, factor: int, auxiliary: bool) -> tuple[nn.Module, int]:
    """Each class has u² channels, which the shuffle lays out as u×u pixels; an auxiliary head squeezes to u² first."""
    rows, shuffle = num_classes * factor**2, nn.PixelShuffle(factor)
    if not auxiliary:
        return nn.Sequential(nn.Conv2d(width, rows, 1), shuffle), 1
    return nn.Sequential(ConvBNReLU(width, factor**2), nn.Conv2d(factor**2, rows, 1), shuffle), 1


def _single(width: int, num_classes: int, factor: int, auxiliary: bool) -> tuple[nn.Module, None]:
    """One convolution in all heads."""
    return nn.Conv2d(width, num_classes, 1), None


class BiSeNetV2(nn.Module):
    """The network; see `segcore.models.build_model` for how it is called.

    A side n runs unpadded where ⌈n/8⌉ is a multiple of 4, as the reference accepts it; others are padded to 32. Where
    corners meet corners any side runs unpadded.
    """

    # Children whose parameters learn with the head's (tenfold) rate; the aggregation is not among them.
    heads = ("head", "aux2", "aux3", "aux4", "aux5_4")
    # Children that a pretrained backbone file fills.
    backbone = ("detail", "segment", "bga")

    def __init__(self, enlargement: Enlargement, num_classes: int = 19, auxiliary: bool = False) -> None:
        super().__init__()
        self.enlargement, self.auxiliary = enlargement, auxiliary
        self.detail = DetailBranch()
        self.segment = SemanticBranch()
        self.bga = BilateralGuidedAggregation(enlargement == "corners")
        self.head = Head(128, HEAD_WIDTH, num_classes, 8, enlargement, auxiliary=False)
        if auxiliary:
            self.aux2 = Head(16, AUXILIARY_WIDTH, num_classes, 4, enlargement)
            self.aux3 = Head(32, AUXILIARY_WIDTH, num_classes, 8, enlargement)
            self.aux4 = Head(64, AUXILIARY_WIDTH, num_classes, 16, enlargement)
            self.aux5_4 = Head(128, AUXILIARY_WIDTH, num_classes, 32, enlargement)
        self.initialise()

    def initialise(self) -> None:
        """Kaiming normal (fan-out) convolutions; the last norm of each gather-and-expansion path starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, GatherExpand | GatherExpandDown):
                nn.init.zeros_(module.conv2[1].weight)

    @staticmethod
    def decays(parameter: Tensor) -> bool:
        """Weight decay falls on convolution weights, not on norms and biases."""
        return parameter.dim() == 4

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of every head there is."""
        heads = [getattr(self, name) for name in self.heads if hasattr(self, name)]
        return [[layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1] for head in heads]

    def decode(self, images: Tensor) -> Tensor:
        """N×3×H×W -> logits N×num_classes×⌈H/8⌉×⌈W/8⌉, for sides the net accepts; with pixel shuffle 8 times that."""
        return self.head(self._features(images)[0])

    def _features(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        *stages, context = self.segment(images)
        return self.bga(self.detail(images), context), tuple(stages)

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor | Outputs:
        """See `segcore.models.build_model`."""
        given = (images.shape[-2], images.shape[-1])
        if self.enlargement != "corners":
            images = pad_to_multiple(images, (accepts_side(given[0]), accepts_side(given[1])))
        padded = (images.shape[-2], images.shape[-1])
        fused, stages = self._features(images)
        logits = enlarge(self.head(fused), self.head.stride, size, given, padded)
        if not (self.auxiliary and self.training):
            return logits
        heads = zip((self.aux2, self.aux3, self.aux4, self.aux5_4), stages, strict=True)
        return Outputs(logits, tuple(enlarge(head(x), head.stride, size, given, padded) for head, x in heads))


def build(name: str, num_classes: int, auxiliary: bool) -> BiSeNetV2:
    """Builds the network called `name`, a key of `GENERATIONS`."""
    return BiSeNetV2(GENERATIONS[name], num_classes, auxiliary)
