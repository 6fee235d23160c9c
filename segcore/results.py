"""What is written of predictions: id maps, coloured maps, overlays with a legend, and videos of overlays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from segcore.data.labels import LabelTable
from segcore.errors import DataError
from segcore.files import atomic_write
from segcore.visualize import colorize, encode, overlay, with_legend

CODEC, SUFFIX = "mp4v", ".mp4"  # what OpenCV's package writes everywhere
RATE_FROM = 8  # frames from which the rate of a camera is told
RATES = (0.1, 240.0)  # least and most that is written
REMEDY = "make room or choose another --out; what is finished there is whole"


@dataclass(frozen=True)
class Results:
    """The folder of the results: `ids/NAME.png`, `colors/NAME.png`, `overlays/NAME.jpg` and `.mp4`, `labels.csv`.

    Attributes:
        out: the folder.
        labels: says what an id means and its colour.
        opacity: of the colours over the photograph, 0 … 1.
        overlays: whether pictures get one.
    """

    out: Path
    labels: LabelTable
    opacity: float = 0.5
    overlays: bool = False

    def prepare(self) -> None:
        """Makes the folder and writes `labels.csv`, which says what the ids mean.

        Raises:
            DataError: it cannot be written to.
        """
        with writing(self.out / "labels.csv") as temporary:
            self.labels.write_csv(temporary)

    def picture(self, name: str, image: np.ndarray, classes: np.ndarray) -> None:
        """Writes everything of one picture: uint8 H×W×3 RGB and its classes uint8 H×W."""
        self.write_ids(name, classes)
        self._write(f"colors/{name}.png", encode(colorize(classes, self.labels.palette)))
        if self.overlays:
            self._write(f"overlays/{name}.jpg", encode(self.overlay(image, classes), ".jpg"))

    def write_ids(self, name: str, classes: np.ndarray) -> None:
        """Writes the classes uint8 H×W as they are: train ids."""
        self._write(f"ids/{name}.png", cv2.imencode(".png", classes)[1].tobytes())

    def overlay(self, image: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The colours over the picture H×W×3, and the legend below."""
        return with_legend(overlay(image, classes, self.labels.palette, self.opacity), classes, self.labels)

    @contextlib.contextmanager
    def video(self, name: str, rate: float | None) -> Iterator[Recorder]:
        """Yields what records `overlays/NAME.mp4`; moved into place at the end, absent after an exception.

        Raises:
            DataError: no frame was added; the video cannot be written whole.
        """
        path = self.out / "overlays" / f"{name}{SUFFIX}"
        with writing(path) as temporary:
            recorder = Recorder(temporary, rate)
            try:
                yield recorder
            finally:
                recorder.close()
            if not recorder.whole():
                raise DataError(f"{path}: cannot be written whole; {REMEDY}")

    def _write(self, name: str, content: bytes) -> None:
        with writing(self.out / name) as temporary:
            temporary.write_bytes(content)


@dataclass
class Recorder:
    """Writes a video frame by frame.

    Args:
        path: of the file.
        rate: frames per second; None for that of the first frames as they came, which a camera needs: what it delivers
            depends on the light and on how fast its frames are taken.
    """

    path: Path
    rate: float | None
    written: int = 0
    _writer: cv2.VideoWriter | None = None
    _waiting: list[tuple[np.ndarray, float]] = field(default_factory=list)

    def add(self, picture: np.ndarray, seconds: float) -> None:
        """Adds H×W×3 RGB, taken at `seconds`."""
        self._waiting.append((picture, seconds))
        if self._writer or self.rate or len(self._waiting) == RATE_FROM:
            self._flush()

    def close(self) -> None:
        """Ends the file."""
        self._flush()
        if self._writer:
            self._writer.release()

    def whole(self) -> bool:
        """Whether all frames can be found in the closed file; OpenCV does not say when a disk is full."""
        capture = cv2.VideoCapture(str(self.path))
        try:
            return self.written > 0 and int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == self.written
        finally:
            capture.release()

    def _flush(self) -> None:
        for picture, _ in self._waiting:
            even = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
            self._writer = self._writer or self._open(even.shape[1], even.shape[0])
            self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
            self.written += 1
        self._waiting.clear()

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        times = [seconds for _, seconds in self._waiting]
        rate = self.rate or (len(times) - 1) / max(times[-1] - times[0], 1e-9) or 1.0
        rate = min(max(rate, RATES[0]), RATES[1])
        rate = round(rate, 3 if rate < 65 else 2)  # MPEG-4 counts time in 1/65535 of a second at the finest
        writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*CODEC), rate, (width, height))
        if not writer.isOpened():
            raise DataError(f"{self.path.parent}: a video of {height}×{width} cannot be written; {REMEDY}")
        return writer


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """`atomic_write`, with its OSError as a DataError that names the file."""
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); {REMEDY}") from None
