"""A TensorRT without TensorRT: the same names and the same order of calls, computing by ONNX Runtime on the CPU.

It has only names that the bindings of its version have (`tensorrt_names.json`, listed from NVIDIA's own wheels),
refuses attributes that are not theirs, and reads and writes memory by address as the real one does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())
GPU = "NVIDIA Fake 1"


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1


class ILogger:
    INTERNAL_ERROR, ERROR = Severity


class Fake:
    """The module `tensorrt`; `calls` are the names of what was called, with the arguments that matter."""

    ILogger = ILogger
    MemoryPoolType = IntEnum("MemoryPoolType", {"WORKSPACE": 0})
    BuilderFlag = IntEnum("BuilderFlag", {"TF32": 7})
    TensorIOMode = IntEnum("TensorIOMode", {"INPUT": 1, "OUTPUT": 2})
    DataType = IntEnum("DataType", {"FLOAT": 0, "INT32": 3, "UINT8": 5})

    def __init__(self, version: str) -> None:
        self.__version__, self.calls = version, []
        self.unreadable = self.unbuildable = False
        strong = 1 if version.startswith("10") else 0
        self.NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": strong})

    def note(self, *call: Any) -> None:
        self.calls.append(call)

    @property
    def steps(self) -> list[str]:
        return [call[0] for call in self.calls]

    def Builder(self, log: ILogger) -> Builder:
        return Builder(self, log)

    def OnnxParser(self, network: INetworkDefinition, log: ILogger) -> OnnxParser:
        return OnnxParser(self, network)

    def Runtime(self, log: ILogger) -> Runtime:
        return Runtime(self, log)


class INetworkDefinition:
    __slots__ = ("_onnx",)


class Builder:
    __slots__ = ("_trt", "_log")

    def __init__(self, trt: Fake, log: ILogger) -> None:
        self._trt, self._log = trt, log

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        self._trt.note("create_network", flags)
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._trt)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        self._trt.note("build_serialized_network")
        if self._trt.unbuildable:
            self._log.log(Severity.ERROR, "no kernel\n for node_conv2d")
            return None
        config._cache._content += b"+timed"
        return json.dumps(config._profile._shapes).encode() + b"\n" + network._onnx


class OnnxParser:
    __slots__ = ("_trt", "_network")

    def __init__(self, trt: Fake, network: INetworkDefinition) -> None:
        self._trt, self._network = trt, network

    def parse_from_file(self, model: str) -> bool:
        self._trt.note("parse_from_file")
        self._network._onnx = Path(model).read_bytes()
        return not self._trt.unreadable

    @property
    def num_errors(self) -> int:
        return 1

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: "unknown operator")


class IOptimizationProfile:
    __slots__ = ("_shapes",)

    def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:
        self._shapes = [min, opt, max]


class ITimingCache:
    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content


class IBuilderConfig:
    __slots__ = ("_trt", "_cache", "_profile", "builder_optimization_level")

    def __init__(self, trt: Fake) -> None:
        self._trt = trt

    def set_memory_pool_limit(self, pool: int, pool_size: int) -> None:
        self._trt.note("set_memory_pool_limit", pool.name, pool_size)

    def clear_flag(self, flag: int) -> None:
        self._trt.note("clear_flag", flag.name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        self._trt.note("set_timing_cache", cache._content)
        self._cache = cache
        return cache._content != b"another GPU's"

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._trt.note("add_optimization_profile", *profile._shapes)
        self._profile = profile
        smallest, best, largest = profile._shapes
        return 0 if smallest <= best <= largest else -1


class Runtime:
    __slots__ = ("_trt", "_log")

    def __init__(self, trt: Fake, log: ILogger) -> None:
        self._trt, self._log = trt, log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._trt.note("deserialize_cuda_engine")
        head, _, onnx = serialized_engine.partition(b"\n")
        if not head.startswith(b"["):
            self._log.log(Severity.ERROR, "magic tag does not match")
            return None
        return ICudaEngine(self._trt, json.loads(head), onnx)


class ICudaEngine:
    def __init__(self, trt: Fake, profile: list, onnx: bytes) -> None:
        self._trt, self._profile, self._onnx = trt, profile, onnx

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self._onnx)

    @property
    def _tensors(self) -> list:
        return [*self._session.get_inputs(), *self._session.get_outputs()]

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    def get_tensor_name(self, index: int) -> str:
        return self._tensors[index].name

    def get_tensor_mode(self, name: str) -> int:
        return self._trt.TensorIOMode.INPUT if name == self._tensors[0].name else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> int:
        kind = next(tensor.type for tensor in self._tensors if tensor.name == name)
        known = {"tensor(float)": "FLOAT", "tensor(int32)": "INT32", "tensor(uint8)": "UINT8"}
        return self._trt.DataType[known[kind]]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    __slots__ = ("_engine", "_shape", "_addresses")

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._addresses = engine, {}

    def set_input_shape(self, name: str, shape: tuple) -> bool:
        smallest, _, largest = self._engine._profile
        self._shape = shape
        return all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))

    def get_tensor_shape(self, name: str) -> tuple:
        given = self._engine._session.get_inputs()[0]
        zeros = np.zeros(self._shape, np.uint8 if "uint8" in given.type else np.float32)
        return self._engine._session.run([name], {given.name: zeros})[0].shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._engine._trt.note("execute_async_v3", stream_handle)
        given, found = self._engine._tensors
        images = _at(self._addresses[given.name], self._shape, np.uint8 if "uint8" in given.type else np.float32)
        result = self._engine._session.run([found.name], {given.name: images})[0]
        _at(self._addresses[found.name], result.shape, result.dtype)[:] = result
        if Recording.current:
            Recording.current.again = lambda: self.execute_async_v3(stream_handle)
        return True


def _at(address: int, shape: tuple, dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


class Recording:
    """A CUDA graph: what was enqueued while it was recorded, again."""

    current: Recording | None = None

    def replay(self) -> None:
        self.again()


@contextlib.contextmanager
def _record(graph: Recording, stream: object) -> Any:
    Recording.current = graph
    yield
    Recording.current = None


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> Fake:
    """Makes this machine look as if it had a GPU and this TensorRT."""
    fake = Fake(version)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", fake)
    monkeypatch.setattr("segcore.deploy.tensorrt.DEVICE", "cpu")
    monkeypatch.setattr("segcore.deploy.tensorrt._has_gpu", lambda: True)
    cuda = {
        "get_device_name": lambda: GPU,
        "get_device_capability": lambda: (8, 6),
        "Stream": lambda: SimpleNamespace(cuda_stream=77, synchronize=lambda: fake.note("synchronize")),
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": Recording,
        "graph": _record,
    }
    for name, value in cuda.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(torch.cuda, name, value)
    return fake
