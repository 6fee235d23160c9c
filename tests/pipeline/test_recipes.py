"""The recipes: every published training is there, says what it reproduces, and as_published brings its values back."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from pathlib import Path

import pytest

import pipeline.resolve as module
from pipeline.resolve import resolve
from pipeline.settings import Override, Params, Runtime, read_yaml, validate
from segcore.data.labels import TABLES
from segcore.errors import RecipeError
from segcore.models.catalogue import CARDS, NOTHING
from segcore.optim import poly

FOLDER = Path(module.FOLDER)
MODELS = sorted(path.stem for path in (FOLDER / "recipes").glob("*.yaml") if path.stem != "defaults")
DATASETS = sorted(path.stem for path in (FOLDER / "datasets").glob("*.yaml"))
LAUNCH = re.compile(r"dvc exp run -n (\S+) -S model=(\S+) -S dataset=(\w+)")
# How these were trained is not published.
WITHOUT_RECIPE = {"bisenetv1_2021", "bisenetv1_old_bn"}


read_once = functools.cache(read_yaml)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Each file is read once; digests of code, which depend on no recipe and take most of a second, are left out."""
    monkeypatch.setattr(module, "read_yaml", lambda path: copy.deepcopy(read_once(path)))
    monkeypatch.setattr(module, "code_digest", lambda *_: "0" * 16)


def head(model: str) -> str:
    """The recipe's comment head as one line."""
    lines = (FOLDER / "recipes" / f"{model}.yaml").read_text(encoding="utf-8").splitlines()
    comments = lines[: next(k for k, line in enumerate(lines) if not line.startswith("#"))]
    return " ".join(line.lstrip("# ") for line in comments)


def home(model: str) -> str:
    """The data set that the recipe's first number is of."""
    return LAUNCH.search(head(model)).group(3)


def recipe(model: str, dataset: str, as_published: bool = False) -> dict:
    return resolve(Params(model, dataset, override=Override(as_published=as_published or None)))


@pytest.mark.parametrize("model", MODELS)
class TestEveryRecipe:
    def test_resolves_on_every_data_set_with_and_without_defects(self, model):
        for dataset in DATASETS:
            for as_published in (False, True):
                found = recipe(model, dataset, as_published)
                assert found["dataset"]["num_classes"] == TABLES[found["dataset"]["labels"]].num_classes
                assert found["train"]["arch"] == model

    def test_says_how_it_is_run_what_came_out_on_what_and_in_which_time(self, model):
        text = head(model)
        name, typed, dataset = LAUNCH.search(text).groups()
        assert (name, typed) == (f"{model}-{dataset}-s1", model) and dataset in DATASETS
        hardware = text.split("Hardware as published:")[1]
        assert "GPU" in hardware or re.search(r"\d (V100|GTX|Titan|P40)", hardware)
        assert re.search(r"hours not published|\d hours|about a day", hardware)
        assert "Measured here:" in text

    def test_names_the_published_numbers_of_its_network(self, model):
        numbers = re.findall(r"\d+\.\d\d", CARDS[model].published)
        modes = ("ade_ss", "ade_ms") if "_" in model and " / " in CARDS[model].published else CARDS[model].modes
        assert len(numbers) == len(modes)
        published = head(model).split("Published:")[1]
        for number, mode in zip(numbers, modes, strict=True):
            assert re.search(rf"{number} {mode}\b", published), (number, mode)
        assert set(modes) <= set(recipe(model, home(model))["evaluate"]["modes"])

    def test_has_none_of_the_defects_unless_asked(self, model):
        expert = {
            "norm": "sync", "ohem_scope": "global", "ohem_min_kept": "valid", "frozen_backbone_norms": False,
            "detail_fuse": "constant", "detail_ignore": "masked", "padding_label": "ignore", "running_average": False,
            "world_size": None,
        }  # fmt: skip
        for dataset in DATASETS:
            train = recipe(model, dataset)["train"]
            assert {key: train[key] for key in expert} == expert

    def test_runs_at_small_size_without_a_download(self, model):
        for dataset in ("minicity", "camvid"):
            found = recipe(model, dataset)
            assert found["weights"]["name"] == "none" and found["train"]["precision"] == "float32"
            assert found["train"]["iterations"] <= 2000 and found["train"]["batch_size"] <= 4


def test_every_published_network_has_a_recipe():
    assert {name for name, card in CARDS.items() if card.published != NOTHING} - set(MODELS) == WITHOUT_RECIPE


# CoinCheung/BiSeNet, section 8: ss, ssc, msf, mscf.
OTHER_DATA = {
    ("bisenetv1", "ADE20K"): "36.15 ss, 36.04 ssc, 37.27 msf, 36.58 mscf",
    ("bisenetv2", "ADE20K"): "32.53 ss, 32.43 ssc, 33.23 msf, 31.72 mscf",
    ("bisenetv1", "COCO-Stuff"): "31.49 ss, 31.42 ssc, 32.46 msf, 32.55 mscf",
    ("bisenetv2", "COCO-Stuff"): "30.49 ss, 30.55 ssc, 31.81 msf, 31.73 mscf",
}


@pytest.mark.parametrize(("model", "dataset"), OTHER_DATA)
def test_numbers_on_other_data_sets(model, dataset):
    assert re.search(rf"{OTHER_DATA[model, dataset]} on {dataset}", head(model))


# CoinCheung/BiSeNet, section 3.1: crop, scales, batch, processes, lr, decay, iterations, norm, window, short side.
BISENET = {
    ("bisenetv1", "cityscapes"): ([1024, 1024], [0.75, 2], 16, 2, 1e-2, 5e-4, 80_000, "local", [1024, 1024], None),
    ("bisenetv2", "cityscapes"): ([512, 1024], [0.25, 2], 16, 2, 5e-3, 5e-4, 150_000, "sync", [1024, 1024], None),
    ("bisenetv1", "cocostuff"): ([512, 512], [0.5, 2], 16, 4, 1e-2, 1e-4, 90_000, "sync", [512, 512], None),
    ("bisenetv2", "cocostuff"): ([640, 640], [0.75, 2], 16, 8, 5e-3, 1e-4, 180_000, "sync", [640, 640], None),
    ("bisenetv1", "ade20k"): ([512, 512], [0.5, 2], 64, 8, 4e-2, 1e-4, 40_000, "sync", [512, 512], 512),
    ("bisenetv2", "ade20k"): ([640, 640], [0.5, 2], 16, 8, 5e-3, 1e-4, 160_000, "sync", [640, 640], 640),
    # Sections 1.10 and 3.5.
    ("bisenetv1_2020", "cityscapes"): ([1024, 1024], [0.75, 2], 16, 2, 1e-2, 5e-4, 80_000, "local", [1024, 1024], None),
    ("bisenetv2_2020", "cityscapes"): ([512, 1024], [0.25, 2], 16, 2, 5e-2, 5e-4, 150_000, "local", [1024, 1024], None),
    ("bisenetv1_old", "cityscapes"): ([1024, 1024], [0.75, 2], 16, 2, 1e-2, 5e-4, 80_000, "sync", [1024, 1024], None),
    ("bisenetv1_diss", "cityscapes"): ([1024, 1024], [0.75, 2], 16, 2, 1e-2, 5e-4, 80_000, "sync", [1024, 1024], None),
    ("bisenetv2_old", "cityscapes"): ([512, 1024], [0.25, 2], 16, 2, 5e-2, 5e-4, 151_000, "sync", [1024, 1024], None),
}


@pytest.mark.parametrize(("model", "dataset"), BISENET)
def test_as_published_is_the_table_of_bisenet(model, dataset):
    found = recipe(model, dataset, as_published=True)
    train, evaluate = found["train"], found["evaluate"]
    names = ("crop", "scales", "batch_size", "world_size", "lr", "weight_decay", "iterations", "norm")
    assert (*(train[name] for name in names), evaluate["crop"], evaluate["start_shortside"]) == BISENET[model, dataset]
    common = {
        "momentum": 0.9, "warmup": 1000, "power": 0.9, "loss": "ohem", "ohem_threshold": 0.7, "auxiliary_weight": 1.0,
        "ohem_scope": "local", "optimizer": "sgd",
    }  # fmt: skip
    assert {name: train[name] for name in common} == common
    old = model.endswith(("_old", "_diss"))
    assert train["ohem_min_kept"] == ("crop" if old else "valid")
    assert train["precision"] == ("float32" if old else "fp16")
    assert train["head_lr_factor"] == (1 if model in ("bisenetv2_old", "bisenetv2_2020") else 10)
    assert evaluate["scales"] == [0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_old_bisenet_warms_up_from_further_down_and_has_imagenets_statistics():
    for model in ("bisenetv1_old", "bisenetv1_diss"):
        found = recipe(model, "cityscapes")
        assert found["train"]["warmup_ratio"] * found["train"]["lr"] == pytest.approx(1e-5)
        assert found["train"]["jitter"] == 0.5 and found["dataset"]["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("model", ["stdc1", "stdc2"])
def test_as_published_is_stdc(model):
    train = recipe(model, "cityscapes", as_published=True)["train"]
    published = {
        "crop": [512, 1024], "scales": [0.125, 1.5], "jitter": 0.5, "batch_size": 48, "world_size": 3, "lr": 1e-2,
        "weight_decay": 5e-4, "iterations": 60_000, "warmup": 1000, "warmup_ratio": 1e-3, "head_lr_factor": 10.0,
        "frozen_backbone_norms": True, "detail_fuse": "decaying", "detail_ignore": "as_published",
        "ohem_min_kept": "crop", "ohem_scope": "local", "auxiliary_weight": 1.0, "detail_weight": 1.0,
        "precision": "float32",
    }  # fmt: skip
    assert {name: train[name] for name in published} == published


# CSAILVision/semantic-segmentation-pytorch, section 5.3: epochs of 5000 iterations, images per GPU (of 8), encoder.
SCENE = {
    "mobilenetv2dilated_c1_deepsup": (20, 3, "mobilenet_v2.pth.tar"),
    "mobilenetv2dilated_ppm_deepsup": (20, 3, "mobilenet_v2.pth.tar"),
    "resnet18dilated8_c1_deepsup": (20, 2, "resnet18-imagenet.pth"),
    "resnet18dilated8_ppm_deepsup": (20, 2, "resnet18-imagenet.pth"),
    "resnet50dilated8_c1_deepsup": (20, 2, "resnet50-imagenet.pth"),
    "resnet50dilated8_ppm_deepsup": (20, 2, "resnet50-imagenet.pth"),
    "resnet101dilated8_ppm_deepsup": (25, 2, "resnet101-imagenet.pth"),
    "resnet50_upernet": (30, 2, "resnet50-imagenet.pth"),
    "resnet101_upernet": (40, 2, "resnet101-imagenet.pth"),
    "hrnetv2_c1": (30, 2, "hrnetv2_w48-imagenet.pth"),
}


@pytest.mark.parametrize("model", SCENE)
def test_as_published_is_the_table_of_scene_parsing(model):
    epochs, images, weights = SCENE[model]
    found = recipe(model, "ade20k", as_published=True)
    train = found["train"]
    published = {
        "iterations": 5000 * epochs, "sub_batch": images, "batch_size": 8 * images, "world_size": 8, "lr": 2e-2,
        "weight_decay": 1e-4, "head_lr_factor": 1.0, "warmup": 0, "power": 0.9, "momentum": 0.9, "jitter": 0.0,
        "short_sides": [300, 375, 450, 525, 600], "max_side": 1000, "loss": "cross_entropy", "norm": "sync",
        "auxiliary_weight": 0.4 if model.endswith("deepsup") else 0.0,
        # HRNetV2's norms have another momentum, and its numbers are younger than the padding's class.
        "running_average": model != "hrnetv2_c1",
        "padding_label": "as_published" if model == "hrnetv2_c1" else "ignore",
    }  # fmt: skip
    assert {name: train[name] for name in published} == published
    assert found["weights"]["url"].endswith(f"/pretrained_resnet/{weights}") and found["weights"]["name"] == weights
    assert found["dataset"]["mean"] == [0.485, 0.456, 0.406] and found["dataset"]["std"] == [0.229, 0.224, 0.225]


# Base rate at iteration 10,000 and in the middle (sections 4 of BiSeNet's description and 7 of STDC's).
RATES = {
    ("bisenetv1", "cityscapes"): {10_000: 8.96858e-3, 40_000: 5.41988e-3},
    ("bisenetv2", "cityscapes"): {10_000: 4.72735e-3, 75_000: 2.69561e-3},
    ("bisenetv1", "cocostuff"): {10_000: 9.08511e-3, 45_000: 5.41303e-3},
    ("bisenetv2", "cocostuff"): {10_000: 4.77316e-3, 90_000: 2.69290e-3},
    ("bisenetv1", "ade20k"): {10_000: 3.15872e-2, 20_000: 2.19295e-2},
    ("bisenetv2", "ade20k"): {10_000: 4.74455e-3, 80_000: 2.69460e-3},
    ("bisenetv1_old", "cityscapes"): {500: 3.16228e-4, 40_000: 5.41988e-3},
    ("bisenetv2_old", "cityscapes"): {10_000: 4.72917e-2, 75_500: 2.69550e-2},
    ("stdc1", "cityscapes"): {500: 3.16228e-4, 30_000: 5.44054e-3},
}


@pytest.mark.parametrize(("model", "dataset"), RATES)
def test_learning_rates_are_the_published_ones(model, dataset):
    train = recipe(model, dataset)["train"]
    shape = (train["iterations"], train["warmup"], train["warmup_ratio"], train["power"])
    for iteration, rate in RATES[model, dataset].items():
        assert train["lr"] * poly(iteration, *shape) == pytest.approx(rate, rel=2e-6)


def test_as_published_is_merged_last_and_overrides_come_after_it(tmp_path, monkeypatch):
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "defaults.yaml").write_text((FOLDER / "recipes/defaults.yaml").read_text())
    (recipes / "bisenetv2.yaml").write_text((FOLDER / "recipes/bisenetv2.yaml").read_text())
    (recipes / "mine.yaml").write_text(
        "base: bisenetv2\n"
        "as_published: {train: {jitter: 0.9, power: 0.5}}\n"
        "datasets: {minicity: {train: {jitter: 0.1}, as_published: {train: {power: 0.7, lr: 0.5}}}}\n"
    )
    (tmp_path / "datasets").symlink_to(FOLDER / "datasets")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    train = resolve(Params("mine", "minicity", override=Override(as_published=True, lr=0.25)))["train"]
    assert (train["jitter"], train["power"], train["lr"]) == (0.9, 0.7, 0.25)
    assert train["ohem_scope"] == "local", "the base's block counts too"
    assert resolve(Params("mine", "minicity"))["train"]["jitter"] == 0.1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"as_published": True, "finetune": "a.pt"}, "finetune and as_published contradict each other"),
        ({"as_published": True, "batch_size": 3}, "batch_size 3 cannot be shared evenly by the 2 processes"),
        ({"modes": "ss+sss"}, "unknown evaluation mode 'sss'"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
    ],
)
def test_overrides_that_contradict_each_other_are_refused_in_one_line(override, message):
    with pytest.raises(RecipeError, match=message) as caught:
        resolve(Params("bisenetv1", "cityscapes", override=Override(**override)))
    assert "\n" not in str(caught.value)


def test_a_recipe_without_the_block_cannot_be_had_as_published(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "datasets").symlink_to(FOLDER / "datasets")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / "recipes/defaults.yaml").write_text("train: {momentum: 0.9}\n")
    (tmp_path / "recipes/mine.yaml").write_text("train: {arch: bisenetv2}\n")
    with pytest.raises(RecipeError, match="recipe mine has no such block"):
        resolve(Params("mine", "minicity", override=Override(as_published=True)))


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("override", {"finetun": "a"}, r"override\.finetun: unknown key; did you mean 'finetune'"),
        ("override", {"as_published": "yes"}, r"override\.as_published: .*boolean.*'yes'"),
        ("override", {"trained_on": "val"}, r"override\.trained_on: .*'train' or 'trainval'.*'val'"),
        ("override", {"accumulate": 0}, r"override\.accumulate: .*greater than 0"),
        ("runtime", {"allow_world_size": 4}, r"runtime\.allow_world_size: .*boolean.*4"),
    ],
)
def test_misspelt_params_are_refused_in_one_line(section, value, message):
    with pytest.raises(RecipeError, match=message) as caught:
        validate(Params, {"model": "stdc1", "dataset": "minicity", section: value}, "params.yaml")
    assert "\n" not in str(caught.value)


class TestPage:
    """docs/reproduce-cityscapes.md says what the recipes say."""

    text = (FOLDER.parent / "docs/reproduce-cityscapes.md").read_text(encoding="utf-8")

    def test_its_commands_resolve(self):
        commands = re.findall(r"^dvc exp run .*$", self.text, re.MULTILINE)
        assert len(commands) > 10
        for command in commands:
            given = dict(re.findall(r"-S (\S+?)=(\S+)", command))
            override = {key.removeprefix("override."): given[key] for key in given if key.startswith("override.")}
            override.pop("finetune", None)  # the name of a run that only its reader has
            resolve(Params(given.get("model", "bisenetv2"), given["dataset"], override=Override(**override)))

    def test_every_row_of_a_table_has_its_command_and_its_recipes_length(self):
        rows = re.findall(
            r"^\| `(\w+)` \| (?:(ade20k|cocostuff) \| )?.* \| ([\d,]+) × (\d+) \|$", self.text, re.MULTILINE
        )
        assert {model for model, *_ in rows} == set(MODELS)
        for model, dataset, iterations, images in rows:
            where = dataset or "cityscapes"
            assert f"\ndvc exp run -n {model}-{where}-s1 -S model={model} -S dataset={where}\n" in self.text
            train = resolve(Params(model, where))["train"]
            assert (f"{train['iterations']:,}", str(train["batch_size"])) == (iterations, images), (model, where)

    @pytest.mark.parametrize("model", MODELS)
    def test_it_has_every_recipe_with_its_numbers(self, model):
        rows = [row for row in self.text.splitlines() if row.startswith(f"| `{model}` |")]
        numbers = re.findall(r"\d+\.\d\d", CARDS[model].published)
        assert any(all(number in row for number in numbers) for row in rows), numbers

    @pytest.mark.parametrize(("model", "dataset"), OTHER_DATA)
    def test_it_has_the_numbers_on_other_data_sets(self, model, dataset):
        names = {"ADE20K": "ade20k", "COCO-Stuff": "cocostuff"}
        assert f"| `{model}` | {names[dataset]} | {OTHER_DATA[model, dataset]} |" in self.text


def test_params_yaml_lists_every_switch():
    # `dvc exp run -S` changes only keys that stand there.
    content = read_yaml(FOLDER.parent / "params.yaml")
    for section, cls in (("override", Override), ("runtime", Runtime)):
        assert list(content[section]) == [field.name for field in dataclasses.fields(cls)]
