"""The graph that is deployed, and the ONNX file of it.

Deployed, timed, scored and compared is always the same graph: normalised images in, logits or class map at the images'
size out. Its ONNX file has one fixed input size, as in CoinCheung/BiSeNet, or takes any multiples of 32; standard
operators only, so that any runtime reads it without a plugin.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from segcore.checkpoint import load_model_file
from segcore.deploy import metadata
from segcore.deploy.metadata import MULTIPLE, GraphShape
from segcore.errors import ExportError
from segcore.files import atomic_write, sha256
from segcore.models.fuse import fuse

OPSET = 18
INPUT = "images"
OUTPUTS = {"logits": "logits", "argmax": "classes"}
# Size the exporter sees where the file is to take any: of different sides, and more than one pixel at every stride.
EXAMPLE = (4 * MULTIPLE, 6 * MULTIPLE)


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


def export_onnx(
    graph: DeployGraph,
    path: Path,
    size: tuple[int, int] | None,
    batch: int | None = 1,
    about: dict[str, Any] | None = None,
) -> None:
    """Writes `graph` as one ONNX file for float32 batch×3×H×W input "images"; its output is "logits" or "classes".

    Equal graphs with equal descriptions give equal files.

    Args:
        graph: in eval mode.
        path: file to write; what stood there stays whole if the export fails.
        size: height and width in pixels; None for any multiples of 32.
        batch: images per run; None for any number.
        about: goes into the file's metadata, see `segcore.deploy.metadata`.

    Raises:
        ExportError: a package is missing, or the graph cannot be told in operators of the ONNX standard.
    """
    onnx = require("onnx")
    require("onnxscript")
    program = _convert(graph, size, batch)
    # The exporter notes for every node where in which file of this machine it comes from.
    require("onnx_ir.passes.common").ClearMetadataAndDocStringPass()(program.model)
    proto = program.model_proto
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{path}: not a valid ONNX graph: {error}") from error
    custom = {f"{node.domain}::{node.op_type}" for node in proto.graph.node if node.domain}
    if custom:
        raise ExportError(f"{path}: operators outside the ONNX standard: {', '.join(sorted(custom))}")
    if about:
        onnx.helper.set_model_props(proto, {metadata.KEY: metadata.write(about, GraphShape(graph.output, batch, size))})
    with atomic_write(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def export_openvino(
    graph: DeployGraph, path: Path, size: tuple[int, int] | None, batch: int | None, about: dict[str, Any]
) -> None:
    """Writes `graph` as an OpenVINO file and the file of its weights beside it; arguments and errors as `export_onnx`.

    The description holds the weights' sha256, so that the digest of the first file stands for both.
    """
    openvino = require("openvino")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx, new = Path(folder) / "graph.onnx", Path(folder) / path.name
        export_onnx(graph, onnx, size, batch)
        model = openvino.Core().read_model(onnx)
        openvino.save_model(model, new, compress_to_fp16=False)
        about = {**about, metadata.WEIGHTS: sha256(new.with_suffix(".bin"))}
        model.set_rt_info(metadata.write(about, GraphShape(graph.output, batch, size)), metadata.KEY)
        openvino.save_model(model, new, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            new.with_suffix(suffix).replace(path.with_suffix(suffix))


def export(
    weights: Path,
    path: Path,
    *,
    output: Literal["logits", "argmax"] = "logits",
    size: tuple[int, int] | None = None,
    batch: int | None = None,
) -> None:
    """A `model.pt` -> the file that is deployed, in float32, with everything needed to use and to score it.

    Args:
        weights: the model file.
        path: ends in .onnx, or in .xml for OpenVINO, whose weights go into a .bin beside it.
        output: what the file gives, see `DeployGraph`. Scoring in several views wants logits.
        size: height and width it is to take; None for any multiples of 32.
        batch: images it is to take at once; None for any number.

    Raises:
        CheckpointError: not a model file.
        ExportError: another ending, a package is missing, or the network cannot be exported.
    """
    writers = {".onnx": export_onnx, ".xml": export_openvino}
    if path.suffix not in writers:
        raise ExportError(f"{path}: what kind of file? Its name must end in {' or '.join(writers)}")
    file = load_model_file(weights)
    about = metadata.describe(file, sha256(weights))
    writers[path.suffix](DeployGraph(fuse(file.network()), output).eval(), path, size, batch, about)


def _convert(graph: DeployGraph, size: tuple[int, int] | None, batch: int | None) -> torch.onnx.ONNXProgram:
    device, free = next(graph.parameters()).device, {}
    if batch is None:
        free[0] = Dim("batch")
    if size is None:
        free |= {2: MULTIPLE * Dim("height"), 3: MULTIPLE * Dim("width")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter trips over deprecations of its own libraries
        try:
            return torch.onnx.export(
                graph,
                (torch.zeros(batch or 2, 3, *(size or EXAMPLE), device=device),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUTS[graph.output]],
                dynamic_shapes={INPUT: free} if free else None,
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
