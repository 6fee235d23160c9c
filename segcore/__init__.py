"""segcore: real-time semantic segmentation whose numbers come out again.

    >>> import segcore
    >>> net = segcore.build_model("bisenetv2", num_classes=19)
    >>> predictor = segcore.load_model("work/train/model.pt")
    >>> labels = predictor.predict(image)          # uint8 H×W×3 RGB -> uint8 H×W

Names are looked up when first used: importing the package loads neither torch nor any model, and the code a training
run depends on is only the code it runs.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "SegcoreError": "segcore.errors",
    "model_names": "segcore.models",
    "build_model": "segcore.models",
    "load_weights": "segcore.models.checkpoints.released",
    "LoadReport": "segcore.models.checkpoints.state",
    "fuse": "segcore.models.fuse",
    "load_model": "segcore.predict",
    "Predictor": "segcore.predict",
}
__all__ = list(_HOMES)  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'segcore' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
