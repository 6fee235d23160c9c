"""What a training recipe may say; the defaults are ours, a published recipe names where it differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

Positive = Annotated[float, Gt(0)]
Count = Annotated[int, Gt(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]


@dataclass(frozen=True)
class TrainRecipe:
    """How a model is trained; every field is a line of the recipe.

    Attributes:
        arch: name for `build_model`.
        iterations, batch_size: optimiser steps, and images per step over all processes.
        crop: height and width of a training sample.
        scales: smallest and largest random scale.
        scale_steps: so many evenly spaced scales instead of any between the two.
        jitter: strength of the colour jitter.
        transform: whose order and arithmetic, see `segcore.data.transforms.augment`.
        optimizer, lr, momentum, weight_decay, head_lr_factor: see `segcore.optim`.
        schedule, warmup, warmup_ratio, power: see `segcore.optim.poly` and `cosine`; `warmup` in iterations.
        classifier_std: spread of the last convolution's fresh weights; None leaves the network's published start. Some
            networks start with logits of ±10, which a short training spends its first hundred iterations on.
        frozen_backbone_norms: see `segcore.optim.freeze_backbone_norms`.
        loss, ohem_threshold, ohem_min_kept, auxiliary_weight, detail_weight: see `segcore.losses.network_loss`; with
            auxiliary weight 0 neither auxiliary nor detail heads are built.
        detail_fuse: weights of the detail target's levels, `constant` or `decaying` as the published training has it.
        detail_ignore: `masked` leaves ignored pixels out of the detail loss, `as_published` gives them edges.
        precision: arithmetic of the forward pass; a CPU computes in float32 whatever is asked.
        norm: `sync` norms over the batch of all processes, `local` each over its own share.
        trained_on: `train`, or `trainval` (then val scores are refused).
        accumulate: parts in which a process computes its share of a batch, one after the other, to save memory; norms
            and hard pixels see one part at a time.
        clip_norm: the gradients' norm is cut to this.
        ema: decay of a running average of the weights; `model.pt` then holds the average.
        channels_last, compile: memory layout, and `torch.compile`; neither changes more than rounding.
        deterministic: on a GPU only kernels that give equal bits each time.
        validate_every, validate_images: iterations between scores (mIoU, ss) on that many images spread over the
            validation list, 0 for none; the best state is kept beside the last one and is no result: it was selected.
        max_bad_steps: updates in a row that may fail for numbers that are not finite; each is left out.
        max_unreadable: share of the list's images that may be missing or undecodable; others stand in for them.
        short_sides, max_side, sub_batch: scene parsing's batches (see `segcore.data.scene_batches`) instead of crops.
        padding_label: of scene parsing's batches, `ignore`, or `as_published` class 0.
        ohem_scope: `global` chooses hard pixels over all processes, `local` each over its own.
        running_average, fix_bn: see `segcore.norms`.
        world_size: the number of processes that numbers depend on as published; None for recipes that do not care.
        threads: CPU threads of one process. Part of the recipe, for sums depend on how they are split.
        checkpoint_every, log_every: iterations between resume states, and between rows of the curve.
        code: digest of the code that trains, filled in when the recipe is resolved.
    """

    arch: str
    iterations: Count
    batch_size: Count
    crop: tuple[Count, Count]
    scales: tuple[Positive, Positive]
    lr: Positive
    scale_steps: Count | None = None
    jitter: Fraction = 0.4
    transform: Literal["bisenet", "stdc"] = "bisenet"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    head_lr_factor: Positive = 10.0
    schedule: Literal["poly", "cosine"] = "poly"
    warmup: Annotated[int, Ge(0)] = 1000
    warmup_ratio: Annotated[float, Interval(gt=0, le=1)] = 0.1
    power: Positive = 0.9
    classifier_std: Positive | None = None
    frozen_backbone_norms: bool = False
    loss: Literal["ohem", "cross_entropy"] = "ohem"
    ohem_threshold: Annotated[float, Interval(gt=0, lt=1)] = 0.7
    ohem_min_kept: Literal["valid", "crop"] = "valid"
    auxiliary_weight: Annotated[float, Ge(0)] = 1.0
    detail_weight: Annotated[float, Ge(0)] = 1.0
    detail_fuse: Literal["constant", "decaying"] = "constant"
    detail_ignore: Literal["as_published", "masked"] = "masked"
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    norm: Literal["sync", "local"] = "sync"
    trained_on: Literal["train", "trainval"] = "train"
    accumulate: Count = 1
    clip_norm: Positive | None = None
    ema: Annotated[float, Interval(gt=0, lt=1)] | None = None
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    validate_every: Annotated[int, Ge(0)] = 0
    validate_images: Count = 100
    max_bad_steps: Count = 5
    max_unreadable: Fraction = 0.01
    short_sides: tuple[Count, ...] = ()
    max_side: Count = 1000
    sub_batch: Count = 2
    padding_label: Literal["ignore", "as_published"] = "ignore"
    ohem_scope: Literal["global", "local"] = "global"
    running_average: bool = False
    fix_bn: bool = False
    world_size: Count | None = None
    threads: Count = 2
    checkpoint_every: Count = 1000
    log_every: Count = 100
    code: str = ""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: the norm of an image's mean needs a second value")
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales: the smallest comes first, got {list(self.scales)}")
        if self.warmup >= self.iterations:
            raise ValueError(f"warmup ({self.warmup}) must be shorter than the run ({self.iterations} iterations)")
        if self.running_average and self.fix_bn:
            raise ValueError("running_average and fix_bn exclude each other: norms that stand still average nothing")
        if self.short_sides and self.accumulate > 1:
            raise ValueError("short_sides: a batch is computed sub-batch by sub-batch; set sub_batch, not accumulate")
        if self.short_sides and self.batch_size % self.sub_batch:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of sub_batch ({self.sub_batch})")
