"""kill -9 while DVC trains: in the workspace and in DVC's queue."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest

from tests.pipeline.conftest import Clone, stages_run

pytestmark = pytest.mark.slow
LONG = ["-S", "override.iterations=150"]


def _wait_for(condition, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)
    return found


def _first_new_state(clone: Clone, start):
    """Starts a training; returns what `start` does and the folder in which its state appears."""
    states = clone.folder / "work/resume/train"
    before = set(states.glob("*"))
    started = start()
    new = _wait_for(lambda: [p for p in states.glob("*/resume.pt") if p.parent not in before])
    return started, new[0].parent


def _resumed(clone: Clone) -> dict:
    facts = json.loads((clone.folder / "work/train/run.json").read_text())
    assert 0 < facts["resumed_from"] < facts["iterations"] == 150
    return facts


def test_dvc_killed_while_training_refuses_a_second_start_and_then_goes_on(clone, tmp_path):
    command = ["exp", "run", "-S", "seed=9", *LONG]
    first, state = _first_new_state(clone, lambda: clone.start_dvc(*command, log=tmp_path / "log"))
    first.kill()
    first.wait()
    # The training goes on as an orphan; a second start must not touch its state.
    second = clone.dvc("repro", check=False)
    assert second.returncode and "this very training is already running" in second.stderr, second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    assert list(state.glob("resume*.pt")), "a kill between two saves leaves the one before"
    assert not (clone.folder / "work/train/model.pt").exists(), "killed before its end"
    clone.dvc("repro")
    _resumed(clone)
    clone.back()


def test_a_training_killed_in_the_queue_goes_on_where_it_stopped(clone, tmp_path):
    clone.dvc("exp", "run", "--queue", "-n", "queued", "-S", "seed=8", *LONG)
    # Not awaited: the worker holds on to the output of the command that starts it.
    _, state = _first_new_state(clone, lambda: clone.start_dvc("queue", "start", "-j", "1", log=tmp_path / "log"))
    clone.dvc("queue", "kill", "--force", "queued")
    _wait_for(lambda: "Running" not in clone.dvc("queue", "status").stdout)
    again = ["exp", "run", "-S", "seed=8", *LONG]
    # Killed with force, DVC leaves the training an orphan here too; the message names it.
    refused = clone.dvc(*again, check=False)
    assert refused.returncode and "this very training is already running" in refused.stderr, refused.stderr
    os.kill(int(re.search(r"\(process (\d+)\)", refused.stderr)[1]), signal.SIGKILL)
    assert list(state.glob("resume*.pt")), "the queue's own folder is gone, the state is not in it"
    assert "train" in stages_run(clone.dvc(*again))
    _resumed(clone)
    clone.dvc("queue", "stop")
    clone.back()
