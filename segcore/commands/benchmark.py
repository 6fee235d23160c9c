"""`segcore benchmark`: how fast a file is on this machine, what it scores, and what is in each time.

    segcore benchmark --weights model.pt --size 512x1024 --list val.csv --calibration train.csv
    segcore benchmark --weights model.onnx --backend openvino
    segcore benchmark --weights a.onnx b.onnx --backend openvino    # which is faster, in turns: A B A B
    segcore benchmark --weights model.pt --protocol coincheung      # as published figures were measured

A row that cannot be measured here says why. docs/numbers.md says how times are taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from segcore.checkpoint import ModelFile
from segcore.commands.arguments import positive, size
from segcore.data.datasets import Samples, read_list, root_beside
from segcore.deploy.backends import BACKENDS
from segcore.deploy.benchmark import benchmark, duel
from segcore.deploy.calibration import Calibration, refuse_held_out
from segcore.deploy.case import PRECISIONS
from segcore.deploy.deliver import drawn_scenes, spread
from segcore.deploy.engine import EngineFile, read_file
from segcore.deploy.pictures import Pictures
from segcore.deploy.protocols import PROTOCOLS
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.distributed import parse_devices
from segcore.errors import DataError, ExportError, RecipeError
from segcore.files import sha256, write_json
from segcore.models.catalogue import card

TIMES = {"network": "network", "classes": "+ argmax", "copies": "+ copies", "encoded": "from PNG"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="a model.pt or an exported file; or two")
    add("--backend", nargs="+", choices=BACKENDS, help="default: all; of an exported file those that read it")
    add("--precision", nargs="+", choices=PRECISIONS, help="default: fp32, of an exported file its own")
    add("--size", nargs="+", type=size, metavar="HxW", help="default: the file's own, else the network's paper's")
    add("--batch", nargs="+", type=positive(int), default=[1], metavar="N", help="images per run (1)")
    add("--protocol", choices=("ours", *PROTOCOLS), default="ours", help="ours, or a published way to measure")
    add("--list", type=Path, metavar="CSV", help="score every engine on these images")
    add("--root", type=Path, metavar="DIR", help="where the lists' paths start; default: what `root` beside them says")
    add("--images", type=positive(int), default=200, metavar="N", help="scored at most, evenly spread (200)")
    add("--calibration", type=Path, metavar="CSV", help="training images, for int8")
    add("--seconds", type=positive(float), default=3.0, metavar="S", help="timed per row, at least (3)")
    add("--device", default="auto", metavar="D", help="auto, cpu or cuda")
    add("--out", type=Path, metavar="JSON", help="keep the results in this file")
    add("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> None:
    """Measures and prints.

    Raises:
        SegcoreError: a file is missing or damaged, or what is asked for does not fit together.
    """
    if len(arguments.weights) > 2:
        raise RecipeError(f"--weights: one file, or two to compare; got {len(arguments.weights)}")
    files = [read_file(path) for path in arguments.weights]
    recipes = [make_recipe(arguments, file) for file in files]
    device, _ = parse_devices(arguments.device)
    pictures = [read_pictures(arguments, file, recipe) for file, recipe in zip(files, recipes, strict=True)]
    subjects = [file if isinstance(file, EngineFile) else file.network(device) for file in files]
    sheets = [
        benchmark(subject, mine, **file.normalisation, recipe=recipe, device=device)
        | {"weights": str(path), "sha256": sha256(path)}
        for subject, mine, file, recipe, path in zip(subjects, pictures, files, recipes, arguments.weights, strict=True)
        if len(files) == 1
    ]
    if len(files) == 2:
        sheet = duel(subjects, pictures, [file.normalisation for file in files], recipes, device)
        sheets = [sheet | {"weights": [str(path) for path in arguments.weights]}]
    if arguments.out:
        write_json(arguments.out, sheets[0])
    if arguments.json:
        print(json.dumps(sheets[0], indent=2))
    else:
        _show(sheets[0])


def make_recipe(arguments: argparse.Namespace, file: ModelFile | EngineFile) -> BenchmarkRecipe:
    """What is to be timed.

    Raises:
        RecipeError: int8 without images to calibrate on; a published protocol at another batch.
    """
    engine, protocol = isinstance(file, EngineFile), PROTOCOLS.get(arguments.protocol)
    precisions = arguments.precision or [file.shape.precision if engine else "fp32"]
    if "int8" in precisions and not engine and not arguments.calibration:
        raise ExportError("int8 is calibrated on training images: give their list with --calibration")
    if protocol and arguments.batch != [1]:
        raise RecipeError(f"--protocol {arguments.protocol} is of batch 1; leave out --batch")
    own = [file.shape.size] if engine and file.shape.size else None
    sizes = arguments.size or own or (protocol.sizes if protocol else [card(file.model).size])
    backends = arguments.backend or (file.backends if engine else tuple(BACKENDS))
    return BenchmarkRecipe(
        tuple(sizes),
        tuple(arguments.batch),
        tuple(precisions),
        tuple(backends),
        seconds=arguments.seconds,
        images=arguments.images,
        protocol=arguments.protocol,
    )


def read_pictures(arguments: argparse.Namespace, file: ModelFile | EngineFile, recipe: BenchmarkRecipe) -> Pictures:
    """The pictures of the lists that were given; without any, drawn scenes to time and to compare on.

    Raises:
        DataError: a list is missing or empty, or the one to calibrate on is one to score on.
    """
    scored = _samples(arguments.list, arguments, file)
    training = _samples(arguments.calibration, arguments, file)
    chosen = []
    if training is not None:
        refuse_held_out(arguments.calibration, training, file.provenance.get("list"), file.labels)
        places = Calibration(arguments.calibration, training, recipe.seed, recipe.calibration).chosen()
        chosen = [training.image(index) for index in places]
    seen = scored if scored is not None else training
    photographs = spread(seen) if seen is not None else drawn_scenes()
    return Pictures(photographs, chosen, scored)


def _samples(path: Path | None, arguments: argparse.Namespace, file: ModelFile | EngineFile) -> Samples | None:
    if path is None:
        return None
    pairs = read_list(path)
    if not pairs:
        raise DataError(f"{path}: is empty; give a list with at least one `image,label` line")
    return Samples(pairs, arguments.root or root_beside(path, pairs), file.labels)


def _show(sheet: dict[str, Any]) -> None:
    device = sheet["device"]
    print(f"{device['gpu'] or device['cpu']}, {device['threads']} threads", file=sys.stderr)
    if device["loaded"]:
        print("other programs were using this machine: times are upper bounds", file=sys.stderr)
    console = Console()
    for line in sheet.get("versus", []):
        low, high = line["speedup_range"]
        a, b = line["median_ms"]
        console.print(
            f"{line['backend']} {line['precision']}: A {a:.2f} ms, B {b:.2f} ms; B is {line['speedup']:.3f} times as "
            f"fast ({low:.3f} to {high:.3f} in {line['rounds']} rounds)"
        )
    if sheet.get("results"):
        console.print(_table(sheet["results"]))
    for row in sheet.get("results", []):
        if row["status"] != "measured":
            console.print(f"{row['backend']} {row['precision']}: {row['status']}: {row['reason']}")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for title in ("backend", "precision", "size", "batch", "fps", *(f"{name} ms" for name in TIMES.values())):
        table.add_column(title, justify="left" if title in ("backend", "precision") else "right")
    for title in ("p99 ms", "mIoU %", "lost", "MB"):
        table.add_column(title, justify="right")
    for row in rows:
        if row["status"] == "measured":
            times, latency = row.get("times_ms", {}), row["latency_ms"]
            shown = [f"{times[name]:.2f}" if name in times else "–" for name in TIMES]
            extra = (latency.get("p99"), _percent(row, "miou"), _percent(row, "miou_lost"), row.get("file_mb"))
            words = ["–" if value is None else f"{value:.2f}" for value in extra]
            sides, batch = "x".join(map(str, row["size"])), str(row["batch"])
            table.add_row(row["backend"], row["precision"], sides, batch, f"{row['fps']:.1f}", *shown, *words)
    return table


def _percent(row: dict[str, Any], name: str) -> float | None:
    return 100 * row[name] if name in row else None
