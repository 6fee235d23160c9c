"""PyTorch as a backend: eager, compiled, and as one recorded CUDA graph; channels last, autocast below float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segcore.deploy.case import Case, Runner
from segcore.errors import ExportError
from segcore.machine import cpu_has_bf16

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP = 3
Forward = Callable[[Tensor], Tensor]


def open_torch(case: Case, precision: str) -> Runner:
    """PyTorch eager."""
    return _runner(case, precision, _graph(case))


def open_compiled(case: Case, precision: str) -> Runner:
    """PyTorch with `torch.compile`, which wants a C++ compiler on a CPU; compiling is not in any time."""
    _refuse(case, precision)
    torch._dynamo.reset()  # what earlier rows compiled is of no use, and there is a limit
    return _runner(case, precision, torch.compile(_graph(case), dynamic=False))


def open_cuda_graph(case: Case, precision: str) -> Runner:
    """PyTorch eager, recorded once as a CUDA graph and replayed; images are placed in the graph's own input."""
    if case.device.type != "cuda":
        raise ExportError("a CUDA graph needs a CUDA device")
    _refuse(case, precision)
    forward = _in_precision(case, precision, _graph(case))
    images = torch.zeros(case.shape, device=case.device).to(memory_format=torch.channels_last)
    stream = torch.cuda.Stream(case.device)
    with torch.cuda.stream(stream):  # recording wants a side stream that has run it before
        for _ in range(WARM_UP):
            forward(images)
    torch.cuda.current_stream(case.device).wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        classes = forward(images)

    def replay(_: Tensor) -> Tensor:
        recorded.replay()
        torch.cuda.synchronize(case.device)
        return classes

    return Runner(images.copy_, replay, _read, _computes(precision))


def _runner(case: Case, precision: str, graph: Forward) -> Runner:
    _refuse(case, precision)
    forward = _in_precision(case, precision, graph)

    def place(images: Tensor) -> Tensor:
        return images.to(case.device, memory_format=torch.channels_last)

    def infer(images: Tensor) -> Tensor:
        classes = forward(images)
        if case.device.type == "cuda":
            torch.cuda.synchronize(case.device)
        return classes

    return Runner(place, infer, _read, _computes(precision))


def _in_precision(case: Case, precision: str, graph: Forward) -> Forward:
    dtype = DTYPES.get(precision)

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        # TF32 would pass for fp32 on recent GPUs.
        with (
            torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
            torch.autocast(case.device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False),
        ):
            return graph(images)

    return forward


def _refuse(case: Case, precision: str) -> None:
    cuda = case.device.type == "cuda"
    if precision == "int8":
        raise ExportError("torch runs no eight-bit convolutions here; an exported file does")
    if precision == "fp16" and not cuda:
        raise ExportError("torch computes fp16 on a GPU only")
    if precision == "bf16" and not (torch.cuda.is_bf16_supported() if cuda else cpu_has_bf16()):
        raise ExportError("this processor has no bf16 arithmetic")


def _graph(case: Case) -> Forward:
    if case.graph is None:
        raise ExportError("torch runs a model.pt here, not an exported file")
    return case.graph


def _computes(precision: str) -> str:
    return "float32" if precision == "fp32" else f"{precision} autocast"


def _read(classes: Tensor) -> object:
    return classes.cpu().numpy()
