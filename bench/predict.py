"""How much it helps that `segcore predict` reads, computes and writes at the same time, against one after the other.

    make bench-predict FILE=work/train/model.pt FROM=photographs
    python -m bench.predict --weights model.onnx --photographs folder --images 24 --rounds 5 --out bench/predict.json

The same pictures go through the same functions in both ways, in turn and in this process, with overlays; seconds are
those of the clock, from the first byte read to the last byte written. Written to bench/predict.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from segcore.deploy.timing import describe_device
from segcore.files import sha256, write_json
from segcore.footage import Frame, find_inputs, picture_frames
from segcore.job import open_predictor
from segcore.progress import track
from segcore.results import Results
from segcore.stream import Seconds, stream


def one_after_the_other(source, work: Callable, sink: Callable) -> Seconds:
    """What `stream` does, in one thread."""
    began = time.perf_counter()
    for item in source:
        sink(work(item))
    return Seconds(time.perf_counter() - began)


WAYS = {"one after the other": one_after_the_other, "at the same time": stream}


def main() -> None:
    """Measures, prints and writes."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    seconds = {way: statistics.median(values) for way, values in found.items()}
    slow, fast = seconds.values()
    report = {
        "weights": {"name": arguments.weights.name, "sha256": sha256(arguments.weights)},
        "photographs": {"images": arguments.images, "rounds": arguments.rounds},
        "fps": {way: round(arguments.images / value, 2) for way, value in seconds.items()},
        "times_as_fast": round(slow / fast, 3),
        "ratios": sorted(round(a / b, 3) for a, b in zip(*found.values(), strict=True)),
        "device": describe_device(torch.device("cpu"), arguments.threads),
        "code": sha256(Path(__file__)),
        "revision": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Seconds of every round, either way; the first goes first in every other round."""
    pictures = dict(list(find_inputs([str(arguments.photographs)], folder).pictures.items())[: arguments.images])
    arguments.images = len(pictures)
    predictor = open_predictor(arguments.weights, "cpu")
    results = Results(folder, predictor.labels, overlays=True)

    def work(frame: Frame) -> tuple:
        return frame.name, frame.pixels, predictor.predict(frame.pixels)

    found = {way: [] for way in WAYS}
    one_after_the_other(picture_frames(pictures), work, lambda item: results.picture(*item))  # warm
    for number in track(range(arguments.rounds), "rounds"):
        for way in list(WAYS)[:: 1 if number % 2 else -1]:
            seconds = WAYS[way](picture_frames(pictures), work, lambda item: results.picture(*item))
            found[way].append(seconds.total)
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m bench.predict")
    parser.add_argument("--weights", type=Path, required=True, help="a model.pt or an exported file")
    parser.add_argument("--photographs", type=Path, required=True, help="folder")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of the network")
    parser.add_argument("--out", type=Path, default=Path("bench/predict.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
