"""Tiny data sets in a store of their own, and the stages that turn them into lists."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import pipeline.resolve as resolve_module
from pipeline import annotations, fetch

SIZE = (24, 32)


def run(stage: Callable[[], None]) -> None:
    """A stage as DVC runs it."""
    with pytest.raises(SystemExit) as ended:
        stage()
    assert not ended.value.code


def lists_of(dataset: str) -> dict:
    """The statistics that annotations write, after resolve and fetch."""
    Path("params.yaml").write_text(f"model: bisenetv2\ndataset: {dataset}\n")
    for stage in (resolve_module.main, fetch.main, annotations.main):
        run(stage)
    return json.loads(Path("work/annotations/statistics.json").read_text())


def picture(path: Path, *values: int) -> Path:
    """A photograph of noise, each another, or a label map whose columns have these values in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (*SIZE, 3))
    pixels = np.resize(values, SIZE) if values else noise
    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return path
