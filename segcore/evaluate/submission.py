"""What the Cityscapes test server takes: one PNG of label ids an image, at the image's size, in an archive."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2

from segcore.data.datasets import Samples
from segcore.errors import DataError
from segcore.evaluate.modes import Mode
from segcore.evaluate.predictions import prediction_path, read_prediction
from segcore.files import atomic_write

_FRAME = re.compile(r"(?:.*/)?([^/_]+_\d{6}_\d{6})(?:_[^/]*)?")
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal predictions give equal archives


def submission_names(samples: Samples) -> list[str]:
    """`<city>_<seq>_<frame>_labelIds.png` for each image, as the server finds them (cityscapesScripts, getPrediction).

    Raises:
        DataError: an image is not named as Cityscapes names them, or two are of one frame.
    """
    names = []
    for name in samples.names:
        found = _FRAME.fullmatch(name)
        if not found:
            raise DataError(f"{name}: a submission needs Cityscapes' names, as in berlin_000000_000019_leftImg8bit.png")
        names.append(f"{found[1]}_labelIds.png")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"{min(twice)}: two images of the list are of this frame; the server takes one")
    return names


def write_submission(path: Path, samples: Samples, mode: Mode, folder: Path) -> None:
    """Writes the archive, atomically; or, where `path` does not end in .zip, a folder with its files.

    Args:
        path: of the zip file or the folder.
        samples: the images, and the table that turns train ids into label ids.
        mode: whose predictions.
        folder: where they lie, see `prediction_path`.
    """
    pictures = _pictures(samples, mode, folder)
    if path.suffix != ".zip":
        for name, content in pictures:
            with atomic_write(path / name) as temporary:
                temporary.write_bytes(content)
        return
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in pictures:
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), content)  # stored, for PNG is compressed already


def _pictures(samples: Samples, mode: Mode, folder: Path) -> Iterator[tuple[str, bytes]]:
    for entry, name in zip(submission_names(samples), samples.names, strict=True):
        ids = samples.labels.to_ids(read_prediction(prediction_path(folder, mode, name)))
        yield entry, cv2.imencode(".png", ids)[1].tobytes()
