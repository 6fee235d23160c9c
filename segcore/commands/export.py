"""`segcore export`: a model file -> the file that is deployed, with a report of how far it is from its model.

    segcore export --weights model.pt --format onnx --size 512x1024 --list train.csv
    segcore export --weights model.pt --format openvino --precision int8 --size 512x1024 --list train.csv
    segcore export --weights model.pt --format onnx --graph argmax_resized --size 512x1024 --camera 1080x1920

A file whose class map is not its model's is not written. docs/deploy.md says what each format and precision costs, and
how programs in other languages call the file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from segcore.checkpoint import ModelFile, load_model_file
from segcore.commands.arguments import positive, size
from segcore.data.datasets import Samples, read_list, root_beside
from segcore.deploy.calibration import Calibration
from segcore.deploy.deliver import export, spread
from segcore.deploy.formats import FORMATS
from segcore.deploy.metadata import GraphShape
from segcore.deploy.tensorrt import BuildSettings
from segcore.errors import ExportError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--weights", type=Path, required=True, metavar="FILE", help="a model.pt")
    add("--format", choices=FORMATS, required=True, help="of the file to write")
    add("--precision", choices=("fp32", "fp16", "bf16", "int8"), default="fp32", help="int8 wants --list")
    add("--size", type=size, metavar="HxW", help="of its input; default: any multiples of 32")
    add("--batch", type=positive(int), metavar="N", help="images it takes at once; default: any number")
    add("--graph", choices=("logits", "argmax", "argmax_resized"), default="logits", help="what it gives")
    add("--camera", type=size, metavar="HxW", help="size of the classes that argmax_resized gives")
    add(
        "--input",
        choices=("float32", "uint8"),
        default="float32",
        help="float32: normalised N×3×H×W; uint8: N×H×W×3 RGB, normalised inside",
    )
    add("--list", type=Path, metavar="CSV", help="training images: to calibrate int8 on, and to compare with the model")
    add("--root", type=Path, metavar="DIR", help="where the list's paths start; default: what `root` beside it says")
    add("--images", type=positive(int), default=64, metavar="N", help="to calibrate on (64)")
    add("--seed", type=int, default=1, metavar="N", help="of their choice (1)")
    add("--out", type=Path, metavar="F", help="default: <network>_<precision>[_HxW] with the format's ending")
    engine = parser.add_argument_group("TensorRT")
    engine.add_argument(
        "--largest-batch", type=positive(int), metavar="N", help="of 1 … N images; it is fast for N (1)"
    )
    engine.add_argument("--workspace", type=positive(float), default=4.0, metavar="GiB", help="memory of a layer (4)")
    engine.add_argument("--level", type=int, choices=range(6), default=3, help="how long to look for kernels (3)")
    engine.add_argument("--timing-cache", type=Path, metavar="F", help="default: tensorrt.timing beside the engine")
    engine.add_argument("--cuda-graph", action="store_true", help="run it as one recorded CUDA graph")
    add("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Writes the file and prints the report.

    Raises:
        SegcoreError: see `segcore.deploy.deliver.export`; a missing list or image.
    """
    file, precision = load_model_file(arguments.weights), arguments.precision
    out = arguments.out or default_name(arguments, file)
    suffix = FORMATS[arguments.format][0]
    if out.suffix != suffix:
        raise ExportError(f"{out}: --format {arguments.format} writes files that end in {suffix}; name it so")
    samples = read_samples(arguments, file) if arguments.list else None
    calibrates = precision == "int8" and samples
    report = export(
        arguments.weights,
        out,
        GraphShape(
            arguments.graph,
            arguments.batch,
            arguments.size,
            largest_batch=_largest_batch(arguments),
            takes=arguments.input,
            camera=arguments.camera,
            precision=precision,
        ),
        photographs=spread(samples) if samples else None,
        calibration=Calibration(arguments.list, samples, arguments.seed, arguments.images) if calibrates else None,
        settings=BuildSettings(
            arguments.workspace,
            arguments.level,
            arguments.timing_cache or out.with_name("tensorrt.timing"),
            arguments.cuda_graph,
        ),
    )
    print(json.dumps(report, indent=2) if arguments.json else words(report))


def _largest_batch(arguments: argparse.Namespace) -> int | None:
    """Only an engine has one, unless it takes one number of images only."""
    return None if arguments.format != "tensorrt" or arguments.batch else arguments.largest_batch or 1


def default_name(arguments: argparse.Namespace, file: ModelFile) -> Path:
    """In the working folder, for a model's own folder may belong to the pipeline."""
    size = ["x".join(map(str, arguments.size))] if arguments.size else []
    return Path("_".join([file.model, arguments.precision, *size]) + FORMATS[arguments.format][0])


def read_samples(arguments: argparse.Namespace, file: ModelFile) -> Samples:
    """The list's images; its labels are not looked at.

    Raises:
        DataError: a missing or empty list, or no root.
    """
    pairs = read_list(arguments.list)
    return Samples(pairs, arguments.root or root_beside(arguments.list, pairs), file.labels)


def words(report: dict[str, Any]) -> str:
    """The report for a person."""
    graph, parity = report["graph"], report["parity"]
    size = "×".join(map(str, graph["size"])) if graph["size"] else "any multiples of 32"
    batch = graph["batch"] or (f"1 … {graph['largest_batch']}" if graph["largest_batch"] else "any number of")
    gives = graph["output"] + (f" at {'×'.join(map(str, graph['camera']))}" if graph["camera"] else "")
    whose = "images of the list" if parity["source"] == "given" else "drawn scenes, no photographs: give --list"
    lines = [
        f"{report['file']}: {graph['precision']}, {report['bytes'] / 1e6:.1f} MB, sha256 {report['sha256']}",
        f"  takes {graph['input']}, {batch} images of {size}; gives {gives}",
        f"  against the model in PyTorch, float32, on {parity['images']} {whose}:",
        f"    same class in {parity['argmax_agreement']:.3%} of the pixels (at least {parity['least_agreement']:.1%})",
    ]
    if parity["max_difference"] is not None:
        lines.append(
            f"    logits differ by {parity['max_difference']:.2g} at most, {parity['mean_difference']:.2g} on average; "
            f"their own spread is {parity['spread']:.2g}"
        )
    if made := report.get("calibration"):
        lines.append(f"  calibrated on {len(made['images'])} images of {made['list']}, seed {made['seed']}")
    return "\n".join(lines)
