"""Losses: plain and hard-example cross entropy, and the detail loss, summed over a network's heads.

Every loss is a mean over pixels of the whole batch, also when the batch is spread over several processes: each process
returns its share times the number of processes, so that averaging gradients (as DistributedDataParallel does) gives
the gradient of the mean over all pixels.
"""

from __future__ import annotations

import math
import warnings
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.data.labels import IGNORE
from segcore.detail import detail_target
from segcore.distributed import gather, sum_over_processes, world_size
from segcore.models.layers import Outputs


class Losses(NamedTuple):
    """Scalars: what is minimised, and its parts for the curve."""

    total: Tensor
    main: Tensor
    auxiliary: Tensor
    detail: Tensor


def network_loss(
    outputs: Outputs,
    labels: Tensor,
    *,
    kind: str,
    threshold: float = 0.7,
    min_kept: Literal["valid", "crop"] = "valid",
    auxiliary_weight: float = 1.0,
    detail_weight: float = 1.0,
    detail_fuse: float = 1.0,
    detail_masked: bool = False,
) -> Losses:
    """Main loss plus the weighted sums of the auxiliary and detail heads' losses, each head with its own hard pixels.

    Args:
        outputs: logits N×C×H×W of the main and auxiliary heads, N×1×h×w of the detail heads.
        labels: int64 N×H×W of train ids, 255 = ignored.
        kind: "ohem" or "cross_entropy".
        threshold, min_kept: see `ohem_cross_entropy`.
        auxiliary_weight, detail_weight: factors of the two sums.
        detail_fuse, detail_masked: see `detail_loss`.
    """

    def head_loss(logits: Tensor) -> Tensor:
        if kind == "ohem":
            return ohem_cross_entropy(logits, labels, threshold, min_kept=min_kept)
        return cross_entropy(logits, labels)

    main = head_loss(outputs.logits)
    auxiliary = sum((head_loss(logits) for logits in outputs.auxiliary), torch.zeros_like(main))
    details = (detail_loss(logits, labels, detail_fuse, detail_masked) for logits in outputs.detail)
    detail = sum(details, torch.zeros_like(main))
    total = main + auxiliary_weight * auxiliary + detail_weight * detail
    return Losses(total, main.detach(), auxiliary.detach(), detail.detach())


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Mean cross entropy of the valid pixels; 0 (and a warning) where there are none."""
    losses = F.cross_entropy(logits.float(), labels, ignore_index=ignore_index, reduction="none")
    return _share_of_mean(losses.sum(), int(sum_over_processes((labels != ignore_index).sum())))


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    threshold: float = 0.7,
    ignore_index: int = IGNORE,
    min_share: int = 16,
    min_kept: Literal["valid", "crop"] = "valid",
) -> Tensor:
    """Cross entropy of the hard pixels only (CoinCheung/BiSeNet, `OhemCELoss`; section 3.3 of its description).

    A pixel is hard where the true class has a probability below `threshold`. Are fewer than one in `min_share` pixels
    hard, then that many of the largest losses are taken instead. Pixels are chosen over the whole batch, over
    all processes. No full sort: usually one comparison, else one partial selection.

    Args:
        logits: N×C×H×W.
        labels: int64 N×H×W, `ignore_index` where no class is known.
        threshold: probability in (0, 1).
        min_kept: which pixels `min_share` is a share of: the `valid` ones, or as in MichaelFan01/STDC-Seg all pixels
            of the `crop`; then zeros of ignored pixels enter the mean where too few are valid.

    Returns:
        Scalar mean; 0 for a batch without a valid pixel (with a warning if `valid`; there the reference gives NaN).
    """
    losses = F.cross_entropy(logits.float(), labels, ignore_index=ignore_index, reduction="none").flatten()
    hard = losses > -math.log(threshold)
    counted = labels != ignore_index if min_kept == "valid" else torch.ones_like(labels)
    pixels, found = sum_over_processes(torch.stack([counted.sum(), hard.sum()])).tolist()
    wanted = pixels // min_share
    if found >= wanted:
        return _share_of_mean((losses * hard).sum(), found)
    largest = losses.topk(min(wanted, losses.numel())).values
    if world_size() > 1:
        # The largest of every process's largest; those that tie with the smallest of them are all kept.
        padded = F.pad(largest.detach(), (0, wanted - largest.numel()), value=-1.0)
        smallest = gather(padded).topk(wanted).values[-1]
        largest = largest[largest >= smallest]
        if smallest > 0:  # else zeros fill up the number; all of them tie, and more of them must not thin the mean
            wanted = int(sum_over_processes(torch.tensor(largest.numel(), device=losses.device)))
    return _share_of_mean(largest.sum(), wanted)


def detail_loss(logits: Tensor, labels: Tensor, fuse: float = 1.0, masked: bool = False) -> Tensor:
    """Binary cross entropy plus Dice against the edges of the label map (MichaelFan01/STDC-Seg; paper, equation 4).

    Args:
        logits: N×1×h×w, enlarged to H×W with corners aligned.
        labels: int64 N×H×W of train ids.
        fuse, masked: see `segcore.detail.detail_target`; masked also leaves ignored pixels out of both terms.
    """
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear", align_corners=True)
    logits, target = logits.float(), detail_target(labels, fuse, masked)
    counted = (labels != IGNORE if masked else torch.ones_like(labels, dtype=torch.bool))[:, None]
    entropies = F.binary_cross_entropy_with_logits(logits, target, counted.float(), reduction="sum")
    dice = dice_losses(logits.sigmoid() * counted, target)
    pixels, images = sum_over_processes(torch.stack([counted.sum(), labels.new_tensor(len(labels))])).tolist()
    return _share_of_mean(entropies, pixels) + _share_of_mean(dice.sum(), images)


def dice_losses(probabilities: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 Σpt + smooth) / (Σp + Σt + smooth) of every image; N×1×H×W each -> N."""
    p, t = probabilities.flatten(1), target.flatten(1)
    return 1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)


def _share_of_mean(total: Tensor, count: int) -> Tensor:
    if count == 0:
        warnings.warn("a batch has no labelled pixel; its loss counts as 0", RuntimeWarning, stacklevel=3)
        return total * 0.0
    return total * (world_size() / count)
