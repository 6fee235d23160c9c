"""The processes of a run: the group they form, and sums over it.

    python -m pipeline.train                                          one process, or one per device of this machine
    torchrun --nproc-per-node 4 -m pipeline.train                     the same, launched by hand
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --nnodes 2 --nproc-per-node 4 --max-restarts 3 --rdzv-id 1 \\
        --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m pipeline.train            on each of two nodes
    TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 srun --ntasks-per-node 1 torchrun --nnodes $SLURM_NNODES --nproc-per-node 4 \\
        --max-restarts 3 --rdzv-id $SLURM_JOB_ID --rdzv-backend c10d \\
        --rdzv-endpoint $(scontrol show hostnames | head -1):29500 -m pipeline.train         the same under Slurm

On several nodes the folder `work/` must be a shared one. A process that dies is started again with all others, at most
`--max-restarts` times, and they go on from the newest saved state. The variable keeps torchrun from reusing the key
store of the start before, whose addresses are those of dead processes. torchrun also starts again what ended with an
error that it will only meet again; the launcher of one machine, `segcore.launch`, does not.

A process that waits longer than $SEGCORE_TIMEOUT seconds (600) for another ends with a line that says so. A process
that died is noticed at once; the time-out is for machines that lost power or network. On GPUs it is NCCL's watchdog
that ends the process, and its own messages stand in place of the line.

Every function works unchanged in a single process that never set up a group.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from segcore.errors import Interrupted, LostProcessError, ProcessError, RecipeError, SegcoreError

T = TypeVar("T")

TIMEOUT = 600.0
GROUP = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# How long a process that is about to end waits to hear whether another has already said why.
PATIENCE = 10.0
# Gloo's errors are RuntimeErrors; what tells them is the place in its sources, or this text.
GLOO = re.compile("/gloo/|caused pair closure")
LATE = re.compile("time(d )?out", re.IGNORECASE)


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


@contextlib.contextmanager
def join(devices: str | int, *, wait_at_end: bool = True) -> Iterator[Process]:
    """Joins the process group that torchrun describes, if there is one, and leaves it when all have come to the end.

    Without `wait_at_end` each leaves when it is done: where the first has long work left that the others have no part
    in, waiting for it would be taken for a loss.

    What goes wrong is said by one process: the others end with the same exit code and without a word.

    Raises:
        ProcessError: no complete description of a group, more processes than GPUs, or a port that is taken.
        LostProcessError: another process died, or does not answer within $SEGCORE_TIMEOUT seconds.
    """
    kind, _ = parse_devices(devices)
    device = _device(kind, int(os.environ.get("LOCAL_RANK", 0)))
    if "LOCAL_RANK" not in os.environ:
        yield Process(0, 1, device)
        return
    wait = _timeout()
    _end_with_parent()
    with _lost_processes(wait):
        store = _start_group(device, timedelta(seconds=wait))
        run = from_first(lambda: uuid.uuid4().hex)  # the store may still hold what processes of an earlier start left
    with _one_voice(store, run), _lost_processes(wait):
        yield Process(dist.get_rank(), dist.get_world_size(), device)
        if wait_at_end:
            dist.barrier()  # the first process has written everything when the others end
    dist.destroy_process_group()


def _device(kind: str, local_rank: int) -> torch.device:
    if kind == "cpu":
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise ProcessError(
            f"there is no GPU for process {local_rank + 1} of this machine, which shows {gpus}; start at most {gpus} "
            f"(--nproc-per-node), or set runtime.devices to cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _timeout() -> float:
    text = os.environ.get("SEGCORE_TIMEOUT", str(TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ProcessError(f"SEGCORE_TIMEOUT is {text!r}; it must be a number of seconds, as {TIMEOUT:.0f}")
    return seconds


def _start_group(device: torch.device, wait: timedelta) -> dist.Store:
    if missing := [name for name in GROUP if name not in os.environ]:
        raise ProcessError(
            f"LOCAL_RANK is set but {', '.join(missing)} not; start with torchrun, or remove LOCAL_RANK for one process"
        )
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=wait))
    except dist.DistNetworkError as error:
        if "EADDRINUSE" not in str(error):
            raise
        port = os.environ["MASTER_PORT"]
        raise ProcessError(f"port {port} is taken on this machine; give torchrun another --master-port") from None
    options: dict[str, Any] = {"backend": "gloo"}
    if device.type == "cuda":
        options = {"backend": "nccl", "device_id": device}
        # A lost peer ends the process, without the cleaning up that may wait for that peer; should the watchdog itself
        # hang, its own guard ends the process in the same time.
        os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "3"
        os.environ.setdefault("TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC", str(int(wait.total_seconds()) + 1))
    dist.init_process_group(store=store, rank=rank, world_size=size, timeout=wait, **options)
    return store


def _end_with_parent() -> None:
    """Asks this process to stop once the one that started it is gone, and nobody would notice what becomes of it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _lost_processes(wait: float) -> Iterator[None]:
    """Turns what torch raises when a peer is gone into one line."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not GLOO.search(str(error)):
            raise
        late = LATE.search(str(error))
        what = f"has not answered for {wait:g} s ($SEGCORE_TIMEOUT)" if late else "is gone"
        raise LostProcessError(
            f"another process of this run {what}; started again, on every node, the run goes on from its newest "
            f"saved state ({str(error).splitlines()[0].rpartition('] ')[2]})"
        ) from None


@contextlib.contextmanager
def _one_voice(store: dist.Store, run: str) -> Iterator[None]:
    """Of the processes that end with an error, the first alone raises it."""
    try:
        yield
    except Exception as error:
        # All processes stop together, but only the first of them knows that the state is saved.
        speaks = dist.get_rank() == 0 if isinstance(error, Interrupted) else _is_first(store, run)
        if not speaks:
            sys.exit(error.exit_code if isinstance(error, SegcoreError) else 1)
        raise


def _is_first(store: dist.Store, key: str) -> bool:
    """Whether nobody has asked this before; also where the store is gone, or silent as a lost machine is."""
    answer: list[int] = []

    def ask() -> None:
        with contextlib.suppress(RuntimeError):
            answer.append(store.add(key, 1))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answer in ([], [1])


def world_size() -> int:
    """Number of processes that work together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_first(compute: Callable[[], T]) -> T:
    """What `compute` returns in the first process, in every process; the others do not call it."""
    if world_size() == 1:
        return compute()
    box = [compute() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box)
    return box[0]


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
