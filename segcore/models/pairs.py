"""The scene-parsing networks by name, `<encoder>_<decoder>`, and which pairs fit; needs no torch.

Encoders and decoders are those of CSAILVision/semantic-segmentation-pytorch. There the width of the last map, the
stride of the labels and the padding of a batch are options that must agree with the pair; here they follow from it.
"""

from __future__ import annotations

from typing import NamedTuple


class Maps(NamedTuple):
    """What an encoder hands to its decoder, fine to coarse.

    Attributes:
        channels: of each map.
        strides: of each map to the input.
        coarsest: the largest stride inside the encoder; sides that are a multiple of it lose nothing to rounding.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    coarsest: int


class Pair(NamedTuple):
    """An encoder and a decoder that fit."""

    encoder: str
    decoder: str

    @property
    def stride(self) -> int:
        """Of the logits to the input; training reduces its labels by it."""
        strides = ENCODERS[self.encoder].strides
        return strides[0] if self.decoder in UPERNETS else strides[-1]

    @property
    def multiple(self) -> int:
        """What the reference pads the sides of a batch to."""
        return ENCODERS[self.encoder].coarsest

    @property
    def any_size(self) -> bool:
        """Whether one exported graph can take any size; the windows of a pyramid are fixed by it."""
        return self.decoder.startswith("c1")


UPERNETS = ("upernet", "upernet_lite")
DECODERS = ("c1", "c1_deepsup", "ppm", "ppm_deepsup", *UPERNETS)

_BOTTLENECKS = (256, 512, 1024, 2048)
_RESNETS = {
    "resnet18": (64, 128, 256, 512),
    "resnet50": _BOTTLENECKS,
    "resnet101": _BOTTLENECKS,
    "resnext101": _BOTTLENECKS,
}
_DILATIONS = {"": (4, 8, 16, 32), "dilated8": (4, 8, 8, 8), "dilated16": (4, 8, 16, 16)}

ENCODERS: dict[str, Maps] = {
    f"{resnet}{suffix}": Maps(channels, strides, strides[-1])
    for resnet, channels in _RESNETS.items()
    for suffix, strides in _DILATIONS.items()
} | {
    "mobilenetv2dilated": Maps((24, 32, 64, 160, 320), (4, 8, 8, 8, 8), 8),
    "hrnetv2": Maps((720,), (4,), 32),
}


def misfit(encoder: str, decoder: str) -> str | None:
    """Why a decoder cannot stand on an encoder; None if it can."""
    channels, strides, _ = ENCODERS[encoder]
    if decoder in UPERNETS and channels != _BOTTLENECKS:
        wanted, given = (", ".join(map(str, widths)) for widths in (_BOTTLENECKS, channels))
        return f"{decoder} wants maps of {wanted} channels (resnet50, resnet101, resnext101), {encoder} gives {given}"
    if decoder.endswith("deepsup") and len(strides) < 2:
        plain = decoder.removesuffix("_deepsup")
        return f"{decoder} supervises the second-to-last map, {encoder} gives only one; take {plain}"
    if decoder.endswith("deepsup") and strides[-2] != strides[-1]:
        return (
            f"{decoder} trains the last two maps against one label, those of {encoder} have strides "
            f"{strides[-2]} and {strides[-1]}; take {encoder}dilated8 or {encoder}dilated16"
        )
    return None


PAIRS: dict[str, Pair] = {
    f"{encoder}_{decoder}": Pair(encoder, decoder)
    for encoder in ENCODERS
    for decoder in DECODERS
    if not misfit(encoder, decoder)
}


def refusal(name: str) -> str | None:
    """Why there is no network `name` although its encoder and its decoder exist; None for any other name."""
    encoder, _, decoder = name.partition("_")
    return misfit(encoder, decoder) if encoder in ENCODERS and decoder in DECODERS else None
