"""The published timers of this field, so that a published figure can be put beside one of ours.

Both time one loop and report its mean; copies, reading and drawing are in neither. Sizes and graphs are as published,
the machine and the runtime are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from segcore.deploy.timing import Clock

Run = Callable[[], object]
COINCHEUNG_RUNS = 2000
FASTERSEG_WARM_UP = 10


@dataclass(frozen=True)
class Protocol:
    """A published way to measure.

    Attributes:
        sizes: heights and widths it is published for.
        logits: whether its graph ends in logits at the image's size, and not in the class map.
        time: (run, clock, whether the runtime is PyTorch) -> runs and seconds of the timed loop.
    """

    sizes: tuple[tuple[int, int], ...]
    logits: bool
    time: Callable[[Run, Clock, bool], tuple[int, float]]

    def measure(self, run: Run, clock: Clock, in_torch: bool) -> dict[str, Any]:
        """What a row of the benchmark says of it, at batch 1."""
        runs, seconds = self.time(run, clock, in_torch)
        return {
            "status": "measured",
            "fps": round(runs / seconds, 4),
            "latency_ms": {"mean": round(1000 * seconds / runs, 4)},
            "samples": runs,
            "seconds": round(seconds, 3),
        }


def coincheung(run: Run, clock: Clock, in_torch: bool) -> tuple[int, float]:
    """One run to warm up, then the mean of 2000 (CoinCheung/BiSeNet, TensorRT)."""
    run()
    return COINCHEUNG_RUNS, _loop(run, COINCHEUNG_RUNS, clock)


def fasterseg(run: Run, clock: Clock, in_torch: bool) -> tuple[int, float]:
    """FasterSeg's timer, which STDC-Seg copied: ten runs to warm up; loops of 100, 200, … until one takes a second.

    The count is doubled once more before the rate is taken of it, so that the final loop is twice as long as meant:
    6 s, in PyTorch 12 s. That is kept, for it changes nothing but the time it takes.
    """
    _loop(run, FASTERSEG_WARM_UP, clock)
    count, seconds = 100, 0.0
    while seconds < 1:
        seconds = _loop(run, count, clock)
        count *= 2
    final = max(int(count / seconds * (6 if in_torch else 3)), 1)
    return final, _loop(run, final, clock)


def _loop(run: Run, count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        run()
    return clock() - start


PROTOCOLS = {
    "coincheung": Protocol(((1024, 2048),), False, coincheung),
    "fasterseg": Protocol(((512, 1024), (768, 1536)), True, fasterseg),
}
