"""What is known of each network beside its code: the size it was published at, its published results, its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from segcore.models import build_model

NOTHING = "no published number"


@dataclass(frozen=True)
class Card:
    """A network as published.

    Attributes:
        published: mIoU % and where; by whom stands in `source`.
        source: repository or paper.
        size: height and width in pixels of the published cost.
        num_classes: of the published network.
        statistics: `dataset` or `imagenet`, which the released weights were trained with; `either` where files of both
            kinds circulate and do not say which they are; `declared` where the user must say what the file's input is.
        modes: evaluation modes of the published results.
    """

    published: str
    source: str
    size: tuple[int, int] = (1024, 2048)
    num_classes: int = 19
    statistics: Literal["dataset", "imagenet", "either", "declared"] = "dataset"
    modes: tuple[str, ...] = ("ss", "ssc", "msf", "mscf")


_COINCHEUNG = "CoinCheung/BiSeNet"
_STDC = "MichaelFan01/STDC-Seg"
_SCENE = "CSAILVision/semantic-segmentation-pytorch"


def _stdc(published: str) -> Card:
    return Card(published, _STDC, (512, 1024), statistics="imagenet", modes=("seg50", "seg75"))


def _scene(published: str) -> Card:
    return Card(published, _SCENE, (512, 512), 150, "declared", ("ade_ss",))


# Modes: ss ssc msf mscf unless said; Cityscapes val for 19 classes, ADE20K val (single / multi-scale) for 150.
CARDS: dict[str, Card] = {
    "bisenetv1": Card("75.44 76.94 77.45 78.86", _COINCHEUNG),
    "bisenetv1_2021": Card("75.10 76.90 77.22 78.73", f"{_COINCHEUNG}, July 2021"),
    "bisenetv1_2020": Card("75.55 76.90 77.40 78.91", f"{_COINCHEUNG}, September 2020"),
    "bisenetv1_old_bn": Card("74.85 76.46 77.36 78.72", f"{_COINCHEUNG}, August 2020", statistics="either"),
    "bisenetv1_old": Card("78.45 mscf_old", f"{_COINCHEUNG}, old", statistics="imagenet", modes=("mscf_old",)),
    "bisenetv1_diss": Card("78.48 mscf_old", f"{_COINCHEUNG}, old/diss", statistics="imagenet", modes=("mscf_old",)),
    "bisenetv2": Card("74.95 75.58 76.53 77.08", _COINCHEUNG),
    "bisenetv2_2020": Card("74.12 74.18 75.89 75.87", f"{_COINCHEUNG}, September 2020"),
    "bisenetv2_old": Card("74.39 74.44 76.10 75.94", f"{_COINCHEUNG}, August 2020"),
    "stdc1": _stdc("72.22 seg50 · 74.50 seg75"),
    "stdc2": _stdc("74.24 seg50 · 77.04 seg75"),
    "mobilenetv2dilated_c1_deepsup": _scene("32.39 / 33.84"),
    "mobilenetv2dilated_ppm_deepsup": _scene("35.76 / 36.28"),
    "resnet18dilated8_c1_deepsup": _scene("33.82 / 35.34"),
    "resnet18dilated8_ppm_deepsup": _scene("38.00 / 38.81"),
    "resnet50dilated8_c1_deepsup": _scene("34.88 / 35.49"),
    "resnet50dilated8_ppm_deepsup": _scene("41.26 / 42.14"),
    "resnet101dilated8_ppm_deepsup": _scene("42.19 / 42.53"),
    "resnet50_upernet": _scene("40.44 / 41.55"),
    "resnet101_upernet": _scene("42.00 / 42.66"),
    "hrnetv2_c1": _scene("42.03 / 43.20"),
}


def card(name: str) -> Card:
    """The network's card; for a pair of encoder and decoder that nobody published, one that says so."""
    return CARDS.get(name) or _scene(NOTHING)


# How CoinCheung/BiSeNet scores a data set: window of the crop modes for V1 and for V2, and the start size's short side.
_WINDOWS = {"cityscapes": (1024, 1024), "cocostuff": (512, 640), "ade20k": (512, 640)}


def protocol(name: str, dataset: str) -> dict[str, Any]:
    """Settings for `segcore.evaluate.EvaluateRecipe` under which a released network's numbers were published.

    For a data set it was not published on: whole images, one scale.
    """
    modes = card(name).modes
    if "ssc" not in modes and "mscf_old" not in modes:
        return {"modes": list(modes)}
    if dataset not in _WINDOWS:
        return {"modes": ["ss"]}
    side = _WINDOWS[dataset][name.startswith("bisenetv2")]
    start = {"start_shortside": side} if dataset == "ade20k" else {}
    return {"modes": list(modes), "crop": [side, side], **start}


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates (1e9) of the convolutions for one image of the given size."""

    parameters: int
    training_parameters: int
    gmac: float


def cost(name: str, num_classes: int, size: tuple[int, int]) -> Cost:
    """Counted on the network itself, without computing anything (tensors without data)."""
    with torch.device("meta"):
        net = build_model(name, num_classes).eval()
        training = build_model(name, num_classes, auxiliary=True)
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            net(torch.empty(1, 3, *size))
    sizes = (sum(p.numel() for p in module.parameters()) for module in (net, training))
    return Cost(*sizes, gmac=counter.get_total_flops() / 2e9)
