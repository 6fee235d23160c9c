"""Training: one loop, read top to bottom, for one process or many, on CPU or GPU.

`train` is a function of its arguments alone. What is random (data order, augmentation, dropout, fresh weights) is drawn
from (seed, iteration), never from what happened before, so a killed run that is started again with the same arguments
ends in the same bits as an undisturbed one (on a CPU; on a GPU where its kernels are deterministic).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segcore.checkpoint import ModelFile, ResumeState, save_model_file
from segcore.curve import COLUMNS, Curve
from segcore.data.datasets import Samples
from segcore.data.loaders import Augmentation, TrainingStream, training_batches
from segcore.detail import decaying_fuse_scales
from segcore.distributed import Process, synchronise_norms
from segcore.errors import DataError, RecipeError
from segcore.files import write_csv
from segcore.losses import Losses, network_loss
from segcore.models import build_model
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.layers import Outputs
from segcore.optim import cosine, freeze_backbone_norms, make_optimizer, parameter_groups, poly, set_learning_rate
from segcore.progress import Progress
from segcore.recipe import TrainRecipe


@dataclass(frozen=True)
class Job:
    """One training run: the recipe, what it learns from, and where its files go.

    Attributes:
        samples: training images and labels.
        mean, std: statistics of RGB in 0 … 1.
        seed: everything random comes from it.
        out: folder for `model.pt` and `curve.csv`.
        resume: folder for the state of the unfinished run; kept when the run is done.
        workers: loader processes of each process.
        pretrained: backbone file, or None.
        provenance: goes into `model.pt` as it is.
    """

    recipe: TrainRecipe
    samples: Samples
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    out: Path
    resume: Path
    workers: int = 2
    pretrained: Path | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def train(job: Job, process: Process) -> dict[str, Any]:
    """Trains, or goes on where an interrupted run stopped, and writes `model.pt` and `curve.csv` into `job.out`.

    Returns:
        Facts about this run that need not come out again: seconds, images per second, precision used, ….

    Raises:
        RecipeError: a batch that cannot be divided over the processes.
        TrainingError: the loss is no longer finite.
    """
    recipe = job.recipe
    check_share(recipe, process.world_size)
    torch.set_num_threads(recipe.threads)
    run, states = _start(job, process), ResumeState(job.resume)
    start = run.restore(states.load())
    net = DistributedDataParallel(run.net) if process.world_size > 1 else run.net
    schedule, prepare = _schedule(recipe), _normaliser(job, process)
    criterion = _criterion(recipe, schedule)

    began = time.monotonic() - run.seconds
    with Progress("train", recipe.iterations, start=start, quiet=not process.leads) as progress:
        for iteration, images, labels in _batches(job, process, start):
            lr = set_learning_rate(run.optimizer, schedule(iteration))
            _seed_iteration(job.seed, iteration, process.rank)
            with torch.autocast(process.device.type, run.dtype, enabled=run.dtype is not torch.float32):
                outputs = net(prepare(images))
            losses = criterion(outputs, labels.to(process.device, non_blocking=True), iteration)
            run.step(losses.total)

            done = iteration + 1
            progress.advance(note=run.curve.add(iteration, lr, losses, last=done == recipe.iterations))
            if process.leads and (done % recipe.checkpoint_every == 0 or done == recipe.iterations):
                run.seconds = time.monotonic() - began
                states.save(run.state(done))
    if process.leads:
        _export(job, run)
    return _facts(job, process, run, start, time.monotonic() - began)


@dataclass
class Run:
    """Everything that changes while training, the precision it is computed in, and the seconds it has taken."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    curve: Curve
    dtype: torch.dtype
    seconds: float = 0.0

    def step(self, loss: Tensor) -> None:
        """One update of the weights."""
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self, done: int) -> dict[str, Any]:
        """What has to be kept to go on after iteration number `done`."""
        parts = {name: getattr(self, name).state_dict() for name in ("net", "optimizer", "scaler", "curve")}
        return {"iteration": done, "seconds": self.seconds, **parts}

    def restore(self, saved: dict[str, Any] | None) -> int:
        """Takes a kept state over; returns how many iterations are done."""
        if saved is None:
            return 0
        for name in ("net", "optimizer", "scaler", "curve"):
            getattr(self, name).load_state_dict(saved[name])
        self.seconds = saved["seconds"]
        return saved["iteration"]


def _start(job: Job, process: Process) -> Run:
    recipe, net = job.recipe, _network(job, process)
    groups = parameter_groups(net, recipe.lr, recipe.weight_decay, recipe.head_lr_factor)
    dtype = _precision(recipe, process)
    return Run(
        net=net,
        optimizer=make_optimizer(recipe.optimizer, groups, recipe.momentum),
        scaler=torch.amp.GradScaler(process.device.type, enabled=dtype is torch.float16),
        curve=Curve(recipe.log_every),
        dtype=dtype,
    )


def _batches(job: Job, process: Process, start: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    recipe = job.recipe
    stream = TrainingStream(job.samples, Augmentation(recipe.crop, recipe.scales, recipe.jitter), job.seed)
    todo = range(start, recipe.iterations)
    batches = training_batches(stream, recipe.batch_size, todo, job.workers, process.rank, process.world_size)
    try:
        for iteration, (images, labels) in zip(todo, batches, strict=True):
            yield iteration, images, labels
    except DataError as error:
        # A loader's process sends its whole traceback; its last line is the message for a person.
        raise DataError(str(error).strip().splitlines()[-1].removeprefix("segcore.errors.DataError: ")) from None


def _criterion(recipe: TrainRecipe, schedule: Callable[[int], float]) -> Callable[[Any, Tensor, int], Losses]:
    fuse_scales = _fuse_scales(recipe, schedule)

    def criterion(outputs: Outputs | Tensor, labels: Tensor, iteration: int) -> Losses:
        return network_loss(
            outputs if isinstance(outputs, Outputs) else Outputs(outputs),
            labels,
            kind=recipe.loss,
            threshold=recipe.ohem_threshold,
            min_kept=recipe.ohem_min_kept,
            auxiliary_weight=recipe.auxiliary_weight,
            detail_weight=recipe.detail_weight,
            detail_fuse=fuse_scales[iteration],
            detail_masked=recipe.detail_ignore == "masked",
        )

    return criterion


def check_share(recipe: TrainRecipe, processes: int) -> None:
    """Makes sure that every process gets an image of each batch, or two where norms are its own.

    Raises:
        RecipeError: there are too many processes.
    """
    most = recipe.batch_size // (2 if recipe.norm == "local" else 1)
    if processes > most:
        raise RecipeError(
            f"train.batch_size is {recipe.batch_size}, too few images for {processes} processes; "
            f"set runtime.devices to at most {most} of them, or raise override.batch_size"
        )


def _network(job: Job, process: Process) -> nn.Module:
    torch.manual_seed(job.seed)
    net = build_model(job.recipe.arch, job.samples.labels.num_classes, auxiliary=job.recipe.auxiliary_weight > 0)
    for classifier in net.classifiers() if job.recipe.classifier_std else []:
        nn.init.normal_(classifier.weight, std=job.recipe.classifier_std)
    if job.pretrained:
        load_backbone(net, job.pretrained)
    if job.recipe.norm == "sync" and process.world_size > 1:
        net = synchronise_norms(net, process.device)
    if job.recipe.frozen_backbone_norms:
        freeze_backbone_norms(net)
    return net.to(process.device, memory_format=torch.channels_last).train()


def _precision(recipe: TrainRecipe, process: Process) -> torch.dtype:
    wanted = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    if process.device.type == "cpu" and wanted is not torch.float32:
        if process.leads:
            print(f"train: the recipe's {recipe.precision} runs as float32 on a CPU", flush=True)
        return torch.float32
    return wanted


def _schedule(recipe: TrainRecipe) -> Callable[[int], float]:
    if recipe.schedule == "poly":
        return lambda i: poly(i, recipe.iterations, recipe.warmup, recipe.warmup_ratio, recipe.power)
    return lambda i: cosine(i, recipe.iterations, recipe.warmup, recipe.warmup_ratio)


def _fuse_scales(recipe: TrainRecipe, schedule: Callable[[int], float]) -> list[float]:
    if recipe.detail_fuse == "constant":
        return [1.0] * recipe.iterations
    rates = (recipe.lr * schedule(i) for i in range(recipe.iterations))
    return decaying_fuse_scales(rates, recipe.momentum, recipe.weight_decay)


def _normaliser(job: Job, process: Process) -> Callable[[Tensor], Tensor]:
    mean, std = (torch.tensor(v, device=process.device).view(1, 3, 1, 1) for v in (job.mean, job.std))

    def prepare(images: Tensor) -> Tensor:
        images = images.to(process.device, non_blocking=True, memory_format=torch.channels_last)
        return (images.float() / 255 - mean) / std

    return prepare


def _seed_iteration(seed: int, iteration: int, rank: int) -> None:
    # Dropout is the only thing that draws from torch's generator while training.
    torch.manual_seed((seed * 1_000_003 + iteration) * 4099 + rank)


def _export(job: Job, run: Run) -> None:
    model = ModelFile(
        model=job.recipe.arch,
        num_classes=job.samples.labels.num_classes,
        state_dict=run.net.state_dict(),
        normalisation={"mean": list(job.mean), "std": list(job.std)},
        labels=job.samples.labels,
        provenance={**job.provenance, "seed": job.seed, "torch": str(torch.__version__)},
    )
    save_model_file(job.out / "model.pt", model)
    write_csv(job.out / "curve.csv", COLUMNS, run.curve.rows)


def _facts(job: Job, process: Process, run: Run, start: int, seconds: float) -> dict[str, Any]:
    images = job.recipe.iterations * job.recipe.batch_size
    return {
        "iterations": job.recipe.iterations,
        "resumed_from": start,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "processes": process.world_size,
        "precision": str(run.dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in run.net.parameters()),
    }
