"""Training batches whose content depends on (seed, iteration, place in the batch) alone.

Not on the number of workers, not on the number of processes, not on whether the run was interrupted: a stream's entry p
is the p-th sample of the run, drawn with a generator of its own. So a run can start anywhere, and there is no loader
state to save.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.synchronize import Event
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segcore.data.datasets import Samples
from segcore.data.transforms import augment
from segcore.errors import UnreadableError

# So many neighbours in the list are tried in place of a file that cannot be read.
STAND_INS = 8


class Batch(NamedTuple):
    """What one process computes at once.

    Attributes:
        images: uint8 n×3×h×w.
        labels: int64 of train ids, 255 = ignored: n×h×w, for scene parsing at the network's own stride.
        sizes: height and width of each image within its padding, or None where none is padded at the end.
        unreadable: one message for each file that could not be read and was replaced by another.
    """

    images: Tensor
    labels: Tensor
    sizes: list[tuple[int, int]] | None = None
    unreadable: tuple[str, ...] = ()


class Stream(Protocol):
    """The samples of a run in their order; a torch Dataset without an end."""

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, str]:
        """Image, label, and why the file meant could not be read (empty if it could)."""

    def collate(self, items: list[tuple[Tensor, Tensor, str]]) -> Batch:
        """Puts samples together."""

    def name(self, position: int) -> str:
        """The image that entry `position` is drawn from."""


@dataclass(frozen=True)
class Augmentation:
    """What happens to a sample on its way; see `segcore.data.transforms.augment`."""

    crop: tuple[int, int]
    scales: tuple[float, float]
    jitter: float
    transform: Literal["bisenet", "stdc"] = "bisenet"
    scale_steps: int | None = None


class CropStream(Dataset):
    """Random crops of one size, from an endless row of permutations of the list."""

    def __init__(self, samples: Samples, augmentation: Augmentation, seed: int) -> None:
        self.samples, self.augmentation, self.seed = samples, augmentation, seed

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, str]:
        """uint8 3×h×w and int64 h×w of the crop's size."""
        (image, label), why = readable_pair(self.samples, self._index(position))
        rng = np.random.default_rng([self.seed, 1, position])
        a = self.augmentation
        image, label = augment(image, label, a.crop, a.scales, a.jitter, rng, a.transform, a.scale_steps)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(label).long(), why

    def collate(self, items: list[tuple[Tensor, Tensor, str]]) -> Batch:
        """See `Stream`."""
        images, labels, why = zip(*items, strict=True)
        return Batch(torch.stack(images), torch.stack(labels), unreadable=tuple(filter(None, why)))

    def name(self, position: int) -> str:
        """See `Stream`."""
        return self.samples.pairs[self._index(position)][0]

    def _index(self, position: int) -> int:
        epoch, place = divmod(position, len(self.samples))
        return int(_permutation(self.seed, epoch, len(self.samples))[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(length)


def readable_pair(samples: Samples, index: int) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """Image and label `index`; where they cannot be read, the next ones of the list, and the reason.

    Raises:
        UnreadableError: neither can any of the next ones.
    """
    why = ""
    for step in range(STAND_INS):
        try:
            return samples.pair((index + step) % len(samples)), why
        except UnreadableError as error:
            why = why or str(error)
    raise UnreadableError(f"{why}; nor can the {STAND_INS - 1} images after it in the list")


def shares(batch_size: int, iteration: int, rank: int, world_size: int, parts: int) -> list[range]:
    """The entries of a stream that a process computes in one iteration, part by part.

    Rank r takes entries r, r + world_size, … of the batch, and deals them out to its parts in turn.
    """
    first, end = iteration * batch_size + rank, (iteration + 1) * batch_size
    return [range(first + part * world_size, end, world_size * parts) for part in range(parts)]


def sub_batches(batch_size: int, iteration: int, rank: int, world_size: int, size: int) -> list[range]:
    """The same where samples belong together in groups of `size`: rank r takes groups r, r + world_size, …."""
    first, end = iteration * batch_size, (iteration + 1) * batch_size
    return [range(start, start + size) for start in range(first + rank * size, end, world_size * size)]


def training_batches(stream: Stream, positions: Sequence[list[range]], workers: int) -> Iterator[tuple[Batch, ...]]:
    """Yields the parts of every iteration.

    Args:
        stream: where samples come from.
        positions: for each iteration still to do, the stream's entries of each part; as many parts each time.
        workers: loader processes; 0 loads in this one.
    """
    if not positions:
        return
    over = multiprocessing.Event()
    loader = DataLoader(
        stream,
        batch_sampler=[part for parts in positions for part in parts],
        num_workers=workers,
        collate_fn=stream.collate,
        worker_init_fn=partial(_serve, over),
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )
    try:
        yield from zip(*[iter(loader)] * len(positions[0]), strict=True)
    finally:
        over.set()


def _serve(over: Event, _: int) -> None:
    # Ctrl-C and an agent's SIGTERM go to all processes of a group; the training ends this one when it has saved. Once
    # it is over SIGTERM means this process: multiprocessing ends so, and waits for, what an error left behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if over.is_set() else None)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
