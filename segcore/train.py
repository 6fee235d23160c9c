"""Training: one loop, read top to bottom, for one process or many, on CPU or GPU.

`train` is a function of its arguments alone. What is random (data order, augmentation, dropout, fresh weights) is drawn
from (seed, iteration), never from what happened before, so a killed run that is started again with the same arguments
ends in the same bits as an undisturbed one (on a CPU; on a GPU where its kernels are deterministic).
"""

from __future__ import annotations

import copy
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segcore.checkpoint import ModelFile, ResumeState, save_model_file
from segcore.curve import COLUMNS
from segcore.data.loaders import Batch
from segcore.distributed import Process, from_first
from segcore.dropout import entries_of
from segcore.errors import DataError, Interrupted, TrainingError
from segcore.files import write_csv
from segcore.guard import (
    VALUES_PER_WEIGHT,
    StopRequest,
    bytes_of,
    dump,
    out_of_memory,
    require_disk,
    require_memory,
    what_fits,
)
from segcore.identity import made_by, refuse_other
from segcore.losses import Losses
from segcore.machine import free_memory, keep_memory, used_memory
from segcore.optim import set_learning_rate
from segcore.prepare import Job, batches, check_share, criterion, normaliser, positions, schedule, start, stream_of
from segcore.progress import Progress
from segcore.recipe import TrainRecipe
from segcore.steps import Run, Step
from segcore.validation import quick_miou, spread

# The end is estimated when so many iterations have shown how long one takes.
ESTIMATE_AFTER = 20
BEST = "best-ss.pt"


def train(job: Job, process: Process) -> dict[str, Any]:
    """Trains, or goes on where an interrupted run stopped, and writes `model.pt` and `curve.csv` into `job.out`.

    Returns:
        Facts about this run that need not come out again: seconds, images per second, precision used, ….

    Raises:
        RecipeError: a batch that cannot be divided over the processes.
        CheckpointError: the state in `job.resume` was made by another recipe, seed, list or number of processes.
        TrainingError: no room, or losses or gradients that are no longer finite.
        DataError: too many images that cannot be read.
        Interrupted: SIGTERM or Ctrl-C; the state is saved.
    """
    recipe = job.recipe
    check_share(recipe, process.world_size, job.any_world_size)
    torch.set_num_threads(recipe.threads)
    keep_memory()
    run, states = start(job, process), ResumeState(job.resume)
    factor = schedule(recipe)
    compute = _Compute(job, process, run, criterion(recipe, factor))
    compute.check_room()
    saved, of = from_first(states.load), made_by(job, process)
    refuse_other(saved, of, job.resume)
    begun = run.restore(saved)

    clock = _Clock(recipe, begun, run.seconds)
    with StopRequest() as stop, Progress("train", recipe.iterations, start=begun, quiet=not process.leads) as progress:
        for iteration, parts in batches(job, process, compute.stream, begun):
            lr = set_learning_rate(run.optimizer, factor(iteration))
            step = compute.update(iteration, parts, bool(stop))

            done = iteration + 1
            last = done == recipe.iterations
            _count(job, run, step, parts, progress)
            if run.bad >= recipe.max_bad_steps:
                compute.give_up(iteration, lr, parts[-1])
            run.curve.close_row(done, lr, last)
            progress.advance(note=clock.note(run, lr, done, process))
            if text := clock.estimate(done):
                progress.say(text)
            if recipe.validate_every and (done % recipe.validate_every == 0 or last):
                progress.say(f"mIoU of {recipe.validate_images} val images: {_validate(job, process, run, done):.4f}")
            if process.leads and (step.stop or last or done % recipe.checkpoint_every == 0 and not run.bad):
                run.seconds = clock.seconds()
                states.save({**run.state(done), "made_by": of})
            if step.stop and not last:
                where = f"stopped after {done} of {recipe.iterations} iterations, which are saved"
                raise Interrupted(f"{where}; the same command goes on there", stop.signal or signal.SIGTERM)
    if process.leads:
        _export(job, process, run)
    return _facts(job, process, run, begun, clock.seconds())


class _Compute:
    """Forward pass and losses of the parts of a batch, and what is said when they fail."""

    def __init__(self, job: Job, process: Process, run: Run, losses: Callable[..., Losses]) -> None:
        self.job, self.process, self.run, self.losses = job, process, run, losses
        self.prepare, self.stream = normaliser(job, process), stream_of(job)
        self.bytes_per_image: float | None = None

    def update(self, iteration: int, parts: tuple[Batch, ...], stop: bool) -> Step:
        """One update of the weights.

        Raises:
            TrainingError: out of memory; names the number of parts that would fit.
        """
        try:
            entries = positions(self.job.recipe, iteration, self.process)
            compute = partial(self._part, self.run.outer, iteration)
            return self.run.update([partial(compute, *part) for part in zip(parts, entries, strict=True)], stop)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(f"out of memory on {self.process.device}; {self._remedy(parts[0])}") from None

    def check_room(self) -> None:
        """Looks at disk and memory before any long work."""
        job, recipe, net = self.job, self.job.recipe, self.run.net
        values, size = VALUES_PER_WEIGHT[recipe.optimizer] + (recipe.ema is not None), bytes_of(net)
        require_disk(job.resume, (values - 1) * size, size)
        share = len(positions(recipe, 0, self.process)[0])
        height, width = recipe.crop  # of scene parsing's batches the largest
        labels = torch.arange(2 * height * width).view(2, height, width) % job.samples.labels.num_classes
        noise = Batch(torch.zeros(2, 3, height, width, dtype=torch.uint8), labels)
        probe = copy.deepcopy(net)  # running statistics move in a forward pass
        run = partial(self._part, probe, 0, noise)
        self.bytes_per_image = require_memory(run, 2, share, values * size, self.process.device)

    def give_up(self, iteration: int, lr: float, part: Batch) -> None:
        """Ends a run whose numbers are not finite, with a file that says what is known.

        Raises:
            TrainingError: always.
        """
        job, rank = self.job, self.process.rank
        path = job.resume / f"not-finite-{rank}.json"
        samples = [self.stream.name(p) for entries in positions(job.recipe, iteration, self.process) for p in entries]
        facts = {"iteration": iteration + 1, "learning_rate": lr, "rank": rank, "samples": samples}
        with self._precision():
            layer = dump(path, self.run.net, self.prepare(part), facts)
        raise TrainingError(
            f"losses or gradients of {self.run.bad} updates in a row are not finite, at last at iteration "
            f"{iteration + 1} (learning rate {lr:.3g}, first layer: {layer}); lower the learning rate or look at the "
            f"labels. {path} names the samples; the state saved before is kept"
        )

    def _part(self, net: nn.Module, iteration: int, batch: Batch, entries: Sequence[int] = ()) -> Losses:
        with self._precision(), entries_of(entries):
            outputs = net(self.prepare(batch))
        return self.losses(outputs, batch.labels.to(self.process.device, non_blocking=True), iteration)

    def _precision(self) -> torch.autocast:
        dtype = self.run.dtype
        return torch.autocast(self.process.device.type, dtype, enabled=dtype is not torch.float32)

    def _remedy(self, part: Batch) -> str:
        free, wanted = free_memory(self.process.device), len(part.images)
        if not free or not self.bytes_per_image:
            return "raise override.accumulate, so that fewer images are computed at a time"
        return what_fits(min(free, self.bytes_per_image * wanted / 2), self.bytes_per_image, wanted)


def _count(job: Job, run: Run, step: Step, parts: tuple[Batch, ...], progress: Progress) -> None:
    """Counts an update, and the files that could not be read."""
    if step.finite:
        run.curve.add(step.losses)
    else:
        progress.say(f"an update was left out, its numbers are not finite ({run.bad} in a row)")
    for why in (why for part in parts for why in part.unreadable if why not in run.unreadable):
        run.unreadable.add(why)
        print(f"train: {why}; another image stands in for it", flush=True)
    most = int(job.recipe.max_unreadable * len(job.samples))
    if len(run.unreadable) > most:
        raise DataError(
            f"{len(run.unreadable)} of {len(job.samples)} images cannot be read, more than train.max_unreadable "
            f"allows ({most}); the last: {why}"
        )


class _Clock:
    """How long the run takes: over all its starts, and since this one."""

    def __init__(self, recipe: TrainRecipe, begun: int, before: float) -> None:
        self.recipe, self.begun, self.before, self.start = recipe, begun, before, time.monotonic()

    def seconds(self) -> float:
        """Of all starts together."""
        return self.before + time.monotonic() - self.start

    def note(self, run: Run, lr: float, done: int, process: Process) -> str:
        """The end of the progress line: losses, learning rate, speed, memory."""
        speed = (done - self.begun) * self.recipe.batch_size / max(time.monotonic() - self.start, 1e-9)
        losses = zip(COLUMNS[2:], run.curve.rows[-1][2:] if run.curve.rows else (), strict=False)
        memory = used_memory(process.device)
        held = f"  {memory / 2**30:.1f} GiB" if memory else ""
        parts = "  ".join(f"{name} {value:.3f}" for name, value in losses if value)
        return f"{parts}  lr {lr:.2e}  {speed:.1f} images/s{held}".strip()

    def estimate(self, done: int) -> str | None:
        """When the run will end, once there is something to judge by."""
        if done - self.begun != ESTIMATE_AFTER or done == self.recipe.iterations:
            return None
        each = (time.monotonic() - self.start) / ESTIMATE_AFTER
        left = timedelta(seconds=round(each * (self.recipe.iterations - done)))
        end = (datetime.now() + left).strftime("%H:%M" if left < timedelta(hours=12) else "%a %d %b, %H:%M")
        return f"{each:.2f} s an update; about {left} to go, until {end}"


def _validate(job: Job, process: Process, run: Run, done: int) -> float:
    """Scores the present weights on some of the validation images; keeps the best file beside the resume state."""
    recipe = job.recipe
    net = copy.deepcopy(run.net)
    net.load_state_dict(run.weights())
    chosen = spread(job.validation, recipe.validate_images)
    score = quick_miou(net.eval(), chosen, job.mean, job.std, process, run.dtype)
    best = all(score > before for _, before in run.scores)
    run.scores.append([done, round(score, 6)])
    if process.leads and best:
        choice = {"selected_on": f"val, {len(chosen)} images", "iteration": done, "miou": round(score, 6)}
        _save(job, run, job.resume / BEST, choice)
    return score


def _save(job: Job, run: Run, path: Path, further: dict[str, Any]) -> None:
    model = ModelFile(
        model=job.recipe.arch,
        num_classes=job.samples.labels.num_classes,
        state_dict=run.weights(),
        normalisation={"mean": list(job.mean), "std": list(job.std)},
        labels=job.samples.labels,
        provenance={**job.provenance, "seed": job.seed, "torch": str(torch.__version__), **further},
    )
    save_model_file(path, model)


def _export(job: Job, process: Process, run: Run) -> None:
    recipe = job.recipe
    other = {"world_size": process.world_size} if recipe.world_size not in (None, process.world_size) else {}
    _save(job, run, job.out / "model.pt", other)
    write_csv(job.out / "curve.csv", COLUMNS, run.curve.rows)
    if run.scores:
        write_csv(job.out / "validation.csv", ("iteration", "miou"), run.scores)
        shutil.copyfile(job.resume / BEST, job.out / BEST)


def _facts(job: Job, process: Process, run: Run, begun: int, seconds: float) -> dict[str, Any]:
    images = job.recipe.iterations * job.recipe.batch_size
    return {
        "iterations": job.recipe.iterations,
        "resumed_from": begun,
        "images": images,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "device_hours": round(seconds * process.world_size / 3600, 4),
        "processes": process.world_size,
        "precision": str(run.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in run.net.parameters()),
        "unreadable": sorted(run.unreadable),
    }
