"""How fast an image is scored in all its modes, against the same written out plainly (`bench.plain`).

    make bench-eval
    python -m bench.evaluate --weights model.pt --list val.csv --modes ss msf --images 8

Each image is scored by every contender in turn, so that a busy machine slows all of them; seconds are means over the
images, the first of which each has scored once before: what a runtime prepares for a size is not in them. Processor
seconds, of all threads together, change less while other programs run. The int8 file is calibrated on the training
list, what it leaves open runs in bf16. Peak memory is of child processes that score one image each, the export to a
runtime included. Written to bench/evaluate.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from bench import plain
from bench.memory import MODES, peak_mib
from segcore.checkpoint import ModelFile, load_model_file
from segcore.data.datasets import Samples
from segcore.data.transforms import normalise
from segcore.deploy.calibration import Calibration
from segcore.deploy.deliver import export
from segcore.deploy.engine import open_engine, read_engine
from segcore.deploy.metadata import GraphShape
from segcore.deploy.timing import describe_device
from segcore.evaluate import EvaluateRecipe, engine
from segcore.evaluate.confusion import confusion_matrix, miou
from segcore.evaluate.network import scoring_form
from segcore.evaluate.predictions import read_ahead
from segcore.files import sha256, write_json
from segcore.progress import track

# The baseline, and what runs the network in ours: backend and precision.
CONTENDERS = {
    "plain": ("torch", "fp32"),
    "fp32": ("torch", "fp32"),
    "bf16": ("torch", "bf16"),
    "openvino": ("openvino", "fp32"),
    "openvino-bf16": ("openvino", "bf16"),
    "openvino-int8": ("openvino", "int8+bf16"),
}
# What our engine spends its time in, under the baseline's names.
PARTS = {
    "add_softmax": "resize, softmax and sum",
    "add_window": "softmax and sum",
    "add_resized": "resize",
    "_resize": "resize",
    "classes": "argmax",
}
# How a contender compares with the first, and in which figure.
RATIOS = {"times_as_fast": "seconds_per_image", "times_less_processor": "processor_seconds_per_image"}


class Clock:
    """Seconds by part, and altogether."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def around(self, function: object, part: str) -> object:
        """`function`, timed."""

        def timed(*arguments: object, **options: object) -> object:
            with self(part):
                return function(*arguments, **options)

        return timed


class Contender:
    """One way to score; keeps its clock and its confusion matrices."""

    def __init__(self, name: str, net: nn.Module, file: ModelFile, samples: Samples, recipe: EvaluateRecipe) -> None:
        self.name, self.net, self.samples, self.batch = name, net, samples, recipe.batch
        self.modes, self.statistics, self.num_classes = recipe.build(file.model), file.normalisation, file.num_classes
        self.backend, self.precision = CONTENDERS[name]
        self.begin()

    def begin(self) -> None:
        """From here on it counts."""
        self.clock, self.processor_seconds = Clock(), 0.0
        self.matrices = {mode.name: np.zeros((self.num_classes,) * 2, np.int64) for mode in self.modes}

    def score(self, index: int) -> dict[str, np.ndarray]:
        """Class maps by mode."""
        start = time.process_time()
        with self.clock("all"):
            found = self._plain(index) if self.name == "plain" else self._ours(index)
        self.processor_seconds += time.process_time() - start
        label = self.samples.label(index)
        for mode, prediction in found.items():
            self.matrices[mode] += confusion_matrix(label, prediction, self.num_classes)
        return found

    def _plain(self, index: int) -> dict[str, np.ndarray]:
        setting = (self.statistics, self.batch, self.clock)
        return {m.name: plain.predict(self.net, self.samples, index, m, *setting).numpy() for m in self.modes}

    def _ours(self, index: int) -> dict[str, np.ndarray]:
        with ExitStack() as patches:
            for name, part in PARTS.items():
                patches.enter_context(patch.object(engine, name, self.clock.around(getattr(engine, name), part)))
            net, count = self.clock.around(self.net, "forward"), self.samples.labels.num_classes
            with self.clock("read"):
                (_, (photograph, size)), *_ = read_ahead(self.samples, [index])
                image = torch.from_numpy(normalise(photograph, **self.statistics))
            found = engine.predict_together(net, image, size, self.modes, count, self.batch)
            return {mode.name: prediction.numpy() for mode, prediction in found}

    def result(self, images: int) -> dict:
        """Seconds per image, by part too, and the score."""
        parts = {part: round(seconds / images, 4) for part, seconds in self.clock.seconds.most_common()}
        total = parts.pop("all")
        return {
            "backend": self.backend,
            "precision": self.precision,
            "seconds_per_image": total,
            "processor_seconds_per_image": round(self.processor_seconds / images, 4),
            "parts": {**parts, "other": round(total - sum(parts.values()), 4)},
            "miou": {mode: round(miou(matrix)[0], 6) for mode, matrix in self.matrices.items()},
        }


def measure(contenders: list[Contender], indices: list[int]) -> dict[str, dict]:
    """Every image by every contender in turn; ratios and changed pixels are against the first."""
    changed, pixels = Counter(), 0
    for contender in contenders:
        contender.score(indices[0])
        contender.begin()
    for index in track(indices, "images, each by every contender"):
        found = [contender.score(index) for contender in contenders]
        pixels += sum(prediction.size for prediction in found[0].values())
        for contender, theirs in zip(contenders, found, strict=True):
            changed[contender.name] += sum(int((theirs[mode] != found[0][mode]).sum()) for mode in theirs)
    results = {contender.name: contender.result(len(indices)) for contender in contenders}
    first = next(iter(results.values()))
    for name, result in results.items():
        result |= {ratio: round(first[seconds] / result[seconds], 2) for ratio, seconds in RATIOS.items()}
        result["pixels_changed"] = changed[name] / pixels
        off = {mode: 100 * (value - first["miou"][mode]) for mode, value in result["miou"].items()}
        result["miou_points_off"] = {mode: round(points, 3) for mode, points in off.items()}
    return results


def main() -> None:
    """Measures, prints and writes."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    file, samples = load_model_file(arguments.weights), Samples.read(arguments.list, arguments.root)
    recipe, images = make_recipe(arguments, file, samples), min(arguments.images, len(samples))
    indices = np.linspace(0, len(samples) - 1, images).astype(int).tolist()
    networks = {name: open_network(name, file, arguments) for name in arguments.contenders}
    with torch.inference_mode():
        contenders = [Contender(name, net, file, samples, recipe) for name, net in networks.items()]
        if arguments.peak:
            contenders[0].score(indices[0])
            print(peak_mib())
            return
        results = measure(contenders, indices)
    for name, result in results.items():
        result["peak_mib"] = _peak(name)
    report = {
        "model": {"name": file.model, "weights": sha256(arguments.weights)},
        "protocol": {"modes": recipe.modes, "scales": recipe.scales, "crop": recipe.crop, "batch": recipe.batch},
        "images": {
            "number": images,
            "of": len(samples),
            "size": samples.label(0).shape,
            "list": sha256(arguments.list),
        },
        "results": results,
        "device": describe_device(torch.device("cpu"), arguments.threads),
        "revision": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def open_network(name: str, file: ModelFile, arguments: argparse.Namespace) -> nn.Module:
    """What a contender runs."""
    backend, precision = CONTENDERS[name]
    if name == "plain":
        return file.network().to(memory_format=torch.contiguous_format)
    if backend == "torch":
        return scoring_form(file.network(), precision)
    if precision != "int8+bf16":
        return open_engine(file, backend, precision)
    calibration = Calibration(arguments.calibrate, Samples.read(arguments.calibrate, arguments.root))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        export(arguments.weights, path, GraphShape(precision="int8"), calibration=calibration)
        return open_engine(read_engine(path), backend, "bf16")


def make_recipe(arguments: argparse.Namespace, file: ModelFile, samples: Samples) -> EvaluateRecipe:
    """What the command line says, else the model's block, else the four modes with windows as high as the images."""
    given = {key: getattr(arguments, key) for key in ("modes", "crop", "batch") if getattr(arguments, key)}
    side = min(samples.label(0).shape)
    block = {"modes": MODES, "crop": (side, side), **file.evaluate, **given}
    return EvaluateRecipe(**{key: tuple(value) if isinstance(value, list) else value for key, value in block.items()})


def _peak(contender: str) -> int:
    """MiB of a process that scores one image."""
    options = ["--peak", "--contenders", contender]
    words = [sys.executable, "-m", "bench.evaluate", *sys.argv[1:], *options]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.evaluate", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--weights", type=Path, default=Path("work/train/model.pt"))
    add("--list", type=Path, default=Path("work/annotations/val.csv"))
    add("--calibrate", type=Path, default=Path("work/annotations/train.csv"), help="training images of the int8 file")
    add("--root", type=Path, help="where the lists' paths start")
    add("--modes", nargs="+", help="default: the model's, else ss ssc msf mscf")
    add("--crop", type=int, nargs=2, metavar=("H", "W"), help="default: the model's, else its images' height")
    add("--batch", type=int, help="images in one forward pass; default: the model's")
    add("--images", type=int, default=4, help="spread over the list")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS, help="the first is what others are held to")
    add("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    add("--peak", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
