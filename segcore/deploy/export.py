"""The graph that is deployed, and the ONNX file of it.

Deployed, timed, scored and compared is always the same graph: images in, logits or class map out. Its ONNX file has one
fixed input size, as in CoinCheung/BiSeNet, or takes any multiples of 32; standard operators only, so that any runtime
reads it without a plugin. Every other kind of file is made of it or of the same graph, see `segcore.deploy.deliver`.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim

from segcore.deploy.metadata import MULTIPLE
from segcore.errors import ExportError
from segcore.files import atomic_write

Output = Literal["logits", "argmax", "argmax_resized"]
OPSET = 18
OPSET_OF_BF16 = 22  # the first with convolutions in bfloat16
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
INPUT = "images"
OUTPUTS = {"logits": "logits", "argmax": "classes", "argmax_resized": "classes"}
# Size the exporter sees where the file is to take any: of different sides, and more than one pixel at every stride.
EXAMPLE = (4 * MULTIPLE, 6 * MULTIPLE)


class DeployGraph(nn.Module):
    """A network with the input and the output a user of it wants.

    Args:
        net: images -> logits at the images' size; should be in eval mode and without auxiliary heads.
        output: "logits" float32 N×C×H×W, "argmax" int32 N×H×W (ties go to the lowest class), or "argmax_resized", the
            same at the size of `camera`: the logits are resized, once, and not the classes.
        dtype: what the network computes in; not float32: a copy of it.
        statistics: mean and std, three each, of RGB in 0 … 1: then uint8 N×H×W×3 RGB goes in and is normalised here.
            None: normalised float32 N×3×H×W goes in.
        camera: height and width of "argmax_resized".
    """

    def __init__(
        self,
        net: nn.Module,
        output: Output = "argmax",
        *,
        dtype: torch.dtype = torch.float32,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        camera: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.net = net if dtype == torch.float32 else copy.deepcopy(net).to(dtype)
        self.output, self.dtype, self.camera, self.takes = output, dtype, camera, "float32"
        if statistics:
            self.takes = "uint8"
            for name, values in zip(("mean", "std"), statistics, strict=True):
                self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Maps images to the output."""
        if self.takes == "uint8":
            images = (images.float().permute(0, 3, 1, 2) / 255 - self.mean) / self.std
        images = images.to(self.dtype)
        logits = self.net(images, self.camera) if self.output == "argmax_resized" else self.net(images)
        return logits.float() if self.output == "logits" else logits.argmax(dim=1).to(torch.int32)

    def example(self, size: tuple[int, int] | None, batch: int | None) -> tuple[Tensor, dict[int, Any]]:
        """An input for tracing, and which of its dimensions stay free."""
        device, (height, width) = next(self.net.parameters()).device, size or EXAMPLE
        free: dict[int, Any] = {} if batch else {0: Dim("batch")}
        first = 1 if self.takes == "uint8" else 2
        if size is None:
            free |= {first: MULTIPLE * Dim("height"), first + 1: MULTIPLE * Dim("width")}
        if self.takes == "uint8":
            return torch.zeros(batch or 2, height, width, 3, dtype=torch.uint8, device=device), free
        return torch.zeros(batch or 2, 3, height, width, device=device), free


def export_onnx(graph: DeployGraph, path: Path, size: tuple[int, int] | None, batch: int | None = 1) -> None:
    """Writes `graph` as one ONNX file with the input "images"; its output is "logits" or "classes".

    Equal graphs give equal files.

    Args:
        graph: in eval mode.
        path: file to write; what stood there stays whole if the export fails.
        size: height and width in pixels; None for any multiples of 32.
        batch: images per run; None for any number.

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
    with atomic_write(path) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))


def _convert(graph: DeployGraph, size: tuple[int, int] | None, batch: int | None) -> torch.onnx.ONNXProgram:
    example, free = graph.example(size, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter trips over deprecations of its own libraries
        try:
            return torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSET_OF_BF16 if graph.dtype == torch.bfloat16 else OPSET,
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


def openvino_core() -> Any:
    """This process's one `openvino.Core`, which reads and compiles models.

    Each Core that compiles for the CPU gives its thread a signal stack of its own and, when it goes, puts the one from
    before back. Two that go in the order they came leave the thread on a stack that is no longer there, and the next
    signal (Ctrl-C, the end of a loader's worker) ends the process with a segmentation fault; seen with OpenVINO 2026.4.

    Raises:
        ExportError: as `require`.
    """
    require("openvino")
    return _openvino_core()


@cache
def _openvino_core() -> Any:
    return require("openvino").Core()
