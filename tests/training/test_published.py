"""Every kind of published recipe trains, as it says and `as_published`, at a size of seconds."""

from dataclasses import replace

import pytest

from pipeline.resolve import resolve
from pipeline.settings import Override, Params, validate
from segcore.checkpoint import load_model_file
from segcore.recipe import TrainRecipe
from segcore.train import train
from tests.training.conftest import ALONE

# What makes a training long, and what a machine may lack; everything else stays the recipe's.
SHORT = {"iterations": 2, "warmup": 0, "batch_size": 4, "precision": "float32", "threads": 2}


def tiny(model: str, dataset: str, as_published: bool) -> TrainRecipe:
    """The recipe, shortened."""
    section = resolve(Params(model, dataset, override=Override(as_published=as_published or None)))["train"]
    recipe = validate(TrainRecipe, section, "train")
    sizes = {"short_sides": (32, 48), "max_side": 80, "crop": (48, 80)} if recipe.short_sides else {"crop": (64, 64)}
    return replace(recipe, **SHORT, **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        ("bisenetv1", "cityscapes"),
        ("bisenetv1_old", "cityscapes"),
        ("bisenetv2", "cityscapes"),
        ("stdc1", "cityscapes"),
        ("resnet18dilated8_ppm_deepsup", "ade20k"),
        ("resnet50_upernet", "ade20k"),
        ("hrnetv2_c1", "ade20k"),
    ],
)
def test_the_recipe_trains(model, dataset, as_published, job):
    recipe = tiny(model, dataset, as_published)
    wanted = replace(job(), recipe=recipe, any_world_size=True)
    assert train(wanted, ALONE)["iterations"] == 2
    file = load_model_file(wanted.out / "model.pt")
    assert file.model == model
    assert file.provenance.get("world_size") == (1 if recipe.world_size else None)
    assert all(value.isfinite().all() for value in file.state_dict.values())
