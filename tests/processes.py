"""Several processes of one group for a test, without the seconds that each would take to import torch."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from segcore.distributed import join
from segcore.errors import SegcoreError

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["segcore.train", "tests.processes"])
# Seconds; a busy machine is no failure.
LIMIT = 600.0
GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def together(number: int, work: Callable[..., None], *arguments: Any) -> None:
    """Runs `work(process, *arguments)` in so many processes of one group, on one thread each."""
    assert outcome(number, work, *arguments) == [0] * number


def outcome(
    number: int, work: Callable[..., None], *arguments: Any, said: Path | None = None, others: float = LIMIT
) -> list[int | None]:
    """The same, and returns the exit codes; what processes say goes to a file.

    When the first process has ended, each of the others has so many seconds left, after which its code is None.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    started = [
        CONTEXT.Process(target=_one, args=(rank, number, store.port, _settings(), said, work, arguments))
        for rank in range(number)
    ]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(LIMIT if process is started[0] else others)
        return [process.exitcode for process in started]
    finally:
        for process in started:
            process.kill()


def _settings() -> dict[str, str]:
    """What a test may have set: the server of the children has the environment of its own start."""
    return {name: value for name, value in os.environ.items() if name.startswith("SEGCORE_")}


def _one(
    rank: int,
    number: int,
    port: int,
    settings: dict[str, str],
    said: Path | None,
    work: Callable[..., None],
    arguments: Any,
) -> None:
    place = dict(zip(GROUP, map(str, (rank, rank, number, "127.0.0.1", port)), strict=True))
    os.environ.update(place, **settings, TORCHELASTIC_USE_AGENT_STORE="True")
    torch.set_num_threads(1)
    try:
        with join("cpu") as process:
            work(process, *arguments)
    except SegcoreError as error:
        if said is None:
            raise
        with open(said, "a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None
