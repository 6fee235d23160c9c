"""Scene parsing (Zhou et al., IJCV 2019, arXiv 1608.05442) as CSAILVision/semantic-segmentation-pytorch publishes it.

An encoder hands its maps to a decoder: a plain classifier (c1), pyramid pooling (ppm; Zhao et al., CVPR 2017) or
UPerNet (Xiao et al., ECCV 2018). `segcore.models.pairs` lists the pairs. Names and their order are those of the
released files, with `encoder.` and `decoder.` before them.

Norms have the usual momentum of 0.1. The reference's own synchronised norm averages plainly over its first thousand
steps and then forgets at a rate of 0.001, which is a matter of training (`segcore.norms.RunningAverage`) and not of the
network; a fixed 0.001, as it uses on a single device, would leave the fresh decoder's statistics where they started.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.models.layers import Outputs
from segcore.models.pairs import ENCODERS, PAIRS, Maps
from segcore.models.scene.decoders import C1, PPM, Decoder, UPerNet
from segcore.models.scene.hrnet import HRNetV2
from segcore.models.scene.mobilenet import MobileNetV2
from segcore.models.scene.resnet import RESNETS, ResNet


class Scene(nn.Module):
    """An encoder and a decoder; see `segcore.models.build_model` for how it is called. Any side works unpadded."""

    # The decoder has an optimiser of its own in the reference, at the encoder's rate. The deep branch is named for
    # files that hold it: a network without it leaves it out.
    heads = ("decoder", "decoder.cbr_deepsup", "decoder.conv_last_deepsup")
    # Modules that a pretrained backbone file fills.
    backbone = ("encoder",)

    def __init__(self, encoder: nn.Module, decoder: Decoder, auxiliary: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.auxiliary = auxiliary

    @staticmethod
    def decays(parameter: Tensor) -> bool:
        """Weight decay falls on convolution weights, not on norms and biases."""
        return parameter.dim() == 4

    def classifiers(self) -> list[nn.Conv2d]:
        """The last convolution of every head there is."""
        return self.decoder.classifiers()

    def decode(self, images: Tensor) -> Tensor:
        """N×3×H×W -> logits N×num_classes×⌈H/stride⌉×⌈W/stride⌉, with the pair's stride."""
        return self.decoder(self.encoder(images))

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor | Outputs:
        """See `segcore.models.build_model`; `Outputs` has the logits of main and deep branch at their own stride."""
        maps = self.encoder(images)
        logits = self.decoder(maps)
        if self.auxiliary and self.training:
            return Outputs(logits, self.decoder.deep(maps))
        return F.interpolate(logits, size or images.shape[-2:], mode="bilinear", align_corners=False)


def _encoder(name: str) -> nn.Module:
    if name == "hrnetv2":
        return HRNetV2()
    if name == "mobilenetv2dilated":
        return MobileNetV2()
    resnet, _, stride = name.partition("dilated")
    return ResNet(*RESNETS[resnet], output_stride=int(stride or 32))


def _decoder(name: str, maps: Maps, num_classes: int, auxiliary: bool) -> Decoder:
    kind, _, variant = name.partition("_")
    if kind == "upernet":
        return UPerNet(maps.channels, num_classes, width=256 if variant == "lite" else 512)
    decoder = {"c1": C1, "ppm": PPM}[kind]
    return decoder(maps.channels, num_classes, deep=auxiliary and variant == "deepsup")


def build(name: str, num_classes: int, auxiliary: bool) -> Scene:
    """Builds the network called `name`, one of `segcore.models.pairs.PAIRS`."""
    pair = PAIRS[name]
    decoder = _decoder(pair.decoder, ENCODERS[pair.encoder], num_classes, auxiliary)
    return Scene(_encoder(pair.encoder), decoder, auxiliary)
