"""Exported files as networks: read, run, and called like the network they were made of.

    >>> file = read_engine(Path("bisenetv2.onnx"))
    >>> logits = open_engine(file)(images)

So a file is scored by the very code that scores a `model.pt`, and in each precision that a runtime computes in.
"""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.checkpoint import ModelFile, load_model_file
from segcore.data.labels import LabelTable
from segcore.deploy import metadata
from segcore.deploy.backends import LOADERS, Infer
from segcore.deploy.export import DeployGraph, export_onnx
from segcore.deploy.metadata import MULTIPLE, GraphShape
from segcore.deploy.stamps import read_stamp
from segcore.errors import CheckpointError, DataError, ExportError
from segcore.models.fuse import fuse

# Ending of a file -> the backends that run it; the first one unless another is asked for.
READERS = {
    ".onnx": ("onnxruntime", "openvino"),
    ".xml": ("openvino",),
    ".pt2": ("torch",),
    ".engine": ("tensorrt",),
    ".plan": ("tensorrt",),
}


@dataclass(frozen=True)
class EngineFile:
    """An exported file: `path`, what its metadata says (see `segcore.deploy.metadata`), and how its graph is called.

    Beside `shape` its attributes are those of a `ModelFile` without weights.
    """

    path: Path
    shape: GraphShape
    model: str
    num_classes: int
    normalisation: dict[str, list[float]]
    labels: LabelTable
    evaluate: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def backends(self) -> tuple[str, ...]:
        """What runs it; ONNX Runtime has no bf16 convolutions on a CPU."""
        able = READERS[self.path.suffix]
        return tuple(name for name in able if (name, self.shape.precision) != ("onnxruntime", "bf16"))


def read_file(path: Path) -> ModelFile | EngineFile:
    """A model file, or an exported one, by the ending of its name.

    Raises:
        CheckpointError: it is missing, damaged, or something else.
        ExportError: the package that reads it is missing.
    """
    return read_engine(path) if path.suffix in READERS else load_model_file(path)


def read_engine(path: Path) -> EngineFile:
    """What an exported file says of itself; errors as `read_file`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    about, shape = metadata.read(read_stamp(path), path)
    return EngineFile(path, shape, **about)


def open_engine(file: ModelFile | EngineFile, backend: str | None = None, precision: str = "fp32") -> Engine:
    """Makes a file ready to run on the CPU with PyTorch's number of threads, a TensorRT engine on the first GPU.

    Args:
        file: a model file's network is exported first, which takes some seconds and leaves nothing behind.
        backend: "onnxruntime" or "openvino"; by default the first that reads the file.
        precision: "fp32", or "bf16" where backend and processor have it: of what the file leaves open. What it was
            exported in is in its graph, or else comes before this.

    Raises:
        ExportError: the backend does not read such files, is missing, or does not compute in that precision.
        CheckpointError: the file is damaged.
    """
    if isinstance(file, EngineFile):
        backend = backend or file.backends[0]
        if backend not in file.backends:
            raise ExportError(f"{file.path}: {backend} does not read it; {' and '.join(file.backends)} can")
        own = "bf16" if (backend, file.shape.precision) == ("openvino", "bf16") else precision
        return Engine(file, _LOADERS[backend](file.path, own, torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file.model}.onnx"
        export_onnx(DeployGraph(fuse(file.network()), "logits").eval(), path, None, None)
        about = {name: value for name, value in vars(file).items() if name != "state_dict"}
        return open_engine(EngineFile(path, GraphShape(), **about), backend, precision)


class Engine(nn.Module):
    """An exported graph in the form of the network it was made of, for tensors on the CPU.

    Attributes:
        size: the only height and width it takes; None for any: sides are padded with zeros (the mean colour) at the
            bottom and right to multiples of 32, and the logits cropped.
    """

    def __init__(self, file: EngineFile, infer: Infer) -> None:
        super().__init__()
        self.file, self.size, self._infer = file, file.shape.size, infer

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """float32 N×3×H×W -> logits float32 N×C×H×W, of a graph that gives classes 1 for the class and 0 for others.

        A graph whose classes are at the camera's size gives that size.

        Raises:
            DataError: another size than the graph takes, or wants to give.
        """
        given, camera = (images.shape[-2], images.shape[-1]), self.file.shape.camera
        if self.size not in (None, given) or size not in (None, camera or given):
            wanted = "×".join(map(str, self.size or given))
            raise DataError(f"{self.file.path}: takes and gives {wanted}, asked for {given} to {size or given}")
        if self.size is None:
            images = F.pad(images, (0, -given[1] % MULTIPLE, 0, -given[0] % MULTIPLE))
        limit = self.file.shape.batch or self.file.shape.largest_batch or len(images)
        runs = [self._run(part) for part in images.split(limit)]
        found = torch.cat(runs) if len(runs) > 1 else runs[0]  # one is not copied
        return found if camera else found[..., : given[0], : given[1]]

    def _run(self, images: Tensor) -> Tensor:
        """One run of the graph, filled up with zeros where it takes more images than there are."""
        missing = (self.file.shape.batch or len(images)) - len(images)
        filled = F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)).contiguous()
        given = self._bytes(filled) if self.file.shape.takes == "uint8" else filled.numpy()
        found = torch.from_numpy(np.asarray(self._infer(given)))[: len(images)]
        if self.file.shape.output == "logits":
            return found.float()
        return F.one_hot(found.long(), self.file.num_classes).permute(0, 3, 1, 2).float()

    def _bytes(self, images: Tensor) -> np.ndarray:
        """Normalised N×3×H×W -> uint8 N×H×W×3 RGB: exactly the picture that `normalise` was given."""
        mean, std = (torch.tensor(self.file.normalisation[key]).view(3, 1, 1) for key in ("mean", "std"))
        pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def load_torch(path: Path, precision: str, threads: int) -> Infer:
    """A torch.export file on the CPU; it computes in the precision it was exported in.

    Raises:
        ExportError: another precision is wanted.
        CheckpointError: the file is damaged.
    """
    if precision != "fp32":
        raise ExportError(f"{path}: a torch.export file computes in the precision it was exported in; leave it out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it reports on its own way of reading
            program = torch.export.load(path).module()
    except Exception as error:  # half a dozen kinds, depending on where the damage sits
        raise CheckpointError(
            f"{path}: torch.export cannot read it ({type(error).__name__}); export it again"
        ) from None

    @torch.inference_mode()
    def infer(images: np.ndarray) -> np.ndarray:
        return program(torch.from_numpy(images)).numpy()

    return infer


_LOADERS = LOADERS | {"torch": load_torch}
