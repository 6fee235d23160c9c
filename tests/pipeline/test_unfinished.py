"""A training that would start afresh beside one that waits, only because a setting changed."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.train import claim
from pipeline.unfinished import LOCK, NOTE, refuse_beside
from segcore.checkpoint import ResumeState, plain
from segcore.errors import RecipeError
from segcore.files import digest, exclusive, held
from tests.training.conftest import RECIPE

OF = {
    "recipe": plain(replace(RECIPE, iterations=540, lr=0.002, code="a" * 16)),
    "dataset": {"name": "minicity", "labels": "cityscapes", "label_digest": "b" * 64, "mean": [0.5, 0.25, 0.125]},
    "seed": 1,
    "data": "c" * 64,
    "list": "d" * 64,
    "weights": "e" * 64,
    "device": "cpu",
    "torch": "2.12.1",
}


def but(section: str = "", **changes: object) -> dict:
    """`OF` with other values, in a section of it or on top."""
    return {**OF, section: {**OF[section], **changes}} if section else {**OF, **changes}


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all states, with one of `OF` that stopped after 40 iterations."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    stop_at(tmp_path / "work/resume/train", OF, 40)
    return tmp_path / "work/resume/train"


def stop_at(states: Path, of: dict, iteration: int) -> None:
    """Begins a training as the stage does, and ends it as a kill does."""
    with pytest.raises(KeyboardInterrupt), claim(states / digest(of), of):
        if iteration:
            ResumeState(states / digest(of)).save({"iteration": iteration})
        raise KeyboardInterrupt


def start(states: Path, of: dict) -> None:
    refuse_beside(states / digest(of), of, states.parents[2])


def test_the_folder_says_from_the_begin_what_it_is_of(states):
    of = but("recipe", arch="stdc1")
    stop_at(states, of, 0)
    assert json.loads((states / digest(of) / NOTE).read_text()) == of


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (but("recipe", lr=0.01), ["lr 0.002 there, 0.01 here"]),
        (but("recipe", lr=0.01, iterations=720), ["lr 0.002 there, 0.01 here", "iterations 540 there, 720 here"]),
        (but("recipe", ema=0.99, compile=True), ["ema none there, 0.99 here", "compile false there, true here"]),
        (but("recipe", code="1" * 16), ["the training code changed"]),
        (but("dataset", label_digest="1" * 64), ["the label table changed"]),
        (but("dataset", mean=[0.1] * 3), ["mean [0.5, 0.25, 0.125] there, [0.1, 0.1, 0.1] here"]),
        (but("recipe", short_sides=[*range(300, 600, 10)]), [r"short_sides [] there, [300, 310, 320, 330,"]),
        (but(data="1"), ["the images changed"]),
        (but(list="1", weights="1"), ["the list of training images changed", "the pretrained weights changed"]),
        (but(device="cuda", torch="2.13.0"), ["device cpu there, cuda here", "torch 2.12.1 there, 2.13.0 here"]),
    ],
)
def test_other_settings_are_refused_with_all_that_differs_and_what_to_do(states, here, words):
    with pytest.raises(RecipeError) as caught:
        start(states, here)
    said, where = str(caught.value), f"work/resume/train/{digest(OF)}"
    begin = f"{where}: a training of bisenetv2 on minicity with seed 1 stopped there after 40 of 540 iterations, and"
    assert said.startswith(begin) and said.endswith(f"to go on with it, or `rm -r {where}` to start afresh")
    differs = said.partition("differs: ")[2].partition(". Put this back")[0].split("; ")
    assert len(differs) == len(words) and all(map(str.startswith, sorted(differs), sorted(words))), differs
    assert max(map(len, differs)) < 120 and "\n" not in said


def test_the_command_of_the_refusal_lets_it_start_afresh(states):
    here = but("recipe", lr=0.01)
    with pytest.raises(RecipeError) as caught:
        start(states, here)
    shutil.rmtree(states.parents[2] / re.search(r"`rm -r (\S+)`", str(caught.value))[1])
    start(states, here)


@pytest.mark.parametrize(
    "here", [OF, but(seed=2), but("recipe", arch="stdc1", lr=0.01), but("dataset", name="camvid", mean=[0.1] * 3)]
)
def test_the_same_goes_on_and_another_training_is_nobodys_concern(states, here):
    start(states, here)


def test_one_that_has_a_state_of_its_own_goes_on(states):
    here = but("recipe", lr=0.01)
    ResumeState(states / digest(here)).save({"iteration": 7})
    start(states, here)


@pytest.mark.filterwarnings("ignore:.*going back")
@pytest.mark.parametrize(
    "spare",
    [
        lambda folder: (folder / "resume.pt").unlink(),  # nothing to go on with
        lambda folder: (folder / "resume.pt").write_bytes(b"half"),
        lambda folder: (folder / "finished").touch(),
        lambda folder: (folder / "not-finite-0.json").write_text("{}"),
        lambda folder: (folder / NOTE).unlink(),
        lambda folder: (folder / NOTE).write_text("[1]"),
    ],
    ids=["no state", "damaged", "finished", "not finite", "of an earlier version", "no description"],
)
def test_what_cannot_or_need_not_go_on_is_not_in_the_way(states, spare):
    spare(states / digest(OF))
    start(states, but("recipe", lr=0.01))


def _hold(path: Path, has, ends) -> None:
    with exclusive(path, "taken"):
        has.set()
        ends.wait(60)


def test_one_that_is_running_is_not_in_the_way_until_it_dies(states):
    context, lock = multiprocessing.get_context("fork"), states / digest(OF) / LOCK
    has, ends = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(lock, has, ends))
    process.start()
    try:
        assert has.wait(60) and held(lock)
        start(states, but("recipe", lr=0.01))
    finally:
        process.kill()
        process.join()
    assert not held(lock)
    with pytest.raises(RecipeError, match="lr 0.002 there"):
        start(states, but("recipe", lr=0.01))


def test_the_process_that_torchrun_starts_refuses_too(states):
    here = but("recipe", lr=0.01)
    with pytest.raises(RecipeError, match="lr 0.002 there"), claim(states / digest(here), here):
        pass
    assert not (states / digest(here)).exists()
