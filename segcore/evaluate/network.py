"""The form in which a network is scored: norms folded, channels last, in float32 or bf16."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from segcore.errors import SegcoreError
from segcore.models.fuse import NORMS, fuse

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Autocast(nn.Module):
    """A network whose convolutions run in bf16; takes and gives float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, *size: tuple[int, int]) -> Tensor:
        """As the network itself."""
        with torch.autocast(images.device.type, torch.bfloat16):
            return self.net(images, *size).float()


def scoring_form(net: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """A network that gives `net`'s logits faster, but for rounding; `net` is left as it is.

    One without norms, or whose norms cannot be folded, is scored as it is.

    Args:
        net: in eval mode.
        precision: bf16 keeps 8 bits of each product's factors, which moves a few pixels in a thousand.
    """
    if any(isinstance(module, NORMS) for module in net.modules()):
        with contextlib.suppress(SegcoreError):
            net = fuse(net).to(memory_format=torch.channels_last)
    return Autocast(net) if precision == "bf16" else net
