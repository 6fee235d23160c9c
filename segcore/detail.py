"""Detail guidance of STDC-Seg: where a label map has edges, as a target for the detail head.

MichaelFan01/STDC-Seg, `DetailAggregateLoss`; the paper's equations 2 to 4 and figure 5.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from segcore.data.labels import IGNORE

STRIDES = (1, 2, 4)
# The paper calls these trainable; their gradient is exactly zero, so they are what they start as.
FUSE = (0.6, 0.3, 0.1)
# Filter responses are whole numbers, so this stands for "positive"; for the fused levels it is a true threshold.
THRESHOLD = 0.1


def label_edges(labels: Tensor, masked: bool = False) -> Tensor:
    """Pixels whose id is larger than the mean id of their 8 neighbours (a Laplacian, thresholded).

    So an edge lies on the side of the larger id only, and class 0 has none. As published, ignored pixels count as class
    255 and pixels outside the image as class 0, so both draw edges where no object ends. `masked` gives neither a say.

    Args:
        labels: int64 N×H×W of train ids, 255 = ignored.
        masked: leave ignored and outside pixels out of the mean; an ignored pixel is no edge.

    Returns:
        bool N×1×H×W.
    """
    ids = labels[:, None].float()
    ring = ids.new_ones(1, 1, 3, 3)
    ring[..., 1, 1] = 0
    neighbours: Tensor | float = 8.0
    if masked:
        known = (labels[:, None] != IGNORE).float()
        ids = ids * known
        neighbours = F.conv2d(known, ring, padding=1)
    return neighbours * ids - F.conv2d(ids, ring, padding=1) > THRESHOLD


def detail_target(labels: Tensor, fuse_scale: float = 1.0, masked: bool = False) -> Tensor:
    """Edges at strides 1, 2 and 4, enlarged (nearest) and fused by a thresholded weighted sum.

    Args:
        labels: int64 N×H×W of train ids.
        fuse_scale: common factor on the weights 0.6, 0.3 and 0.1; see `decaying_fuse_scales`.
        masked: see `label_edges`.

    Returns:
        float32 N×1×H×W of 0 and 1. With factor 1 an edge at stride 1 or 2 counts, one at stride 4 alone does not.
    """
    edges = label_edges(labels, masked).float()
    levels = (F.interpolate(edges[..., ::stride, ::stride], edges.shape[-2:]) for stride in STRIDES)
    fused = sum(fuse_scale * weight * level for weight, level in zip(FUSE, levels, strict=True))
    return (fused > THRESHOLD).float()


def decaying_fuse_scales(rates: Iterable[float], momentum: float, weight_decay: float) -> list[float]:
    """Factor on the fuse weights at every iteration of the published training.

    There the optimiser owns the weights: their gradient is zero, but weight decay shrinks all three alike under a fixed
    threshold, so levels drop out of the target as training goes on, and in long runs it becomes empty.

    Args:
        rates: learning rate of every iteration.
        momentum, weight_decay: of the SGD.
    """
    scale, velocity, scales = 1.0, 0.0, []
    for rate in rates:
        scales.append(scale)
        velocity = momentum * velocity + weight_decay * scale
        scale -= rate * velocity
    return scales
