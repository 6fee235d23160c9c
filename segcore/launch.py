"""Starts a module once per device of this machine, and again when one of its processes dies.

torchrun's agent runs in the launching process, which says nothing of its own but what became of a process that cannot
speak. Several nodes are started with torchrun itself: see `segcore.distributed`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from types import FrameType

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from segcore.distributed import parse_devices
from segcore.errors import LostProcessError, ProcessError

RESTARTS = 3
# Seconds that processes have for the end of their iteration and for saving, once they are asked to stop.
GRACE = 300
# Asked to stop by any of these, a process saves and ends; SIGTERM also ends one that is only starting without a word.
STOPS = (signal.SIGINT, signal.SIGHUP)


def launch(module: str, devices: str | int, arguments: Sequence[str] = (), restarts: int = RESTARTS) -> int | None:
    """Runs `python -m module` once per device and returns the exit code of them all.

    When a process dies by a signal, or says that it lost another, all are started again, and it is up to them to go on
    where they were. An error that a process reported ends them all, for it would come again.

    Args:
        module: joins its peers with `segcore.distributed.join`.
        devices: see `parse_devices`.
        arguments: what follows on the command line.
        restarts: so often at most.

    Returns:
        0, the code of the process that reported an error, or 128 + n after signal n (SIGTERM, Ctrl-C), which the
        processes are told and have obeyed. None where this process should do the work itself: one device only, or
        already launched.

    Raises:
        ProcessError: a process died once more than it may be started again.
    """
    _, number = parse_devices(devices)
    if number == 1 or "LOCAL_RANK" in os.environ:
        return None
    received: list[int] = []
    try:
        with _passing_on(received), _quiet():
            return _supervise(module, number, arguments, restarts)
    except SignalException as stop:
        return 128 + (received[0] if received else stop.sigval)


def _supervise(module: str, number: int, arguments: Sequence[str], restarts: int) -> int:
    for restart in range(restarts + 1):
        codes = _run(module, number, arguments)
        reported = [code for code in codes.values() if code > 0 and code != LostProcessError.exit_code]
        if reported or not codes:
            return max(reported, default=0)
        what = _fate(codes)
        if restart < restarts:
            again = f"all are started again from what is saved ({restart + 1} of {restarts})"
            print(f"{module.rpartition('.')[2]}: {what}; {again}", file=sys.stderr, flush=True)
    raise ProcessError(f"{what}, and {restarts} restarts did not help; the same command goes on from what is saved")


def _run(module: str, number: int, arguments: Sequence[str]) -> dict[int, int]:
    """Runs all processes to their end; returns the exit codes other than 0 by rank, -n where signal n ended it."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,  # torchrun's own restarts also follow an error that would only be reported again
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle="SIGTERM",
        shutdown_timeout=GRACE,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return {}


def _fate(codes: dict[int, int]) -> str:
    """What happened to the process that dragged the others along, which were ended by SIGTERM or report the loss."""
    dead = {rank: signal.Signals(-code) for rank, code in codes.items() if code < 0}
    rank = min(dead, key=lambda rank: dead[rank] is signal.SIGTERM, default=None)
    if rank is None:
        return "the processes lost each other"
    hint = " (for want of memory?)" if dead[rank] is signal.SIGKILL else ""
    return f"process {rank} was ended by {dead[rank].name}{hint}"


@contextlib.contextmanager
def _passing_on(received: list[int]) -> Iterator[None]:
    """Has the agent send SIGTERM to the processes on any of `STOPS`."""

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise SignalException(signal.Signals(number).name, signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (*STOPS, signal.SIGTERM)}
    for number in STOPS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the agent's log, which tells at length what the processes say in a line."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
