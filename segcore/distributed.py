"""One process or many: launching, the process group, and sums over it.

    python -m pipeline.train                                          one process, or one per GPU of this machine
    torchrun --nproc-per-node 4 -m pipeline.train                     the same, launched by hand
    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m pipeline.train

On several nodes the folder `work/` must be a shared one: every process reads the state that the first one wrote.
Every function works unchanged in a single process that never set up a group.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from segcore.errors import RecipeError
from segcore.models.layers import AbsoluteNorm

TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Process:
    """This process's place among its peers and the device it works on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the outputs."""
        return self.rank == 0


def parse_devices(text: str | int) -> tuple[str, int]:
    """`runtime.devices` -> (device type, number of processes on this machine).

    `auto` is every GPU, or one process on the CPU; `cpu`, `cpu:2`, `cuda`, `cuda:4` and a number are what they say.

    Raises:
        RecipeError: anything else, or more GPUs than there are.
    """
    gpus = torch.cuda.device_count()
    kind, _, count = str(text).partition(":")
    if kind.isdigit():
        kind, count = ("cuda" if gpus else "cpu"), kind
    if kind == "auto" and not count:
        kind = "cuda" if gpus else "cpu"
    elif kind not in ("cpu", "cuda") or (count and not count.isdigit()) or count == "0":
        raise RecipeError(f"runtime.devices: {text!r} is none of auto, cpu, cpu:N, cuda, cuda:N or a number")
    number = int(count) if count else (gpus if kind == "cuda" else 1)
    if kind == "cuda" and number > gpus or number < 1:
        raise RecipeError(f"runtime.devices: {text!r} asks for GPUs, but this machine shows {gpus}")
    return kind, number


def launch(module: str, devices: str | int) -> int | None:
    """Runs `python -m module` once per device under torchrun and returns its exit code.

    Returns None where this process should do the work itself: one device only, or already launched.
    """
    _, number = parse_devices(devices)
    if number == 1 or "LOCAL_RANK" in os.environ:
        return None
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]
    return subprocess.run([*torchrun, "-m", module], check=False).returncode


@contextlib.contextmanager
def join(devices: str | int) -> Iterator[Process]:
    """Joins the process group that torchrun describes, if there is one, and leaves it at the end."""
    kind, _ = parse_devices(devices)
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield Process(0, 1, device)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes that work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_processes(value: Tensor) -> Tensor:
    """The element-wise sum over all processes, without gradient."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def gather(values: Tensor) -> Tensor:
    """Concatenates every process's equally long 1-d tensor, without gradient."""
    if world_size() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values)
    return torch.cat(parts)


class _DifferentiableSum(torch.autograd.Function):
    """Sum over processes whose gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        return sum_over_processes(value)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, on any device (torch's own is for GPUs alone)."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self.num_batches_tracked += 1
        return _normalise_together(self, x, self.weight)


class SyncAbsoluteNorm(AbsoluteNorm):
    """`AbsoluteNorm` over the batch of all processes, on any device; the in-place activated norm came only so."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        return _normalise_together(self, x, self.scale)


def _normalise_together(norm: SyncBatchNorm | SyncAbsoluteNorm, x: Tensor, scale: Tensor) -> Tensor:
    """Batch norm of N×C×H×W with the moments of all processes' x; moves the running statistics.

    Mean and variance come from summed moments over N, H and W, in float64 so that the difference of large sums keeps
    its digits; running statistics use the unbiased variance, as usual.
    """
    wide = x.double()
    moments = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
    count = sum_over_processes(torch.tensor(x.numel() / x.shape[1], dtype=torch.float64, device=x.device))
    moments = _DifferentiableSum.apply(moments) / count
    mean, variance = moments[0], moments[1] - moments[0].square()
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), norm.momentum)
    scale = (variance + norm.eps).rsqrt().to(x.dtype) * scale
    return x * scale[:, None, None] + (norm.bias - mean.to(x.dtype) * scale)[:, None, None]


SYNCHRONISED = {nn.BatchNorm2d: SyncBatchNorm, AbsoluteNorm: SyncAbsoluteNorm}


def synchronise_norms(net: nn.Module, device: torch.device) -> nn.Module:
    """Replaces every batch norm by one that sees the batch of all processes; state-dict names stay."""
    if device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # torch's own, where it has one
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in SYNCHRONISED:
                synced = SYNCHRONISED[type(child)](child.num_features, child.eps, child.momentum)
                synced.load_state_dict(child.state_dict())
                setattr(parent, name, synced)
    return net
