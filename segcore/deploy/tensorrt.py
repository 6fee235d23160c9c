"""TensorRT 10 and 11, one way for both: every tensor has the type that the ONNX graph gives it.

TensorRT 11 has no precision flags and no calibrators any more, and TensorRT 10 need not be told by them: fp16, bf16
and int8 are written into the graph first (`segcore.deploy.formats`), and the network is strongly typed. TF32 is off, so
that fp32 means fp32. An engine belongs to the version and the GPU it was built with; both, and its digest, stand in the
file beside it and are compared before it is loaded, for an engine holds code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from segcore.deploy.export import INPUT, require
from segcore.deploy.stamps import read_stamp, sidecar
from segcore.errors import CheckpointError, ExportError
from segcore.files import atomic_write, sha256, write_json

VERSIONS = (10, 11)
DEVICE = "cuda"
TYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16, "INT32": torch.int32}
TYPES |= {"INT64": torch.int64, "UINT8": torch.uint8}


class Profile(NamedTuple):
    """Shapes of the input: the smallest, the one to be fast for, the largest."""

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built.

    Args:
        workspace: GiB of GPU memory that a layer may use for itself.
        level: 0 … 5, how long TensorRT looks for faster kernels; 3 is its own default.
        timing_cache: file of measured kernels, used and renewed; the next build for this GPU takes less time.
        cuda_graph: whether the engine is run as one recorded CUDA graph.
    """

    workspace: float = 4.0
    level: int = 3
    timing_cache: Path | None = None
    cuda_graph: bool = False


def load_library() -> ModuleType:
    """TensorRT, if this machine has one that segcore works with, and a GPU.

    Raises:
        ExportError: it is not installed or does not load, is of another version, or there is no GPU.
    """
    trt = require("tensorrt")
    version = getattr(trt, "__version__", "of no version")
    if version.split(".")[0] not in map(str, VERSIONS):
        raise ExportError(
            f"TensorRT {version} is not supported: precision is written into the graph here, and only TensorRT 10 and "
            "11 take every type from there; install one of these"
        )
    if not _has_gpu():
        raise ExportError("tensorrt needs a CUDA device")
    return trt


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def build_engine(onnx: Path, path: Path, profile: Profile, settings: BuildSettings) -> None:
    """Builds an engine for this GPU and writes it, with what it was built by and for beside it.

    Args:
        onnx: the typed graph.
        path: the engine; its description is written to `sidecar(path)`.
        profile: shapes of the input "images".
        settings: see there.

    Raises:
        ExportError: see `load_library`; TensorRT cannot read the graph or cannot build it.
    """
    trt = load_library()
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)  # owns the weights: it must live until the engine is built
    if not parser.parse_from_file(str(onnx)):
        raise ExportError(f"TensorRT {trt.__version__} cannot read the graph: {_parser_errors(parser)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings.workspace * 2**30))
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = settings.level
    cache = _attach_cache(config, settings.timing_cache)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, *profile)
    if config.add_optimization_profile(shapes) < 0:
        raise ExportError(f"TensorRT {trt.__version__} does not accept input shapes {profile}: {log.reason()}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} cannot build the engine: {log.reason()}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(plan)
    if settings.timing_cache:
        with atomic_write(settings.timing_cache) as temporary:
            temporary.write_bytes(cache.serialize())
    write_json(sidecar(path), {"tensorrt": _built(trt, path, profile, settings)})


def _strongly_typed(trt: ModuleType) -> int:
    """TensorRT 11 knows no other networks, and calls the flag deprecated."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if trt.__version__.startswith("10.") else 0


def _attach_cache(config: Any, path: Path | None) -> Any:
    """The timing cache of a file; an empty one where there is none, or it is of another GPU or version."""
    known = path.read_bytes() if path and path.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _built(trt: ModuleType, path: Path, profile: Profile, settings: BuildSettings) -> dict[str, Any]:
    return {
        "version": trt.__version__,
        **_gpu(),
        "engine_sha256": sha256(path),
        "profile": profile._asdict(),
        "workspace_gib": settings.workspace,
        "level": settings.level,
        "cuda_graph": settings.cuda_graph,
    }


def _gpu() -> dict[str, str]:
    return {
        "gpu": torch.cuda.get_device_name(),
        "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
    }


def _parser_errors(parser: Any) -> str:
    return "; ".join(str(parser.get_error(k).desc()) for k in range(min(parser.num_errors, 3))) or "no reason given"


def _log(trt: ModuleType) -> Any:
    """A logger that keeps errors for our own sentence instead of printing pages."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

        def reason(self) -> str:
            return " ".join(self.errors[-1].split()) if self.errors else "no reason given"

    return Log()


class Session:
    """An engine ready to run on the current GPU, for one batch at a time.

    Raises:
        CheckpointError: TensorRT cannot read the engine.
    """

    def __init__(self, path: Path, cuda_graph: bool = False) -> None:
        self._trt = trt = load_library()
        self.path, self._cuda_graph = path, cuda_graph
        self._log = _log(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise CheckpointError(f"{path}: TensorRT {trt.__version__} cannot read it: {self._log.reason()}")
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        (self._result,) = (n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT)
        self._stream = torch.cuda.Stream()
        self._input = self._output = self._recorded = None

    def place(self, images: Tensor) -> Tensor:
        """Images on the CPU -> the same in this session's own memory on the GPU, over the last ones.

        Raises:
            ExportError: a shape outside the engine's profile.
        """
        if self._input is None or self._input.shape != images.shape:
            self._prepare(tuple(images.shape))
        with torch.cuda.stream(self._stream):
            self._input.copy_(images)
        self._stream.synchronize()
        return self._input

    def infer(self, placed: Tensor) -> Tensor:
        """What `place` gave -> the output, on the GPU and finished; the next run overwrites it."""
        with torch.cuda.stream(self._stream):
            if self._recorded:
                self._recorded.replay()
            else:
                self._enqueue()
        self._stream.synchronize()
        return self._output

    def _prepare(self, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(INPUT, shape):
            raise ExportError(
                f"{self.path}: was not built for input of {'×'.join(map(str, shape))}: {self._log.reason()}"
            )
        self._input = self._memory(INPUT, shape)
        self._output = self._memory(self._result, tuple(self._context.get_tensor_shape(self._result)))
        self._context.set_tensor_address(INPUT, self._input.data_ptr())
        self._context.set_tensor_address(self._result, self._output.data_ptr())
        if self._cuda_graph:
            self._enqueue()  # TensorRT sets itself up at the first run, which cannot be recorded
            self._stream.synchronize()
            self._recorded = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._recorded, stream=self._stream):
                self._enqueue()

    def _memory(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape, dtype=TYPES[self._engine.get_tensor_dtype(name).name], device=DEVICE)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise ExportError(f"{self.path}: TensorRT could not run it: {self._log.reason()}")


def open_session(path: Path) -> Session:
    """An exported engine, after its description was held against this machine.

    Raises:
        ExportError: TensorRT or the GPU is missing or another than it was built with.
        CheckpointError: engine or description are damaged or do not belong together.
    """
    trt, text = load_library(), read_stamp(path)
    try:
        built = json.loads(text)["tensorrt"]
        version, gpu, capability = (built[key] for key in ("version", "gpu", "compute_capability"))
        digest, cuda_graph = built["engine_sha256"], built["cuda_graph"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{sidecar(path)}: damaged, or not of segcore ({error}); export it again") from None
    if version != trt.__version__:
        raise ExportError(f"{path}: was built by TensorRT {version}, this is {trt.__version__}; export it again here")
    here = _gpu()
    if (gpu, capability) != (here["gpu"], here["compute_capability"]):
        raise ExportError(f"{path}: was built for {gpu}, this is {here['gpu']}; export it again here")
    if sha256(path) != digest:
        raise CheckpointError(
            f"{path}: damaged, or another engine than {sidecar(path).name} describes; export it again"
        )
    return Session(path, cuda_graph)
