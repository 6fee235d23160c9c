"""A training of seconds whose result could depend on the number of processes in every way there is.

    python -m tests.tiny_training FOLDER DEVICES [DISTURBANCE…]

trains as a stage does. A disturbance is WHAT:RANK:ITERATION, and happens once: before that iteration the process gets
signal WHAT, or the process that launched it where WHAT is `parent-` and a signal, or it meets an error if that is WHAT.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import segcore.train
from pipeline.settings import stage
from segcore.data.datasets import Samples, write_list
from segcore.data.labels import TABLES
from segcore.distributed import Process, join
from segcore.errors import DataError
from segcore.launch import launch
from segcore.models.layers import AbsoluteNorm, Outputs
from segcore.prepare import Job
from segcore.recipe import TrainRecipe
from tests.conftest import make_camvid

# Three images in a batch and seven in the list: neither two processes nor an epoch come out even.
RECIPE = TrainRecipe(
    arch="tiny",
    iterations=51,
    batch_size=3,
    crop=(32, 32),
    scales=(0.5, 2.0),
    lr=2e-3,
    head_lr_factor=1.0,
    warmup=5,
    auxiliary_weight=0.5,
    channels_last=False,
    threads=1,
    log_every=1,
    checkpoint_every=8,
)


class Tiny(nn.Module):
    """Every kind of layer and head that sees a batch; in float64, so that rounding does not grow into a difference."""

    heads, backbone = (), ()

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), AbsoluteNorm(8), nn.ReLU(), nn.Dropout(0.3))
        self.tail = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.Dropout2d(0.3))
        self.mean = nn.BatchNorm2d(8)
        self.logits, self.auxiliary, self.detail = (nn.Conv2d(8, outputs, 1) for outputs in (11, 11, 1))
        self.double()

    def decays(self, parameter: nn.Parameter) -> bool:
        return parameter.dim() > 1

    def forward(self, images: torch.Tensor) -> Outputs:
        """N×3×H×W -> outputs at H×W."""
        body = self.body(self.stem(images.double()))
        tail = self.tail(body) * self.mean(body.mean((2, 3), keepdim=True)).sigmoid()
        heads = self.logits(tail) * 4, self.auxiliary(body), self.detail(body)
        logits, auxiliary, detail = (F.interpolate(x, images.shape[-2:], mode="bilinear") for x in heads)
        return Outputs(logits, (auxiliary,), (detail,))


def prepare(folder: Path) -> Path:
    """Writes the data set into the folder."""
    make_camvid(folder / "images", train=7)
    pairs = [(f"train/train_{i:03}.png", f"trainannot/train_{i:03}.png") for i in range(7)]
    write_list(folder / "lists" / "train.csv", pairs)
    TABLES["camvid"].write_csv(folder / "lists" / "labels.csv")
    return folder


def run(
    process: Process,
    folder: Path,
    name: str,
    *disturbances: str,
    build: Callable[..., nn.Module] = lambda *_, **__: Tiny(),
    **changes: object,
) -> dict[str, Any]:
    """Trains; the result comes into the folder `name` of the data set's folder. Returns the facts of the run."""
    samples, out = Samples.read(folder / "lists" / "train.csv", folder / "images"), folder / name
    job = Job(replace(RECIPE, **changes), samples, (0.5,) * 3, (0.25,) * 3, 1, out, out / "resume", workers=1)
    out.mkdir(exist_ok=True)
    (out / f"pid-{process.rank}").write_text(str(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segcore.prepare.build_model", build)
        patch.setattr("segcore.train.entries_of", _disturbed(process, out, disturbances))
        return segcore.train.train(job, process)


def _disturbed(process: Process, out: Path, disturbances: tuple[str, ...]):
    whole = segcore.train.entries_of

    def entries_of(entries: range):
        for text in disturbances:
            what, rank, iteration = text.split(":")
            done = out / text
            here = int(rank) == process.rank and entries and entries[0] // RECIPE.batch_size == int(iteration)
            if here and not done.exists():
                done.touch()
                if what == "error":
                    raise DataError(f"{out.name}/x.png: cannot be read")
                target = os.getppid() if what.startswith("parent-") else os.getpid()
                os.kill(target, signal.Signals[what.removeprefix("parent-")])
        return whole(entries)

    return entries_of


@stage
def main() -> int | None:
    folder, devices, *disturbances = sys.argv[1:]
    if (code := launch("tests.tiny_training", devices, sys.argv[1:])) is not None:
        return code
    with join(devices) as process:
        run(process, Path(folder), "launched", *disturbances)
    return None


if __name__ == "__main__":
    main()
