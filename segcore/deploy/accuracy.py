"""mIoU of the very engine that is timed, by the evaluator's code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.data.datasets import Samples
from segcore.data.transforms import normalise
from segcore.deploy.case import Case, Runner
from segcore.evaluate.confusion import confusion_matrix, miou
from segcore.evaluate.engine import predict_together
from segcore.evaluate.modes import Mode


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` places of a list of `count`, evenly spread, or all of them."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist()


def score(runner: Runner, case: Case, samples: Samples, wanted: int, mean: Any, std: Any) -> dict[str, Any]:
    """Scores an engine on images of a list, evenly spread where there are more than `wanted`.

    Images are resized to the engine's size and its class maps to the labels'; at the images' own size this is the
    evaluation's mode `ss` where both sides are multiples of 32, to which that mode rounds.

    Args:
        runner: the engine.
        case: its size and batch.
        samples: images and labels; those of another shape than the engine's cannot be scored.
        wanted: images scored at most.
        mean, std: per channel, of RGB in 0 … 1.

    Returns:
        {"miou": fraction, "miou_images": how many}, or {"miou_reason": why it has none}.
    """
    classes = samples.labels.num_classes
    total, chosen = np.zeros((classes, classes), np.int64), evenly(len(samples), wanted)
    net = _as_network(runner, case, classes)
    for index in chosen:
        image, label = samples.pair(index)
        scale = case.size[0] / image.shape[0]
        mode = Mode("ss", scales=(scale,))
        if mode.inputs(image.shape[:2]) != {case.size}:
            height, width = image.shape[:2]
            return {"miou_reason": f"{samples.names[index]} is {height}×{width}, of another shape than the engine"}
        tensor = torch.from_numpy(normalise(image, mean, std))
        for _, found in predict_together(net, tensor, label.shape, [mode], classes, case.batch):
            total += confusion_matrix(label, found.numpy(), classes, where=samples.names[index])
    return {"miou": round(miou(total)[0], 6), "miou_images": len(chosen)}


def _as_network(runner: Runner, case: Case, classes: int) -> Any:
    """The engine as a function of float32 N×3×H×W to scores N×C×H×W: 1 for its class, 0 for the others."""

    def net(images: Tensor, *_: Any) -> Tensor:
        filled = F.pad(images, (0, 0, 0, 0, 0, 0, 0, case.batch - len(images))).contiguous()
        found = torch.from_numpy(np.asarray(runner(filled)))[: len(images)]
        return F.one_hot(found.long(), classes).permute(0, 3, 1, 2).float()

    return net
