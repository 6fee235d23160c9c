"""GPUs for runs that go on at the same time, as those of DVC's queue do: each takes free ones, or waits for them.

A GPU is leased by a lock under work/locks/ that ends with the process, however it ends. Runs of other projects are not
seen. Where CUDA_VISIBLE_DEVICES is set somebody has chosen already, and nothing happens here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.settings import project_root
from segcore.distributed import parse_devices
from segcore.errors import SegcoreError
from segcore.files import exclusive

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_LOOKS = 2.0


@contextlib.contextmanager
def leased(devices: str | int, most: int | None = None) -> Iterator[None]:
    """Holds as many GPUs as `devices` asks for (`most` at most); this process and those it starts see no others.

    To be entered before CUDA is first used. Nothing happens on a CPU, in a process that torchrun started, or where
    CUDA_VISIBLE_DEVICES is set.

    Raises:
        RecipeError: see `parse_devices`.
    """
    kind, wanted = parse_devices(devices)
    if kind == "cpu" or VISIBLE in os.environ or "LOCAL_RANK" in os.environ:
        yield
        return
    with contextlib.ExitStack() as locks:
        os.environ[VISIBLE] = ",".join(map(str, _wait_for(min(wanted, most or wanted), locks)))
        locks.callback(os.environ.pop, VISIBLE)
        yield


def _wait_for(wanted: int, locks: contextlib.ExitStack) -> list[int]:
    """The numbers of so many GPUs, once they are free at the same time."""
    every, waiting = torch.cuda.device_count(), False
    while True:
        # All or none: two runs that each hold what the other lacks would wait for ever.
        with contextlib.ExitStack() as found:
            free = list(itertools.islice((gpu for gpu in range(every) if _take(gpu, found)), wanted))
            if len(free) == wanted:
                locks.push(found.pop_all())
                return free
        if not waiting:
            taken = f"{every - len(free)} of {every} GPUs are taken by other runs of this project"
            print(f"{Path(sys.argv[0]).stem}: {taken}; waiting until {wanted} are free", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _take(gpu: int, found: contextlib.ExitStack) -> bool:
    place = project_root() / "work" / "locks" / f"{socket.gethostname()}-gpu{gpu}"
    with contextlib.suppress(SegcoreError):
        found.enter_context(exclusive(place, "taken"))
        return True
    return False
