"""What can go wrong with a long run: each thing is done to it, and ends in one line with nothing lost."""

import csv
import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from segcore.checkpoint import ResumeState, load_model_file
from segcore.data.datasets import Samples
from segcore.data.loaders import CropStream
from segcore.distributed import Process
from segcore.errors import CheckpointError, DataError, RecipeError, TrainingError
from segcore.identity import differences, made_by
from segcore.losses import network_loss
from segcore.steps import Run
from segcore.train import train
from tests.training.conftest import ALONE, RECIPE, stop_after


def test_a_damaged_state_falls_back_to_the_one_before(job):
    wanted = job()
    train(wanted, ALONE)
    state = ResumeState(wanted.resume)
    state.newest.write_bytes(state.newest.read_bytes()[:100])
    with pytest.warns(RuntimeWarning, match="going back"):
        assert state.load()["iteration"] == RECIPE.iterations - 1


def test_a_state_of_another_training_is_refused_with_all_that_differs(job):
    wanted = job(auxiliary_weight=0.0)
    stop_after(wanted, 1)
    other = replace(wanted, recipe=replace(wanted.recipe, lr=2e-3, iterations=5), seed=2, mean=(0.4,) * 3)
    with pytest.raises(CheckpointError) as caught:
        train(other, ALONE)
    differs = (
        "iterations 4 there, 5 here; lr 0.001 there, 0.002 here; seed 1 there, 2 here; mean [0.5, 0.5, 0.5] there, "
    )
    assert f"{wanted.resume}: the state in it was made by another training: {differs}[0.4," in str(caught.value)
    assert f"`rm -r {wanted.resume}` to start afresh" in str(caught.value)
    assert train(wanted, ALONE)["resumed_from"] == 1


@pytest.mark.parametrize("changes", [{"norm": "local"}, {"ohem_scope": "local"}, {"world_size": 1}, {}])
def test_a_state_knows_the_number_of_processes_where_its_numbers_depend_on_it(job, changes):
    wanted, two = job(**changes), Process(0, 2, torch.device("cpu"))
    found = differences(made_by(wanted, ALONE), made_by(wanted, two))
    assert found == (["processes 1 there, 2 here"] if changes else [])


def test_a_full_disk_leaves_the_previous_state_whole(job, monkeypatch):
    wanted = job()
    train(wanted, ALONE)
    state = ResumeState(wanted.resume)
    before = state.load()["iteration"]

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        state.save({"iteration": 99})
    monkeypatch.undo()
    assert state.load()["iteration"] == before
    assert not list(wanted.resume.glob("*.tmp*"))


@pytest.mark.parametrize("folder", ["resume", "out"])
def test_a_folder_that_cannot_be_written_is_named(job, tmp_path, folder):
    (tmp_path / "file").write_text("in the way")
    wanted = replace(job(iterations=1, warmup=0, auxiliary_weight=0.0), **{folder: tmp_path / "file" / folder})
    with pytest.raises(CheckpointError, match=rf"file/{folder}/\w+\.pt: cannot be written"):
        train(wanted, ALONE)


def test_a_loss_that_is_not_finite_stops_the_run_in_one_line(job):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(job(lr=1e20, iterations=8, auxiliary_weight=0.0, optimizer="sgd"), ALONE)


def test_a_state_with_weights_that_blew_up_is_not_kept(job):
    wanted = job(lr=1e20, iterations=8, log_every=8, auxiliary_weight=0.0, warmup=4, warmup_ratio=1e-25)
    with pytest.raises(TrainingError, match="kept"):
        train(wanted, ALONE)
    kept = ResumeState(wanted.resume).load()
    assert kept is None or all(torch.isfinite(v).all() for v in kept["net"].values())


def test_more_processes_than_images_in_a_batch_are_refused(job):
    with pytest.raises(RecipeError, match="too few images for 3 processes"):
        train(job(), Process(0, 3, torch.device("cpu")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(job, number):
    whole, stopped = job("whole"), job("stopped", checkpoint_every=1000)
    train(job("whole", checkpoint_every=1000), ALONE)
    before = signal.getsignal(number)
    stop_after(stopped, 2, number)
    assert signal.getsignal(number) is before
    assert train(stopped, ALONE)["resumed_from"] == 2
    assert (stopped.out / "model.pt").read_bytes() == (whole.out / "model.pt").read_bytes()


def test_a_file_that_cannot_be_read_is_named_counted_and_replaced(job, samples, capsys, tmp_path):
    bad = spoil(samples, tmp_path, [0])
    wanted = replace(job(max_unreadable=0.5, iterations=4, batch_size=4), samples=bad)
    facts = train(wanted, ALONE)
    assert len(facts["unreadable"]) == 1 and bad.pairs[0][0] in facts["unreadable"][0]
    assert capsys.readouterr().out.count("another image stands in") == 1
    again = replace(job("again", max_unreadable=0.5, iterations=4, batch_size=4), samples=bad, workers=2)
    train(again, ALONE)
    assert (again.out / "model.pt").read_bytes() == (wanted.out / "model.pt").read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_files_that_cannot_be_read_end_the_run(job, samples, tmp_path, workers):
    with pytest.raises(DataError, match="more than train.max_unreadable allows"):
        train(
            replace(job(iterations=4, batch_size=4), samples=spoil(samples, tmp_path, [0, 1]), workers=workers), ALONE
        )


def spoil(samples, folder, indices):
    """A copy of the list in which some photographs are cut short."""
    pairs = list(samples.pairs)
    for index in indices:
        content = samples.image_path(index).read_bytes()
        (folder / f"cut-{index}.png").write_bytes(content[: len(content) // 2])
        pairs[index] = (str(folder / f"cut-{index}.png"), pairs[index][1])
    return Samples(pairs, samples.root, samples.labels)


def _die(self, index):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_that_dies_ends_the_run_in_one_line(job, monkeypatch):
    monkeypatch.setattr(CropStream, "__getitem__", _die)
    with pytest.raises(TrainingError, match="set runtime.workers lower"):
        train(replace(job(), workers=1), ALONE)


def test_a_bad_update_is_left_out_and_the_run_goes_on(job, monkeypatch, capsys):
    spoilt = []

    def once(*arguments, **options):
        losses = network_loss(*arguments, **options)
        spoilt.append(1)
        return losses._replace(total=losses.total * float("nan")) if len(spoilt) == 3 else losses

    monkeypatch.setattr("segcore.prepare.network_loss", once)
    wanted = job(log_every=1)
    train(wanted, ALONE)  # the first call looks at memory, so the second update is the bad one
    assert "left out" in capsys.readouterr().err
    assert [row["iteration"] for row in csv.DictReader((wanted.out / "curve.csv").open())] == ["1", "3", "4"]
    assert all(torch.isfinite(value).all() for value in load_model_file(wanted.out / "model.pt").state_dict.values())


def test_numbers_that_stay_bad_end_the_run_with_a_dump(job):
    wanted = job(lr=1e20, iterations=8, auxiliary_weight=0.0, optimizer="sgd")
    with pytest.raises(TrainingError, match="2 updates in a row") as caught:
        train(replace(wanted, recipe=replace(wanted.recipe, max_bad_steps=2)), ALONE)
    note = json.loads((wanted.resume / "not-finite-0.json").read_text())
    assert note["samples"] and all(name.endswith(".png") for name in note["samples"])
    assert note["first_layer"] in str(caught.value) and note["iteration"] > 1
    assert not (wanted.out / "model.pt").exists()


def test_memory_that_cannot_do_names_what_fits(job, monkeypatch):
    monkeypatch.setattr("segcore.guard.free_memory", lambda device: 150 << 20)
    with pytest.raises(TrainingError, match=r"override.accumulate=\d+ fits"):
        train(job(batch_size=32, crop=(64, 128)), ALONE)
    monkeypatch.setattr("segcore.guard.free_memory", lambda device: 1 << 20)
    with pytest.raises(TrainingError, match="not even two images fit"):
        train(job(), ALONE)


def test_memory_that_runs_out_names_what_fits(job, monkeypatch):
    def full(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Run, "update", full)
    with pytest.raises(TrainingError, match="out of memory on cpu; override.accumulate=2 fits"):
        train(job(batch_size=4), ALONE)


def test_a_disk_without_room_is_noticed_before_the_first_iteration(job, monkeypatch):
    monkeypatch.setattr("segcore.guard.free_disk", lambda folder: 1 << 20)
    with pytest.raises(TrainingError, match="make room first"):
        train(job(), ALONE)


def test_a_recipe_for_so_many_processes_is_refused_for_others_unless_allowed(job):
    wanted = job(world_size=2)
    with pytest.raises(RecipeError, match="depend on 2 processes"):
        train(wanted, ALONE)
    train(replace(wanted, any_world_size=True), ALONE)
    assert load_model_file(wanted.out / "model.pt").provenance["world_size"] == 1
