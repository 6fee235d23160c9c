"""Files of CoinCheung/BiSeNet, of every generation, and torchvision's ResNet-18 that its BiSeNetV1 starts from.

Names are ours already; what is to be told is the generation. Entry counts do not tell it (218 and 383 occur twice), and
neither do shapes alone, as any number of classes is possible. `num_batches_tracked` is a hint and no proof: the
in-place activated norm never had it, but nor has an ordinary norm saved before PyTorch 0.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from segcore.models.checkpoints.state import COUNTER, Release

# By these entries a file of this family is known.
V1_KEY, V2_KEY = "cp.resnet.conv1.weight", "detail.S1.0.conv.weight"
RESNET_KEY = "layer1.0.conv1.weight"
V2_CLASSIFIERS = {
    "head.conv_out.1.weight": "bisenetv2",
    "head.conv_out.0.weight": "bisenetv2_2020",
    "head.conv_out.weight": "bisenetv2_old",
}


def read(state: Mapping[str, Tensor]) -> Release | None:
    """Understands a whole network's file; None if it is none of this family, or of no generation known."""
    if V1_KEY in state:
        networks = _generations_of_v1(state)
    elif V2_KEY in state:
        networks = tuple(name for key, name in V2_CLASSIFIERS.items() if key in state)
    else:
        return None
    return Release(networks, dict(state)) if networks else None


def _generations_of_v1(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Likeliest first."""
    if "ffm.conv.weight" in state:
        return ("bisenetv1",)
    if "ffm.conv1.weight" not in state:
        return ()
    if "conv_out.conv_out.bias" in state:
        return _with_bias(state)
    if not any(name.startswith("sp.") for name in state):
        return ("bisenetv1_diss",)
    ordinary = any(name.endswith(COUNTER) for name in state)
    return ("bisenetv1_old_bn", "bisenetv1_old") if ordinary else ("bisenetv1_old", "bisenetv1_old_bn")


def _with_bias(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Pixel shuffle gives every class 8² rows, and 16² in the head at 1/16; without that head, rows may not tell."""
    rows = len(state["conv_out.conv_out.bias"])
    coarse = state.get("conv_out32.conv_out.bias")
    if coarse is not None and len(coarse) == 4 * rows:
        return ("bisenetv1_2020",)
    if coarse is not None or rows % 64:
        return ("bisenetv1_2021",)
    return ("bisenetv1_2020", "bisenetv1_2021")


def nest(resnet: Mapping[str, Tensor]) -> dict[str, Any]:
    """torchvision's flat ResNet as a backbone file: {module: its state dict}, and None for what has no place."""
    inside = {name: value for name, value in resnet.items() if not name.startswith("fc.")}
    return {"cp.resnet": inside, **{name: None for name in resnet if name not in inside}}
