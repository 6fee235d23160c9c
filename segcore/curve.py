"""The training curve: what `dvc plots` draws."""

from __future__ import annotations

from typing import Any

from torch import Tensor

COLUMNS = ("iteration", "lr", "loss", "main", "auxiliary", "detail")


class Curve:
    """One row per `every` iterations: learning rate, and the mean losses of the updates since the row before."""

    def __init__(self, every: int) -> None:
        self.every, self.rows, self.sums, self.count = every, [], None, 0

    def add(self, losses: Tensor) -> None:
        """Counts one update; `losses` are float64 total, main, auxiliary and detail, over all processes."""
        self.sums = losses if self.sums is None else self.sums.to(losses.device) + losses
        self.count += 1

    def close_row(self, done: int, lr: float, last: bool) -> None:
        """After every iteration, `done` of them so far; writes a row where one is due."""
        if self.count and (done % self.every == 0 or last):
            means = (self.sums / self.count).tolist()
            self.rows.append([done, float(f"{lr:.6g}"), *(round(mean, 6) for mean in means)])
            self.sums, self.count = None, 0

    def state_dict(self) -> dict[str, Any]:
        """For the resume state."""
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.rows, self.sums, self.count = (state[key] for key in ("rows", "sums", "count"))
