"""How a speed is measured: warm-up, samples and their statistics, and what the machine was and did meanwhile.

The published timers of this field average one loop after ten warm-up runs; here every run is timed on its own, so that
the median and the tail are known, and warm-up lasts a stated time.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.errors import BenchmarkError

MINIMUM_SAMPLES = 20
LOADED_CORES = 0.25
LOCK = Path(tempfile.gettempdir()) / "segcore-benchmark.lock"


@dataclass(frozen=True)
class Timing:
    """Seconds of each timed run, and of the warm-up before them."""

    samples: Sequence[float]
    warmup: float

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.samples))

    def latency_ms(self) -> dict[str, float]:
        """Statistics in milliseconds; percentiles interpolate linearly, `std` is that of the population."""
        values = 1000 * np.asarray(self.samples)
        p90, p99 = np.percentile(values, [90, 99])
        numbers = {"median": np.median(values), "p90": p90, "p99": p99, "min": values.min()}
        numbers |= {"mean": values.mean(), "std": values.std()}
        return {name: round(float(value), 4) for name, value in numbers.items()}


Clock = Callable[[], float]
Stopwatch = Callable[[Callable[[], object]], float]


def time_runs(
    run: Callable[[], object],
    warmup: float,
    seconds: float,
    clock: Clock = time.perf_counter,
    *,
    least: int = MINIMUM_SAMPLES,
    stopwatch: Stopwatch | None = None,
) -> Timing:
    """Runs `run` for at least `warmup` seconds (once at least), then times single runs.

    Args:
        run: returns only when its work is finished.
        warmup: seconds.
        seconds: there are as many samples as it takes to add up to this.
        clock: seconds.
        least: samples there are in any case.
        stopwatch: gives the seconds of one run; by default those that pass on the clock.
    """
    warm = warm_up(run, warmup, clock)
    samples: list[float] = []
    total = 0.0
    while total < seconds or len(samples) < least:
        samples.append(stopwatch(run) if stopwatch else _passed(run, clock))
        total += samples[-1]
    return Timing(samples, warm)


def warm_up(run: Callable[[], object], seconds: float, clock: Clock = time.perf_counter) -> float:
    """Runs `run` until that time is over, once at least; the seconds it took."""
    start = clock()
    while True:
        run()
        if (passed := clock() - start) >= seconds:
            return passed


def cuda_events(device: torch.device) -> Stopwatch:
    """A stopwatch that reads the GPU's own clock: from before the first kernel of a run until after its last."""

    def seconds(run: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(torch.cuda.current_stream(device))
        run()
        end.record(torch.cuda.current_stream(device))
        end.synchronize()
        return start.elapsed_time(end) / 1000

    return seconds


def _passed(run: Callable[[], object], clock: Clock) -> float:
    before = clock()
    run()
    return clock() - before


@contextlib.contextmanager
def machine_lock(timeout: float = 900.0, path: Path = LOCK) -> Iterator[None]:
    """Holds the lock that lets one benchmark at a time run on this machine, whoever started it.

    Raises:
        BenchmarkError: another one still held it after `timeout` seconds.
    """
    # Opened for reading: Linux lets nobody but the owner create or write a file of the same name in /tmp.
    if not path.exists():
        path.touch()
    with open(path, "rb") as file:
        _acquire(file.fileno(), timeout, path)
        yield


def _acquire(descriptor: int, timeout: float, path: Path) -> None:
    start, told = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() - start >= timeout:
                raise BenchmarkError(
                    f"{path}: another benchmark has held this lock for {timeout:g} s; let it end and run again"
                ) from None
        if not told:
            print(f"benchmark: another one is running here, waiting for at most {timeout:g} s", file=sys.stderr)
            told = True
        time.sleep(0.2)


class LoadMeter:
    """Watches, from when it is made, how much CPU other processes take, and other virtual machines on this host."""

    def __init__(self) -> None:
        self._foreign, self._start = _foreign_cpu_seconds(), time.perf_counter()

    def loaded(self) -> bool:
        """Whether others kept more than a quarter of a core busy, so that times measured meanwhile are too long.

        The kernel counts in hundredths of a second: less than half a second is too short to tell and says no.
        """
        elapsed = time.perf_counter() - self._start
        return elapsed >= 0.5 and _foreign_cpu_seconds() - self._foreign > LOADED_CORES * elapsed


def _foreign_cpu_seconds() -> float:
    """CPU time since boot that was not this process's; constant 0 where /proc/stat is missing."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


def describe_device(device: torch.device, threads: int) -> dict[str, Any]:
    """What a figure must carry: processor, threads, versions, load average and date; `slug` names it in metrics."""
    cpu = _cpu_model()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "slug": slug(gpu or f"{cpu} {threads} threads"),
        "cpu": cpu,
        "gpu": gpu,
        "threads": threads,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in ("torch", "onnxruntime", "openvino")},
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def slug(name: str) -> str:
    """A processor's name as it may stand in a key: "Intel(R) Xeon(R) CPU @ 2.60GHz" -> "intel-xeon"."""
    plain = re.sub(r"\((r|tm)\)|\bcpu\b|@\s*[\d.]+\s*ghz", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.import_module(package).__version__
    except (ImportError, OSError):  # OSError: a system library of it is missing
        return None
