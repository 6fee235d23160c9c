"""From a model file to a label map, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from segcore.checkpoint import load_model_file
from segcore.data.labels import LabelTable
from segcore.data.transforms import normalise
from segcore.errors import DataError


@dataclass(frozen=True)
class Predictor:
    """A model with everything that belongs to it.

    Attributes:
        net: the network, in eval mode.
        labels: the label table it was trained with.
        palette: uint8 num_classes×3 RGB.
        mean, std: statistics of RGB in 0 … 1.
    """

    net: nn.Module
    labels: LabelTable
    palette: np.ndarray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.inference_mode()
    def predict(self, image: np.ndarray) -> np.ndarray:
        """uint8 H×W×3 RGB -> uint8 H×W of train ids, at the image's own size.

        Raises:
            DataError: another type or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"predict takes uint8 H×W×3 RGB, got {image.dtype} {'×'.join(map(str, image.shape))}")
        device = next(self.net.parameters()).device
        batch = torch.from_numpy(normalise(image, self.mean, self.std))[None].to(device)
        return self.net(batch)[0].argmax(0).to(torch.uint8).cpu().numpy()


def load_model(path: str | Path, device: str = "cpu") -> Predictor:
    """Reads a `model.pt`.

    Raises:
        CheckpointError: not a model file, damaged, or it does not fit its own model.
    """
    file = load_model_file(Path(path))
    mean, std = (tuple(file.normalisation[key]) for key in ("mean", "std"))
    return Predictor(file.network(device), file.labels, file.labels.palette, mean, std)
