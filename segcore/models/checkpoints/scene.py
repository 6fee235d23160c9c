"""Files of CSAILVision/semantic-segmentation-pytorch, and those of hszhao/semseg for the same deep-stem ResNets.

A network is released in two files, one of its encoder and one of its decoder. Besides the usual entries each norm has
three buffers of the reference's own synchronised norm, and files of PyTorch 0.4 have no counters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from segcore.errors import CheckpointError
from segcore.models.checkpoints.state import Release
from segcore.models.pairs import PAIRS

SYNC_BUFFERS = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")
# What a network trained on ImageNet has after the encoder: the classifiers of ResNet and MobileNetV2, HRNet's head.
IMAGENET_HEAD = ("fc", "classifier", "features.18", "incre_modules", "downsamp_modules", "final_layer")
# By the blocks of a ResNet's third stage.
RESNETS = {2: "resnet18", 6: "resnet50", 23: "resnet101"}
# Channels of the pyramid.
UPERNETS = {"upernet": 512, "upernet_lite": 256}

# The early state's input, BGR in 0 … 255 without a standard deviation, and today's standard deviation of RGB in 0 … 1.
BGR255_MEAN = (102.9801, 115.9465, 122.7717)
IMAGENET_STD = (0.229, 0.224, 0.225)
FIRST_CONVOLUTIONS = ("conv1.weight", "features.0.0.weight")


def read(state: Mapping[str, Tensor]) -> Release | None:
    """Understands a whole network, its entries under `encoder.` and `decoder.`; None if it is none of this family.

    Dilation changes no tensor, and a decoder without its deep branch is that of two networks: then it may be several.
    """
    halves = {half: _under(state, half) for half in ("encoder", "decoder")}
    encoder, decoders = _encoder(halves["encoder"]), _decoders(halves["decoder"])
    networks = tuple(
        name
        for name, pair in PAIRS.items()
        if pair.encoder.partition("dilated")[0] == encoder and pair.decoder in decoders
    )
    return Release(networks, *translate(state)) if networks else None


def combine(states: Mapping[str | Path, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One state dict from a file that holds a whole network, or from an encoder's and a decoder's in either order.

    Args:
        states: path -> its state dict.

    Returns:
        The only file's entries as they are; those of two files with `encoder.` and `decoder.` before them.

    Raises:
        CheckpointError: a half without its other half, or files that are no halves.
    """
    halves = {where: _half(state) for where, state in states.items()}
    where = ", ".join(f"{where} ({half or 'no half of a scene-parsing network'})" for where, half in halves.items())
    if len(states) == 1 and None in halves.values():
        return dict(next(iter(states.values())))
    if sorted(map(str, halves.values())) != ["decoder", "encoder"]:
        raise CheckpointError(f"{where}: give both files of a network, one of an encoder and one of a decoder")
    return {f"{halves[path]}.{name}": value for path, state in states.items() for name, value in state.items()}


def translate(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leaves the synchronised norm's buffers out; our own names stay.

    Returns:
        The state dict without them, and the names left out.
    """
    dropped = tuple(name for name in state if name.endswith(SYNC_BUFFERS))
    return {name: value for name, value in state.items() if name not in dropped}, dropped


def nest(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor] | None]:
    """A file trained on ImageNet, or a released encoder, in the form of a backbone file; {} if it is neither.

    Returns:
        {"encoder": its state dict}, beside it the names of what is left out: the classifier and what follows the
        encoder, and the synchronised norm's buffers.
    """
    if _half(state) != "encoder":
        return {}
    head = [name for name in state if name.startswith(tuple(f"{part}." for part in IMAGENET_HEAD))]
    ours, buffers = translate({name: value for name, value in state.items() if name not in head})
    return {"encoder": ours, **dict.fromkeys([*head, *buffers])}


def from_bgr255(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[float, float, float], tuple[float, float, float]]:
    """Weights for BGR in 0 … 255 (released before August 2019, `baseline-*`) -> the same network for RGB in 0 … 1.

    The first convolution takes its channels in reverse order and the scale of its input into its weights. With the
    mean and standard deviation returned the network gives the same logits to rounding; a border of zeros is the mean
    colour before and after, so that holds there too.

    Args:
        state: a whole network's or an encoder's state dict; files of either kind look the same, so the caller knows.

    Returns:
        The converted state dict, and mean and standard deviation of RGB in 0 … 1 to normalise with.

    Raises:
        CheckpointError: it has no first convolution of a known encoder.
    """
    firsts = [name for name in state if name.removeprefix("encoder.") in FIRST_CONVOLUTIONS]
    if len(firsts) != 1 or state[firsts[0]].shape[1:2] != (3,):
        raise CheckpointError(f"no convolution on three colours ({' or '.join(FIRST_CONVOLUTIONS)}) to convert")
    weight = state[firsts[0]]
    scale = 255 * torch.tensor(IMAGENET_STD, dtype=torch.float64)
    converted = (weight.double().flip(1) * scale.view(1, 3, 1, 1)).to(weight.dtype)
    red, green, blue = (value / 255 for value in reversed(BGR255_MEAN))
    return {**state, firsts[0]: converted}, (red, green, blue), IMAGENET_STD


def _under(state: Mapping[str, Tensor], half: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{half}."): value for name, value in state.items() if name.startswith(f"{half}.")}


def _half(state: Mapping[str, Tensor]) -> str | None:
    if _encoder(state):
        return "encoder"
    return "decoder" if _decoders(state) else None


def _encoder(state: Mapping[str, Tensor]) -> str | None:
    """Name of the encoder without its dilation; None if these are not an encoder's entries."""
    if "features.1.conv.0.weight" in state:
        return "mobilenetv2"
    if "stage4.0.branches.0.0.conv1.weight" in state:
        return "hrnetv2"
    if "conv3.weight" not in state or "layer3.0.conv2.weight" not in state:
        return None
    outputs, inputs = state["layer3.0.conv2.weight"].shape[:2]
    resnet = RESNETS.get(len({name.split(".")[1] for name in state if re.match(r"layer3\.\d+\.", name)}))
    return "resnext101" if resnet == "resnet101" and inputs < outputs else resnet


def _decoders(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The decoders whose entries these can be; () if none."""
    if "fpn_in.0.0.weight" in state:
        return tuple(name for name, width in UPERNETS.items() if width == len(state["fpn_in.0.0.weight"]))
    kind = next((kind for kind, key in (("ppm", "ppm.0.1.weight"), ("c1", "cbr.0.weight")) if key in state), None)
    if not kind:
        return ()
    return (f"{kind}_deepsup",) if "conv_last_deepsup.weight" in state else (kind, f"{kind}_deepsup")
