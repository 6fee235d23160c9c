"""What is looked at before a list is scored, so that a mistake in it shows in seconds and not after hours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.data.datasets import Samples, read_list, size_mismatch
from segcore.data.labels import IGNORE
from segcore.errors import DataError
from segcore.evaluate.modes import Mode, Size
from segcore.files import sha256
from segcore.progress import track


def refuse_overlap(samples: Samples, training: Samples) -> None:
    """Raises DataError if an image to be scored was trained on."""
    trained = {training.image_path(i) for i in range(len(training))}
    shared = [path for path in map(samples.image_path, range(len(samples))) if path in trained]
    if shared:
        raise DataError(
            f"{shared[0]}: stands in both the training and the validation list ({len(shared)} such in all); "
            "a score on it would mean nothing, so take it out of one of them"
        )


def known_training_list(folder: Path, samples: Samples, digest: str | None) -> Samples | None:
    """The list a model was trained on, if a list in `folder` has its sha256; its images are under `samples.root`."""
    found = (path for path in sorted(Path(folder).glob("*.csv")) if sha256(path) == digest)
    return next((Samples(read_list(path), samples.root, samples.labels) for path in found), None)


def look_through(samples: Samples) -> tuple[int, set[Size]]:
    """How many pixels of the labels count, and the images' sizes, after a look at every label and every image's head.

    Raises:
        DataError: a missing or damaged file, a label value outside the table, sizes that differ.
    """
    total, sizes = 0, set()
    for i in track(range(len(samples)), "look at the list"):
        label, path = samples.label(i), samples.image_path(i)
        try:
            with Image.open(path) as image:  # reads the header only
                size = (image.height, image.width)
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; the list names it, so mend the list or the root") from None
        except (OSError, SyntaxError) as error:
            raise DataError(f"{path}: cannot be opened as a picture ({error}); replace it") from None
        if size != label.shape:
            raise DataError(size_mismatch(path, size, samples.label_path(i), label.shape))
        total += int(np.count_nonzero(label != IGNORE))
        sizes.add(size)
    return total, sizes


def misfit(
    mode: Mode, images: Iterable[Size], fixed: Size | None, gives: str, camera: Size | None = None
) -> str | None:
    """Why an exported file cannot be scored in a mode; None if it can.

    Args:
        mode: the protocol.
        images: the sizes of the images.
        fixed: the only input size the file takes, if it takes only one.
        gives: "logits", or else class maps.
        camera: the only size of its class maps; None for that of the input.
    """
    if mode.short_sides:
        return "wants logits at the label's size, which an exported file gives at its input's size only"
    sizes = {image: mode.inputs(image) for image in images}
    seen = sorted(set().union(*sizes.values()))
    if fixed and seen != [fixed]:
        words = [f"{height}×{width}" for height, width in (*seen[:6], fixed)]
        more = f" and {len(seen) - 6} more sizes" if len(seen) > 6 else ""
        return f"shows the net {', '.join(words[:-1])}{more}, and the file takes {words[-1]} only"
    one_view = len(mode.scales) == 1 and not mode.flip and not mode.crop
    whole = sizes.keys() == {camera} if camera else all({image} == views for image, views in sizes.items())
    if gives != "logits" and not (one_view and whole):
        return "adds up or resizes class scores, and the file gives finished class maps; export it with logits"
    return None
