"""Two files in one process, run in turns: A B A B, so that a machine that slows down slows both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segcore.deploy.timing import Stopwatch, time_runs

ROUNDS = 8
LEAST = 3
Run = Callable[[], object]


def alternate(
    runs: Sequence[Run], warmup: float, seconds: float, *, rounds: int = ROUNDS, stopwatch: Stopwatch | None = None
) -> dict[str, Any]:
    """Times two runs in turns.

    Args:
        runs: A and B; each returns only when its work is finished.
        warmup: seconds of each, before the first round.
        seconds: of samples of each, shared among the rounds.
        rounds: how often both are timed.
        stopwatch: see `time_runs`.

    Returns:
        {"median_ms": [A, B], "speedup": median over the rounds of A's time / B's, "speedup_range": [least, most],
        "rounds"}; both ends of the range on one side of 1 mean that the faster one was so in every round.
    """
    samples: tuple[list[float], list[float]] = ([], [])
    ratios = []
    for number in range(rounds):
        medians = []
        for run, mine in zip(runs, samples, strict=True):
            timing = time_runs(run, 0.0 if number else warmup, seconds / rounds, least=LEAST, stopwatch=stopwatch)
            mine += timing.samples
            medians.append(timing.median)
        ratios.append(medians[0] / medians[1])
    return {
        "median_ms": [round(1000 * float(np.median(mine)), 4) for mine in samples],
        "speedup": round(float(np.median(ratios)), 4),
        "speedup_range": [round(min(ratios), 4), round(max(ratios), 4)],
        "rounds": rounds,
    }
