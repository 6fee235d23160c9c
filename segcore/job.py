"""Everything that one call of `segcore predict` goes through: frames in, maps and videos out, what failed, how fast."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segcore.deploy.engine import READERS
from segcore.distributed import parse_devices
from segcore.errors import Interrupted, UnreadableError
from segcore.evaluate.network import scoring_form
from segcore.footage import Frame, Inputs, Video, open_video, picture_frames
from segcore.guard import StopRequest, out_of_memory
from segcore.predict import Predictor, load_model
from segcore.progress import SECONDS_BETWEEN_LINES, Progress
from segcore.results import Results
from segcore.stream import Seconds, stream

Write = Callable[[Frame, np.ndarray], None]


def open_predictor(weights: Path, device: str = "auto") -> Predictor:
    """The predictor of a file, its network in the form that is fastest here."""
    if device == "auto" and weights.suffix in READERS:
        device = "cpu"
    found = load_model(weights, parse_devices(device)[0])
    return replace(found, net=scoring_form(found.net))


@dataclass
class Job:
    """One call of the command: how it is done, and what came of it.

    Attributes:
        ids: whether the frames of videos get id maps.
        most: frames of a video at most.
        alone: there is one input, so what is wrong with it is said once, at the end.
        frames: predicted so far.
        failed: what could not be read, one sentence each.
    """

    predictor: Predictor
    results: Results
    stop: StopRequest
    ids: bool = False
    most: int | None = None
    alone: bool = False
    frames: int = 0
    seconds: Seconds = field(default_factory=Seconds)
    failed: list[str] = field(default_factory=list)

    def run(self, inputs: Inputs) -> None:
        """Pictures first, then one video after the other, cameras last."""
        if inputs.pictures:
            self._stream(picture_frames(inputs.pictures), self._write_picture, "predict", len(inputs.pictures))
            self._end_if_asked()
        for name, source in inputs.videos.items():
            try:
                with open_video(name, source) as video:
                    self._record(video, live=isinstance(source, int))
            except UnreadableError as error:
                self._fail(str(error), _say)

    def _write_picture(self, frame: Frame, classes: np.ndarray) -> None:
        self.results.picture(frame.name, frame.pixels, classes)

    def _record(self, video: Video, live: bool) -> None:
        count = min((n for n in (video.count, self.most) if n is not None), default=None)
        with self.results.video(video.name, None if live else video.rate) as recorder:

            def write(frame: Frame, classes: np.ndarray) -> None:
                recorder.add(self.results.overlay(frame.pixels, classes), frame.seconds)
                if self.ids:
                    self.results.write_ids(frame.name, classes)

            done = self._stream(video.frames(self.most), write, video.name, count)
            if not live:  # a camera has no other end than being stopped
                self._end_if_asked()
            if not done:
                raise UnreadableError(f"{video.name}: gives no picture; put an intact file there, or mend the camera")
        if not live and count and done < count:
            _say(f"{video.name}: ended after {done} of {count} frames")

    def _stream(self, frames: Iterable[Frame], write: Write, title: str, count: int | None) -> int:
        """Predicts and writes; returns how many frames there were."""
        before = self.frames
        with Progress(title, count, quiet=count == 1) if count else Counter(title) as progress:

            def finish(found: tuple[Frame, np.ndarray | None]) -> None:
                frame, classes = found
                if classes is None:
                    self._fail(frame.problem, progress.say)
                else:
                    write(frame, classes)
                    self.frames += 1
                progress.advance(1, f"{(progress.done + 1) / (time.monotonic() - progress.began):.1f} fps")

            self.seconds += stream(self._until_stopped(frames), self._predict, finish)
        return self.frames - before

    def _until_stopped(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield frame
            if self.stop:
                return

    def _predict(self, frame: Frame) -> tuple[Frame, np.ndarray | None]:
        if frame.pixels is None:
            return frame, None
        try:
            return frame, self.predictor.predict(frame.pixels)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            size = "×".join(map(str, frame.pixels.shape[:2]))
            return replace(frame, problem=f"{frame.name}: {size} does not fit into memory; make it smaller"), None

    def _fail(self, problem: str, say: Callable[[str], None]) -> None:
        self.failed.append(problem)
        if not self.alone:
            say(problem)

    def _end_if_asked(self) -> None:
        if self.stop:
            where = f"stopped after {self.frames} frames; what is finished is in {self.results.out}"
            raise Interrupted(where, self.stop.signal)

    def summary(self, inputs: Inputs) -> dict[str, Any]:
        """What was done and how fast, as plain containers; seconds do not hold the loading of the model."""
        parts = {part: round(value, 3) for part, value in vars(self.seconds).items()}
        return {
            "pictures": len(inputs.pictures),
            "videos": len(inputs.videos),
            "frames": self.frames,
            "fps": round(self.frames / max(self.seconds.total, 1e-9), 2),
            "seconds": parts,
            "failed": self.failed,
            "out": str(self.results.out),
        }


class Counter(Progress):
    """Progress of something whose end is not known."""

    def __init__(self, description: str) -> None:
        super().__init__(description, None)

    def _line(self, note: str) -> None:
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            print(f"{self.description}: {self.done}  {note}", file=sys.stderr, flush=True)


def _say(sentence: str) -> None:
    print(f"predict: {sentence}", file=sys.stderr)
