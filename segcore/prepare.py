"""From a recipe to what a training needs: network, optimiser, batches, loss and learning rate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segcore.checkpoint import load_model_file
from segcore.curve import Curve
from segcore.data.datasets import Samples
from segcore.data.labels import IGNORE
from segcore.data.loaders import Augmentation, Batch, CropStream, Stream, shares, sub_batches, training_batches
from segcore.data.scene_batches import SceneShape, SceneStream
from segcore.detail import decaying_fuse_scales
from segcore.distributed import Process
from segcore.dropout import seed_dropout
from segcore.errors import DataError, RecipeError, TrainingError
from segcore.losses import Losses, network_loss
from segcore.machine import cpu_has_bf16
from segcore.models import build_model
from segcore.models.checkpoints.backbones import load_backbone
from segcore.models.checkpoints.state import load_state
from segcore.models.layers import Outputs
from segcore.models.pairs import PAIRS
from segcore.norms import RunningAverage, fix_bn
from segcore.optim import cosine, freeze_backbone_norms, make_optimizer, parameter_groups, poly
from segcore.recipe import TrainRecipe
from segcore.steps import Average, Run
from segcore.syncbn import synchronise_norms

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
        finetune: a `model.pt` to start from, or None; classifiers that do not fit stay fresh.
        validation: images for `validate_every`.
        any_world_size: go on where the recipe asks for another number of processes.
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
    finetune: Path | None = None
    validation: Samples | None = None
    any_world_size: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)


def check_share(recipe: TrainRecipe, processes: int, any_world_size: bool = False) -> None:
    """Makes sure that every process gets an image for each part of a batch, or two where norms are its own.

    Raises:
        RecipeError: there are too many processes or parts, or not as many as the recipe's numbers depend on.
    """
    if recipe.short_sides and recipe.batch_size // recipe.sub_batch % processes:
        raise RecipeError(
            f"{recipe.batch_size // recipe.sub_batch} sub-batches (train.batch_size / train.sub_batch) cannot be dealt "
            f"evenly to {processes} processes; set runtime.devices to a divisor"
        )
    most = recipe.batch_size // (recipe.accumulate * (2 if recipe.norm == "local" else 1))
    if processes > most:
        parts = f" in {recipe.accumulate} parts" if recipe.accumulate > 1 else ""
        remedy = f"set runtime.devices to at most {most} of them, or raise override.batch_size"
        raise RecipeError(
            f"train.batch_size is {recipe.batch_size}, too few images for {processes} processes{parts}; "
            f"{remedy if most else 'lower override.accumulate'}"
        )
    if recipe.world_size not in (None, processes) and not any_world_size:
        raise RecipeError(
            f"this recipe's numbers depend on {recipe.world_size} processes (train.world_size), and runtime.devices "
            f"gives {processes}; runtime.allow_world_size=true trains all the same, and the result says so"
        )


def start(job: Job, process: Process) -> Run:
    """A run before its first update."""
    recipe, net = job.recipe, _network(job, process)
    norms = RunningAverage(net) if recipe.running_average else None
    groups = parameter_groups(net, recipe.lr, recipe.weight_decay, recipe.head_lr_factor)
    dtype = _precision(recipe, process)
    return Run(
        net=net,
        outer=_outer(net, recipe, process),
        optimizer=make_optimizer(recipe.optimizer, groups, recipe.momentum),
        scaler=torch.amp.GradScaler(process.device.type, enabled=dtype is torch.float16),
        curve=Curve(recipe.log_every),
        dtype=dtype,
        clip_norm=recipe.clip_norm,
        average=Average(net, recipe.ema) if recipe.ema else None,
        norms=norms,
    )


def _network(job: Job, process: Process) -> nn.Module:
    recipe = job.recipe
    torch.manual_seed(job.seed)
    auxiliary = recipe.auxiliary_weight > 0 or bool(recipe.short_sides)  # scene parsing trains at its own stride
    net = build_model(recipe.arch, job.samples.labels.num_classes, auxiliary=auxiliary)
    for classifier in net.classifiers() if recipe.classifier_std else []:
        nn.init.normal_(classifier.weight, std=recipe.classifier_std)
    if job.pretrained:
        load_backbone(net, job.pretrained)
    if job.finetune:
        _fill(net, job.finetune)
    net = seed_dropout(net, job.seed)
    if recipe.norm == "sync" and process.world_size > 1:
        net = synchronise_norms(net, process.device)
    if recipe.frozen_backbone_norms:
        freeze_backbone_norms(net)
    net.to(process.device, memory_format=memory_format(recipe)).train()
    if recipe.fix_bn:
        fix_bn(net)
    return net


def _fill(net: nn.Module, path: Path) -> None:
    file = load_model_file(path)
    if file.model != net.arch:
        raise RecipeError(
            f"{path}: holds a {file.model}, and the recipe trains a {net.arch}; fine-tune the same network"
        )
    load_state(net, file.state_dict, str(path), finetune=True)


def memory_format(recipe: TrainRecipe) -> torch.memory_format:
    """Of images and convolutions."""
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


def _outer(net: nn.Module, recipe: TrainRecipe, process: Process) -> nn.Module:
    outer = DistributedDataParallel(net) if process.world_size > 1 else net
    if not recipe.compile:
        return outer
    if process.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise TrainingError("train.compile needs a C++ compiler on a CPU; install g++, or leave it out")
    return torch.compile(outer)


def _precision(recipe: TrainRecipe, process: Process) -> torch.dtype:
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    torch.use_deterministic_algorithms(recipe.deterministic)
    here = {"float32", "bf16"} if cpu_has_bf16() else {"float32"}
    if process.device.type == "cpu" and recipe.precision not in here:
        if process.leads:
            print(f"train: the recipe's {recipe.precision} runs as float32 on this CPU", flush=True)
        return torch.float32
    return PRECISIONS[recipe.precision]


def batches(job: Job, process: Process, stream: Stream, first: int) -> Iterator[tuple[int, tuple[Batch, ...]]]:
    """Yields (0-based iteration, this process's parts of its batch) from iteration `first` to the last.

    Raises:
        DataError: too many files cannot be read, or one is wrong in a way that no other mends.
        TrainingError: a loader's process died.
    """
    todo = range(first, job.recipe.iterations)
    parts = training_batches(stream, [positions(job.recipe, i, process) for i in todo], job.workers)
    try:
        yield from zip(todo, parts, strict=True)
    except DataError as error:
        # A loader's process sends its whole traceback; its last line is the message for a person.
        raise DataError(str(error).strip().splitlines()[-1].split("Error: ", 1)[-1]) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            "a loader's process died, most likely for want of memory; set runtime.workers lower. The same command goes "
            "on from the last saved state"
        ) from None


def stream_of(job: Job) -> Stream:
    """The samples of the run in their order."""
    recipe = job.recipe
    if recipe.short_sides:
        pair, padding = PAIRS[recipe.arch], IGNORE if recipe.padding_label == "ignore" else 0
        sizes = (recipe.short_sides, recipe.max_side, recipe.sub_batch)
        return SceneStream(job.samples, SceneShape(*sizes, pair.stride, pair.multiple, padding), job.seed)
    kind = Augmentation(recipe.crop, recipe.scales, recipe.jitter, recipe.transform, recipe.scale_steps)
    return CropStream(job.samples, kind, job.seed)


def positions(recipe: TrainRecipe, iteration: int, process: Process) -> list[range]:
    """The stream's entries that a process computes in one iteration, part by part."""
    if recipe.short_sides:
        return sub_batches(recipe.batch_size, iteration, process.rank, process.world_size, recipe.sub_batch)
    return shares(recipe.batch_size, iteration, process.rank, process.world_size, recipe.accumulate)


def criterion(recipe: TrainRecipe, schedule: Callable[[int], float]) -> Callable[[Any, Tensor, int], Losses]:
    """(outputs of the network, labels N×H×W, 0-based iteration) -> the losses of the recipe."""
    fuse_scales = _fuse_scales(recipe, schedule)
    stride = PAIRS[recipe.arch].stride if recipe.arch in PAIRS else 1

    def losses(outputs: Outputs | Tensor, labels: Tensor, iteration: int) -> Losses:
        outputs = outputs if isinstance(outputs, Outputs) else Outputs(outputs)
        return network_loss(
            outputs,
            at_own_stride(labels, outputs.logits.shape[-2:], stride),
            kind=recipe.loss,
            threshold=recipe.ohem_threshold,
            min_kept=recipe.ohem_min_kept,
            auxiliary_weight=recipe.auxiliary_weight,
            detail_weight=recipe.detail_weight,
            detail_fuse=fuse_scales[iteration],
            detail_masked=recipe.detail_ignore == "masked",
            scope=recipe.ohem_scope,
        )

    return losses


def at_own_stride(labels: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Labels N×H×W -> N×h×w for logits of that size, as scene parsing's are: the pixel in the middle of each block."""
    if labels.shape[-2:] == size:
        return labels
    middle = slice(stride // 2, None, stride)
    padded = F.pad(labels, (0, size[1] * stride - labels.shape[2], 0, size[0] * stride - labels.shape[1]), value=IGNORE)
    return padded[:, middle, middle]


def schedule(recipe: TrainRecipe) -> Callable[[int], float]:
    """0-based iteration -> factor on the base rates."""
    if recipe.schedule == "poly":
        return lambda i: poly(i, recipe.iterations, recipe.warmup, recipe.warmup_ratio, recipe.power)
    return lambda i: cosine(i, recipe.iterations, recipe.warmup, recipe.warmup_ratio)


def _fuse_scales(recipe: TrainRecipe, factor: Callable[[int], float]) -> list[float]:
    if recipe.detail_fuse == "constant":
        return [1.0] * recipe.iterations
    rates = (recipe.lr * factor(i) for i in range(recipe.iterations))
    return decaying_fuse_scales(rates, recipe.momentum, recipe.weight_decay)


def normaliser(job: Job, process: Process) -> Callable[[Batch], Tensor]:
    """uint8 images of a batch -> float32 on the device, normalised, zero in the padding."""
    mean, std = (torch.tensor(v, device=process.device).view(1, 3, 1, 1) for v in (job.mean, job.std))
    layout = memory_format(job.recipe)

    def prepare(batch: Batch) -> Tensor:
        images = batch.images.to(process.device, non_blocking=True, memory_format=layout)
        images = (images.float() / 255 - mean) / std
        for image, (height, width) in zip(images, batch.sizes or (), strict=False):
            image[:, height:], image[:, :, width:] = 0, 0
        return images

    return prepare
