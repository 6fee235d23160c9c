"""A speed sheet of exactly the network that was scored: every figure beside the mIoU of the engine it belongs to."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segcore.deploy.engine import EngineFile
from segcore.deploy.pictures import Pictures
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.deploy.rows import Bench
from segcore.deploy.timing import LoadMeter, cuda_events, describe_device, machine_lock
from segcore.deploy.versus import alternate
from segcore.models.fuse import fuse
from segcore.progress import Progress


def benchmark(
    subject: nn.Module | EngineFile,
    pictures: Pictures,
    mean: Sequence[float],
    std: Sequence[float],
    recipe: BenchmarkRecipe,
    device: str = "cpu",
) -> dict[str, Any]:
    """Times a network with argmax, from normalised images in memory to their class map, and scores each engine.

    What is timed is the network's inference form (`segcore.models.fuse`), and only after its class map of the
    photographs agreed with that of the network itself in PyTorch and float32. Waits for other benchmarks on the
    machine; all backends get PyTorch's number of threads.

    Args:
        subject: images -> logits at the images' size, in eval mode, on `device`; or an exported file, which is timed as
            it is and compared with nothing.
        pictures: what it is compared, calibrated and scored on.
        mean, std: per channel, of RGB in 0 … 1.
        recipe: what to time.
        device: "cpu" or a CUDA device.

    Returns:
        {"device": what it ran on, "results": one row per size, batch, precision and backend}. A row's "status" is
        "measured", "mismatch" or "not measured"; only the first has times and "fps" (batch / median latency).

    Raises:
        BenchmarkError: another benchmark does not end.
    """
    rows: list[dict[str, Any]] = []
    plan = list(itertools.product(recipe.sizes, recipe.batches))
    with machine_lock(), tempfile.TemporaryDirectory() as folder:
        about = describe_device(torch.device(device), torch.get_num_threads())
        loaded = _others_are_busy()
        net = None if isinstance(subject, EngineFile) else fuse(subject)
        with Progress("benchmark", len(plan) * len(recipe.precisions) * len(recipe.backends)) as progress:
            for size, batch in plan:
                bench = Bench(subject, net, pictures, (mean, std), recipe, torch.device(device), size, batch, folder)
                for precision, backend in itertools.product(recipe.precisions, recipe.backends):
                    meter = LoadMeter()
                    rows.append(bench.row(backend, precision))
                    loaded |= meter.loaded()
                    progress.advance(1, summary(rows[-1]))
    return {"device": about | {"loaded": loaded}, "results": rows}


def duel(
    subjects: Sequence[nn.Module | EngineFile],
    pictures: Sequence[Pictures],
    normalisations: Sequence[dict[str, Any]],
    recipes: Sequence[BenchmarkRecipe],
    device: str = "cpu",
) -> dict[str, Any]:
    """Times two networks or files in turns, in the first size and batch of each; arguments as `benchmark`, by file.

    Returns:
        {"device", "versus": what `segcore.deploy.versus.alternate` says, by precision and backend}.

    Raises:
        ExportError: one of them cannot be run here so.
    """
    found = []
    with machine_lock(), tempfile.TemporaryDirectory() as folder:
        about = describe_device(torch.device(device), torch.get_num_threads()) | {"loaded": _others_are_busy()}
        benches = []
        for number, (subject, mine, statistics, recipe) in enumerate(
            zip(subjects, pictures, normalisations, recipes, strict=True)
        ):
            (place := Path(folder) / str(number)).mkdir()
            net = None if isinstance(subject, EngineFile) else fuse(subject)
            both = (statistics["mean"], statistics["std"])
            first = recipe.sizes[0], recipe.batches[0]
            benches.append(Bench(subject, net, mine, both, recipe, torch.device(device), *first, str(place)))
        watch = cuda_events(torch.device(device)) if device == "cuda" else None
        for precision, backend in itertools.product(recipes[0].precisions, recipes[0].backends):
            runs = [bench.ready(backend, precision) for bench in benches]
            timed = alternate(runs, recipes[0].warmup, recipes[0].seconds, stopwatch=watch)
            found.append({"backend": backend, "precision": precision} | timed)
    return {"device": about, "versus": found}


def _others_are_busy(seconds: float = 0.5) -> bool:
    meter = LoadMeter()
    time.sleep(seconds)
    return meter.loaded()


def summary(row: dict[str, Any]) -> str:
    """One line for a person about a row of `benchmark`."""
    if row["status"] == "measured":
        kind = "median" if "median" in row["latency_ms"] else "mean"
        result = f"{row['fps']:.1f} fps ({kind} {row['latency_ms'][kind]:.2f} ms)"
        result += f", {100 * row['miou']:.2f} % mIoU" if "miou" in row else ""
    else:
        result = f"{row['status']}: {row['reason']}"
    height, width = row["size"]
    return f"{row['backend']} {row['precision']} {height}x{width} b{row['batch']}: {result}"
