"""The tiny nets of the evaluation goldens."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from segcore.evaluate import engine
from segcore.evaluate.engine import predict_together
from segcore.evaluate.modes import Mode

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Description and arrays of a stored reference run."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return json.loads((GOLDEN / f"{name}.json").read_text()), dict(arrays)


def _refweights():
    spec = importlib.util.spec_from_file_location("refweights", GOLDEN / "refweights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refweights = _refweights()


def predict(
    net: torch.nn.Module, image: torch.Tensor, size: tuple[int, int], mode: Mode, num_classes: int, batch: int = 4
) -> torch.Tensor:
    """The class map of one image in one mode, uint8 H×W of `size`."""
    return next(predict_together(net, image, size, [mode], num_classes, batch))[1]


def scores(
    net: torch.nn.Module, image: torch.Tensor, size: tuple[int, int], mode: Mode, num_classes: int, batch: int = 4
) -> torch.Tensor:
    """The sums of which `predict` takes the largest, float32 C×H×W."""
    return next(engine._scores(net, image, size, [mode], num_classes, batch))[1]


class TinyNet(torch.nn.Module):
    """The context-sensitive toy net of `bisenet_eval`; counts its forward passes and the images in them."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"conv.weight": (7, 3, 7, 7), "conv.bias": (7,), "pool.weight": (7, 3, 1, 1)}
        self.tensors = {k: torch.from_numpy(refweights.tensor(f"tiny.{k}", shape)) for k, shape in shapes.items()}
        self.passes = self.images = 0

    def forward(self, images: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        self.passes, self.images = self.passes + 1, self.images + len(images)
        tensors = self.tensors
        values = F.conv2d(images, tensors["conv.weight"], tensors["conv.bias"], stride=4, padding=3)
        values = values + F.conv2d(images.mean((2, 3), keepdim=True), tensors["pool.weight"])
        if size is None and not any(side % 4 for side in images.shape[-2:]):
            return F.interpolate(values, scale_factor=4.0, mode="bilinear")
        return F.interpolate(values, size or images.shape[-2:], mode="bilinear")
