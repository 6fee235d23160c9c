"""From a model file to a label map, in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.data.labels import LabelTable
from segcore.data.transforms import normalise
from segcore.deploy.engine import Engine, EngineFile, open_engine, read_file
from segcore.errors import DataError, ExportError


@dataclass(frozen=True)
class Predictor:
    """A model with everything that belongs to it.

    Attributes:
        net: the network, in eval mode; of an exported file `segcore.deploy.engine.Engine`, called alike.
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

        An exported file that takes one size only sees the image resized to it, and its logits are resized back.

        Raises:
            DataError: another type or shape.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"predict takes uint8 H×W×3 RGB, got {image.dtype} {'×'.join(map(str, image.shape))}")
        device = next((parameter.device for parameter in self.net.parameters()), "cpu")
        batch = torch.from_numpy(normalise(image, self.mean, self.std))[None].to(device)
        own, taken = tuple(image.shape[:2]), self.net.size if isinstance(self.net, Engine) else None
        logits = self.net(batch if taken in (None, own) else _shrink(batch, taken))
        if tuple(logits.shape[-2:]) != own:
            logits = F.interpolate(logits, own, mode="bilinear")
        return logits[0].max(0).indices.to(torch.uint8).cpu().numpy()  # argmax is eight times as slow on a CPU


def _shrink(batch: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(batch, size, mode="bilinear", antialias=True)


def load_model(path: str | Path, device: str = "cpu") -> Predictor:
    """Reads a `model.pt`, or an exported file: .onnx (runs in ONNX Runtime), .xml (in OpenVINO), .pt2 or .engine.

    Raises:
        CheckpointError: none of these, damaged, or it does not fit its own model.
        ExportError: the package that runs it is missing; an exported file is given CPU tensors only.
    """
    file = read_file(Path(path))
    mean, std = (tuple(file.normalisation[key]) for key in ("mean", "std"))
    if not isinstance(file, EngineFile):
        net = file.network(device)
    elif torch.device(device).type == "cpu":
        net = open_engine(file)
    else:
        raise ExportError(f"{path}: an exported file runs on the CPU here; leave device={device!r} out")
    return Predictor(net, file.labels, file.labels.palette, mean, std)
