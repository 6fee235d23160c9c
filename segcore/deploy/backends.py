"""The runtimes a network can be timed in, all behind one small interface.

Each opener takes a `Case` and a precision and returns a `Runner` that is known to compute in that precision, or raises
ExportError with the reason why this machine cannot. Runtimes are imported only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.deploy.export import DTYPES, INPUT, DeployGraph, export_onnx, require
from segcore.deploy.tensorrt import BuildSettings, Profile, Session, build_engine, load_library, open_session
from segcore.errors import CheckpointError, ExportError
from segcore.machine import cpu_has_bf16

PRECISIONS = ("fp32", "bf16")
Infer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Case:
    """What is to be run: a graph at one size and batch.

    Args:
        graph: in eval mode, on `device`, with output "argmax".
        size: height and width in pixels.
        batch: images per run.
        device: "cpu" or a CUDA device.
        threads: CPU threads every backend gets.
        folder: existing folder for the exported file.
    """

    graph: DeployGraph
    size: tuple[int, int]
    batch: int
    device: torch.device
    threads: int
    folder: Path

    @cached_property
    def onnx(self) -> Path:
        """The graph as ONNX file, exported at first use and shared by the backends."""
        path = self.folder / f"{self.size[0]}x{self.size[1]}_b{self.batch}.onnx"
        export_onnx(self.graph, path, self.size, self.batch)
        return path


@dataclass(frozen=True)
class Runner:
    """A graph made ready by one backend.

    Args:
        place: float32 batch×3×H×W images on the CPU -> the same in the memory and layout the backend reads.
        infer: placed images -> class map, finished when it returns. This alone is timed.
        read: that class map -> int32 batch×H×W array.
    """

    place: Callable[[Tensor], Any]
    infer: Callable[[Any], Any]
    read: Callable[[Any], np.ndarray] = np.array  # a copy, for a runtime may reuse its output memory

    def __call__(self, images: Tensor) -> np.ndarray:
        """Class map int32 batch×H×W of float32 batch×3×H×W images."""
        return self.read(self.infer(self.place(images)))


def open_torch(case: Case, precision: str) -> Runner:
    """PyTorch eager, channels last; bf16 is autocast."""
    cuda = case.device.type == "cuda"
    bf16 = precision == "bf16"
    if bf16 and not (torch.cuda.is_bf16_supported() if cuda else cpu_has_bf16()):
        raise ExportError("this processor has no bf16 arithmetic")

    def place(images: Tensor) -> Tensor:
        return images.to(case.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def infer(images: Tensor) -> Tensor:
        # TF32 would pass for fp32 on recent GPUs.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
            torch.autocast(case.device.type, torch.bfloat16, enabled=bf16),
        ):
            classes = case.graph(images)
        if cuda:
            torch.cuda.synchronize(case.device)
        return classes

    return Runner(place, infer, lambda classes: classes.cpu().numpy())


def open_onnxruntime(case: Case, precision: str) -> Runner:
    """ONNX Runtime on the CPU, which computes in float32."""
    _cpu_only("onnxruntime", case.device)
    return Runner(Tensor.numpy, load_onnxruntime(case.onnx, precision, case.threads))


def open_openvino(case: Case, precision: str) -> Runner:
    """OpenVINO on the CPU, one stream, no copies of input and output."""
    _cpu_only("openvino", case.device)
    return Runner(Tensor.numpy, load_openvino(case.onnx, precision, case.threads, share_outputs=True))


def open_tensorrt(case: Case, precision: str) -> Runner:
    """TensorRT on the GPU; the engine is built of the graph typed in that precision."""
    load_library()
    if case.device.type != "cuda":
        raise ExportError("tensorrt needs a CUDA device")
    onnx, path = case.onnx, case.folder / f"{precision}_{case.size[0]}x{case.size[1]}_b{case.batch}.engine"
    if precision != "fp32":
        onnx = path.with_suffix(".onnx")
        export_onnx(DeployGraph(case.graph.net, dtype=DTYPES[precision]).eval(), onnx, case.size, case.batch)
    shape = (case.batch, 3, *case.size)
    build_engine(onnx, path, Profile(shape, shape, shape), BuildSettings(timing_cache=case.folder / "timing.cache"))
    session = Session(path)
    return Runner(session.place, session.infer, lambda classes: classes.cpu().numpy())


# What runs a file, for images in and out as NumPy arrays.


def load_onnxruntime(path: Path, precision: str, threads: int) -> Infer:
    """An ONNX file in ONNX Runtime on the CPU, which computes in float32.

    Raises:
        ExportError: the package is missing, or another precision is wanted.
        CheckpointError: the file is damaged.
    """
    onnxruntime = require("onnxruntime")
    if precision != "fp32":
        raise ExportError(f"onnxruntime has no {precision} convolutions on a CPU")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen kinds without a common name
        raise CheckpointError(f"{path}: onnxruntime cannot read it: {str(error).splitlines()[0]}") from None
    return lambda images: session.run(None, {INPUT: images})[0]


def load_openvino(path: Path, precision: str, threads: int, share_outputs: bool = False) -> Infer:
    """An ONNX or OpenVINO file in OpenVINO on the CPU, one stream.

    Args:
        path: the file.
        precision: "fp32" or "bf16".
        threads: CPU threads.
        share_outputs: each result may be overwritten by the next.

    Raises:
        ExportError: the package is missing, or the processor does not compute in that precision.
        CheckpointError: the file is damaged.
    """
    openvino = require("openvino")
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ExportError("this processor has no bf16 arithmetic")
    wanted = {"fp32": "f32", "bf16": "bf16"}[precision]
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": wanted,
    }
    try:
        compiled = core.compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: openvino cannot read it: {str(error).strip().splitlines()[-1]}") from None
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != wanted:  # a hint may be overruled, and then the figure would carry the wrong name
        raise ExportError(f"openvino computes in {used} here, not in {wanted}")
    request = compiled.create_infer_request()
    return lambda images: request.infer({INPUT: images}, share_inputs=True, share_outputs=share_outputs)[0]


def load_tensorrt(path: Path, precision: str, threads: int) -> Infer:
    """A TensorRT engine on the GPU; it computes in the precision it was built in. Errors as `open_session`."""
    session = open_session(path)
    return lambda images: session.infer(session.place(torch.from_numpy(images))).cpu().numpy()


def _cpu_only(backend: str, device: torch.device) -> None:
    if device.type != "cpu":
        raise ExportError(f"{backend} is timed on the CPU only, and this is a benchmark of {device}")


BACKENDS: dict[str, Callable[[Case, str], Runner]] = {
    "torch": open_torch,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "tensorrt": open_tensorrt,
}
LOADERS: dict[str, Callable[[Path, str, int], Infer]] = {
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
    "tensorrt": load_tensorrt,
}
