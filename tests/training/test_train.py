"""Training: what comes out, that it comes out again, and that a kill costs nothing."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from segcore import load_model
from segcore.checkpoint import load, load_model_file
from segcore.data.loaders import Augmentation, CropStream, shares, training_batches
from segcore.train import train
from tests.tiny_training import prepare, run
from tests.training.conftest import ALONE, RECIPE


def test_leaves_a_model_that_can_be_used_and_a_curve(job):
    wanted = job(optimizer="adamw", schedule="cosine", loss="cross_entropy")
    facts = train(wanted, ALONE)
    assert facts["iterations"] == 4 and facts["resumed_from"] == 0 and facts["precision"] == "float32"
    rows = list(csv.DictReader((wanted.out / "curve.csv").open()))
    assert [row["iteration"] for row in rows] == ["2", "4"]
    assert all(
        float(row["loss"]) == pytest.approx(float(row["main"]) + float(row["auxiliary"]), abs=1e-4) for row in rows
    )
    predictor = load_model(wanted.out / "model.pt")
    assert predictor.labels.num_classes == 11 and predictor.palette.shape == (11, 3)
    prediction = predictor.predict(np.zeros((37, 51, 3), np.uint8))
    assert prediction.shape == (37, 51) and prediction.dtype == np.uint8 and prediction.max() < 11


def test_learns_to_tell_two_halves_apart(job, samples):
    wanted = job(iterations=40, warmup=5, lr=5e-3, optimizer="adamw", auxiliary_weight=0.0, schedule="cosine")
    train(wanted, ALONE)
    predictor = load_model(wanted.out / "model.pt")
    image, label = samples.pair(0)
    assert (predictor.predict(image) == label)[label != 255].mean() > 0.9


def test_equal_runs_give_equal_bytes_and_another_seed_does_not(job):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        wanted = replace(job(name), seed=seed)
        train(wanted, ALONE)
        files.append((wanted.out / "model.pt").read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_model_without_auxiliary_weight_has_no_auxiliary_heads(job):
    wanted = job(auxiliary_weight=0.0)
    train(wanted, ALONE)
    assert not any(name.startswith("aux") for name in load_model_file(wanted.out / "model.pt").state_dict)


def test_detail_guidance_is_learned_and_frozen_norms_stay(job):
    wanted = job(arch="stdc1", frozen_backbone_norms=True, detail_fuse="decaying", ohem_min_kept="crop")
    train(wanted, ALONE)
    for row in csv.DictReader((wanted.out / "curve.csv").open()):
        parts = sum(float(row[name]) for name in ("main", "auxiliary", "detail"))
        assert float(row["detail"]) > 0 and float(row["loss"]) == pytest.approx(parts, abs=1e-4)
    state = load_model_file(wanted.out / "model.pt").state_dict
    norm = "cp.backbone.features.0.bn"
    assert torch.equal(state[f"{norm}.weight"], torch.ones(32)) and torch.equal(state[f"{norm}.bias"], torch.zeros(32))
    assert state[f"{norm}.running_mean"].abs().max() > 0
    assert not torch.equal(state["cp.arm16.bn_atten.weight"], torch.ones(128))


def test_a_finished_run_that_lost_its_outs_only_exports_again(job):
    wanted = job()
    train(wanted, ALONE)
    before = (wanted.out / "model.pt").read_bytes()
    (wanted.out / "model.pt").unlink()
    assert train(wanted, ALONE)["resumed_from"] == RECIPE.iterations
    assert (wanted.out / "model.pt").read_bytes() == before


def test_batches_depend_on_seed_and_iteration_alone(samples):
    stream = CropStream(samples, Augmentation((32, 64), (0.5, 2.0), 0.4), seed=3)

    def run(iterations, rank=0, world_size=1, parts=1, workers=0):
        return list(training_batches(stream, [shares(4, i, rank, world_size, parts) for i in iterations], workers))

    whole, late = run(range(5)), run(range(3, 5), workers=2)
    halves = [run(range(3, 5), rank, 2) for rank in (0, 1)]
    for k in (0, 1):
        (batch,), (again,) = whole[3 + k], late[k]
        assert torch.equal(batch.images, again.images) and torch.equal(batch.labels, again.labels)
        together = torch.stack([halves[0][k][0].images, halves[1][k][0].images], 1).flatten(0, 1)
        assert torch.equal(batch.images, together)
        split = run([3 + k], parts=2)[0]
        assert torch.equal(batch.images, torch.stack([part.images for part in split], 1).flatten(0, 1))


def test_every_image_comes_once_before_any_comes_twice(samples):
    seen = []
    samples.pair = lambda index: (seen.append(index), (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)))[1]
    stream = CropStream(samples, Augmentation((8, 8), (1.0, 1.0), 0.0), seed=0)
    for position in range(2 * len(samples)):
        stream[position]
    assert sorted(seen[: len(samples)]) == sorted(seen[len(samples) :]) == list(range(len(samples)))


def test_recipe_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="warmup"):
        replace(RECIPE, warmup=4)
    with pytest.raises(ValueError, match="smallest comes first"):
        replace(RECIPE, scales=(2.0, 1.0))


def test_model_file_is_plain(job):
    wanted = job(iterations=2)
    train(wanted, ALONE)
    content = load(wanted.out / "model.pt")
    assert content["format"] == 1 and set(content["provenance"]) == {"seed", "torch"}
    assert content["normalisation"] == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_what_is_seen_while_it_runs_and_at_its_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("segcore.progress.SECONDS_BETWEEN_LINES", 0.0)
    facts = run(ALONE, prepare(tmp_path), "out", iterations=22)
    said = capsys.readouterr().err.splitlines()
    losses = r"loss \d+\.\d+  main \d+\.\d+  auxiliary \d+\.\d+  detail \d+\.\d+"
    line = rf"train: 22/22  elapsed \d:\d\d  eta 0:00  {losses}  lr \d\.\d\de-\d\d  \d+\.\d images/s  \d+\.\d GiB"
    assert len(said) == 23 and re.fullmatch(line, said[-1]), said[-1]
    end = r"train: \d+\.\d\d s an update; about 0:00:\d\d to go, until \d\d:\d\d"
    assert [number for number, text in enumerate(said) if re.fullmatch(end, text)] == [20], said[20]
    rows = list(csv.DictReader((tmp_path / "out/curve.csv").open()))
    assert [int(row["iteration"]) for row in rows] == [*range(1, 23)] and all(float(row["auxiliary"]) for row in rows)
    assert facts["images"] == 66 and facts["device_hours"] == pytest.approx(facts["seconds"] / 3600, abs=1e-4)
