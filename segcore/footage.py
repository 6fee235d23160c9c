"""What is predicted on: pictures, folders of them, videos and cameras, as frames with the names of their results."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read by OpenCV once: what is wrong is said by us, in one line
import cv2

from segcore.data.pictures import SUFFIXES, decode_image, peek, read_picture
from segcore.errors import DataError, UnreadableError

PICTURES = frozenset().union(*SUFFIXES.values())
VIDEOS = frozenset((".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv"))
USUAL_RATE = 25.0  # where a video or camera does not say its own
LEFT_TO_RIGHT, TOP_TO_BOTTOM = (2, 3, 6, 7), (3, 4, 7, 8)  # EXIF orientations that mirror; from 5 on after transposing


@dataclass(frozen=True)
class Frame:
    """One picture to predict on.

    Attributes:
        name: of its results, without a suffix; may hold folders.
        pixels: uint8 H×W×3 RGB, upright; None if it cannot be decoded.
        problem: why it cannot.
        seconds: when it was taken, on a clock of its own.
    """

    name: str
    pixels: np.ndarray | None
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Inputs:
    """What was asked for, by the name of its results: picture files; video files and numbers of cameras."""

    pictures: Mapping[str, Path]
    videos: Mapping[str, Path | int]


def find_inputs(given: Sequence[str], out: Path) -> Inputs:
    """Files, folders (with all folders below, what is hidden or lies in `out` left out), and numbers of cameras.

    Results are named after the files, from the given folder on. Where two would share a name, all have the path from
    the folder that all files lie in; where that is not enough (a.jpg, a.png), with the suffix.

    Raises:
        DataError: a file that is not there, a folder without anything to predict on, one that is in `out`.
    """
    out, starts, given_as, cameras = absolute(out), {}, {}, {}
    for text in given:
        if text.isdecimal():
            cameras[f"camera{int(text)}"] = int(text)
            continue
        path = Path(text)
        if not path.exists():
            raise DataError(f"{text}: no such file or folder; check the path (a camera is given by its number)")
        if out in (absolute(path), *absolute(path).parents):
            raise DataError(f"{text}: lies in {out}, where the results go; choose another --out")
        for file in _below(path, out) if path.is_dir() else [path]:
            given_as.setdefault(absolute(file), file)
            starts.setdefault(absolute(file), absolute(path if path.is_dir() else path.parent))
    named = {name: given_as[file] for name, file in _named(starts).items()}
    videos = {name: file for name, file in named.items() if _is_video(file)}
    return Inputs({name: file for name, file in named.items() if name not in videos}, {**videos, **cameras})


def absolute(path: Path) -> Path:
    """Without following symbolic links, so that names stay those that the user knows."""
    return Path(os.path.abspath(path))


def picture_frames(pictures: Mapping[str, Path]) -> Iterator[Frame]:
    """Decodes one picture after the other; one that cannot be is a frame with a `problem`."""
    for name, path in pictures.items():
        try:
            content, header = read_picture(path)
            yield Frame(name, upright(decode_image(content, path), header.orientation))
        except UnreadableError as error:
            yield Frame(name, None, str(error))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """H×W×3, turned and mirrored as EXIF's orientation 1 … 8 wants it; any other value changes nothing.

    Training leaves photographs as they are stored, for labels know nothing of it; here nothing but the eye is served.
    """
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in LEFT_TO_RIGHT:
        image = image[:, ::-1]
    if orientation in TOP_TO_BOTTOM:
        image = image[::-1]
    return np.ascontiguousarray(image)


@dataclass(frozen=True)
class Video:
    """An open video or camera.

    Attributes:
        name: of its results.
        count: frames it says it has, or None: a camera, or a file that does not tell.
        rate: its frames per second; USUAL_RATE where it does not say.
    """

    name: str
    capture: cv2.VideoCapture
    count: int | None
    rate: float

    def frames(self, most: int | None = None) -> Iterator[Frame]:
        """Frame after frame until its end, at most `most`."""
        index = 0
        while most is None or index < most:
            there, pixels = self.capture.read()
            if not there:
                return
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            yield Frame(f"{self.name}/{index:06}", pixels, seconds=time.monotonic())
            index += 1


@contextlib.contextmanager
def open_video(name: str, source: Path | int) -> Iterator[Video]:
    """Opens a video file, or a camera by its number.

    Raises:
        UnreadableError: it cannot be opened.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    live = isinstance(source, int)
    capture = cv2.VideoCapture(source if live else str(source))
    try:
        if not capture.isOpened():
            if live:
                raise UnreadableError(f"camera {source}: there is none, or another program uses it; try another number")
            raise UnreadableError(f"{source}: neither a picture nor a video that can be read; put an intact file there")
        rate, count = (float(capture.get(key)) for key in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        known = int(count) if not live and 0 < count < 1e9 else None
        yield Video(name, capture, known, rate if 0 < rate <= 1000 else USUAL_RATE)
    finally:
        capture.release()


def _below(folder: Path, out: Path) -> list[Path]:
    """Pictures and videos in and below a folder, sorted."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (
            path.suffix.lower() in PICTURES | VIDEOS
            and path.is_file()
            and not hidden
            and out not in absolute(path).parents
        ):
            found.append(path)
    if not found:
        raise DataError(f"{folder}: no picture and no video in it; give a folder that has some (.jpg, .png, .mp4, …)")
    return found


def _named(starts: Mapping[Path, Path]) -> dict[str, Path]:
    """Name of the results -> file; `starts` says from which folder on each is named."""
    shared = Path(os.path.commonpath([file.parent for file in starts])) if starts else Path()
    named: dict[str, Path] = {}
    for way in (
        lambda file: file.relative_to(starts[file]).with_suffix(""),
        lambda file: file.relative_to(shared).with_suffix(""),
        lambda file: file.relative_to(shared),
    ):
        named = {way(file).as_posix(): file for file in starts}
        if len(named) == len(starts):
            break
    return named


def _is_video(path: Path) -> bool:
    """By its suffix; a file with an unusual one is a picture if it has a picture's head."""
    suffix = path.suffix.lower()
    if suffix in PICTURES | VIDEOS:
        return suffix in VIDEOS
    try:
        peek(path)
    except UnreadableError:
        return True
    return False
