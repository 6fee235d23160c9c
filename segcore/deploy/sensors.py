"""Clocks, power, temperature and throttling, as far as a machine lets them be read; what it hides is absent."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import torch

CPU = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
# nvidia-smi's name of a value -> ours
GPU = {
    "clocks.sm": "clock_mhz",
    "power.draw": "power_w",
    "temperature.gpu": "temperature_c",
    "clocks_throttle_reasons.active": "throttled",
}
# Bits of the last: idle, and clocks set by the user, are no throttling.
HARMLESS = 0x1 | 0x2


def read_sensors(device: torch.device) -> dict[str, Any]:
    """{"clock_mhz", "power_w", "temperature_c", "throttled"}, without those that cannot be read.

    `throttled` is a truth value on a GPU, and on a CPU how often it was since the machine started.
    """
    return _gpu(device.index or 0) if device.type == "cuda" else _cpu()


def _gpu(index: int) -> dict[str, Any]:
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU)}", "--format=csv,noheader,nounits", "-i", str(index)]
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        line = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        for name, text in zip(GPU.values(), line.strip().split(", "), strict=False):
            with contextlib.suppress(ValueError):  # "[N/A]"
                found[name] = bool(int(text, 16) & ~HARMLESS) if name == "throttled" else float(text)
    return found


def _cpu() -> dict[str, Any]:
    clocks = [_number(path) for path in CPU.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")] or _clocks_of_cpuinfo()
    temperatures = [_number(path) for path in THERMAL.glob("thermal_zone*/temp")]
    throttled = [_number(path) for path in CPU.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    found = {
        "clock_mhz": max((clock / 1000 for clock in clocks if clock), default=None),
        "temperature_c": max((value / 1000 for value in temperatures if value), default=None),
        "throttled": sum(count for count in throttled if count) if throttled else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _clocks_of_cpuinfo() -> list[float]:
    """kHz, as the other file has them."""
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return [1000 * float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return []


def _number(path: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return float(path.read_text(encoding="ascii"))
    return None
