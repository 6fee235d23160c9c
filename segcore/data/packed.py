"""A packed copy of a data set's pairs: decoded once and kept as bare pixels, of which a crop reads only its own.

Decoding is most of what loading a PNG costs. A packed pair takes four bytes a pixel, some three times its PNGs. Files
are named by what is in them, so that another list of the same images shares them and a picture that changed is packed
anew. Each ends with the CRC-32 of what stands before; a file whose own CRC-32 is therefore not `WHOLE` is damaged.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np

from segcore.data.datasets import Samples
from segcore.data.pictures import peek
from segcore.data.store import Checksums, StoredFile
from segcore.errors import DataError, UnreadableError
from segcore.files import atomic_write, digest
from segcore.progress import track

FORMAT = 1
# The CRC-32 of anything that ends with its own CRC-32, low byte first.
WHOLE = "2144df1c"
# Left free on the disk.
SPARE = 1 << 30


class PackedSamples(Samples):
    """Samples whose pairs come from a packed copy, and from the original files where it lacks them.

    Args:
        samples: the images and labels of a list.
        files: what the data set consists of, with checksums; covers all of `samples`.
        folder: where packed pairs lie.
    """

    def __init__(self, samples: Samples, files: Sequence[StoredFile], folder: Path) -> None:
        super().__init__(samples.pairs, samples.root, samples.labels)
        contents = {file.path: (file.size, file.crc32) for file in files}
        identity = (FORMAT, samples.labels.digest)
        names = (digest(*identity, contents[image], contents[label])[:32] for image, label in samples.pairs)
        self.folder = Path(folder)
        self.packed = [self.folder / f"{name}.npy" for name in names]

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 H×W×3 RGB and uint8 H×W of train ids, private to the caller and read from the disk where looked at."""
        try:
            planes = np.load(self.packed[index], mmap_mode="c")
        except FileNotFoundError:
            return super().pair(index)
        height = len(planes) // 4
        image = np.asarray(planes[: 3 * height]).reshape(height, -1, 3)
        return image, np.asarray(planes[3 * height :])

    def size(self) -> int:
        """Bytes that the packed pairs take."""
        return sum(path.stat().st_size for path in self.packed if path.is_file())


def pack(samples: PackedSamples, workers: int = 2) -> None:
    """Packs every pair that is not there whole; an interrupted call goes on. One that cannot be read is left out.

    Raises:
        DataError: the disk has no room for all of them.
    """
    checksums = Checksums(samples.folder, samples.folder / "checked.csv")
    there = [path.is_file() and checksums.of(path.name).crc32 == WHOLE for path in samples.packed]
    missing = [index for index, whole in enumerate(there) if not whole]
    _refuse_without_room(samples, missing)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        portions = (missing[first : first + 32] for first in range(0, len(missing), 32))
        done = chain.from_iterable(pool.map(lambda index: _pack_one(samples, index), portion) for portion in portions)
        for path in filter(Path.is_file, track(done, "pack", len(missing))):
            checksums.of(path.name)
    checksums.save()


def _refuse_without_room(samples: PackedSamples, indices: Sequence[int]) -> None:
    samples.folder.mkdir(parents=True, exist_ok=True)
    needed, free = sum(_pixels(samples, index) * 4 for index in indices), shutil.disk_usage(samples.folder).free
    if needed + SPARE > free:
        raise DataError(
            f"{samples.folder}: the packed copy takes {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free; "
            "make room, or set `runtime.cache: false`"
        )


def _pixels(samples: Samples, index: int) -> int:
    with contextlib.suppress(UnreadableError):
        _, head = peek(samples.label_path(index))
        return head.height * head.width
    return 0


def _pack_one(samples: PackedSamples, index: int) -> Path:
    path = samples.packed[index]
    path.unlink(missing_ok=True)  # a damaged one
    with contextlib.suppress(DataError):
        image, label = samples.pair(index)
        content = io.BytesIO()
        np.save(content, np.concatenate([image.reshape(-1, label.shape[1]), label]))
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getvalue() + zlib.crc32(content.getbuffer()).to_bytes(4, "little"))
    return path
