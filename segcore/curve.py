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
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.count += 1
        if self.count == self.every or last:
            means = (self.sums / self.count).tolist()
            _refuse_infinite(means[0], f"at iteration {iteration + 1} (learning rate {lr:.3g})")
            self.rows.append([iteration + 1, float(f"{lr:.6g}"), *(round(mean, 6) for mean in means)])
            self.sums, self.count = None, 0
        return f"loss {self.rows[-1][2]:.3f}  lr {lr:.2e}" if self.rows else f"lr {lr:.2e}"

    def state_dict(self) -> dict[str, Any]:
        """For the resume state.

        Raises:
            TrainingError: the loss since the last row is not finite, so the weights are not worth keeping.
        """
        if self.sums is not None:
            _refuse_infinite(self.sums[0].item(), f"after row {len(self.rows)} of the curve")
        return {"rows": self.rows, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.rows, self.sums, self.count = (state[key] for key in ("rows", "sums", "count"))


def _refuse_infinite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} {where}; lower the learning rate or look at the labels. The state saved before is kept"
        )
