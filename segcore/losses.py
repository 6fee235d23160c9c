"""Losses: plain and hard-example cross entropy, and the detail loss, summed over a network's heads.

Every loss is a mean over pixels of the whole batch, also when the batch is spread over several processes: each process
returns its share times the number of processes, so that averaging gradients (as DistributedDataParallel does) gives
the gradient of the mean over all pixels. In the `local` scope of the cross entropies each process returns the mean over
its own pixels, so that the mean of the means is minimised, as in the references.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.data.labels import IGNORE
from segcore.detail import detail_target
from segcore.distributed import gather, sum_over_processes, world_size
from segcore.models.layers import Outputs

Scope = Literal["global", "local"]


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
    scope: Scope = "global",
) -> Losses:
    """Main loss plus the weighted sums of the auxiliary and detail heads' losses, each head with its own hard pixels.

    Args:
        outputs: logits N×C×H×W of the main and auxiliary heads, N×1×h×w of the detail heads. Scene parsing has them at
            the network's own stride; its deep supervision is the auxiliary head, weighted 0.4.
        labels: int64 N×H×W of train ids, 255 = ignored.
        kind: "ohem" or "cross_entropy".
        threshold, min_kept: see `ohem_cross_entropy`.
        auxiliary_weight, detail_weight: factors of the two sums.
        detail_fuse, detail_masked: see `detail_loss`.
        scope: whose pixels the cross entropies choose from and average: those of all processes, or each process its own
            (CoinCheung/BiSeNet chooses hard pixels so, CSAILVision/semantic-segmentation-pytorch averages so).
    """

    def head_loss(logits: Tensor) -> Tensor:
        if kind == "ohem":
            return ohem_cross_entropy(logits, labels, threshold, min_kept=min_kept, scope=scope)
        return cross_entropy(logits, labels, scope=scope)

    main = head_loss(outputs.logits)
    auxiliary = sum((head_loss(logits) for logits in outputs.auxiliary), torch.zeros_like(main))
    details = (detail_loss(logits, labels, detail_fuse, detail_masked) for logits in outputs.detail)
    detail = sum(details, torch.zeros_like(main))
    total = main + auxiliary_weight * auxiliary + detail_weight * detail
    return Losses(total, main.detach(), auxiliary.detach(), detail.detach())


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = IGNORE, scope: Scope = "global") -> Tensor:
    """Mean cross entropy of the valid pixels; 0 (and a warning) where there are none."""
    processes = _processes(scope)
    losses = _PixelLosses.apply(_wide(logits), labels, ignore_index)
    return _share_of_mean(losses.sum(), int(_sum((labels != ignore_index).sum(), processes)), processes)


def ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    threshold: float = 0.7,
    ignore_index: int = IGNORE,
    min_share: int = 16,
    min_kept: Literal["valid", "crop"] = "valid",
    scope: Scope = "global",
) -> Tensor:
    """Cross entropy of the hard pixels only (CoinCheung/BiSeNet, `OhemCELoss`; section 3.3 of its description).

    A pixel is hard where the true class has a probability below `threshold`. Are fewer than one in `min_share` pixels
    hard, then that many of the largest losses are taken instead. No full sort: usually one comparison, else one
    partial selection.

    Args:
        logits: N×C×H×W.
        labels: int64 N×H×W, `ignore_index` where no class is known.
        threshold: probability in (0, 1).
        min_kept: which pixels `min_share` is a share of: the `valid` ones, or as in MichaelFan01/STDC-Seg all pixels
            of the `crop`; then zeros of ignored pixels enter the mean where too few are valid.
        scope: `global` chooses over the batch of all processes, `local` (as published) each process over its own.

    Returns:
        Scalar mean; 0 for a batch without a valid pixel (with a warning if `valid`; there the reference gives NaN).
    """
    processes = _processes(scope)
    losses = _PixelLosses.apply(_wide(logits), labels, ignore_index).flatten()
    hard = losses > -math.log(threshold)
    counted = labels != ignore_index if min_kept == "valid" else torch.ones_like(labels)
    pixels, found = _sum(torch.stack([counted.sum(), hard.sum()]), processes).tolist()
    wanted = pixels // min_share
    if found >= wanted:
        return _share_of_mean((losses * hard).sum(), found, processes)
    largest = losses.topk(min(wanted, losses.numel())).values
    if processes > 1:
        # The largest of every process's largest; what ties for the last places shares them.
        padded = F.pad(largest.detach(), (0, wanted - largest.numel()), value=-1.0)
        smallest = gather(padded).topk(wanted).values[-1]
        above, tied = largest > smallest, largest == smallest
        count_above, count_tied = sum_over_processes(torch.stack([above.sum(), tied.sum()]))
        largest = largest * (above + tied * ((wanted - count_above) / count_tied))
    return _share_of_mean(largest.sum(), wanted, processes)


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
    return _share_of_mean(entropies, pixels, world_size()) + _share_of_mean(dice.sum(), images, world_size())


def dice_losses(probabilities: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 Σpt + smooth) / (Σp + Σt + smooth) of every image; N×1×H×W each -> N."""
    p, t = probabilities.flatten(1), target.flatten(1)
    return 1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)


class _PixelLosses(torch.autograd.Function):
    """Cross entropy of every pixel, N×C×H×W and N×H×W -> N×H×W; values and gradients are those of F.cross_entropy.

    That one keeps the logarithms of all probabilities until the backward pass, a second map of the logits' size for
    every head while the network holds the most it ever does. Here they are computed once more then, image by image.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.ignore_index = ignore_index
        losses = logits.new_empty(labels.shape)
        for image, label, loss in zip(logits, labels, losses, strict=True):
            loss.copy_(_pixel_losses(image, label, ignore_index))
        return losses

    @staticmethod
    def backward(ctx: Any, weights: Tensor) -> tuple[Tensor, None, None]:
        logits, labels = ctx.saved_tensors
        gradients = torch.empty_like(logits)
        for image, label, weight, gradient in zip(logits, labels, weights, gradients, strict=True):
            with torch.enable_grad():
                image = image.detach().requires_grad_()
                losses = _pixel_losses(image, label, ctx.ignore_index)
            gradient.copy_(*torch.autograd.grad(losses, image, weight))
        return gradients, None, None


def _pixel_losses(image: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    return F.cross_entropy(image[None], label[None], ignore_index=ignore_index, reduction="none")[0]


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype is torch.float64 else logits.float()


def _processes(scope: Scope) -> int:
    return world_size() if scope == "global" else 1


def _sum(value: Tensor, processes: int) -> Tensor:
    return sum_over_processes(value) if processes > 1 else value


def _share_of_mean(total: Tensor, count: int, processes: int) -> Tensor:
    if count == 0:
        warnings.warn("a batch has no labelled pixel to learn from; its loss is 0", RuntimeWarning, stacklevel=3)
        return total * 0.0
    return total * (processes / count)
