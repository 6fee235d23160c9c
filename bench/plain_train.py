"""The baseline of `bench.train`: a training step as the reference code bases have it, in float32.

N×C×H×W throughout, torch's own dropout, hard pixels by a full sort, every auxiliary head on its enlarged map, and SGD
one parameter after the other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.data.loaders import Batch
from segcore.models import build_model
from segcore.models.bisenetv2 import DoubledCBR
from segcore.optim import parameter_groups
from segcore.recipe import TrainRecipe

IGNORE = 255


class PlainStep:
    """Network and optimiser of a recipe; call it with a batch."""

    def __init__(self, recipe: TrainRecipe, num_classes: int, seed: int, mean: tuple, std: tuple) -> None:
        torch.manual_seed(seed)
        self.net = build_model(recipe.arch, num_classes, auxiliary=True).train()
        for module in self.net.modules():
            if isinstance(module, DoubledCBR):
                module.__class__ = nn.Sequential  # its parts one after the other
        groups = parameter_groups(self.net, recipe.lr, recipe.weight_decay, recipe.head_lr_factor)
        self.optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, foreach=False, fused=False)
        self.threshold = -math.log(recipe.ohem_threshold)
        self.mean, self.std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))

    def __call__(self, batch: Batch) -> float:
        """One update; the loss before it."""
        images = (batch.images.float() / 255 - self.mean) / self.std
        self.optimizer.zero_grad()
        outputs = self.net(images)
        loss = sum(hard_pixels(x, batch.labels, self.threshold) for x in (outputs.logits, *outputs.auxiliary))
        loss.backward()
        self.optimizer.step()
        return loss.item()


def hard_pixels(logits: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Mean loss of the pixels above the threshold, or of the largest 1/16 where those are more; by sorting them all."""
    least = labels[labels != IGNORE].numel() // 16
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").view(-1)
    losses, _ = torch.sort(losses, descending=True)
    return (losses[losses > threshold] if losses[least] > threshold else losses[:least]).mean()
