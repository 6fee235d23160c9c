"""How far an exported file is from the network it was made of, on pictures: the report every export ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from segcore.data.transforms import normalise
from segcore.deploy.engine import Engine
from segcore.deploy.metadata import MULTIPLE
from segcore.errors import ExportError

# The share of pixels with the same class. float32 differs by rounding, where two classes are equal but for it; the
# others lose bits in every layer, and classes turn over along borders.
LEAST_AGREEMENT = {"fp32": 0.999, "fp16": 0.99, "bf16": 0.95, "int8": 0.9}


def fitted(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 H×W×3 resized to `size`; where that is None, to the nearest multiples of 32."""
    height, width = size or (max(round(side / MULTIPLE), 1) * MULTIPLE for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


@torch.inference_mode()
def compare(net: nn.Module, engine: Engine, photographs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Runs both on the pictures, one at a time.

    Args:
        net: the network that is scored: float32, in eval mode, on the CPU.
        engine: the exported file.
        photographs: uint8 H×W×3 RGB, resized to what the file takes.

    Returns:
        {"images", "argmax_agreement", "least_agreement", "max_difference", "mean_difference", "spread"}; the
        differences are of logits, whose standard deviation `spread` is, and None for a file that gives classes.
    """
    shape, same, pixels, largest, total, squares, values = engine.file.shape, 0, 0, 0.0, 0.0, 0.0, 0
    statistics = engine.file.normalisation
    for photograph in photographs:
        batch = torch.from_numpy(normalise(fitted(photograph, shape.size), statistics["mean"], statistics["std"]))[None]
        wanted: Tensor = net(batch, shape.camera) if shape.camera else net(batch)
        got = engine(batch)
        same += int((got.argmax(1) == wanted.argmax(1)).sum())
        pixels += wanted[:, 0].numel()
        difference = (got - wanted).abs().double()
        largest = max(largest, float(difference.max().nan_to_num(torch.inf)))
        total, values = total + float(difference.sum()), values + difference.numel()
        squares += float((wanted - wanted.mean()).double().square().sum())
    logits = shape.output == "logits"
    return {
        "images": len(photographs),
        "argmax_agreement": round(same / pixels, 6),
        "least_agreement": LEAST_AGREEMENT[shape.precision],
        "max_difference": _short(largest) if logits else None,
        "mean_difference": _short(total / values) if logits else None,
        "spread": _short((squares / values) ** 0.5) if logits else None,
    }


def refuse_mismatch(report: dict[str, Any], name: str) -> None:
    """Raises ExportError where a file may not pass for its model."""
    if report["argmax_agreement"] < report["least_agreement"]:
        raise ExportError(
            f"{name}: not written: its class map agrees with the model's in {report['argmax_agreement']:.2%} of the "
            f"pixels only ({report['images']} images), {report['least_agreement']:.1%} is the least; "
            "take another precision, or more calibration images"
        )


def _short(value: float) -> float | None:
    """Six digits; None for what JSON cannot write."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
