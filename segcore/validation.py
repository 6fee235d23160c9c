"""A glance at the validation images while a training runs: single scale, no windows, some of the list.

The published number is made afterwards by `segcore.evaluate`, which a training does not depend on. The definition of
mIoU is the same: the mean over classes that occur in label or prediction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from segcore.data.datasets import Samples
from segcore.distributed import Process, sum_over_processes


def spread(samples: Samples, images: int) -> Samples:
    """So many images of a list, evenly spread over it."""
    count = min(images, len(samples))
    chosen = [index * len(samples) // count for index in range(count)]
    return Samples([samples.pairs[index] for index in chosen], samples.root, samples.labels)


@torch.no_grad()
def quick_miou(
    net: nn.Module,
    samples: Samples,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    process: Process,
    dtype: torch.dtype = torch.float32,
) -> float:
    """mIoU (a fraction) of the network over the samples, every process scoring its share.

    Args:
        net: in eval mode, on the process's device; N×3×H×W -> logits N×C×H×W.
        samples: images of any size; scored one by one at their own size.
        mean, std: statistics of RGB in 0 … 1.
        dtype: precision of the forward pass.
    """
    shift, factor = (torch.tensor(v, device=process.device).view(1, 3, 1, 1) for v in (mean, std))
    classes = samples.labels.num_classes
    matrix = torch.zeros(classes, classes, dtype=torch.float64, device=process.device)
    for index in range(process.rank, len(samples), process.world_size):
        image, label = samples.pair(index)
        batch = torch.from_numpy(image).to(process.device).permute(2, 0, 1)[None]
        batch = ((batch.float() / 255 - shift) / factor).contiguous(memory_format=torch.channels_last)
        with torch.autocast(process.device.type, dtype, enabled=dtype is not torch.float32):
            predicted = net(batch)[0].argmax(0)
        matrix += _counts(predicted, torch.from_numpy(label.astype(np.int64)).to(process.device), classes)
    return _miou(sum_over_processes(matrix))


def _counts(predicted: Tensor, label: Tensor, classes: int) -> Tensor:
    known = label < classes
    cells = label[known] * classes + predicted[known]
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def _miou(matrix: Tensor) -> float:
    hits = matrix.diag()
    union = matrix.sum(0) + matrix.sum(1) - hits
    return float((hits / union)[union > 0].mean())
