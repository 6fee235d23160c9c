"""The training curve: what `dvc plots` draws, and where a run that went wrong is noticed."""

from __future__ import annotations

import math
from typing import Any

import torch

from segcore.distributed import sum_over_processes, world_size
from segcore.errors import TrainingError
from segcore.losses import Losses

COLUMNS = ("iteration", "lr", "loss", "main", "auxiliary", "detail")


class Curve:
    """The training curve: one row per `every` iterations, the mean since the row before."""

    def __init__(self, every: int) -> None:
        self.every, self.rows, self.sums, self.count = every, [], None, 0

    def add(self, iteration: int, lr: float, losses: Losses, last: bool) -> str:
        """Counts one iteration; returns a note for the progress line.

        Raises:
            TrainingError: the mean since the last row is not finite.
        """
        values = torch.stack([losses.total.detach(), losses.main, losses.auxiliary, losses.detail]).double()
        values = sum_over_processes(values) / world_size()
        self.sums = values if self.sums is None else self.sums + values
        self.count += 1
        if self.count == self.every or last:
            means = (self.sums / self.count).tolist()
            if not math.isfinite(means[0]):
                raise TrainingError(
                    f"the loss is {means[0]} at iteration {iteration + 1}; lower the learning rate (now {lr:.3g}) or "
                    f"look at the labels; the states saved before it are kept"
                )
            self.rows.append([iteration + 1, float(f"{lr:.6g}"), *(round(mean, 6) for mean in means)])
            self.sums, self.count = None, 0
        return f"loss {self.rows[-1][2]:.3f}  lr {lr:.2e}" if self.rows else f"lr {lr:.2e}"

    def state(self) -> dict[str, Any]:
        """For the resume state."""
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
        self.rows, self.sums, self.count = (state[key] for key in ("rows", "sums", "count"))
