"""Deployment: the exported graph, the runtimes, and a speed sheet of exactly the network that was scored."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor, nn

from segcore.data.transforms import normalise
from segcore.deploy.backends import BACKENDS, PRECISIONS, Case, Runner, open_torch
from segcore.deploy.export import DeployGraph
from segcore.deploy.timing import LoadMeter, Timing, describe_device, machine_lock, time_runs
from segcore.errors import RecipeError, did_you_mean
from segcore.models.fuse import fuse
from segcore.progress import Progress

# Equal class maps but for rounding; bf16 has 8 bits, so that more pixels on class borders turn over.
LEAST_AGREEMENT = {"fp32": 0.99, "bf16": 0.95}


@dataclass(frozen=True)
class BenchmarkRecipe:
    """What is timed: every size, batch and precision in every backend.

    Args:
        sizes: heights and widths in pixels.
        batches: images per run.
        precisions: "fp32", "bf16".
        backends: "torch", "onnxruntime", "openvino", "tensorrt"; a missing one is a row that says so.
        seconds: timed seconds per row, at least; there are never fewer than 20 runs.
        warmup: seconds of runs before them, at least.
        code: digest of the code the stage runs.
    """

    sizes: Annotated[tuple[tuple[Annotated[int, Gt(0)], Annotated[int, Gt(0)]], ...], MinLen(1)]
    batches: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1,)
    precisions: Annotated[tuple[str, ...], MinLen(1)] = ("fp32",)
    backends: Annotated[tuple[str, ...], MinLen(1)] = tuple(BACKENDS)
    seconds: Annotated[float, Gt(0)] = 3.0
    warmup: Annotated[float, Ge(0)] = 1.0
    code: str = ""

    def __post_init__(self) -> None:
        _check_names("backend", self.backends, tuple(BACKENDS))
        _check_names("precision", self.precisions, PRECISIONS)


def benchmark(
    net: nn.Module,
    photographs: Sequence[np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    recipe: BenchmarkRecipe,
    device: str = "cpu",
) -> dict[str, Any]:
    """Times `net` with argmax, from normalised images in memory to their class map.

    What is timed is the network's inference form (`segcore.models.fuse`), and only after its class map of the
    photographs agreed with that of `net` itself in PyTorch and float32. Waits for other benchmarks on the machine; all
    backends get PyTorch's number of threads.

    Args:
        net: images -> logits at the images' size, in eval mode, on `device`.
        photographs: uint8 H×W×3 RGB; real ones, for on noise every class map is rounding. Resized to each size.
        mean, std: per channel, of the image in [0, 1].
        recipe: what to time.
        device: "cpu" or a CUDA device.

    Returns:
        {"device": what it ran on, "results": one row per size, batch, precision and backend}. A row's "status" is
        "measured", "mismatch" or "not measured"; only the first has times and "fps" (batch / median latency).

    Raises:
        BenchmarkError: another benchmark does not end.
    """
    threads, scored, timed = torch.get_num_threads(), DeployGraph(net).eval(), DeployGraph(fuse(net)).eval()
    plan = list(itertools.product(recipe.sizes, recipe.batches))
    rows: list[dict[str, Any]] = []
    with machine_lock(), tempfile.TemporaryDirectory() as folder:
        about = describe_device(torch.device(device), threads)
        loaded = _others_are_busy()
        with Progress("benchmark", len(plan) * len(recipe.precisions) * len(recipe.backends)) as progress:
            for size, batch in plan:
                case = Case(timed, size, batch, torch.device(device), threads, Path(folder))
                images = _batches(photographs, size, batch, mean, std)
                reference = _class_maps(open_torch(replace(case, graph=scored), "fp32"), images)
                for precision, backend in itertools.product(recipe.precisions, recipe.backends):
                    meter = LoadMeter()
                    rows.append(_row(case, backend, precision, images, reference, recipe))
                    loaded |= meter.loaded()
                    progress.advance(1, summary(rows[-1]))
    return {"device": about | {"loaded": loaded}, "results": rows}


def _row(
    case: Case, backend: str, precision: str, images: Sequence[Tensor], reference: np.ndarray, recipe: BenchmarkRecipe
) -> dict[str, Any]:
    row = {"backend": backend, "precision": precision, "size": list(case.size), "batch": case.batch}
    try:
        runner = BACKENDS[backend](case, precision)
        agreement = float(np.mean(_class_maps(runner, images) == reference))
        if agreement < LEAST_AGREEMENT[precision]:
            reason = f"its class map agrees with PyTorch's in {agreement:.1%} of the pixels only"
            return row | {"status": "mismatch", "reason": reason, "argmax_agreement": round(agreement, 6)}
        timing = time_runs(partial(runner.infer, runner.place(images[0])), recipe.warmup, recipe.seconds)
    except Exception as error:  # foreign code in a graph it may not support: costs this row, not the others
        return row | {"status": "not measured", "reason": (str(error) or repr(error)).splitlines()[0]}
    return row | _measured(timing, case) | {"argmax_agreement": round(agreement, 6), "threads": case.threads}


def _measured(timing: Timing, case: Case) -> dict[str, Any]:
    return {
        "status": "measured",
        "fps": round(case.batch / timing.median, 4),
        "latency_ms": timing.latency_ms(),
        "samples": len(timing.samples),
        "seconds": round(sum(timing.samples), 3),
        "warmup_seconds": round(timing.warmup, 3),
    }


def _batches(
    photographs: Sequence[np.ndarray], size: tuple[int, int], batch: int, mean: Sequence[float], std: Sequence[float]
) -> list[Tensor]:
    """float32 batch×3×H×W each, together every photograph; the last one is filled up from the first photographs."""
    height, width = size
    images = [normalise(cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA), mean, std) for p in photographs]
    filled = itertools.islice(itertools.cycle(images), math.ceil(len(images) / batch) * batch)
    return list(torch.from_numpy(np.stack(list(filled))).split(batch))


def _class_maps(runner: Runner, images: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([runner(batch) for batch in images])


def _others_are_busy(seconds: float = 0.5) -> bool:
    meter = LoadMeter()
    time.sleep(seconds)
    return meter.loaded()


def summary(row: dict[str, Any]) -> str:
    """One line for a person about a row of `benchmark`."""
    if row["status"] == "measured":
        result = f"{row['fps']:.1f} fps (median {row['latency_ms']['median']:.2f} ms)"
    else:
        result = f"{row['status']}: {row['reason']}"
    height, width = row["size"]
    return f"{row['backend']} {row['precision']} {height}x{width} b{row['batch']}: {result}"


def _check_names(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"benchmark: unknown {kind} {name!r}; {did_you_mean(name, known)}")
