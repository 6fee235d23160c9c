"""BiSeNetV1 (Yu et al., ECCV 2018, arXiv 1808.00897) as CoinCheung/BiSeNet trained it from 2019 on.

A spatial path of three strided convolutions keeps the detail at 1/8, a ResNet-18 with attention (the context path)
sees far, and the fusion joins them. Module names are those of the released checkpoints. Differences from the paper, all
as in the reference: the context path is convolved after each enlargement, and the two auxiliary heads hang on its
decoder at 1/8 and 1/16, not on the encoder's maps at 1/16 and 1/32.

Six generations of it have been published or stand in the reference; `GENERATIONS` says what tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.models.context import WIDTH, ContextPath, FeatureFusion, initialise
from segcore.models.layers import (
    AbsoluteNorm,
    ConvBNReLU,
    Enlargement,
    Outputs,
    accepts_side,
    enlarge,
    pad_to_multiple,
)


@dataclass(frozen=True)
class Generation:
    """What distinguishes one generation.

    Attributes:
        squeeze: the fusion's attention is the paper's two convolutions without norm, not one with.
        enlargement: how logits reach the image's size.
        bias: whether classifiers have one.
        leaky: norms scale by |weight| + 1e-5 and leaky ReLUs (0.01) follow them: the in-place activated norm.
        spatial_path: without it ("diss" in the reference) the ResNet's map at 1/8 is fused in its place.
    """

    squeeze: bool = True
    enlargement: Enlargement = "factor"
    bias: bool = True
    leaky: bool = False
    spatial_path: bool = True


GENERATIONS = {
    # Since 2021-07-13.
    "bisenetv1": Generation(squeeze=False),
    # 2021-07-07 to 07-12.
    "bisenetv1_2021": Generation(),
    # 2020-09 to 2021-06, when TensorRT could not parse bilinear resizing.
    "bisenetv1_2020": Generation(enlargement="shuffle"),
    # 2019, and its forms for half precision (also that of 2020-08) and without spatial path.
    "bisenetv1_old": Generation(enlargement="corners", bias=False, leaky=True),
    "bisenetv1_old_bn": Generation(enlargement="corners", bias=False),
    "bisenetv1_diss": Generation(enlargement="corners", bias=False, leaky=True, spatial_path=False),
}


class BasicBlock(nn.Module):
    """ResNet's block of two convolutions (He et al., CVPR 2016): N×inputs×H×W -> N×outputs×⌈H/stride⌉×⌈W/stride⌉."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.downsample(x))


class ResNet18(nn.Module):
    """N×3×H×W -> maps at 1/8 (128 channels), 1/16 (256) and 1/32 (512); sides are rounded up.

    torchvision's by its names, and by its results where ReLUs are not leaky. Its own class cannot be used for both:
    there one ReLU serves after the first norm, where it may be leaky, and after the sum, where it never is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        x = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        eighth = self.layer2(x)
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class SpatialPath(nn.Sequential):
    """N×3×H×W -> N×128×⌈H/8⌉×⌈W/8⌉."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(3, 64, 7, 2)
        self.conv2 = ConvBNReLU(64, 64, 3, 2)
        self.conv3 = ConvBNReLU(64, 64, 3, 2)
        self.conv_out = ConvBNReLU(64, 128, 1)


class Head(nn.Module):
    """CBR, then the classifier: N×inputs×h×w -> logits N×num_classes×h×w, or ×uh×uw with pixel shuffle.

    Args:
        inputs, width: channels before and after the CBR.
        num_classes: number of output channels.
        factor: stride u of the head's input.
        generation: decides on bias and shuffle.
    """

    def __init__(self, inputs: int, width: int, num_classes: int, factor: int, generation: Generation) -> None:
        super().__init__()
        shuffled = generation.enlargement == "shuffle"
        # What `enlarge` is to do with the logits.
        self.stride = {"factor": factor, "shuffle": 1, "corners": None}[generation.enlargement]
        self.conv = ConvBNReLU(inputs, width)
        self.conv_out = nn.Conv2d(width, num_classes * (factor**2 if shuffled else 1), 1, bias=generation.bias)
        self.shuffle = nn.PixelShuffle(factor) if shuffled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.shuffle(self.conv_out(self.conv(x)))


class BiSeNetV1(nn.Module):
    """The network; see `segcore.models.build_model` for how it is called.

    A side n runs unpadded where ⌈n/8⌉ is a multiple of 4, as the reference accepts it; others are padded to 32. Where
    corners meet corners any side runs unpadded.
    """

    # Children whose parameters learn with the head's (tenfold) rate; the fusion is among them.
    heads = ("ffm", "conv_out", "conv_out16", "conv_out32")
    # Modules that a pretrained backbone file fills.
    backbone = ("cp.resnet",)

    def __init__(self, generation: Generation, num_classes: int = 19, auxiliary: bool = False) -> None:
        super().__init__()
        self.generation, self.auxiliary = generation, auxiliary
        self.cp = ContextPath("resnet", ResNet18(), (256, 512))
        if generation.spatial_path:
            self.sp = SpatialPath()
        self.ffm = FeatureFusion(128, generation.squeeze)
        self.conv_out = Head(256, 256, num_classes, 8, generation)
        if auxiliary:
            # Names as released; they hang on the context maps at 1/8 and 1/16.
            self.conv_out16 = Head(WIDTH, 64, num_classes, 8, generation)
            self.conv_out32 = Head(WIDTH, 64, num_classes, 16, generation)
        if generation.leaky:
            _make_leaky(self)
        initialise(self, self.backbone[0])

    @staticmethod
    def decays(parameter: Tensor) -> bool:
        """Weight decay falls on convolution weights, not on norms and biases."""
        return parameter.dim() == 4

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of every head there is."""
        return [getattr(self, name).conv_out for name in self.heads[1:] if hasattr(self, name)]

    def decode(self, images: Tensor) -> Tensor:
        """N×3×H×W -> logits N×num_classes×⌈H/8⌉×⌈W/8⌉; with pixel shuffle ×8⌈H/8⌉×8⌈W/8⌉, stride 1."""
        return self.conv_out(self._features(images)[0])

    def _features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eighth, context8, context16 = self.cp(images)
        fine = self.sp(images) if self.generation.spatial_path else eighth
        return self.ffm(fine, context8), context8, context16

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor | Outputs:
        """See `segcore.models.build_model`."""
        given = (images.shape[-2], images.shape[-1])
        if self.generation.enlargement != "corners":
            images = pad_to_multiple(images, (accepts_side(given[0]), accepts_side(given[1])))
        padded = (images.shape[-2], images.shape[-1])
        fused, context8, context16 = self._features(images)
        logits = enlarge(self.conv_out(fused), self.conv_out.stride, size, given, padded)
        if not (self.auxiliary and self.training):
            return logits
        heads = ((self.conv_out16, context8), (self.conv_out32, context16))
        return Outputs(logits, tuple(enlarge(head(x), head.stride, size, given, padded) for head, x in heads))


def _make_leaky(net: nn.Module) -> None:
    """Puts the in-place activated norm's arithmetic in place of every norm and of the ReLUs that follow one.

    Those are the ReLUs that are modules; the ones after a residual sum and in the fusion's attention are function calls
    and stay as they are.
    """
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, AbsoluteNorm(child.num_features))
            elif isinstance(child, nn.ReLU):
                setattr(module, name, nn.LeakyReLU(0.01, inplace=True))


def build(name: str, num_classes: int, auxiliary: bool) -> BiSeNetV1:
    """Builds the network called `name`, a key of `GENERATIONS`."""
    return BiSeNetV1(GENERATIONS[name], num_classes, auxiliary)
