"""Reading, computing and writing at the same time, in order: three threads with short queues between them.

    >>> stream(map(read, paths), predict, write)

The computation runs in the calling thread, so that Ctrl-C reaches it; decoding and encoding leave Python's lock alone
and run beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any, Self, TypeVar

T = TypeVar("T")
U = TypeVar("U")
DEPTH = 2  # items that wait in each queue: enough to bridge a slow one, few enough for large photographs
SECONDS_BETWEEN_LOOKS = 0.05  # at whether the run has been stopped
PATIENCE = 10.0  # seconds that a thread gets to end what it is at
END = object()


@dataclass
class Seconds:
    """How long a run took, and how long each of its parts was at work, in seconds."""

    total: float = 0.0
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0

    def __iadd__(self, other: Seconds) -> Self:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def stream(source: Iterable[T], work: Callable[[T], U], sink: Callable[[U], None]) -> Seconds:
    """Hands each item of `source` to `work`, and what that returns to `sink`, in order; returns when all is written.

    The first exception in any of the three ends them all and is raised here. What the sink is at is brought to an
    end; what waits in the queues is dropped.
    """
    stop, spent, errors, began = threading.Event(), Seconds(), [], time.perf_counter()
    todo, done = _Pipe(stop), _Pipe(stop)

    def read() -> None:
        for item in _timed(source, spent):
            todo.put(item)
        todo.put(END)

    def write() -> None:
        for item in done:
            spent.write += _clock(sink, item)[1]

    threads = [threading.Thread(target=_guarded, args=(run, stop, errors), daemon=True) for run in (read, write)]
    for thread in threads:
        thread.start()
    try:
        for item in todo:
            result, seconds = _clock(work, item)
            spent.compute += seconds
            done.put(result)
        done.put(END)
        threads[1].join()
    except _Stopped:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    if errors:
        raise errors[0]
    spent.total = time.perf_counter() - began
    return spent


class _Stopped(Exception):
    """Another thread has failed."""


class _Pipe:
    """A bounded queue whose two ends let go once the run is stopped."""

    def __init__(self, stop: threading.Event) -> None:
        self._queue: Queue[Any] = Queue(DEPTH)
        self._stop = stop

    def put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=SECONDS_BETWEEN_LOOKS)
            except Full:
                continue
        raise _Stopped

    def __iter__(self) -> Iterator[Any]:
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=SECONDS_BETWEEN_LOOKS)
            except Empty:
                continue
            if item is END:
                return
            yield item
        raise _Stopped


def _guarded(run: Callable[[], None], stop: threading.Event, errors: list[BaseException]) -> None:
    try:
        run()
    except _Stopped:
        pass
    except BaseException as error:  # raised again by the caller's thread
        errors.append(error)
        stop.set()


def _timed(source: Iterable[T], spent: Seconds) -> Iterator[T]:
    """The items of `source`; the time each of them took is counted as reading."""
    items = iter(source)
    while True:
        item, seconds = _clock(next, items, END)
        spent.read += seconds
        if item is END:
            return
        yield item


def _clock(function: Callable[..., U], *arguments: Any) -> tuple[U, float]:
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began
