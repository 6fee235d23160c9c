"""Training batches whose content depends on (seed, iteration, place in the batch) alone.

Not on the number of workers, not on the number of processes, not on whether the run was interrupted: sample k of
iteration i is entry i·batch_size + k of an endless row of permutations of the list, augmented with a generator of its
own. So a run can start anywhere, and there is no loader state to save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segcore.data.datasets import Samples
from segcore.data.transforms import augment


@dataclass(frozen=True)
class Augmentation:
    """What happens to a sample on its way: crop (H, W), range of scales, strength of the colour jitter."""

    crop: tuple[int, int]
    scales: tuple[float, float]
    jitter: float


class TrainingStream(Dataset):
    """Entry p is the p-th sample of the run: uint8 image 3×h×w and int64 label h×w of the crop's size."""

    def __init__(self, samples: Samples, augmentation: Augmentation, seed: int) -> None:
        self.samples, self.augmentation, self.seed = samples, augmentation, seed

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(position, len(self.samples))
        image, label = self.samples.pair(int(_permutation(self.seed, epoch, len(self.samples))[place]))
        rng = np.random.default_rng([self.seed, 1, position])
        a = self.augmentation
        image, label = augment(image, label, a.crop, a.scales, a.jitter, rng)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label).long()


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(length)


def training_batches(
    stream: TrainingStream,
    batch_size: int,
    iterations: range,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields this process's share of every batch of `iterations`.

    Args:
        stream: see `TrainingStream`.
        batch_size: images per iteration over all processes; rank r takes entries r, r + world_size, ….
        iterations: 0-based iterations still to do.
        workers: loader processes; 0 loads in this one.
        rank, world_size: this process among its peers.

    Yields:
        uint8 images n×3×h×w and int64 labels n×h×w.
    """
    shares = [range(i * batch_size + rank, (i + 1) * batch_size, world_size) for i in iterations]
    loader = DataLoader(
        stream,
        batch_sampler=shares,
        num_workers=workers,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
