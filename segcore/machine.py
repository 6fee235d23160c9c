"""What this machine has: arithmetic, memory, disk."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
from pathlib import Path

import torch

# glibc's mallopt: M_MMAP_MAX, no piece by a system call of its own; M_TRIM_THRESHOLD, none given back below 2 GiB.
KEEPING = {-4: 0, -1: 2**31 - 1}


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 itself; where the flags cannot be read (not Linux) the answer is no."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def keep_memory() -> None:
    """Has the C library keep what tensors free for the next ones (glibc; elsewhere nothing happens).

    By default large pieces go back to the system at once and come again as pages that must be filled with zeros, which
    takes longer than what most layers do with them.
    """
    with contextlib.suppress(OSError, AttributeError):
        settings = ctypes.CDLL(None).mallopt
        for name, value in KEEPING.items():
            settings(name, value)


def free_memory(device: torch.device) -> int | None:
    """Bytes that a process can still take on the device; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    known = [value for value in (_available(), _left_in_group()) if value is not None]
    return min(known, default=None)


def used_memory(device: torch.device) -> int | None:
    """Bytes this process holds: on a GPU the most it ever held, on a CPU now; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    pages = _number(Path("/proc/self/statm"), 1)
    return None if pages is None else pages * 4096


def free_disk(folder: Path) -> int:
    """Bytes free where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = {line.split(":")[0]: line.split()[1] for line in lines}
    return int(values["MemAvailable"]) * 1024 if "MemAvailable" in values else None


def _left_in_group() -> int | None:
    """What a container's limit leaves (cgroup version 2)."""
    limit, used = (_number(Path("/sys/fs/cgroup") / name, 0) for name in ("memory.max", "memory.current"))
    return None if limit is None or used is None else max(limit - used, 0)


def _number(path: Path, column: int) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8").split()[column])
    except (OSError, ValueError, IndexError):
        return None
