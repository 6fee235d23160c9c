"""The runtimes a network can be timed in, all behind one small interface.

Each opener takes a `Case` and a precision and returns a `Runner` that is known to compute in that precision, or raises
ExportError with the reason why this machine cannot. Runtimes are imported only when asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.deploy.case import Case, Runner
from segcore.deploy.export import INPUT, openvino_core, require
from segcore.deploy.in_torch import open_compiled, open_cuda_graph, open_torch
from segcore.deploy.tensorrt import BuildSettings, Profile, Session, build_engine, load_library, open_session
from segcore.errors import CheckpointError, ExportError

Infer = Callable[[np.ndarray], np.ndarray]

# OpenVINO's name of the arithmetic that it is asked for, and of the one that it uses.
PRECISION = "INFERENCE_PRECISION_HINT"
# Compiled forms of one int8 file; the six scales of the published evaluation and its windows need seven.
SIZES_KEPT = 12


def open_onnxruntime(case: Case, precision: str) -> Runner:
    """ONNX Runtime on the CPU, in float32 or int8."""
    _cpu_only("onnxruntime", case.device)
    _onnxruntime_computes(precision)
    path, optimized = case.file(precision), case.folder / "optimized.onnx"
    infer = load_onnxruntime(path, precision, case.threads, optimized)
    return Runner(Tensor.numpy, infer, computes=_operators(optimized), file=path)


def open_openvino(case: Case, precision: str) -> Runner:
    """OpenVINO on the CPU, one stream, no copies of input and output."""
    _cpu_only("openvino", case.device)
    path = case.file(precision)
    compiled = compile_openvino(path, precision, case.threads, case.shape)
    types = convolution_types(compiled)
    if precision == "int8" and not types.keys() & {"i8", "u8"}:
        raise ExportError("openvino computes no convolution of it in eight bits here")
    computes = ", ".join(f"{count} convolutions {kind}" for kind, count in sorted(types.items()))
    return Runner(Tensor.numpy, _openvino_infer(compiled, share_outputs=True), computes=computes, file=path)


def open_tensorrt(case: Case, precision: str) -> Runner:
    """TensorRT on the GPU; the engine is built of the graph typed in that precision."""
    load_library()
    if case.device.type != "cuda":
        raise ExportError("tensorrt needs a CUDA device")
    path = case.file(precision, typed=True)
    if path.suffix == ".onnx":
        onnx, path = path, path.with_suffix(".engine")
        settings = BuildSettings(timing_cache=case.folder / "timing.cache")
        build_engine(onnx, path, Profile(case.shape, case.shape, case.shape), settings)
    session = Session(path)
    return Runner(session.place, session.infer, lambda classes: classes.cpu().numpy(), precision, path)


# What runs a file, for images in and out as NumPy arrays.


def load_onnxruntime(path: Path, precision: str, threads: int, optimized: Path | None = None) -> Infer:
    """An ONNX file in ONNX Runtime on the CPU.

    Args:
        path: the file.
        precision: "fp32", or "int8" of a file that is so.
        threads: CPU threads.
        optimized: gets the graph that is really run.

    Raises:
        ExportError: the package is missing, or another precision is wanted.
        CheckpointError: the file is damaged.
    """
    onnxruntime = require("onnxruntime")
    _onnxruntime_computes(precision)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # no warning that an optimised graph belongs to this machine
    if optimized:
        options.optimized_model_filepath = str(optimized)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen kinds without a common name
        raise CheckpointError(f"{path}: onnxruntime cannot read it: {str(error).splitlines()[0]}") from None
    return lambda images: session.run(None, {INPUT: images})[0]


def _onnxruntime_computes(precision: str) -> None:
    if precision not in ("fp32", "int8"):
        raise ExportError(f"onnxruntime has no {precision} convolutions on a CPU")


def _operators(optimized: Path) -> str:
    """How many convolutions of a graph are in which arithmetic."""
    nodes = require("onnx").load(optimized).graph.node
    eight = sum("Conv" in node.op_type and node.op_type.startswith("QLinear") for node in nodes)
    rest = sum("Conv" in node.op_type and not node.op_type.startswith("QLinear") for node in nodes)
    return ", ".join(f"{n} convolutions {kind}" for n, kind in ((rest, "f32"), (eight, "u8")) if n)


def load_openvino(path: Path, precision: str, threads: int) -> Infer:
    """An ONNX or OpenVINO file in OpenVINO on the CPU; arguments and errors as `compile_openvino`.

    An int8 file of any size is compiled anew for each size that comes, in a second or so, and the last few are kept:
    with the size left open OpenVINO 2026.4 gives other numbers, of stdc1 so far off that every seventh pixel changes
    its class.
    """
    model, settings = _read_openvino(path), _openvino_settings(precision, threads)
    if not (model.input(0).partial_shape[2:].is_dynamic and _is_quantised(model)):
        return _openvino_infer(_compile_openvino(model, path, settings))

    @lru_cache(SIZES_KEPT)
    def of_size(height: int, width: int) -> Infer:
        return _openvino_infer(_compile_openvino(model, path, settings, (-1, 3, height, width)))

    return lambda images: of_size(*images.shape[2:])(images)


def compile_openvino(path: Path, precision: str, threads: int, shape: tuple[int, ...] | None = None) -> Any:
    """An ONNX or OpenVINO file as OpenVINO's compiled model on the CPU, with one stream.

    Args:
        path: the file.
        precision: "fp32" or "bf16"; "int8" of a file that is so, whose other parts compute in float32.
        threads: CPU threads.
        shape: of the images, -1 where it stays open; for a file that takes others too, which is faster for one.

    Raises:
        ExportError: the package is missing, or the processor does not compute in that precision.
        CheckpointError: the file is damaged.
    """
    return _compile_openvino(_read_openvino(path), path, _openvino_settings(precision, threads), shape)


def _read_openvino(path: Path) -> Any:
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise _unreadable(path, error) from None


def _openvino_settings(precision: str, threads: int) -> dict[str, Any]:
    wanted = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}.get(precision)
    if wanted is None:
        raise ExportError(f"openvino does not compute in {precision} on a CPU")
    if precision == "bf16" and "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ExportError("this processor has no bf16 arithmetic")
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        PRECISION: wanted,
    }


def _compile_openvino(model: Any, path: Path, settings: dict[str, Any], shape: tuple[int, ...] | None = None) -> Any:
    try:
        if shape and model.is_dynamic():
            model = model.clone()
            model.reshape(list(shape))
        compiled = openvino_core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _unreadable(path, error) from None
    wanted, used = settings[PRECISION], compiled.get_property(PRECISION).get_type_name()
    if used != wanted:  # a hint may be overruled, and then the figure would carry the wrong name
        raise ExportError(f"openvino computes in {used} here, not in {wanted}")
    return compiled


def _unreadable(path: Path, error: RuntimeError) -> CheckpointError:
    return CheckpointError(f"{path}: openvino cannot read it: {str(error).strip().splitlines()[-1]}")


def _is_quantised(model: Any) -> bool:
    return any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())


def convolution_types(compiled: Any) -> Counter[str]:
    """How many convolutions of a compiled model are computed in which type, such as f32, bf16, u8."""
    about = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    return Counter(
        str(info["runtimePrecision"].astype(str)) for info in about if "Conv" in info["layerType"].astype(str)
    )


def _openvino_infer(compiled: Any, share_outputs: bool = False) -> Infer:
    """Each result may be overwritten by the next if `share_outputs`."""
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
    "torch-compile": open_compiled,
    "torch-cudagraph": open_cuda_graph,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "tensorrt": open_tensorrt,
}
LOADERS: dict[str, Callable[[Path, str, int], Infer]] = {
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
    "tensorrt": load_tensorrt,
}
