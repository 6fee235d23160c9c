"""Speed and mIoU of exactly the network that was scored, in every runtime: work/train/model.pt -> work/benchmark.json.

A few validation images serve to check that every runtime computes the same class map as PyTorch before it is timed, and
the list to score the engine that was timed. int8 is calibrated on training images. Rows that could not be measured say
why. `dvc repro -f benchmark` measures again.
"""

from __future__ import annotations

import sys

from pipeline.lease import leased
from pipeline.settings import BENCHMARK, LISTS, TRAIN, params, section, stage, verified_images
from segcore.checkpoint import load_model_file
from segcore.data.datasets import Samples
from segcore.deploy.benchmark import benchmark, summary
from segcore.deploy.calibration import Calibration
from segcore.deploy.deliver import spread
from segcore.deploy.pictures import Pictures
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.distributed import parse_devices
from segcore.files import sha256, write_json


@stage
def main() -> None:
    """Runs the stage, on one device."""
    with leased(params().runtime.devices, most=1):
        _measure()


def _measure() -> None:
    recipe, weights = section("benchmark", BenchmarkRecipe), TRAIN / "model.pt"
    device, _ = parse_devices(params().runtime.devices)
    file, training = load_model_file(weights), _training(recipe)
    pictures = _pictures(training, file.provenance.get("trained_on") == "trainval")
    sheet = benchmark(file.network(device), pictures, **file.normalisation, recipe=recipe, device=device)
    graph = {
        "model": file.model,
        "output": "argmax",
        "checkpoint_sha256": sha256(weights),
        "input": "float32 N×3×H×W in memory",
    }
    calibration = {"calibration": training.record()} if "int8" in recipe.precisions else {}
    write_json(BENCHMARK, {"device": sheet["device"], "graph": graph, **calibration, "results": sheet["results"]})
    print(sheet["device"]["slug"], *map(summary, sheet["results"]), sep="\n  ")
    if sheet["device"]["loaded"]:
        print("benchmark: other programs were using this machine; `dvc repro -f benchmark` repeats it", file=sys.stderr)


def _training(recipe: BenchmarkRecipe) -> Calibration:
    """The training images that int8 is calibrated on."""
    path = LISTS / "train.csv"
    return Calibration(path, Samples.read(path, verified_images()), recipe.seed, recipe.calibration)


def _pictures(training: Calibration, trained_on_all: bool) -> Pictures:
    samples = Samples.read(LISTS / "val.csv", verified_images())
    photographs = spread(samples)
    chosen = [training.samples.image(index) for index in training.chosen()]
    if trained_on_all:
        return Pictures(photographs, chosen, why="it was trained on the validation images too")
    return Pictures(photographs, chosen, samples)


if __name__ == "__main__":
    main()
