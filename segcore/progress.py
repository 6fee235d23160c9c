"""Progress of long work: a rich bar with ETA on a terminal, plain lines in a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0
LONGEST_NAME = 24


class Progress:
    """Counts towards `total`; use as a context manager and call `advance`.

    Everything goes to stderr, so that stdout stays free for results. `start` lets a resumed run begin in the middle
    without a wrong ETA.
    """

    def __init__(self, description: str, total: int, *, start: int = 0, quiet: bool = False) -> None:
        self.description, self.total, self.done, self.start = description, total, start, start
        self.quiet = quiet
        self.terminal = sys.stderr.isatty() and not quiet
        self.began = self.last_line = time.monotonic()
        self._bar: RichProgress | None = None

    def __enter__(self) -> Self:
        if self.terminal:
            width = min(len(self.description), LONGEST_NAME)
            columns = (
                TextColumn("{task.description}", markup=False, table_column=_column(width, max_width=LONGEST_NAME)),
                BarColumn(None, table_column=Column(ratio=1, min_width=4, max_width=40)),
                MofNCompleteColumn(table_column=_column(2 * len(str(self.total)) + 1)),
                TimeElapsedColumn(table_column=_column(7)),
                TextColumn("eta", table_column=_column(3)),
                TimeRemainingColumn(table_column=_column(7)),
                # What gives way on a narrow terminal.
                TextColumn("{task.fields[note]}", markup=False, table_column=_column(None, ratio=4)),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), expand=True)
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.start, note="")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Moves on by `count`; `note` is a short text such as the current loss."""
        self.done += count
        if self._bar:
            self._bar.update(self._task, advance=count, note=note)
        elif not self.quiet:
            self._line(note)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar:
            self._bar.console.print(f"{self.description}: {text}", highlight=False, markup=False)
        elif not self.quiet:
            print(f"{self.description}: {text}", file=sys.stderr, flush=True)

    def _line(self, note: str) -> None:
        now = time.monotonic()
        if self.done < self.total and now - self.last_line < SECONDS_BETWEEN_LINES:
            return
        self.last_line = now
        fresh = max(self.done - self.start, 1)
        left = (now - self.began) / fresh * (self.total - self.done)
        text = f"{self.description}: {self.done}/{self.total}  elapsed {_clock(now - self.began)}  eta {_clock(left)}"
        print(f"{text}  {note}".rstrip(), file=sys.stderr, flush=True)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yields from `iterable` and shows how far it is."""
    if total is None:
        iterable = list(iterable)
        total = len(iterable)
    with Progress(description, total) as progress:
        for item in iterable:
            yield item
            progress.advance()


def _column(min_width: int | None, **further: int) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", min_width=min_width, **further)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
