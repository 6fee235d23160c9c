"""The rows of a speed sheet: an engine is compared with its network, timed, scored, and measured on the disk."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segcore.deploy.accuracy import score
from segcore.deploy.backends import BACKENDS
from segcore.deploy.case import Case, Runner
from segcore.deploy.engine import EngineFile
from segcore.deploy.export import DeployGraph
from segcore.deploy.in_torch import open_torch
from segcore.deploy.parity import LEAST_AGREEMENT
from segcore.deploy.pictures import Pictures, batches, from_png, to_png
from segcore.deploy.protocols import PROTOCOLS
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.deploy.sensors import read_sensors
from segcore.deploy.timing import Timing, cuda_events, time_runs
from segcore.errors import ExportError

# Times beside the headline are for orientation, and get this share of its seconds.
ASIDE, ASIDE_SAMPLES = 3, 5


@dataclass(frozen=True)
class Bench:
    """What is timed at one size and batch; attributes as the arguments of `segcore.deploy.benchmark.benchmark`.

    Attributes:
        net: the inference form of a network; None of an exported file.
        statistics: mean and std.
        folder: existing folder for exported files.
    """

    subject: nn.Module | EngineFile
    net: nn.Module | None
    pictures: Pictures
    statistics: tuple[Sequence[float], Sequence[float]]
    recipe: BenchmarkRecipe
    device: torch.device
    size: tuple[int, int]
    batch: int
    folder: str

    @cached_property
    def case(self) -> Case:
        """What the backends are given."""
        graph = DeployGraph(self.net).eval() if self.net else None
        given = None if self.net else self.subject.path
        calibration = [images.numpy() for images in self._batches(self.pictures.training)]
        threads, folder = torch.get_num_threads(), Path(self.folder)
        return Case(graph, self.size, self.batch, self.device, threads, folder, calibration, given)

    @cached_property
    def images(self) -> list[Tensor]:
        """The photographs, as batches."""
        return self._batches(self.pictures.photographs)

    @cached_property
    def _scored(self) -> Runner:
        """The network as it is scored: in PyTorch and float32, norms and all."""
        return open_torch(replace(self.case, graph=DeployGraph(self.subject).eval()), "fp32")

    @cached_property
    def reference(self) -> np.ndarray | None:
        """Its class maps; None where there is only a file."""
        return _class_maps(self._scored, self.images) if self.net else None

    @cached_property
    def miou(self) -> float | None:
        """Its score, that the precisions are held against."""
        return self.score(self._scored).get("miou") if self.net else None

    def row(self, backend: str, precision: str) -> dict[str, Any]:
        """One engine: compared, timed and scored, or why not."""
        row = {"backend": backend, "precision": precision, "size": list(self.size), "batch": self.batch}
        try:
            self._refuse_unfit(backend, precision)
            runner = self.open(backend, precision)
            agreement = None
            if self.reference is not None:
                agreement = round(float(np.mean(_class_maps(runner, self.images) == self.reference)), 6)
                if agreement < LEAST_AGREEMENT[precision]:
                    reason = f"its class map agrees with PyTorch's in {agreement:.1%} of the pixels only"
                    return row | {"status": "mismatch", "reason": reason, "argmax_agreement": agreement}
            row |= self._timed(runner, backend, precision) | {"argmax_agreement": agreement} | self._about(runner)
            return row | {"threads": self.case.threads, "sensors": read_sensors(self.device)}
        except Exception as error:  # foreign code in a graph it may not support: costs this row, not the others
            return row | {"status": "not measured", "reason": (str(error) or repr(error)).splitlines()[0]}

    def ready(self, backend: str, precision: str) -> Callable[[], object]:
        """One run on the first photographs."""
        self._refuse_unfit(backend, precision)
        runner = self.open(backend, precision)
        return partial(runner.infer, runner.place(self.images[0]))

    def open(self, backend: str, precision: str) -> Runner:
        """The engine, in class maps."""
        runner = BACKENDS[backend](self.case, precision)
        if self.net is None and self.subject.shape.output == "logits":
            return replace(runner, read=lambda logits, read=runner.read: read(logits).argmax(1))
        return runner

    def _refuse_unfit(self, backend: str, precision: str) -> None:
        """Raises ExportError where an exported file is something else than the row."""
        if self.net is not None:
            return
        name, shape = self.subject.path.name, self.subject.shape
        if backend not in self.subject.backends:
            raise ExportError(f"{backend} does not read {name}; {' and '.join(self.subject.backends)} can")
        if precision != shape.precision and (shape.precision, precision) != ("fp32", "bf16"):
            raise ExportError(f"{name} is {shape.precision}, not {precision}")
        if shape.takes != "float32" or shape.camera:
            raise ExportError(f"{name} takes uint8 or gives another size; what is timed takes and gives one size")
        if shape.size not in (None, self.size) or shape.batch not in (None, self.batch):
            raise ExportError(f"{name} takes {shape.batch or 'any'}×3×{shape.size} only")

    def _timed(self, runner: Runner, backend: str, precision: str) -> dict[str, Any]:
        placed = runner.place(self.images[0])
        watch = cuda_events(self.device) if self.device.type == "cuda" else None
        if self.recipe.protocol != "ours":
            protocol = PROTOCOLS[self.recipe.protocol]
            if protocol.logits and self.net is not None:
                runner = BACKENDS[backend](self.case.without_argmax, precision)
            return protocol.measure(partial(runner.infer, placed), time.perf_counter, backend.startswith("torch"))
        timing = time_runs(partial(runner.infer, placed), self.recipe.warmup, self.recipe.seconds, stopwatch=watch)
        return _measured(timing, self.batch) | {
            "clock": "CUDA events" if watch else "host",
            "times_ms": self._apart(runner, backend, precision, timing),
        }

    def _apart(self, runner: Runner, backend: str, precision: str, timing: Timing) -> dict[str, float]:
        """Medians in milliseconds by what is in the time, each holding all that the ones before it hold."""
        seconds = self.recipe.seconds / ASIDE

        def median(run: Any, watch: Any = None) -> float:
            found = time_runs(run, min(self.recipe.warmup, seconds) / 2, seconds, least=ASIDE_SAMPLES, stopwatch=watch)
            return round(1000 * found.median, 4)

        found: dict[str, float] = {}
        if self.net is not None:
            network = BACKENDS[backend](self.case.without_argmax, precision)
            watch = cuda_events(self.device) if self.device.type == "cuda" else None
            found["network"] = median(partial(network.infer, network.place(self.images[0])), watch)
        found["classes"] = round(1000 * timing.median, 4)
        found["copies"] = median(partial(runner, self.images[0]))
        photographs = list(itertools.islice(itertools.cycle(self.pictures.photographs), self.batch))
        encoded = [to_png(photograph) for photograph in photographs]
        found["encoded"] = median(partial(from_png, encoded, runner, self.size, *self.statistics))
        return found

    def _about(self, runner: Runner) -> dict[str, Any]:
        """What the engine is: its arithmetic, size on disk, score, and what the precision cost."""
        about: dict[str, Any] = {"computes": runner.computes} | self.score(runner)
        if runner.file:
            files = [runner.file, *([runner.file.with_suffix(".bin")] if runner.file.suffix == ".xml" else [])]
            about["file_mb"] = round(sum(file.stat().st_size for file in files) / 1e6, 3)
        if "miou" in about and self.miou is not None:
            about["miou_lost"] = round(self.miou - about["miou"], 6)
        return about

    def score(self, runner: Runner) -> dict[str, Any]:
        """Its mIoU on the pictures' samples, see `segcore.deploy.accuracy.score`."""
        if self.pictures.samples is None:
            return {"miou_reason": self.pictures.why}
        return score(runner, self.case, self.pictures.samples, self.recipe.images, *self.statistics)

    def _batches(self, photographs: Sequence[np.ndarray]) -> list[Tensor]:
        return batches(photographs, self.size, self.batch, *self.statistics)


def _measured(timing: Timing, batch: int) -> dict[str, Any]:
    return {
        "status": "measured",
        "fps": round(batch / timing.median, 4),
        "latency_ms": timing.latency_ms(),
        "samples": len(timing.samples),
        "seconds": round(sum(timing.samples), 3),
        "warmup_seconds": round(timing.warmup, 3),
    }


def _class_maps(runner: Runner, images: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([runner(batch) for batch in images])
