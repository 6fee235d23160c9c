"""A tiny training, and how to stop it."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from segcore.distributed import Process
from segcore.errors import Interrupted
from segcore.optim import set_learning_rate
from segcore.prepare import Job
from segcore.recipe import TrainRecipe
from segcore.train import train

ALONE = Process(0, 1, torch.device("cpu"))
RECIPE = TrainRecipe(
    arch="bisenetv2",
    iterations=4,
    batch_size=2,
    crop=(32, 64),
    scales=(0.5, 2.0),
    lr=1e-3,
    warmup=1,
    checkpoint_every=1,
    log_every=2,
)


@pytest.fixture
def job(samples, tmp_path):
    def make(name="a", **changes):
        recipe = replace(RECIPE, **changes)
        folder = tmp_path / name
        return Job(recipe, samples, (0.5,) * 3, (0.25,) * 3, 1, folder / "out", folder / "resume", workers=0)

    return make


def stop_after(wanted: Job, iterations: int, number: int = signal.SIGTERM) -> None:
    """Trains until a signal comes after so many iterations."""
    seen = []

    def count(*arguments, **options):
        seen.append(1)
        if len(seen) == iterations:
            os.kill(os.getpid(), number)
        return set_learning_rate(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segcore.train.set_learning_rate", count)
        with pytest.raises(Interrupted, match=f"stopped after {iterations} of") as caught:
            train(wanted, ALONE)
    assert caught.value.signal == number
