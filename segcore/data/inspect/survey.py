"""One pass over a data set: what every file says of itself, what every label holds, what some photographs show.

Labels and heads are small and all are read, each once. Photographs are the gigabytes: a few hundred of them, evenly
spread over the lists, tell enough of colours. What the facts mean is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from segcore.data.census import Census, count_values
from segcore.data.datasets import Samples, read_image
from segcore.data.labels import IGNORE, UNKNOWN, LabelTable
from segcore.data.pictures import Header, PictureError, decode_ids, peek, read_picture
from segcore.data.statistics import Statistics
from segcore.progress import track

DECODED = 300  # photographs, unless all
THUMBNAIL = 16

In, Out = TypeVar("In"), TypeVar("Out")


@dataclass
class Pair:
    """What one line of a list showed; None where a file could not be read.

    Attributes:
        image, label: paths as the list has them.
        photograph, map: their heads.
        weight: bytes of the photograph's file.
        values: pixels by value, before any table.
        content: digest of the label's file.
        flaws: (path as the list has it, what is wrong with it).
    """

    image: str
    label: str
    photograph: Header | None = None
    map: Header | None = None
    weight: int = 0
    values: dict[int, int] | None = None
    content: str = ""
    flaws: list[tuple[str, PictureError]] = field(default_factory=list)


class Look(NamedTuple):
    """What the pixels of a photograph show.

    Attributes:
        pixels: how many there are.
        sums, squares: of each channel's levels.
        plain: all pixels have one colour.
        grey: the three channels are equal.
        thumbnail: float32, 16×16 levels of grey.
    """

    pixels: int
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    plain: bool
    grey: bool
    thumbnail: np.ndarray


@dataclass
class Split:
    """One list: its pairs, the count of its labels, and looks at some photographs by their place in the list."""

    samples: Samples
    pairs: list[Pair]
    census: Census
    looks: dict[int, Look] = field(default_factory=dict)

    @property
    def statistics(self) -> Statistics | None:
        """Mean and deviation of RGB in 0 … 1 over the photographs looked at; from integers, so the same anywhere."""
        if not self.looks:
            return None
        pixels = sum(look.pixels for look in self.looks.values())
        sums = [sum(channel) for channel in zip(*(look.sums for look in self.looks.values()), strict=True)]
        squares = [sum(channel) for channel in zip(*(look.squares for look in self.looks.values()), strict=True)]
        deviations = (math.sqrt(pixels * q - s * s) for s, q in zip(sums, squares, strict=True))
        return Statistics(
            tuple(round(s / pixels / 255, 4) for s in sums), tuple(round(d / pixels / 255, 4) for d in deviations)
        )


@dataclass(frozen=True)
class Survey:
    """All lists, and the groups of photographs (split, place) whose files are equal byte for byte."""

    labels: LabelTable
    splits: dict[str, Split]
    twins: list[list[tuple[str, int]]]

    def pairs(self) -> Iterator[tuple[str, int, Pair]]:
        """Split, place and pair, through all lists."""
        return ((name, i, pair) for name, split in self.splits.items() for i, pair in enumerate(split.pairs))


def look_at(lists: Mapping[str, Samples], thorough: bool = False, workers: int = 2) -> Survey:
    """Looks at all lists (by split); `thorough` decodes every photograph. All have one label table."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        splits = {name: _read_labels(samples, name, pool) for name, samples in lists.items()}
        places = [(name, i) for name, i, pair in Survey(_table(lists), splits, []).pairs() if pair.photograph]
        if not thorough and len(places) > DECODED:
            places = [places[k * len(places) // DECODED] for k in range(DECODED)]
        _look_at_photographs(splits, places, pool)
        return Survey(_table(lists), splits, _equal_files(splits, pool))


def _table(lists: Mapping[str, Samples]) -> LabelTable:
    return next(iter(lists.values())).labels


def _in_order(pool: ThreadPoolExecutor, work: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
    """Results in the order of the items, in portions, so that decoded pictures do not pile up."""
    for first in range(0, len(items), 32):
        yield from pool.map(work, items[first : first + 32])


def _read_labels(samples: Samples, name: str, pool: ThreadPoolExecutor) -> Split:
    split = Split(samples, [], Census(samples.labels.num_classes, keep_map=name == "train"))
    found = _in_order(pool, lambda index: _read_pair(samples, index), range(len(samples)))
    for pair, train_ids in track(found, f"check {name}", len(samples)):
        split.pairs.append(pair)
        if train_ids is not None:
            split.census.add(train_ids)
    return split


def _read_pair(samples: Samples, index: int) -> tuple[Pair, np.ndarray | None]:
    """The facts, and the label as train ids, in which unknown values are ignored."""
    pair = Pair(*samples.pairs[index])
    with _noted(pair, pair.image):
        pair.weight, pair.photograph = peek(samples.image_path(index))
    ids = None
    with _noted(pair, pair.label):
        content, pair.map = read_picture(samples.label_path(index))
        ids = decode_ids(content, pair.map, samples.label_path(index))
    if ids is None:
        return pair, None
    counts = count_values(ids)
    pair.values = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    pair.content = hashlib.blake2b(content, digest_size=16).hexdigest()
    lookup = samples.labels.lookup
    return pair, cv2.LUT(ids, np.where(lookup == UNKNOWN, IGNORE, lookup).astype(np.uint8))


@contextlib.contextmanager
def _noted(pair: Pair, name: str) -> Iterator[None]:
    """What is wrong with file `name` becomes a flaw of the pair."""
    try:
        yield
    except PictureError as error:
        pair.flaws.append((name, error))
    except (OSError, ValueError) as error:  # too long, or with a character that no name can have
        why = getattr(error, "strerror", None) or error
        pair.flaws.append((name[:80], PictureError(name, f"is no name of a file ({why})", "mend the list")))


def _look_at_photographs(splits: dict[str, Split], places: list[tuple[str, int]], pool: ThreadPoolExecutor) -> None:
    def look(place: tuple[str, int]) -> Look | PictureError:
        try:
            return _look(splits[place[0]].samples.image_path(place[1]))
        except PictureError as error:
            return error

    looks = track(_in_order(pool, look, places), "decode photographs", len(places))
    for (name, index), found in zip(places, looks, strict=True):
        if isinstance(found, Look):
            splits[name].looks[index] = found
        else:
            pair = splits[name].pairs[index]
            pair.flaws.append((pair.image, found))


def _look(path: Path) -> Look:
    image, levels = read_image(path), np.arange(256)
    counts = np.stack([count_values(image, channel) for channel in range(3)])
    return Look(
        pixels=image.shape[0] * image.shape[1],
        sums=tuple((counts @ levels).tolist()),
        squares=tuple((counts @ levels**2).tolist()),
        plain=int(np.count_nonzero(counts)) == 3,
        grey=bool((counts[0] == counts[1:]).all() and (image[..., :1] == image[..., 1:]).all()),
        thumbnail=cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).mean(2, dtype=np.float32),
    )


def _equal_files(splits: dict[str, Split], pool: ThreadPoolExecutor) -> list[list[tuple[str, int]]]:
    """Files of equal size are few, so only those are read."""
    by_size, by_content = defaultdict(list), defaultdict(list)
    for name, split in splits.items():
        for index, pair in enumerate(split.pairs):
            if pair.photograph:
                by_size[pair.weight].append((name, index))
    places = [place for same in by_size.values() if len(same) > 1 for place in same]
    paths = [splits[name].samples.image_path(index) for name, index in places]
    for place, digest in zip(places, _in_order(pool, _digest, paths), strict=True):
        by_content[digest].append(place)
    return [same for same in by_content.values() if len(same) > 1]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
