"""Speed of exactly the network that was scored, on this machine: work/train/model.pt -> work/benchmark.json.

A few validation images serve to check that every runtime computes the same class map as PyTorch before it is timed.
Rows that could not be measured say why. `dvc repro -f benchmark` measures again.
"""

from __future__ import annotations

import sys

import numpy as np

from pipeline.settings import BENCHMARK, LISTS, TRAIN, params, section, stage, verified_images
from segcore.checkpoint import load_model_file
from segcore.data.datasets import Samples
from segcore.deploy import BenchmarkRecipe, benchmark, summary
from segcore.distributed import parse_devices
from segcore.files import sha256, write_json

IMAGES = 4


@stage
def main() -> None:
    """Runs the stage."""
    recipe, weights = section("benchmark", BenchmarkRecipe), TRAIN / "model.pt"
    device, _ = parse_devices(params().runtime.devices)
    file = load_model_file(weights)
    mean, std = file.normalisation["mean"], file.normalisation["std"]
    sheet = benchmark(file.network(device), photographs(), mean, std, recipe, device)

    graph = {
        "model": file.model,
        "output": "argmax",
        "checkpoint_sha256": sha256(weights),
        "input": "float32 N×3×H×W in memory",
    }
    write_json(BENCHMARK, {"device": sheet["device"], "graph": graph, "results": sheet["results"]})
    print(sheet["device"]["slug"], *map(summary, sheet["results"]), sep="\n  ")
    if sheet["device"]["loaded"]:
        print("benchmark: other programs were using this machine; `dvc repro -f benchmark` repeats it", file=sys.stderr)


def photographs() -> list[np.ndarray]:
    """A few validation images, uint8 H×W×3 RGB, spread over the list."""
    samples = Samples.read(LISTS / "val.csv", verified_images())
    chosen = np.linspace(0, len(samples) - 1, min(IMAGES, len(samples)), dtype=int)
    return [samples.image(index) for index in chosen]


if __name__ == "__main__":
    main()
