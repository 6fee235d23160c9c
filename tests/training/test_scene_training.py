"""Scene parsing through the training itself: sub-batches of many sizes, norms that average, what is refused."""

from dataclasses import replace

import pytest
import torch

from segcore.checkpoint import ResumeState, load_model_file
from segcore.data.labels import IGNORE
from segcore.errors import RecipeError
from segcore.prepare import at_own_stride, check_share, positions, stream_of
from segcore.train import train
from tests.training.conftest import ALONE, RECIPE, stop_after

SCENE = {
    "arch": "mobilenetv2dilated_c1_deepsup",
    "short_sides": (32, 48),
    "max_side": 80,
    "crop": (48, 80),
    "batch_size": 4,
    "sub_batch": 2,
    "loss": "cross_entropy",
    "auxiliary_weight": 0.4,
    "head_lr_factor": 1.0,
    "warmup": 0,
    "lr": 1e-2,
}


def test_sub_batches_are_trained_on_and_a_stop_changes_nothing(job):
    whole, stopped = (job(name, **SCENE, running_average=True) for name in ("whole", "stopped"))
    train(whole, ALONE)
    stop_after(stopped, 2)
    assert train(stopped, ALONE)["resumed_from"] == 2
    assert (stopped.out / "model.pt").read_bytes() == (whole.out / "model.pt").read_bytes()
    assert ResumeState(whole.resume).load()["norms"] == {"samples": 1 + 2 * RECIPE.iterations}  # two parts each
    assert not any("norm_samples" in name for name in load_model_file(whole.out / "model.pt").state_dict)


def test_norms_that_stand_still(job):
    wanted = job(**SCENE, fix_bn=True)
    train(wanted, ALONE)
    state = load_model_file(wanted.out / "model.pt").state_dict
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert means and all(torch.equal(value, torch.zeros_like(value)) for value in means)
    weights = [value for name, value in state.items() if name.endswith("bn.weight") or name.endswith("1.weight")]
    assert any(not torch.equal(value, torch.ones_like(value)) for value in weights)


def test_crops_train_such_a_network_too(job):
    train(job(**{**SCENE, "short_sides": (), "batch_size": 2, "iterations": 1}), ALONE)


@pytest.mark.parametrize("padding, value", [("ignore", IGNORE), ("as_published", 0)])
def test_padding_of_labels_is_what_the_recipe_says(job, padding, value):
    wanted = job(**{**SCENE, "short_sides": (50,)}, padding_label=padding)
    stream = stream_of(wanted)
    batch = stream.collate([stream[p] for p in positions(wanted.recipe, 0, ALONE)[0]])
    height, _ = batch.sizes[0]
    assert batch.images.shape[2] > height and (batch.labels[:, -(-height // 8) :] == value).all()


def test_labels_at_the_stride_of_the_logits():
    labels = torch.arange(12 * 20).view(1, 12, 20)
    small = at_own_stride(labels, (2, 3), 8)
    assert small.tolist() == [[[4 * 20 + 4, 4 * 20 + 12, IGNORE], [IGNORE] * 3]]
    assert at_own_stride(labels, (12, 20), 8) is labels


def test_what_cannot_be_is_refused(job):
    with pytest.raises(RecipeError, match="cannot be dealt evenly to 3 processes"):
        check_share(job(**SCENE).recipe, 3)
    with pytest.raises(ValueError, match="exclude each other"):
        replace(RECIPE, running_average=True, fix_bn=True)
    with pytest.raises(ValueError, match="set sub_batch, not accumulate"):
        replace(RECIPE, short_sides=(32,), accumulate=2)
    with pytest.raises(ValueError, match="multiple of sub_batch"):
        replace(RECIPE, short_sides=(32,), sub_batch=3)


def test_the_transform_of_the_recipe_is_used(job):
    plain, steps = (stream_of(job(**given))[0][0] for given in ({}, {"transform": "stdc", "scale_steps": 3}))
    assert plain.shape == steps.shape and not torch.equal(plain, steps)
