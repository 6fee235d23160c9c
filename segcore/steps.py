"""One update of the weights: precision, parts of a batch, clipping, the average, and updates that are left out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from segcore.curve import Curve
from segcore.distributed import sum_over_processes, world_size
from segcore.losses import Losses
from segcore.norms import RunningAverage

# images and labels of one part -> the losses
Forward = Callable[[Tensor, Tensor], Losses]


class Step(NamedTuple):
    """What an update came to, the same in every process.

    Attributes:
        losses: float64 total, main, auxiliary and detail, mean over parts and processes.
        finite: whether losses and gradients were; the weights were left as they are otherwise.
        stop: whether somebody asked any of the processes to stop.
    """

    losses: Tensor
    finite: bool
    stop: bool


class Average:
    """Exponential moving average of a network's weights and statistics.

    The decay grows from 0.1 to its final value, (1 + n) / (10 + n) after n updates, so that the fresh weights are
    forgotten early.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Moves towards the network; counters are copied."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, weight)
            else:
                self.values[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """For the resume state."""
        return {"values": self.values, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`; tensors stay on their device."""
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.updates = state["updates"]


@dataclass
class Run:
    """Everything that changes while training, and how an update is computed.

    Attributes:
        net: the network itself.
        outer: the network as it is called: compiled, or wrapped for several processes.
        average: of the weights, if wanted.
        norms: what the norms count, if they count (see `segcore.norms.RunningAverage`).
        dtype: precision of the forward pass.
        clip_norm: the gradients' norm is cut to this.
        bad: updates left out in a row.
        scores: iteration and mIoU of every validation so far.
        unreadable: files that others stood in for.
        seconds: this run has taken, over all its starts.
    """

    net: nn.Module
    outer: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    curve: Curve
    dtype: torch.dtype
    clip_norm: float | None = None
    average: Average | None = None
    norms: RunningAverage | None = None
    bad: int = 0
    scores: list[list[float]] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def update(self, parts: Sequence[Callable[[], Losses]], stop: bool) -> Step:
        """Sums the gradients of all parts and moves the weights, unless a number is not finite.

        Args:
            parts: each computes the forward pass and the losses of one part of the batch.
            stop: whether this process was asked to stop.
        """
        total: Tensor | None = None
        buffers = [buffer.clone() for buffer in self.net.buffers()]
        for number, part in enumerate(parts, 1):
            with self._gradients_travel(number == len(parts)):
                losses = part()
                shared = _shared(losses, stop)
                if not math.isfinite(shared[0]):
                    self.optimizer.zero_grad(set_to_none=True)
                    return self._left_out(shared, buffers)
                self.scaler.scale(losses.total / len(parts)).backward()
            if self.norms:
                self.norms.step()  # the backward pass still needs what the forward pass wrote
            total = shared if total is None else total + shared
        shared = total / len(parts)
        if not self._move():
            return self._left_out(shared, buffers)
        self.bad = 0
        if self.average:
            self.average.update(self.net)
        return Step(shared[:4], True, bool(shared[4] > 0))

    @torch.no_grad()
    def _left_out(self, shared: Tensor, buffers: list[Tensor]) -> Step:
        for buffer, before in zip(self.net.buffers(), buffers, strict=True):
            buffer.copy_(before)  # the forward pass moved the norms' statistics
        # A scaler finds its factor by such updates; they are a fault only when there is nothing left to lower.
        overflow = self.scaler.is_enabled() and math.isfinite(shared[0]) and self.scaler.get_scale() > 1
        self.bad += not overflow
        return Step(shared[:4], False, bool(shared[4] > 0))

    def _move(self) -> bool:
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = math.isfinite(norm)
        if finite and self.clip_norm:
            parameters = (p for group in self.optimizer.param_groups for p in group["params"])
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        if finite or self.scaler.is_enabled():  # the scaler leaves an overflow out by itself, and lowers its factor
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return finite

    def _gradients_travel(self, last: bool) -> contextlib.AbstractContextManager[None]:
        wrapped = self.outer if isinstance(self.outer, DistributedDataParallel) else None
        return contextlib.nullcontext() if last or wrapped is None else wrapped.no_sync()

    def weights(self) -> dict[str, Tensor]:
        """The state that is used and scored: the average where there is one."""
        return self.average.values if self.average else self.net.state_dict()

    def _kept(self) -> dict[str, Any]:
        names = ("net", "optimizer", "scaler", "curve", "average", "norms")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def state(self, done: int) -> dict[str, Any]:
        """What has to be kept to go on after iteration number `done`."""
        parts = {name: part.state_dict() for name, part in self._kept().items()}
        facts = {"scores": self.scores, "unreadable": sorted(self.unreadable), "seconds": self.seconds}
        return {"iteration": done, "bad": self.bad, **facts, **parts}

    def restore(self, saved: dict[str, Any] | None) -> int:
        """Takes a kept state over; returns how many iterations are done."""
        if saved is None:
            return 0
        for name, part in self._kept().items():
            part.load_state_dict(saved[name])
        self.bad, self.scores, self.seconds = saved["bad"], saved["scores"], saved["seconds"]
        self.unreadable = set(saved["unreadable"])
        return saved["iteration"]


def _shared(losses: Losses, stop: bool) -> Tensor:
    """float64 total, main, auxiliary and detail loss, and the share of processes that were asked to stop."""
    asked = losses.main.new_tensor(float(stop))
    values = torch.stack([losses.total.detach(), losses.main, losses.auxiliary, losses.detail, asked]).double()
    return sum_over_processes(values) / world_size()
