"""The recipe's section `benchmark`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, MinLen

from segcore.deploy.backends import BACKENDS
from segcore.deploy.case import PRECISIONS
from segcore.deploy.protocols import PROTOCOLS
from segcore.errors import RecipeError, did_you_mean


@dataclass(frozen=True)
class BenchmarkRecipe:
    """What is timed: every size, batch and precision in every backend.

    Args:
        sizes: heights and widths in pixels.
        batches: images per run.
        precisions: "fp32", "bf16", "fp16", "int8".
        backends: "torch" (eager), "torch-compile", "torch-cudagraph", "onnxruntime", "openvino", "tensorrt"; a row
            that this machine cannot measure says why.
        seconds: timed seconds per row, at least; there are never fewer than 20 runs.
        warmup: seconds of runs before them, at least.
        images: validation images that every engine is scored on, at most; evenly spread over the list.
        calibration: training images that int8 is calibrated on.
        seed: of their choice.
        protocol: "ours", or a published one of `segcore.deploy.protocols`, which ignores seconds and warmup.
        code: digest of the code the stage runs.
    """

    sizes: Annotated[tuple[tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]], ...], MinLen(1)]
    batches: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1,)
    precisions: Annotated[tuple[str, ...], MinLen(1)] = ("fp32",)
    backends: Annotated[tuple[str, ...], MinLen(1)] = tuple(BACKENDS)
    seconds: Annotated[float, Gt(0)] = 3.0
    warmup: Annotated[float, Ge(0)] = 1.0
    images: Annotated[int, Gt(0)] = 200
    calibration: Annotated[int, Gt(0)] = 32
    seed: int = 1
    protocol: str = "ours"
    code: str = ""

    def __post_init__(self) -> None:
        _check_names("backend", self.backends, tuple(BACKENDS))
        _check_names("precision", self.precisions, PRECISIONS)
        _check_names("protocol", (self.protocol,), ("ours", *PROTOCOLS))


def _check_names(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"benchmark: unknown {kind} {name!r}; {did_you_mean(name, known)}")
