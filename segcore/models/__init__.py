"""The networks, by name. Each family is one file or package; `layers.py` holds what several of them share."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from segcore.errors import RecipeError, did_you_mean
from segcore.models.pairs import PAIRS, refusal

if TYPE_CHECKING:
    from torch import nn

# name -> module of this package that builds it; a module is imported when one of its networks is asked for.
FAMILIES: dict[str, str] = {
    "bisenetv1": "bisenetv1",
    "bisenetv1_2020": "bisenetv1",
    "bisenetv1_2021": "bisenetv1",
    "bisenetv1_diss": "bisenetv1",
    "bisenetv1_old": "bisenetv1",
    "bisenetv1_old_bn": "bisenetv1",
    "bisenetv2": "bisenetv2",
    "bisenetv2_2020": "bisenetv2",
    "bisenetv2_old": "bisenetv2",
    "stdc1": "stdc",
    "stdc2": "stdc",
    **dict.fromkeys(PAIRS, "scene"),
}


def model_names() -> list[str]:
    """All names `build_model` takes."""
    return sorted(FAMILIES)


def family(name: str) -> str:
    """Name of the module that defines network `name`.

    Raises:
        RecipeError: no such network; says why, or names the nearest one.
    """
    if reason := refusal(name):
        raise RecipeError(f"there is no network {name!r}: {reason}")
    if name not in FAMILIES:
        raise RecipeError(f"unknown network {name!r}; {did_you_mean(name, model_names())}")
    return FAMILIES[name]


def build_model(name: str, num_classes: int = 19, *, auxiliary: bool = False) -> nn.Module:
    """Builds a network with fresh weights; touches neither network nor disk.

    Args:
        name: one of `model_names()`.
        num_classes: number of output channels.
        auxiliary: also build the heads that only training needs.

    Returns:
        A module with `model(images, size=None)`: float32 N×3×H×W of normalised RGB, any H and W, to logits
        N×num_classes×`size` (default: the input's size), and `model.decode(images)`: the logits at the net's own
        stride. Built with `auxiliary=True` and in train mode, `model(images)` returns `layers.Outputs`. `model.arch` is
        `name`.

    Raises:
        RecipeError: unknown name, or fewer than one class.
    """
    if num_classes < 1:
        raise RecipeError(f"num_classes must be at least 1, got {num_classes}")
    module = importlib.import_module(f"segcore.models.{family(name)}")
    net = module.build(name, num_classes, auxiliary)
    net.arch = name
    return net
