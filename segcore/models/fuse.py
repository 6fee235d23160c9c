"""The inference form of a network: norms folded into convolutions, and nothing that only training needs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segcore.errors import SegcoreError
from segcore.models.layers import AbsoluteNorm

NORMS = (nn.BatchNorm2d, AbsoluteNorm)
PROBE = (1, 3, 128, 160)
TOLERANCE = 1e-4


@torch.no_grad()
def fuse(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode that gives the same logits with fewer operations; `model` is left as it is.

    What follows what is seen by running a probe image through the network, so any network can be fused. A norm is
    folded where its input is the output of a convolution; what the pass does not visit (auxiliary and detail heads) is
    dropped. The result cannot be trained.

    Raises:
        SegcoreError: its logits differ by more than 1e-4 of their spread (a norm's input is used elsewhere too).
    """
    fused = copy.deepcopy(model).eval()
    probe = torch.rand(PROBE, generator=torch.Generator().manual_seed(0)).to(next(fused.parameters())) * 2 - 1
    with _watched(fused) as seen:
        expected = fused(probe)
    _drop_unvisited(fused, seen.visited)
    names = {module: name for name, module in fused.named_modules()}
    for norm, convolution in seen.followed.items():
        _fold(convolution, norm)
        fused.set_submodule(names[norm], nn.Identity())
    difference = (fused(probe) - expected).abs().max()
    if not difference <= TOLERANCE * expected.std():
        raise SegcoreError(f"folding norms changed the logits by {difference:.2g}; this network cannot be fused")
    return fused


class _Seen:
    """What a forward pass shows: the modules it visits, and for every norm the convolution before it."""

    def __init__(self) -> None:
        self.visited: set[nn.Module] = set()
        self.followed: dict[nn.Module, nn.Conv2d] = {}
        # Tensors are kept, so that no other one gets the same id while watching.
        self._outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}

    def before(self, module: nn.Module, inputs: tuple) -> None:
        self.visited.add(module)
        if isinstance(module, NORMS) and id(inputs[0]) in self._outputs:
            self.followed[module] = self._outputs[id(inputs[0])][0]

    def after(self, module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(module, nn.Conv2d):
            self._outputs[id(output)] = (module, output)


@contextmanager
def _watched(net: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()
    hooks = [module.register_forward_pre_hook(seen.before) for module in net.modules()]
    hooks += [module.register_forward_hook(seen.after) for module in net.modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d | AbsoluteNorm) -> None:
    scale = norm.scale if isinstance(norm, AbsoluteNorm) else norm.weight
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, scale, norm.bias
    )


def _drop_unvisited(net: nn.Module, visited: set[nn.Module]) -> None:
    for name, child in list(net.named_children()):
        if visited.isdisjoint(child.modules()):
            delattr(net, name)
        else:
            _drop_unvisited(child, visited)
