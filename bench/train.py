"""How fast a training step is, against the same written out plainly (`bench.plain_train`).

    make bench-train
    python -m bench.train --steps 3 --size 64 128

Both train bisenetv2 with its published losses on five heads, on the same images of noise, in turn in this process:
plain, ours, plain, ours. Times are medians over the turns; the processor's are what other programs disturb least.
Before that a few updates without dropout, whose masks the two draw differently, show that both compute the same; peak
memory is of child processes that train one kind each. Last, what kinds of operators take the time. Written to
bench/train.json.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from bench.memory import peak_mib
from bench.plain_train import PlainStep
from segcore.data.datasets import Samples
from segcore.data.labels import TABLES
from segcore.data.loaders import Batch
from segcore.deploy.timing import describe_device
from segcore.distributed import Process
from segcore.dropout import entries_of
from segcore.files import sha256, write_json
from segcore.losses import Losses
from segcore.machine import KEEPING, keep_memory
from segcore.optim import set_learning_rate
from segcore.prepare import Job, criterion, normaliser, positions, schedule, start
from segcore.progress import track
from segcore.recipe import TrainRecipe

Step = Callable[[Batch], float]

MEAN, STD, SEED = (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115), 1
# Parts of operators' names; the first group that has one counts the operator.
GROUPS = {
    "convolution, backward": ("convolution_backward",),
    "convolution": ("convolution", "conv2d"),
    "norms": ("batch_norm",),
    "losses": ("softmax", "nll_loss", "sort", "topk", "nonzero", "aten::index", "aten::gt", "aten::ne"),
    "enlarging": ("upsample",),
    "dropout": ("bernoulli", "dropout"),
    "activations": ("threshold", "relu", "clamp", "sigmoid"),
    "optimiser": ("sgd",),
    "sums and products": ("aten::add", "aten::mul", "aten::div", "aten::sum", "aten::sub", "norm"),
    "moving values": ("copy", "fill", "zero", "cat", "stack"),
}
# What glibc comes to by itself when large pieces are used and freed: M_MMAP_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD.
USUAL = {-4: 65536, -3: 32 << 20, -1: 64 << 20}


class OurStep:
    """The step of `segcore.train`; call it with a batch."""

    def __init__(self, recipe: TrainRecipe) -> None:
        self.process = Process(0, 1, torch.device("cpu"))
        samples = Samples([], Path(), TABLES["cityscapes"])
        job = Job(recipe, samples, MEAN, STD, SEED, Path(), Path())
        self.run, self.factor, self.prepare = start(job, self.process), schedule(recipe), normaliser(job, self.process)
        self.losses, self.recipe, self.done = criterion(recipe, self.factor), recipe, 0

    @property
    def net(self) -> nn.Module:
        """The network."""
        return self.run.net

    def __call__(self, batch: Batch) -> float:
        """One update; the loss before it."""
        (entries,) = positions(self.recipe, self.done, self.process)
        step = self.run.update([partial(self._part, batch, entries)], stop=False)
        self.done += 1
        return float(step.losses[0])

    def _part(self, batch: Batch, entries: range) -> Losses:
        with entries_of(entries):
            outputs = self.run.outer(self.prepare(batch))
        return self.losses(outputs, batch.labels, self.done)


def plain_step(recipe: TrainRecipe) -> PlainStep:
    """The baseline."""
    return PlainStep(recipe, TABLES["cityscapes"].num_classes, SEED, MEAN, STD)


CONTENDERS: dict[str, Callable[[TrainRecipe], Step]] = {"plain": plain_step, "ours": OurStep}


def memory_as(name: str) -> None:
    """Has the C library treat freed memory as the contender's training does; what the other left is given back."""
    if name == "ours":
        return keep_memory()
    if hasattr(library := ctypes.CDLL(None), "mallopt"):
        for setting in KEEPING | USUAL:
            library.mallopt(setting, USUAL[setting])
        library.malloc_trim(0)


def batches(recipe: TrainRecipe) -> Iterator[Batch]:
    """Images of noise; labels in blocks, the upper rows unlabelled."""
    generator, (height, width) = torch.Generator().manual_seed(SEED), recipe.crop
    classes = TABLES["cityscapes"].num_classes
    while True:
        images = torch.randint(0, 256, (recipe.batch_size, 3, height, width), generator=generator, dtype=torch.uint8)
        blocks = torch.randint(0, classes, (recipe.batch_size, height // 16, width // 16), generator=generator)
        labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
        labels[:, : height // 16] = 255
        yield Batch(images, labels)


def agreement(recipe: TrainRecipe, updates: int) -> list[dict[str, float]]:
    """Losses of both before each of so many updates from the same start, dropout off."""
    steps = {name: make(recipe) for name, make in CONTENDERS.items()}
    for step in steps.values():
        set_learning_rate((step.run if isinstance(step, OurStep) else step).optimizer, 0.1)
        for module in step.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    rows = []
    for batch, _ in zip(batches(recipe), range(updates), strict=False):
        row = {name: step(batch) for name, step in steps.items()}
        rows.append({**row, "relative_difference": abs(row["ours"] / row["plain"] - 1)})
    return rows


def measure(recipe: TrainRecipe, turns: int) -> dict[str, dict]:
    """Both in turn, after a step that is not timed."""
    steps, wall, processor = {n: make(recipe) for n, make in CONTENDERS.items()}, defaultdict(list), defaultdict(list)
    for turn, batch in zip(track(range(turns + 1), "steps"), batches(recipe), strict=False):
        for name, step in steps.items():
            memory_as(name)
            begun, used = time.perf_counter(), time.process_time()
            step(batch)
            if turn:
                wall[name].append(time.perf_counter() - begun)
                processor[name].append(time.process_time() - used)
    results = {}
    for name, step in steps.items():
        memory_as(name)
        results[name] = {
            "seconds": [round(seconds, 3) for seconds in wall[name]],
            "images_a_second": round(recipe.batch_size / median(wall[name]), 3),
            "times_as_fast": round(median(wall["plain"]) / median(wall[name]), 2),
            "processor_seconds": round(median(processor[name]), 3),
            "times_as_fast_by_processor": round(median(processor["plain"]) / median(processor[name]), 2),
            "share_of_time": where_time_goes(partial(step, next(batches(recipe)))),
        }
    return results


def where_time_goes(step: Callable[[], float]) -> dict[str, float]:
    """Shares of the groups of operators, the largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        step()
    times: Counter[str] = Counter()
    for entry in record.key_averages():
        found = (group for group, parts in GROUPS.items() if any(part in entry.key.lower() for part in parts))
        times[next(found, "other")] += entry.self_cpu_time_total
    whole = sum(times.values())
    return {group: round(spent / whole, 3) for group, spent in times.most_common()}


def peak(name: str) -> int:
    """MiB of a process that does three updates of this kind alone."""
    words = [sys.executable, "-m", "bench.train", *sys.argv[1:], "--peak", name]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measures, prints and writes."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    recipe = TrainRecipe("bisenetv2", 150_000, 4, tuple(arguments.size), (0.25, 2.0), 5e-3, threads=arguments.threads)
    if arguments.peak:
        memory_as(arguments.peak)
        step = CONTENDERS[arguments.peak](recipe)
        for batch, _ in zip(batches(recipe), range(3), strict=False):
            step(batch)
        print(peak_mib())
        return
    report = {
        "protocol": {"model": recipe.arch, "batch": 4, "crop": recipe.crop, "heads": 5, "turns": arguments.steps},
        "without_dropout": agreement(recipe, 3),
        "results": measure(recipe, arguments.steps),
        "peak_mib": {name: peak(name) for name in CONTENDERS},
        "device": describe_device(torch.device("cpu"), arguments.threads),
        "idle_threads": os.environ.get("OMP_WAIT_POLICY", "as by default"),
        "code": {name: sha256(Path(__file__).with_name(name)) for name in ("train.py", "plain_train.py")},
        "revision": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.train", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--steps", type=int, default=7, help="turns of each that are timed")
    add("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"))
    add("--threads", type=int, default=2)
    add("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    add("--peak", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
