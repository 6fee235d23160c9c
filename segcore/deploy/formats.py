"""The kinds of file a network is deployed as. Each is made of the same graph, in the precision that is asked for.

What computes in which precision stands in the file itself: an ONNX graph is typed (fp16, bf16) or carries the steps of
quantisation (int8), and TensorRT, OpenVINO's int8 and ONNX Runtime follow it. OpenVINO's own files hold float32 or
float16 weights, whose arithmetic the device chooses.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from segcore.deploy.calibration import Calibration
from segcore.deploy.export import DTYPES, INPUT, DeployGraph, export_onnx, openvino_core, require
from segcore.deploy.metadata import GraphShape
from segcore.deploy.tensorrt import BuildSettings, Profile, build_engine
from segcore.errors import ExportError
from segcore.files import atomic_write


@dataclass(frozen=True)
class Draft:
    """What is to be written.

    Args:
        net: images -> logits, in its inference form (`segcore.models.fuse`).
        shape: how the file is to be called.
        normalisation: {"mean", "std"} of RGB in 0 … 1.
        calibration: of int8.
        settings: of a TensorRT engine.
    """

    net: nn.Module
    shape: GraphShape
    normalisation: dict[str, list[float]]
    calibration: Calibration | None = None
    settings: BuildSettings = field(default_factory=BuildSettings)

    def graph(self, precision: str) -> DeployGraph:
        """The graph, typed; an int8 one is quantised from float32."""
        shape, statistics = self.shape, (self.normalisation["mean"], self.normalisation["std"])
        return DeployGraph(
            self.net,
            shape.output,
            dtype=DTYPES.get(precision, torch.float32),
            statistics=statistics if shape.takes == "uint8" else None,
            camera=shape.camera,
        ).eval()


def write_onnx(draft: Draft, path: Path) -> None:
    """The ONNX file."""
    _write_onnx(draft, path, draft.shape.precision)


def _write_onnx(draft: Draft, path: Path, precision: str, for_tensorrt: bool = False) -> None:
    graph, shape = draft.graph(precision), draft.shape
    if precision != "int8":
        export_onnx(graph, path, shape.size, shape.batch)
        return
    from segcore.deploy.quantize import quantize_onnx  # the only user of onnxruntime's tools

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "float32.onnx"
        export_onnx(graph, plain, shape.size, shape.batch)
        batches = draft.calibration.batches(graph, shape.size, draft.normalisation)
        quantize_onnx(plain, path, batches, for_tensorrt=for_tensorrt)


def write_openvino(draft: Draft, path: Path) -> None:
    """The OpenVINO description, and its weights in a .bin beside it.

    fp16 halves the weights; bf16 is what the device is asked to compute in when the file is loaded.
    """
    openvino, precision = require("openvino"), draft.shape.precision
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx = Path(folder) / "graph.onnx"
        _write_onnx(draft, onnx, "int8" if precision == "int8" else "fp32")
        model = openvino_core().read_model(onnx)
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")


def write_torch(draft: Draft, path: Path) -> None:
    """The torch.export file."""
    graph, shape = draft.graph(draft.shape.precision), draft.shape
    example, free = graph.example(shape.size, shape.batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, (example,), dynamic_shapes={INPUT: free} if free else None)
        with atomic_write(path) as temporary:
            torch.export.save(program, temporary)


def write_engine(draft: Draft, path: Path) -> None:
    """The TensorRT engine, built here for this very GPU."""
    shape = draft.shape
    largest = shape.batch or shape.largest_batch or 1
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx = Path(folder) / "graph.onnx"
        _write_onnx(draft, onnx, shape.precision, for_tensorrt=True)
        sides = (*shape.size, 3) if shape.takes == "uint8" else (3, *shape.size)
        profile = Profile(*((batch, *sides) for batch in (shape.batch or 1, largest, largest)))
        build_engine(onnx, path, profile, draft.settings)


FORMATS: dict[str, tuple[str, Callable[[Draft, Path], None]]] = {
    "onnx": (".onnx", write_onnx),
    "openvino": (".xml", write_openvino),
    "tensorrt": (".engine", write_engine),
    "torch": (".pt2", write_torch),
}


def writer(path: Path) -> Callable[[Draft, Path], None]:
    """The function that writes a file of this ending.

    Raises:
        ExportError: no format has it.
    """
    found = [write for suffix, write in FORMATS.values() if suffix == path.suffix]
    if not found:
        known = " or ".join(suffix for suffix, _ in FORMATS.values())
        raise ExportError(f"{path}: what kind of file? Its name must end in {known}")
    return found[0]
