"""`segcore predict`: classes for pictures, folders, videos and cameras.

    segcore predict --weights work/train/model.pt data/minicity/leftImg8bit/val --visualize
    segcore predict --weights work/train/model.pt street.mp4 --opacity 0.4 --ids
    segcore predict --weights model.onnx 0 --frames 500      # camera 0; without --frames until Ctrl-C

In the folder of the results: `ids/` with the classes' train ids (`labels.csv` says what they mean), `colors/`,
`overlays/`. Pictures are turned upright as EXIF says. Reading, the network and writing share the time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from segcore.commands.arguments import positive
from segcore.errors import DataError
from segcore.footage import find_inputs
from segcore.guard import StopRequest
from segcore.job import Job, open_predictor
from segcore.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="picture, folder, video, or the number of a camera")
    add("--weights", type=Path, required=True, metavar="F", help="a model.pt, or an exported file")
    add("--out", type=Path, default=Path("predictions"), metavar="DIR", help="for the results; default: predictions")
    add("--visualize", action="store_true", help="pictures also as overlays with a legend; videos always are")
    add("--opacity", type=_share, default=0.5, metavar="F", help="of the colours in overlays, 0 … 1; default: 0.5")
    add("--ids", action="store_true", help="also an id map of every frame of videos and cameras")
    add("--frames", type=positive(int), metavar="N", help="of videos and cameras the first N only")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
    add("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Predicts, writes and says how fast.

    Raises:
        SegcoreError: an input or the weights are not there or damaged; the results cannot be written.
        Interrupted: Ctrl-C or SIGTERM; what was read until then is written, a video that was not at its end is not.
    """
    inputs = find_inputs(arguments.inputs, arguments.out)
    given = len(inputs.pictures) + len(inputs.videos)
    predictor = open_predictor(arguments.weights, arguments.device)
    results = Results(arguments.out, predictor.labels, arguments.opacity, arguments.visualize)
    results.prepare()
    with StopRequest() as stop:
        job = Job(predictor, results, stop, arguments.ids, arguments.frames, alone=given == 1)
        job.run(inputs)
    if job.failed and job.alone:
        raise DataError(job.failed[0])
    found = job.summary(inputs)
    print(json.dumps(found, indent=2) if arguments.json else _words(found))
    if job.failed:
        raise DataError(f"{len(job.failed)} of {given} could not be read, see above; the others are in {arguments.out}")


def _words(found: dict[str, Any]) -> str:
    seconds = found["seconds"]
    parts = f"reading {seconds['read']:.1f} s, network {seconds['compute']:.1f} s, writing {seconds['write']:.1f} s"
    return (
        f"{found['frames']} frames in {seconds['total']:.1f} s: {found['fps']:.1f} fps from file to file\n"
        f"at the same time: {parts}\nwritten to {found['out']}"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


_share.__name__ = "number of 0 … 1"  # stands in argparse's message
