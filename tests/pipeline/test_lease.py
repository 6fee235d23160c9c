"""Runs that start at the same time and take GPUs of their own; the GPUs are pretended."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

import pipeline.lease as lease

CONTEXT = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def four_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (lease.VISIBLE, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_LOOKS", 0.02)


def _hold(devices: str, has, ends) -> None:
    with lease.leased(devices):
        has.put(os.environ[lease.VISIBLE])
        ends.wait(60)


@pytest.fixture
def start():
    """start(devices) -> a process that holds its GPUs, what it holds (a queue), and the event that ends it."""
    started = []

    def begin(devices: str):
        has, ends = CONTEXT.Queue(), CONTEXT.Event()
        started.append(CONTEXT.Process(target=_hold, args=(devices, has, ends)))
        started[-1].start()
        return started[-1], has, ends

    yield begin
    for process in started:
        process.kill()
        process.join()


def test_each_takes_free_ones_and_who_finds_none_waits_with_one_line(start, capfd):
    first, second, third = start("cuda:1"), start("cuda:2"), start("cuda:1")
    held = [run[1].get(timeout=60) for run in (first, second, third)]
    assert sorted(",".join(held).split(",")) == ["0", "1", "2", "3"]
    waiting = start("cuda:3")
    while "waiting until 3 are free" not in (said := capfd.readouterr().err):
        assert waiting[0].is_alive()
    assert "4 of 4 GPUs are taken by other runs of this project" in said
    first[2].set()
    first[0].join(60)
    assert waiting[1].empty(), "one is not enough"
    second[0].kill()  # however it ends
    free = sorted(",".join(held[:2]).split(","))
    assert waiting[1].get(timeout=60).split(",") == free
    assert "waiting" not in capfd.readouterr().err, "said once"


def test_auto_is_every_gpu_and_they_come_back(start):
    for _ in range(2):
        with lease.leased("auto"):
            assert os.environ[lease.VISIBLE] == "0,1,2,3"
        assert lease.VISIBLE not in os.environ


def test_a_stage_that_uses_one_takes_one():
    with lease.leased("cuda", most=1):
        assert os.environ[lease.VISIBLE] == "0"


@pytest.mark.parametrize(
    ("devices", "environment"), [("cpu:2", {}), ("cuda", {lease.VISIBLE: "7"}), ("cuda", {"LOCAL_RANK": "0"})]
)
def test_nothing_happens_without_a_choice(devices, environment, monkeypatch, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with lease.leased(devices):
        assert dict(os.environ) == before
    assert not (tmp_path / "work").exists()
