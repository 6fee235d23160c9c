"""Batch norms over the batch of all processes.

Each process may have a share of its own size, and images of its own size: every value counts once.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segcore.distributed import sum_over_processes, world_size
from segcore.models.layers import AbsoluteNorm


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, on any device (torch's own is for GPUs alone)."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same; N, H and W may differ from process to process."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        return _normalise_together(self, x, self.weight, momentum)


class SyncAbsoluteNorm(AbsoluteNorm):
    """`AbsoluteNorm` over the batch of all processes, on any device; the in-place activated norm came only so."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same; N, H and W may differ from process to process."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        return _normalise_together(self, x, self.scale, self.momentum)


def _normalise_together(norm: nn.BatchNorm2d | AbsoluteNorm, x: Tensor, scale: Tensor, momentum: float) -> Tensor:
    """Batch norm of N×C×H×W with the moments of all processes' x; moves the running statistics.

    Running statistics use the unbiased variance, as usual.
    """
    y, mean, variance, count = _NormaliseTogether.apply(x, scale, norm.bias, norm.eps)
    with torch.no_grad():
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var.dtype), momentum)
    return y


class _NormaliseTogether(torch.autograd.Function):
    """x, scale (C), bias (C), eps -> normalised x; mean, biased variance (C) and number of values of all processes.

    The passes over x are torch's own of an ordinary norm; moments and their gradients are summed over processes between
    them, in float64 so that the difference of large sums keeps its digits. The gradients of scale and bias are this
    process's share.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        zeros = torch.zeros_like(scale), torch.zeros_like(scale)  # moments come in their type, float32 for a bf16 x
        mean, variance = (value.double() for value in torch.batch_norm_update_stats(x, *zeros, 0.0))
        values = mean.new_tensor([x.numel() // x.shape[1]])
        sums = sum_over_processes(torch.cat([mean * values, (variance + mean.square()) * values, values]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        y = torch.native_batch_norm(x, scale, bias, mean.to(scale), variance.to(scale), False, 0.0, eps)[0]
        context.save_for_backward(x, scale, mean, variance, count)
        context.eps = eps
        context.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, mean, variance, count = context.saved_tensors
        of_x, of_scale, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, scale, mean.to(scale), variance.to(scale), None, None, False, context.eps, [True] * 3
        )
        # The moments depend on every x: with x^ = (x - mean) / deviation,
        # dx = scale / deviation · (dy - mean of dy - x^ · mean of dy·x^).
        along, across = (sum_over_processes(torch.stack([of_bias, of_scale]).double()) / count).unbind()
        factor = scale.double() * (variance + context.eps).rsqrt()
        slope = -factor * across * (variance + context.eps).rsqrt()
        shift = -factor * along - slope * mean
        slope, shift = (value.to(of_x.dtype)[:, None, None] for value in (slope, shift))
        return of_x.addcmul_(x, slope).add_(shift), of_scale, of_bias, None


SYNCHRONISED = {nn.BatchNorm2d: SyncBatchNorm, AbsoluteNorm: SyncAbsoluteNorm}


def synchronise_norms(net: nn.Module, device: torch.device) -> nn.Module:
    """Makes every batch norm one that sees the batch of all processes; state-dict names stay."""
    if device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # torch's own, where it has one
    for module in net.modules():
        # The class alone changes: parameters, statistics, mode, type and hooks stay the very same.
        module.__class__ = SYNCHRONISED.get(type(module), type(module))
    return net
