"""Training: one loop, read top to bottom, for one process or many, on CPU or GPU.

`train` is a function of its arguments alone. What is random (data order, augmentation, dropout, fresh weights) is drawn
from (seed, iteration), never from what happened before, so a killed run that is started again with the same arguments
ends in the same bits as an undisturbed one (on a CPU; on a GPU where its kernels are deterministic).
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
from segcore.errors import RecipeError
from segcore.files import write_csv
from segcore.losses import network_loss
from segcore.models import build_model
from segcore.models.checkpoints import load_backbone
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
        evaluate, provenance: go into `model.pt` as they are.
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
    evaluate: dict[str, Any] = field(default_factory=dict)
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
    _check_share(recipe, process)
    torch.set_num_threads(recipe.threads)
    net = _network(job, process)
    parallel = DistributedDataParallel(net) if process.world_size > 1 else net
    groups = parameter_groups(net, recipe.lr, recipe.weight_decay, recipe.head_lr_factor)
    optimizer = make_optimizer(recipe.optimizer, groups, recipe.momentum)
    dtype = _precision(recipe, process)
    scaler = torch.amp.GradScaler(process.device.type, enabled=dtype is torch.float16)
    schedule = _schedule(recipe)
    fuse_scales = _fuse_scales(recipe, schedule)
    state, start, curve = ResumeState(job.resume), 0, Curve(recipe.log_every)
    if saved := state.load():
        start = _restore(saved, net, optimizer, scaler, curve)
    prepare = _normaliser(job, process)

    began = time.monotonic()
    with Progress("train", recipe.iterations, start=start, quiet=not process.leads) as progress:
        stream = TrainingStream(job.samples, Augmentation(recipe.crop, recipe.scales, recipe.jitter), job.seed)
        todo = range(start, recipe.iterations)
        batches = training_batches(stream, recipe.batch_size, todo, job.workers, process.rank, process.world_size)
        for iteration, (images, labels) in zip(todo, batches, strict=True):
            lr = set_learning_rate(optimizer, schedule(iteration))
            _seed_iteration(job.seed, iteration, process.rank)
            with torch.autocast(process.device.type, dtype, enabled=dtype is not torch.float32):
                outputs = parallel(prepare(images))
            outputs = outputs if isinstance(outputs, Outputs) else Outputs(outputs)
            losses = network_loss(
                outputs,
                labels.to(process.device, non_blocking=True),
                kind=recipe.loss,
                threshold=recipe.ohem_threshold,
                min_kept=recipe.ohem_min_kept,
                auxiliary_weight=recipe.auxiliary_weight,
                detail_weight=recipe.detail_weight,
                detail_fuse=fuse_scales[iteration],
                detail_masked=recipe.detail_ignore == "masked",
            )
            scaler.scale(losses.total).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

            note = curve.add(iteration, lr, losses, last=iteration + 1 == recipe.iterations)
            progress.advance(note=note)
            done = iteration + 1
            if process.leads and (done % recipe.checkpoint_every == 0 or done == recipe.iterations):
                state.save(_snapshot(done, net, optimizer, scaler, curve))
    if process.leads:
        _export(job, net, curve)
    return _facts(job, process, net, dtype, start, time.monotonic() - began)


def _check_share(recipe: TrainRecipe, process: Process) -> None:
    if recipe.batch_size < process.world_size:
        raise RecipeError(
            f"train.batch_size is {recipe.batch_size}, too few images for {process.world_size} processes; "
            f"set runtime.devices to at most {recipe.batch_size} of them, or raise override.batch_size"
        )


def _network(job: Job, process: Process) -> nn.Module:
    torch.manual_seed(job.seed)
    net = build_model(job.recipe.arch, job.samples.labels.num_classes, auxiliary=job.recipe.auxiliary_weight > 0)
    if job.pretrained:
        load_backbone(net, job.pretrained)
    if job.recipe.norm == "sync" and process.world_size > 1:
        net = synchronise_norms(net, process.device)
    if job.recipe.frozen_backbone_norms:
        freeze_backbone_norms(net)
    return net.to(process.device, memory_format=torch.channels_last).train()


def _precision(recipe: TrainRecipe, process: Process) -> torch.dtype:
    wanted = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
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


def _snapshot(
    done: int, net: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, curve: Curve
) -> dict[str, Any]:
    return {
        "iteration": done,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "curve": curve.state(),
    }


def _restore(
    saved: dict[str, Any],
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    curve: Curve,
) -> int:
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])
    curve.restore(saved["curve"])
    return saved["iteration"]


def _export(job: Job, net: nn.Module, curve: Curve) -> None:
    model = ModelFile(
        model=job.recipe.arch,
        num_classes=job.samples.labels.num_classes,
        state_dict=net.state_dict(),
        normalisation={"mean": list(job.mean), "std": list(job.std)},
        labels=job.samples.labels,
        evaluate=job.evaluate,
        provenance={**job.provenance, "seed": job.seed, "torch": str(torch.__version__)},
    )
    save_model_file(job.out / "model.pt", model)
    write_csv(job.out / "curve.csv", COLUMNS, curve.rows)


def _facts(
    job: Job, process: Process, net: nn.Module, dtype: torch.dtype, start: int, seconds: float
) -> dict[str, Any]:
    images = (job.recipe.iterations - start) * job.recipe.batch_size
    return {
        "iterations": job.recipe.iterations,
        "resumed_from": start,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / max(seconds, 1e-9), 2),
        "processes": process.world_size,
        "precision": str(dtype).removeprefix("torch."),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
    }
