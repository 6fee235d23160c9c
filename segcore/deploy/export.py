"""The graph that is deployed, and the ONNX file of it.

Deployed, timed and compared is always the same graph: normalised images in, logits or class map at the images' size
out. The ONNX file has one fixed input size, as in CoinCheung/BiSeNet, and standard operators only, so that any runtime
reads it without a plugin.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor, nn

from segcore.errors import ExportError
from segcore.files import atomic_write

OPSET = 18
INPUT = "images"
OUTPUTS = {"logits": "logits", "argmax": "classes"}


class DeployGraph(nn.Module):
    """A network with the output a user of it wants.

    Args:
        net: images -> logits at the images' size; should be in eval mode and without auxiliary heads.
        output: "logits" float32 N×C×H×W, or "argmax" int32 N×H×W (ties go to the lowest class).
    """

    def __init__(self, net: nn.Module, output: Literal["logits", "argmax"] = "argmax") -> None:
        super().__init__()
        self.net, self.output = net, output

    def forward(self, images: Tensor) -> Tensor:
        """Maps normalised float32 N×3×H×W images to the output."""
        logits = self.net(images)
        return logits if self.output == "logits" else logits.argmax(dim=1).to(torch.int32)


def export_onnx(graph: DeployGraph, path: Path, size: tuple[int, int], batch: int = 1) -> None:
    """Writes `graph` as one ONNX file for float32 batch×3×H×W input "images"; its output is "logits" or "classes".

    Args:
        graph: in eval mode.
        path: file to write; what stood there stays whole if the export fails.
        size: height and width in pixels.
        batch: images per run.

    Raises:
        ExportError: a package is missing, or the graph cannot be told in operators of the ONNX standard.
    """
    onnx = require("onnx")
    require("onnxscript")
    program = _convert(graph, torch.zeros(batch, 3, *size, device=next(graph.parameters()).device))
    try:
        onnx.checker.check_model(program.model_proto)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{path}: not a valid ONNX graph: {error}") from error
    custom = {f"{node.domain}::{node.op_type}" for node in program.model_proto.graph.node if node.domain}
    if custom:
        raise ExportError(f"{path}: operators outside the ONNX standard: {', '.join(sorted(custom))}")
    with atomic_write(path) as temporary:
        program.save(temporary, external_data=False)


def _convert(graph: DeployGraph, example: Tensor) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter trips over deprecations of its own libraries
        try:
            return torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUTS[graph.output]],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(f"{type(graph.net).__name__} cannot be written as ONNX: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """First line of the error that started it; the exporter wraps it in a page of advice."""
    while error.__cause__:
        error = error.__cause__
    return (str(error) or repr(error)).splitlines()[0]


def require(package: str) -> ModuleType:
    """Imports an optional package.

    Raises:
        ExportError: it is not installed, or it is but does not load (a missing system library, say).
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        raise ExportError(f"{package} is not installed" if absent else f"{package} does not load: {error}") from None
