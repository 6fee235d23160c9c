"""How much faster than PyTorch eager float32 the deployed files of the core networks are on this CPU.

    make bench-deploy
    python -m bench.deploy --prepare            exports and quantises only: the part that may run on a busy machine
    python -m bench.deploy --weights work/train/model.pt --lists work/annotations     mIoU of each engine too

Every contender runs in turn, in rounds, so that a machine that slows down slows all of them; all take normalised images
and give the class map, with all threads. Weights are random, which costs no time; mIoU is of the trained file that is
given, on its validation list, int8 calibrated on its training list. Written to bench/deploy.json.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.checkpoint import load_model_file
from segcore.data.datasets import Samples
from segcore.deploy.backends import BACKENDS
from segcore.deploy.calibration import Calibration
from segcore.deploy.case import Case
from segcore.deploy.deliver import drawn_scenes, spread
from segcore.deploy.export import DeployGraph
from segcore.deploy.pictures import Pictures, batches
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.deploy.rows import Bench
from segcore.deploy.timing import LoadMeter, describe_device, machine_lock, time_runs, warm_up
from segcore.errors import ExportError
from segcore.files import sha256, write_json
from segcore.models import build_model
from segcore.models.fuse import fuse
from segcore.progress import track

PLAIN = "torch eager fp32"
ENGINES = (
    ("torch", "fp32"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
RUNS = (
    *((name, (512, 1024)) for name in ("bisenetv1", "bisenetv2", "stdc1", "stdc2", "resnet18dilated8_ppm_deepsup")),
    ("bisenetv2", (1024, 2048)),
)
# Network and size, engine -> how many times as fast as PyTorch eager float32 it is to be.
TARGETS = {"openvino bf16": (3.3, 3.8), "openvino int8": (5.0, 6.0)}
STATISTICS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
ROUNDS, LEAST, SECONDS, WARM_UP = 4, 3, 0.5, 0.3


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser("bench.deploy", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench/deploy.json"))
    parser.add_argument("--files", type=Path, default=Path("work/bench-deploy"), help="exported files are kept here")
    parser.add_argument("--models", nargs="+", default=[], help="only these")
    parser.add_argument("--prepare", action="store_true", help="write the files, time nothing")
    parser.add_argument("--weights", type=Path, help="a trained model.pt")
    parser.add_argument("--lists", type=Path, help="folder with its train.csv and val.csv")
    arguments = parser.parse_args()
    chosen = [run for run in RUNS if run[0] in arguments.models or not arguments.models]
    cases = {run: prepare(*run, arguments.files) for run in track(chosen, "exported")}
    if arguments.prepare:
        return
    scores = accuracy(arguments.weights, arguments.lists) if arguments.weights else None
    about = describe_device(torch.device("cpu"), torch.get_num_threads())
    with machine_lock():
        meter = LoadMeter()
        found = {f"{name} {size[0]}x{size[1]}": measure(case) for (name, size), case in track(cases.items(), "timed")}
        about["loaded"] = meter.loaded()
    result = {"device": about, "graph": "float32 1×3×H×W in memory to argmax", "models": found, "miou": scores}
    result |= {"targets": targets(found), "gpu": None if torch.cuda.is_available() else "not measured: no GPU here"}
    write_json(arguments.out, result)
    for name, rows in found.items():
        print(name, *(f"{key}: {row['median_ms']} ms, {row['speedup']}×" for key, row in rows.items()), sep="\n  ")


def prepare(name: str, size: tuple[int, int], folder: Path) -> Case:
    """The network with random weights (seed 0), and its files, unless an earlier run left them."""
    torch.manual_seed(0)
    net = build_model(name, 19).eval()
    place = folder / f"{name}-torch{torch.__version__}"
    place.mkdir(parents=True, exist_ok=True)
    pictures = [images.numpy() for images in batches(drawn_scenes(2), size, 1, *STATISTICS)]
    graph = DeployGraph(fuse(net)).eval()
    case = Case(graph, size, 1, torch.device("cpu"), torch.get_num_threads(), place, pictures)
    for precision in ("fp32", "int8"):
        case.file(precision)
    return case


def measure(case: Case) -> dict[str, dict[str, Any]]:
    """Every contender's median time, and how many times as fast as PyTorch it is: the median over the rounds.

    The plain contender is the network as it is built: norms unfolded, channels first, eager.
    """
    images = batches(drawn_scenes(1), case.size, 1, *STATISTICS)[0]
    runs = {PLAIN: _plain(case, images)} | {f"{b} {p}": _engine(case, b, p, images) for b, p in ENGINES}
    able = {name: run for name, run in runs.items() if callable(run)}
    for run in able.values():
        warm_up(run, WARM_UP)
    rounds = [{name: _median(run) for name, run in able.items()} for _ in range(ROUNDS)]
    return {
        name: _row([each[name] for each in rounds], [each[PLAIN] / each[name] for each in rounds])
        if name in able
        else {"median_ms": None, "speedup": None, "reason": run}
        for name, run in runs.items()
    }


def _plain(case: Case, images: torch.Tensor) -> Callable[[], object]:
    name = case.folder.name.partition("-torch")[0]
    torch.manual_seed(0)
    graph = DeployGraph(build_model(name, 19).eval()).eval()

    @torch.no_grad()
    def run() -> torch.Tensor:
        return graph(images)

    return run


def _engine(case: Case, backend: str, precision: str, images: torch.Tensor) -> Callable[[], object] | str:
    """One run of it; or why there is none."""
    try:
        runner = BACKENDS[backend](case, precision)
    except ExportError as error:
        return str(error)
    placed = runner.place(images)
    return lambda: runner.infer(placed)


def _median(run: Callable[[], object]) -> float:
    return time_runs(run, 0.0, SECONDS, least=LEAST).median


def _row(medians: list[float], ratios: list[float]) -> dict[str, Any]:
    return {
        "median_ms": round(1000 * float(np.median(medians)), 2),
        "speedup": round(float(np.median(ratios)), 3),
        "speedup_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def targets(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What was to be reached, and what was."""
    return [
        {"run": run, "engine": name, "target": least, "ambition": wanted, "reached": rows[name]["speedup"]}
        for (run, rows), (name, (least, wanted)) in itertools.product(found.items(), TARGETS.items())
    ]


def accuracy(weights: Path, lists: Path) -> dict[str, Any]:
    """mIoU of a trained file in every engine, at its images' size."""
    file, validation, path = load_model_file(weights), Samples.read(lists / "val.csv"), lists / "train.csv"
    recipe = BenchmarkRecipe(((1, 1),), images=len(validation))
    made = Calibration(path, Samples.read(path), recipe.seed, recipe.calibration)
    pictures = Pictures(spread(validation), [made.samples.image(index) for index in made.chosen()], validation)
    net, size = file.network(), validation.image(0).shape[:2]
    statistics = file.normalisation["mean"], file.normalisation["std"]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(net, fuse(net), pictures, statistics, recipe, torch.device("cpu"), size, 1, folder)
        found = {f"{b} {p}": bench.score(bench.open(b, p))["miou"] for b, p in track(ENGINES, "scored")}
    return {"model": file.model, "sha256": sha256(weights), "images": len(validation), "size": size, "miou": found}


if __name__ == "__main__":
    main()
