"""Reading, computing and writing beside each other: order, short queues, and an end whatever happens."""

from __future__ import annotations

import threading
import time

import pytest

from segcore.stream import DEPTH, stream


@pytest.mark.parametrize("slow", range(3))
def test_everything_arrives_in_order_whichever_part_is_slow(slow: int) -> None:
    written = []

    def after(part: int, value: int) -> int:
        time.sleep(0.002 * (part == slow))
        return value

    source = (after(0, k) for k in range(20))
    stream(source, lambda k: after(1, k) * 10, lambda k: written.append(after(2, k)))
    assert written == list(range(0, 200, 10))


def test_the_parts_run_beside_each_other() -> None:
    def pause(value: int) -> int:
        time.sleep(0.02)
        return value

    seconds = stream(map(pause, range(10)), pause, pause)
    assert min(seconds.read, seconds.compute, seconds.write) >= 0.2
    assert seconds.total < 0.8 * (seconds.read + seconds.compute + seconds.write)


def test_reading_does_not_run_ahead_without_bounds() -> None:
    most, read, written = 0, 0, 0

    def source():
        nonlocal read
        for _ in range(40):
            read += 1
            yield read

    def sink(value: int) -> None:
        nonlocal most, written
        time.sleep(0.002)
        most, written = max(most, read - written), written + 1

    stream(source(), lambda value: value, sink)
    assert written == 40 and most <= 2 * DEPTH + 4


@pytest.mark.parametrize("part", ["source", "work", "sink"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_anywhere_ends_all_and_is_raised(part: str, kind: type[BaseException]) -> None:
    before, written = threading.active_count(), []

    def failing(value: int) -> int:
        if value == 5:
            raise kind("five")
        return value

    parts = {"source": int, "work": int, "sink": int, part: failing}
    with pytest.raises(kind, match="five"):
        stream(
            map(parts["source"], range(10**9)),
            parts["work"],
            lambda value: written.append(parts["sink"](value)),
        )
    assert written == list(range(len(written))) and len(written) <= 5
    assert threading.active_count() == before


def test_nothing_to_do() -> None:
    assert stream([], int, print).compute == 0
