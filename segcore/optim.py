"""Parameter groups and learning-rate schedules, as pure functions of the iteration."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def parameter_groups(net: nn.Module, lr: float, weight_decay: float, head_factor: float) -> list[dict[str, Any]]:
    """Four groups: backbone and heads, each with and without weight decay (CoinCheung/BiSeNet, section 3.2).

    `net.heads` names the children that learn `head_factor` times as fast, `net.decays(parameter)` says what decays.
    Frozen parameters stand in no group. Each group carries its `name`, `base_lr` and the `parameter_names` in it.
    """
    groups = {
        (head, decay): {
            "name": f"{'heads' if head else 'backbone'}{'' if decay else ', no decay'}",
            "params": [],
            "parameter_names": [],
            "base_lr": lr * (head_factor if head else 1.0),
            "weight_decay": weight_decay if decay else 0.0,
        }
        for head in (False, True)
        for decay in (True, False)
    }
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        group = groups[name.split(".")[0] in net.heads, net.decays(parameter)]
        group["params"].append(parameter)
        group["parameter_names"].append(name)
    return [{**group, "lr": group["base_lr"]} for group in groups.values() if group["params"]]


def freeze_backbone_norms(net: nn.Module) -> None:
    """Keeps scale and shift of the backbone's norms (what `net.decays` leaves out there) as they are.

    MichaelFan01/STDC-Seg does so by oversight: it collects parameters by the class of its in-place norm, which the
    backbone does not use. Running statistics go on moving, as there.
    """
    for name in net.backbone:
        for parameter in net.get_submodule(name).parameters():
            parameter.requires_grad_(net.decays(parameter))


def make_optimizer(kind: str, groups: list[dict[str, Any]], momentum: float) -> torch.optim.Optimizer:
    """`sgd` (no Nesterov, no dampening) or `adamw` (betas `momentum` and 0.999), with one fused update a step."""
    if kind == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, fused=True)
    return torch.optim.AdamW(groups, betas=(momentum, 0.999), fused=True)


def poly(iteration: int, iterations: int, warmup: int, warmup_ratio: float = 0.1, power: float = 0.9) -> float:
    """Factor on the base rate: exponential warm-up from `warmup_ratio`, then (1 - progress)^power.

    CoinCheung/BiSeNet, section 4; with ratio 1e-5 / lr also MichaelFan01/STDC-Seg, section 7. `iteration` is 0-based
    and not yet done.
    """
    if iteration < warmup:
        return warmup_ratio ** (1 - iteration / warmup)
    return (1 - (iteration - warmup) / (iterations - warmup)) ** power


def cosine(iteration: int, iterations: int, warmup: int, warmup_ratio: float = 0.1) -> float:
    """Factor on the base rate: linear warm-up from `warmup_ratio`, then half a cosine down to zero."""
    if iteration < warmup:
        return warmup_ratio + (1 - warmup_ratio) * iteration / warmup
    return 0.5 * (1 + math.cos(math.pi * (iteration - warmup) / (iterations - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Sets every group to `factor` times its base rate and returns the backbone's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]
