"""What a backend is given to run, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.deploy.export import DTYPES, DeployGraph, export_onnx, require
from segcore.deploy.quantize import quantize_onnx
from segcore.errors import ExportError

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Case:
    """What is to be run: a graph, or an exported file, at one size and batch.

    Args:
        graph: in eval mode, on `device`; None where a file is given.
        size: height and width in pixels.
        batch: images per run.
        device: "cpu" or a CUDA device.
        threads: CPU threads every backend gets.
        folder: existing folder for exported files.
        calibration: float32 batch×3×H×W each, normalised training images, for int8.
        given: the exported file, of the one precision it has.
        whole: the case whose files, cut before their ArgMax, are those of this one.
    """

    graph: DeployGraph | None
    size: tuple[int, int]
    batch: int
    device: torch.device
    threads: int
    folder: Path
    calibration: Sequence[np.ndarray] = ()
    given: Path | None = None
    whole: Case | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the images."""
        return self.batch, 3, *self.size

    @property
    def without_argmax(self) -> Case:
        """The same network up to its logits; its files are this case's, cut short."""
        return replace(self, graph=DeployGraph(self._graph.net, "logits").eval(), whole=self)

    def file(self, precision: str, typed: bool = False) -> Path:
        """The graph as a file, written at first use and shared by the backends.

        Args:
            precision: "int8" is in the file; of the others the backend makes what it is asked for.
            typed: fp16 and bf16 are in the file too and int8 is signed, for TensorRT, which computes in what it reads.

        Raises:
            ExportError: the graph cannot be exported; int8 without images to calibrate on.
        """
        if self.given:
            return self.given
        if self.whole and not typed:
            return self._cut(precision)
        if precision == "int8":
            return self._quantised(typed)
        return self._typed(precision) if typed and precision != "fp32" else self._float32

    @property
    def _graph(self) -> DeployGraph:
        if self.graph is None:
            raise ExportError("only the backends that read the exported file run it")
        return self.graph

    @property
    def _float32(self) -> Path:
        return self._exported(self._graph, "fp32")

    def _quantised(self, for_tensorrt: bool) -> Path:
        path = self._path("int8-signed" if for_tensorrt else "int8")
        if not path.exists():
            quantize_onnx(self._float32, path, self.calibration, for_tensorrt=for_tensorrt)
        return path

    def _typed(self, precision: str) -> Path:
        graph = DeployGraph(self._graph.net, self._graph.output, dtype=DTYPES[precision]).eval()
        return self._exported(graph, precision)

    def _exported(self, graph: DeployGraph, precision: str) -> Path:
        path = self._path(precision)
        if not path.exists():
            export_onnx(graph, path, self.size, self.batch)
        return path

    def _cut(self, precision: str) -> Path:
        path = self._path("int8" if precision == "int8" else "fp32")
        cut_argmax(self.whole.file(precision), path)
        return path

    def _path(self, precision: str) -> Path:
        height, width = self.size
        return self.folder / f"{self._graph.output}_{precision}_{height}x{width}_b{self.batch}.onnx"


def cut_argmax(source: Path, target: Path) -> None:
    """Writes an ONNX file that ends in ArgMax so that it ends before it, in the logits."""
    onnx = require("onnx")
    proto = onnx.load(source)
    nodes = list(proto.graph.node)
    last = next(place for place, node in enumerate(nodes) if node.op_type == "ArgMax")
    logits = onnx.helper.make_tensor_value_info(nodes[last].input[0], onnx.TensorProto.FLOAT, None)
    del proto.graph.node[last:], proto.graph.output[:]  # nodes stand in the order they run in
    proto.graph.output.append(logits)
    target.write_bytes(proto.SerializeToString())


@dataclass(frozen=True)
class Runner:
    """A graph made ready by one backend.

    Args:
        place: float32 batch×3×H×W images on the CPU -> the same in the memory and layout the backend reads.
        infer: placed images -> class map, finished when it returns.
        read: that class map -> array int32 batch×H×W on the CPU (of logits float32 batch×C×H×W).
        computes: the arithmetic really used, as far as the backend tells.
        file: what it was made of; None where that is the network in memory.
    """

    place: Callable[[Tensor], Any]
    infer: Callable[[Any], Any]
    read: Callable[[Any], np.ndarray] = np.array  # a copy, for a runtime may reuse its output memory
    computes: str = ""
    file: Path | None = None

    def __call__(self, images: Tensor) -> np.ndarray:
        """Class map int32 batch×H×W of float32 batch×3×H×W images."""
        return self.read(self.infer(self.place(images)))
