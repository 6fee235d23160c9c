"""Losses: plain and hard-example cross entropy, summed over a network's heads.

Every loss is a mean over pixels of the whole batch, also when the batch is spread over several processes: each process
returns its share times the number of processes, so that averaging gradients (as DistributedDataParallel does) gives
the gradient of the mean over all pixels.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.data.labels import IGNORE
from segcore.distributed import gather, sum_over_processes, world_size
from segcore.models.layers import Outputs


class Losses(NamedTuple):
    """Scalars: what is minimised, and its parts for the curve."""

    total: Tensor
    main: Tensor
    auxiliary: Tensor


def network_loss(
    outputs: Outputs, labels: Tensor, *, kind: str, threshold: float = 0.7, auxiliary_weight: float = 1.0
) -> Losses:
    """Main loss plus the weighted sum of the auxiliary heads' losses, each head with its own hard pixels.

    Args:
        outputs: logits N×C×H×W of the main and auxiliary heads.
        labels: int64 N×H×W of train ids, 255 = ignored.
        kind: "ohem" or "cross_entropy".
        threshold: see `ohem_cross_entropy`.
        auxiliary_weight: factor of the auxiliary sum.
    """

    def head_loss(logits: Tensor) -> Tensor:
        if kind == "ohem":
            return ohem_cross_entropy(logits, labels, threshold)
        return cross_entropy(logits, labels)

    main = head_loss(outputs.logits)
    auxiliary = sum((head_loss(logits) for logits in outputs.auxiliary), torch.zeros_like(main))
    return Losses(main + auxiliary_weight * auxiliary, main.detach(), auxiliary.detach())


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE) -> Tensor:
    """Mean cross entropy of the valid pixels; 0 (and a warning) where there are none."""
    losses = F.cross_entropy(logits.float(), labels, ignore_index=ignore_index, reduction="none")
    return _share_of_mean(losses.sum(), int(sum_over_processes((labels != ignore_index).sum())))


def ohem_cross_entropy(
    logits: Tensor, labels: Tensor, threshold: float = 0.7, ignore_index: int = IGNORE, min_share: int = 16
) -> Tensor:
    """Cross entropy of the hard pixels only (CoinCheung/BiSeNet, `OhemCELoss`; section 3.3 of its description).

    A pixel is hard where the true class has a probability below `threshold`. Are fewer than one in `min_share` valid
    pixels hard, then that many of the largest losses are taken instead. Pixels are chosen over the whole batch, over
    all processes. No full sort: usually one comparison, else one partial selection.

    Args:
        logits: N×C×H×W.
        labels: int64 N×H×W, `ignore_index` where no class is known.
        threshold: probability in (0, 1).

    Returns:
        Scalar mean; 0 (and a warning) for a batch without a valid pixel, where the reference gives NaN.
    """
    losses = F.cross_entropy(logits.float(), labels, ignore_index=ignore_index, reduction="none").flatten()
    hard = losses > -math.log(threshold)
    valid, found = sum_over_processes(torch.stack([(labels != ignore_index).sum(), hard.sum()])).tolist()
    wanted = valid // min_share
    if found >= wanted:
        return _share_of_mean((losses * hard).sum(), found)
    largest = losses.topk(min(wanted, losses.numel())).values
    if world_size() > 1:
        # The largest of every process's largest; those that tie with the smallest of them are all kept.
        padded = F.pad(largest.detach(), (0, wanted - largest.numel()), value=-1.0)
        largest = largest[largest >= gather(padded).topk(wanted).values[-1]]
        wanted = int(sum_over_processes(torch.tensor(largest.numel(), device=losses.device)))
    return _share_of_mean(largest.sum(), wanted)


def _share_of_mean(total: Tensor, count: int) -> Tensor:
    if count == 0:
        warnings.warn("a batch has no labelled pixel; its loss counts as 0", RuntimeWarning, stacklevel=3)
        return total * 0.0
    return total * (world_size() / count)
