"""kill -9 at every phase of a training: started again it ends in the same bits as an undisturbed run."""

import multiprocessing
import os
import pkgutil
import signal
from dataclasses import replace

import pytest
import torch

from segcore.prepare import Job
from segcore.train import train
from tests.training.conftest import ALONE

# Where it dies: at the start of the n-th call of a function (torch.save writes half of the file first), and how many of
# the four iterations are kept then. States are saved after each, validation happens after the last.
PHASES = {
    "before the first iteration": ("segcore.train", "set_learning_rate", 1, 0),
    "in the first update": ("segcore.steps:Run", "_move", 1, 0),
    "while the first state is written": ("torch", "save", 1, 0),
    "between two updates": ("segcore.train", "set_learning_rate", 3, 2),
    "in the middle of an update": ("segcore.steps:Run", "_move", 3, 2),
    "while a state is written": ("torch", "save", 3, 2),
    "between moving the old state and writing the new": ("segcore.checkpoint", "save", 3, 2),
    "while validating": ("segcore.train", "quick_miou", 1, 3),
    "while the best weights are written": ("torch", "save", 4, 3),
    "while the last state is written": ("torch", "save", 5, 3),
    "before the result is written": ("segcore.train", "_export", 1, 4),
    "while the result is written": ("torch", "save", 6, 4),
    "between the result and the curve": ("segcore.train", "write_csv", 1, 4),
    "at the very end": ("segcore.train", "_facts", 1, 4),
}
UNDISTURBED: dict[str, bytes] = {}


def _train_and_die(job: Job, owner: str, name: str, call: int) -> None:
    place, calls = pkgutil.resolve_name(owner), []
    whole = getattr(place, name)

    def until(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            if owner == "torch":
                arguments[1].write(b"half of a file")
                arguments[1].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **options)

    setattr(place, name, until)
    torch.set_num_threads(2)
    train(job, ALONE)


@pytest.fixture(scope="module")
def server():
    """Starts children that need not import torch again each time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["segcore.train"])
    return context


@pytest.fixture
def wanted(job):
    def make(name):
        given = job(name, optimizer="adamw", ema=0.5, validate_every=4, validate_images=1, auxiliary_weight=0.0)
        return replace(given, validation=given.samples)

    return make


@pytest.fixture
def undisturbed(wanted):
    if not UNDISTURBED:
        whole = wanted("whole")
        train(whole, ALONE)
        UNDISTURBED.update((path.name, path.read_bytes()) for path in whole.out.iterdir())
    return UNDISTURBED


@pytest.mark.parametrize("phase", PHASES)
def test_killed_and_started_again_equals_an_undisturbed_run(wanted, undisturbed, server, phase):
    killed, (*where, kept) = wanted("killed"), PHASES[phase]
    process = server.Process(target=_train_and_die, args=(killed, *where))
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL
    assert train(killed, ALONE)["resumed_from"] == kept
    assert not list(killed.resume.glob(".*"))
    assert sorted(undisturbed) == ["best-ss.pt", "curve.csv", "model.pt", "validation.csv"]
    for name, content in undisturbed.items():
        assert (killed.out / name).read_bytes() == content, name
