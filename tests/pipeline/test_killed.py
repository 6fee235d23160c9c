"""kill -9, SIGTERM and Ctrl-C while DVC trains: in the workspace and in DVC's queue."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import pytest

from tests.pipeline.conftest import Clone, stages_run

pytestmark = pytest.mark.slow
LONG = ["-S", "override.iterations=150"]


def _wait_for(condition, seconds: float = 600.0):
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


def test_other_settings_are_refused_beside_a_state_that_waits_until_it_is_deleted(clone, tmp_path):
    command = ["exp", "run", "-S", "seed=11"]
    first, state = _first_new_state(clone, lambda: clone.start_dvc(*command, *LONG, log=tmp_path / "log"))
    _end(first)
    other = [*command, "-S", "override.iterations=3", "-S", "override.lr=0.5"]
    refused = clone.dvc(*other, "-S", "runtime.devices=cpu:2", check=False)
    assert refused.returncode and "Traceback" not in refused.stderr
    said = [line for line in refused.stderr.splitlines() if line.startswith("train: ")]
    assert len(said) == 1 and "of 150 iterations, and differs: iterations 150 there, 3 here; lr 0." in said[0], said
    place = f"work/resume/train/{state.name}"
    assert said[0].startswith(f"train: {place}: a training of bisenetv2 on minicity with seed 11 stopped there after ")
    assert said[0].endswith(f"`rm -r {place}` to start afresh")
    shutil.rmtree(clone.folder / place)
    assert "train" in stages_run(clone.dvc(*other))
    assert json.loads((clone.folder / "work/train/run.json").read_text())["resumed_from"] == 0
    clone.back()


def _newer(paths, than: float) -> bool:
    return any(path.stat().st_mtime > than for path in paths)


def _end(process) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_again_and_again_the_chain_ends_in_the_same_bits(clone, tmp_path):
    """In every stretch of a training: before its first state, after it, after a resume, and while it is written out."""
    command = ["exp", "run", "-S", "seed=5", *LONG]
    train = clone.folder / "work/train"
    first = clone.start_dvc(*command, log=tmp_path / "log")
    _wait_for(lambda: "pipeline.train" in (tmp_path / "log").read_text())
    time.sleep(1.0)
    _end(first)
    states, before = clone.folder / "work/resume/train", time.time()
    for moment in (lambda: _newer(states.glob("*/resume.pt"), before), (train / "model.pt").exists):
        again = clone.start_dvc("repro", log=tmp_path / "log")
        _wait_for(moment)
        _end(again)
    clone.dvc("repro")
    killed = (train / "model.pt").read_bytes()
    shutil.rmtree(clone.folder / ".dvc/cache/runs")
    shutil.rmtree(clone.folder / "work/resume/train")
    assert "train" in stages_run(clone.dvc("repro", "--force", "--single-item", "train"))
    assert json.loads((train / "run.json").read_text())["resumed_from"] == 0
    assert (train / "model.pt").read_bytes() == killed
    clone.back()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_leaves_no_traceback(clone, tmp_path, number):
    command = ["exp", "run", "-S", f"seed={20 + number}", *LONG]
    running, _ = _first_new_state(clone, lambda: clone.start_dvc(*command, log=tmp_path / "log"))
    if number == signal.SIGINT:
        os.killpg(running.pid, number)  # as a terminal sends Ctrl-C
    else:
        os.kill(_training(clone), number)
    assert running.wait(600) != 0
    log = (tmp_path / "log").read_text()
    done = int(re.search(r"stopped after (\d+) of 150 iterations, which are saved; the same command goes on", log)[1])
    assert "Traceback" not in log
    clone.dvc("repro")
    assert _resumed(clone)["resumed_from"] == done
    clone.back()


def _training(clone: Clone) -> int:
    """The process that holds the lock of the newest training."""
    locks = (clone.folder / "work/resume/train").glob("*/lock")
    return int(max(locks, key=os.path.getmtime).read_text())


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
