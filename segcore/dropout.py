"""Dropout whose masks do not depend on how many processes share a batch, nor on the parts they compute it in.

torch draws the mask of a whole batch from a generator that every process owns: two processes drop other values than
one. Here each sample has masks of its own, drawn from (seed, entry of the stream, layer) alone:

    net = seed_dropout(net, seed)
    with entries_of(range(12, 16)):       # which entries of the stream the images are
        outputs = net(images)

Outside of `entries_of` masks come from torch's own generator; in eval mode nothing falls, as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

_entries: Sequence[int] = ()


@contextlib.contextmanager
def entries_of(entries: Sequence[int]) -> Iterator[None]:
    """Within, the images of a forward pass are these entries of the stream, in this order."""
    global _entries
    before, _entries = _entries, entries
    try:
        yield
    finally:
        _entries = before


class SeededDropout(nn.Dropout):
    """Each value is zero with probability p, else divided by 1 - p."""

    seed: int
    number: int

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same."""
        if not self.training:
            return x
        return x * _masks(x.detach(), self.p, self.seed, self.number)


class SeededDropout2d(nn.Dropout2d):
    """Each channel of a sample is zero with probability p, else divided by 1 - p."""

    seed: int
    number: int

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W -> the same."""
        if not self.training:
            return x
        return x * _masks(x[:, :, :1, :1].detach(), self.p, self.seed, self.number)


# An operator of its own, so that torch.compile calls it in each iteration instead of looking into it.
@torch.library.custom_op("segcore::dropout_masks", mutates_args=())
def _masks(like: Tensor, p: float, seed: int, number: int) -> Tensor:
    """Factors 0 or 1 / (1 - p) in the shape of `like`, always channels_last, so that its layout changes nothing."""
    masks = torch.empty_like(like, memory_format=torch.channels_last)
    generators = [_generator(seed, entry, number, like.device) for entry in _entries or ()] or [None] * len(like)
    for mask, generator in zip(masks.permute(0, 2, 3, 1), generators, strict=True):
        mask.bernoulli_(1 - p, generator=generator)
    return masks.div_(1 - p)


def _generator(seed: int, entry: int, number: int, device: torch.device) -> torch.Generator:
    source = np.random.SeedSequence([seed, 2, entry, number])  # 0 and 1 are the loader's
    return torch.Generator(device).manual_seed(int(source.generate_state(1, np.uint64)[0]))


@_masks.register_fake
def _(like: Tensor, p: float, seed: int, number: int) -> Tensor:
    return torch.empty_like(like, memory_format=torch.channels_last)


SEEDED = {nn.Dropout: SeededDropout, nn.Dropout2d: SeededDropout2d}


def seed_dropout(net: nn.Module, seed: int) -> nn.Module:
    """Makes every dropout layer one that draws by sample; state-dict names stay."""
    layers = [module for module in net.modules() if type(module) in SEEDED]
    for number, layer in enumerate(layers):
        layer.__class__ = SEEDED[type(layer)]
        layer.seed, layer.number = seed, number
    return net
