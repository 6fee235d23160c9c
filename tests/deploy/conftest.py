"""A network small enough to export in a second, and pictures for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TinyNet(nn.Module):
    """Logits N×5×H×W, or at another size, with stride 2 inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, images: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        return F.interpolate(self.head(F.relu(self.stem(images))), size or images.shape[-2:], mode="bilinear")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return TinyNet().eval().to(memory_format=torch.channels_last)


@pytest.fixture
def photographs() -> list[np.ndarray]:
    """Three uint8 40×70×3 pictures."""
    return list(np.random.default_rng(0).integers(0, 256, (3, 40, 70, 3), dtype=np.uint8))
