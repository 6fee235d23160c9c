"""Batches of scene parsing: whole images, in sub-batches of one orientation and one short side.

CSAILVision/semantic-segmentation-pytorch, section 4.2. A sub-batch is what one device computes at a time; there each
loader draws its own, here there is one row of them for all, in which everything depends on (seed, place) alone. Pillow
resizes, as there: OpenCV's bilinear does not filter when it shrinks, its nearest takes another pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from segcore.data.datasets import Samples
from segcore.data.labels import IGNORE
from segcore.data.loaders import Batch, readable_pair
from segcore.data.pictures import peek
from segcore.errors import UnreadableError
from segcore.progress import track

# So many passes over the list are remembered; a sub-batch begins in one and ends in the next, seldom later.
PASSES = 8


@dataclass(frozen=True)
class SceneShape:
    """How large images and labels become.

    Attributes:
        short_sides: one of them is drawn for each sub-batch, and its images are scaled to it.
        max_side: an image gets no longer than this; its short side is then shorter.
        sub_batch: images in a sub-batch.
        stride: of the network's logits, so of the labels (`segcore.models.pairs.Pair.stride`).
        multiple: what the sides of a batch are padded to; a multiple of `stride` (`Pair.multiple`).
        padding: train id of the label beyond an image: ignored, or as published since August 2019 class 0, "wall".
    """

    short_sides: tuple[int, ...]
    max_side: int
    sub_batch: int
    stride: int
    multiple: int
    padding: int = IGNORE

    def scaled(self, size: tuple[int, int], short_side: int) -> tuple[int, int]:
        """(height, width) of an image of `size` when it is scaled to `short_side`; truncated, as published."""
        scale = min(short_side / min(size), self.max_side / max(size))
        return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


class SceneStream(Dataset):
    """The images of a run, sub-batch after sub-batch: entry p belongs to sub-batch p // `shape.sub_batch`.

    Args:
        samples: of any size; the headers of all images are read once, to know which are taller than wide.
        shape: what becomes of them.
        seed: everything random comes from it.
    """

    def __init__(self, samples: Samples, shape: SceneShape, seed: int) -> None:
        self.samples, self.shape, self.seed = samples, shape, seed
        indices = track(range(len(samples)), "read sizes")
        portrait = np.array([_is_portrait(samples, index) for index in indices])
        self.order = SubBatches(portrait, shape.sub_batch, seed)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, str]:
        """uint8 3×h×w, int64 ⌈h/stride⌉×⌈w/stride⌉, and why the file meant could not be read (empty if it could)."""
        (image, label), why = readable_pair(self.samples, self._index(position))
        short_side = self.short_side(position // self.shape.sub_batch)
        return *scene_sample(image, label, self.shape, short_side, self.flipped(position)), why

    def short_side(self, sub_batch: int) -> int:
        """What the images of a sub-batch are scaled to."""
        sides = self.shape.short_sides
        return sides[np.random.default_rng([self.seed, 2, sub_batch]).integers(len(sides))]

    def flipped(self, position: int) -> bool:
        """Whether an entry is mirrored."""
        return bool(np.random.default_rng([self.seed, 1, position]).random() < 0.5)

    def collate(self, items: list[tuple[Tensor, Tensor, str]]) -> Batch:
        """Puts a sub-batch together; see `padded`."""
        images, labels, why = zip(*items, strict=True)
        return padded(images, labels, self.shape)._replace(unreadable=tuple(filter(None, why)))

    def name(self, position: int) -> str:
        """The image that entry `position` is drawn from."""
        return self.samples.pairs[self._index(position)][0]

    def _index(self, position: int) -> int:
        sub_batch, place = divmod(position, self.shape.sub_batch)
        return int(self.order[sub_batch][place])


def _is_portrait(samples: Samples, index: int) -> bool:
    try:
        _, header = peek(samples.image_path(index))
    except UnreadableError:
        return False  # another image will stand in for it
    return header.height > header.width


def scene_sample(
    image: np.ndarray, label: np.ndarray, shape: SceneShape, short_side: int, flip: bool
) -> tuple[Tensor, Tensor]:
    """Mirrors if told so and scales: the image bilinear; the label nearest, and down to the network's stride.

    Of every stride×stride cells of the label the one below and right of the middle stays, as of Pillow's nearest. Cells
    that reach over the border count as ignored if that one lies beyond it.

    Args:
        image: uint8 H×W×3 RGB.
        label: uint8 H×W of train ids.
        shape: see `SceneShape`.
        short_side: what the shorter side becomes.
        flip: mirror left and right, before anything else.

    Returns:
        uint8 3×h×w and int64 ⌈h/stride⌉×⌈w/stride⌉.
    """
    if flip:
        image, label = image[:, ::-1], label[:, ::-1]
    height, width = shape.scaled(label.shape, short_side)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    reduced = Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST)
    canvas = np.full((round_up(height, shape.stride), round_up(width, shape.stride)), IGNORE, np.uint8)
    canvas[:height, :width] = reduced
    middle = slice(shape.stride // 2, None, shape.stride)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1), torch.from_numpy(canvas[middle, middle].astype(int))


def padded(images: tuple[Tensor, ...], labels: tuple[Tensor, ...], shape: SceneShape) -> Batch:
    """Puts images and labels into the top left of a batch whose sides are multiples of `shape.multiple`."""
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    height, width = (round_up(max(sides), shape.multiple) for sides in zip(*sizes, strict=True))
    batch = torch.zeros((len(images), 3, height, width), dtype=torch.uint8)
    targets = torch.full((len(images), height // shape.stride, width // shape.stride), shape.padding)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        batch[place, :, : image.shape[1], : image.shape[2]] = image
        targets[place, : label.shape[0], : label.shape[1]] = label
    return Batch(batch, targets, sizes)


def round_up(side: int, multiple: int) -> int:
    """The next multiple from `side` on."""
    return -(-side // multiple) * multiple


class _Walk(NamedTuple):
    """One pass over the shuffled list: records of either orientation in their order, and the sub-batches completed.

    Attributes:
        records: of landscape (or square) and of portrait images.
        completed: for every sub-batch that becomes full in this pass, its orientation (0 or 1), and how many records of
            that orientation had come up by then, in this pass and all before it.
    """

    records: tuple[np.ndarray, np.ndarray]
    completed: np.ndarray


class SubBatches:
    """Which images form which sub-batch.

    One walks a shuffled list and puts each record to the others of its orientation; when there are `size` of them, they
    are the next sub-batch. At the end the list is shuffled anew, and what is pending stays. Any sub-batch can be asked
    for: how many there are after n passes is known without walking, so only the pass that completes it is computed.

    Args:
        portrait: bool N, which images are taller than wide.
        size: images in a sub-batch.
        seed: of the shuffling.
    """

    def __init__(self, portrait: np.ndarray, size: int, seed: int) -> None:
        self.portrait, self.size, self.seed = np.asarray(portrait, bool), size, seed
        tall = int(self.portrait.sum())
        self.counts = (len(self.portrait) - tall, tall)
        self._walks: dict[int, _Walk] = {}

    def __getitem__(self, number: int) -> np.ndarray:
        """Indices of the `size` images of sub-batch `number`."""
        walk = number * self.size // len(self.portrait)
        while self._completed_before(walk + 1) <= number:
            walk += 1
        kind, seen = self._walk(walk).completed[number - self._completed_before(walk)]
        return np.array([self._record(kind, place) for place in range(seen - self.size, seen)])

    def _completed_before(self, walk: int) -> int:
        return sum(walk * count // self.size for count in self.counts)

    def _record(self, kind: int, place: int) -> int:
        walk, within = divmod(place, self.counts[kind])
        return self._walk(walk).records[kind][within]

    def _walk(self, number: int) -> _Walk:
        if number not in self._walks:
            if len(self._walks) == PASSES:
                del self._walks[next(iter(self._walks))]
            self._walks[number] = self._compute(number)
        return self._walks[number]

    def _compute(self, number: int) -> _Walk:
        order = np.random.default_rng([self.seed, 0, number]).permutation(len(self.portrait))
        kinds = self.portrait[order].astype(int)
        seen = np.where(kinds, np.cumsum(kinds), np.cumsum(1 - kinds)) + number * np.array(self.counts)[kinds]
        full = seen % self.size == 0
        return _Walk((order[kinds == 0], order[kinds == 1]), np.stack([kinds[full], seen[full]], axis=1))
