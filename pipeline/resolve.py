"""params.yaml and the recipes in; recipe.yaml out: the one resolved recipe that the other stages depend on.

Layers, each over the one before: recipes/defaults.yaml, the data set's own sections, the recipe's `base` chain, the
recipe, the recipe's part for this data set, where asked for its blocks `as_published`, and `override`. Every name, type
and range is checked here, before anything is downloaded.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline.digest import code_digest
from pipeline.finetune import WeightsSection, identify
from pipeline.settings import (
    RECIPE,
    About,
    DatasetInfo,
    Params,
    label_table,
    params,
    read_yaml,
    stage,
    validate,
    write_yaml,
)
from segcore.checkpoint import plain
from segcore.data.sources import DataRecipe
from segcore.data.statistics import IMAGENET
from segcore.deploy.recipe import BenchmarkRecipe
from segcore.errors import RecipeError, did_you_mean
from segcore.evaluate import EvaluateRecipe
from segcore.models import family
from segcore.recipe import TrainRecipe

FOLDER = Path(__file__).parent
SECTIONS = {
    "about": About,
    "dataset": DatasetInfo,
    "data": DataRecipe,
    "weights": WeightsSection,
    "train": TrainRecipe,
    "evaluate": EvaluateRecipe,
    "benchmark": BenchmarkRecipe,
}
# The stages whose code a section's results depend on.
STAGES = {
    "data": ("pipeline.fetch", "pipeline.annotations"),
    "weights": ("pipeline.weights",),
    "train": ("pipeline.train",),
    "evaluate": ("pipeline.evaluate",),
    "benchmark": ("pipeline.benchmark",),
}
USES_THE_NETWORK = ("train", "evaluate", "benchmark")
HEAD = """\
# Written by `python -m pipeline.resolve` from params.yaml and pipeline/recipes/; edit those, not this file.
"""


def resolve(wanted: Params) -> dict[str, Any]:
    """The recipe for what params.yaml asks for, checked, with code digests, as plain containers.

    Raises:
        RecipeError: names what is wrong and the nearest known name.
    """
    merged = _merged(wanted)
    merged = merge(merged, _override(wanted, merged))
    merged["data"] = merge(merged.get("data") or {}, _own_statistics(wanted.dataset))
    merged["dataset"] = _dataset_info(wanted.dataset, merged.get("dataset") or {})
    for name in merged:
        if name not in SECTIONS:
            raise RecipeError(f"recipe {wanted.model}: unknown section {name!r}; {did_you_mean(name, SECTIONS)}")
    checked = {name: validate(cls, merged.get(name) or {}, name) for name, cls in SECTIONS.items()}
    _refuse_uneven_shares(checked["train"])
    resolved = {name: plain(value) for name, value in checked.items()}
    network = f"segcore.models.{family(checked['train'].arch)}"
    for name, stages in STAGES.items():
        resolved[name]["code"] = code_digest([*stages, *([network] if name in USES_THE_NETWORK else [])], FOLDER.parent)
    return resolved


def _merged(wanted: Params) -> dict[str, Any]:
    """All layers but `override`, merged."""
    dataset = _layer("datasets", wanted.dataset)
    layers = [_layer("recipes", "defaults"), dataset, *_chain(wanted.model)]
    layers += [layer.pop("datasets", {}).get(wanted.dataset, {}) for layer in layers]
    published = [layer.pop("as_published", {}) for layer in layers]
    if wanted.override.as_published:
        if not any(published):
            raise RecipeError(f"override.as_published: recipe {wanted.model} has no such block; leave it empty")
        layers += published
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    merged.pop("base", None)
    return merged


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mapping by mapping; lists and scalars are replaced."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def _chain(model: str, above: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    if model in above:
        raise RecipeError(f"recipes/{model}.yaml: its `base` chain comes back to itself")
    recipe = _layer("recipes", model)
    base = recipe.get("base")
    return [*(_chain(base, (*above, model)) if base else []), recipe]


def _layer(kind: str, name: str) -> dict[str, Any]:
    known = _known(kind)
    if name not in known and name != "defaults":
        what = {"recipes": "model", "datasets": "dataset"}[kind]
        raise RecipeError(f"params.yaml: unknown {what} {name!r}; {did_you_mean(name, known)}")
    layer = read_yaml(FOLDER / kind / f"{name}.yaml")
    where = f"{kind}/{name}.yaml"
    parts = _sections(layer.get("datasets", {}), f"{where}: datasets")
    for dataset, part in parts.items():
        if dataset not in _known("datasets"):
            raise RecipeError(f"{where}: unknown data set {dataset!r}; {did_you_mean(dataset, _known('datasets'))}")
        _sections(part, f"{where}: datasets.{dataset}")
        _sections(part.get("as_published", {}), f"{where}: datasets.{dataset}.as_published")
    _sections({key: value for key, value in layer.items() if key != "base"}, where)
    _sections(layer.get("as_published", {}), f"{where}: as_published")
    return layer


def _known(kind: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / kind).glob("*.yaml") if path.stem != "defaults")


def _sections(content: Any, where: str) -> dict[str, Any]:
    """`content`, known to be a mapping of mappings."""
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: must hold sections, got {content!r}")
    for key, value in content.items():
        if not isinstance(value, dict):
            raise RecipeError(f"{where}.{key}: must hold `key: value` lines, got {value!r}")
    return content


def _override(wanted: Params, merged: dict[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in plain(wanted.override).items() if value is not None}
    modes, source, as_published = (given.pop(key, None) for key in ("modes", "finetune", "as_published"))
    if source and as_published:
        raise RecipeError("override: finetune and as_published contradict each other: no published training does both")
    warmup = merged.get("train", {}).get("warmup")
    if isinstance(warmup, int) and given.get("iterations", math.inf) <= warmup:
        # A trial run shorter than the warm-up would never reach its learning rate.
        given["warmup"] = given["iterations"] // 10
    evaluate = {"modes": modes.split("+")} if modes else {}
    # A whole network takes the place of the backbone, which is then not fetched.
    weights = {"name": "none", "url": "", "sha256": "", "finetune": plain(identify(source))} if source else {}
    return {"train": given, "evaluate": evaluate, "weights": weights}


def _refuse_uneven_shares(train: TrainRecipe) -> None:
    if train.batch_size % (train.world_size or 1):
        raise RecipeError(
            f"train.batch_size {train.batch_size} cannot be shared evenly by the {train.world_size} processes that the "
            "recipe asks for; give another override.batch_size"
        )


def _own_statistics(name: str) -> dict[str, Any]:
    """The data set's, whatever the model's recipe normalises with: data stages must not depend on the model."""
    own = _layer("datasets", name).get("dataset") or {}
    return {"statistics": {key: own[key] for key in ("mean", "std")}} if {"mean", "std"} <= own.keys() else {}


def _dataset_info(name: str, given: dict[str, Any]) -> dict[str, Any]:
    table = label_table(name, str(given.get("labels")))
    if not {"mean", "std"} & given.keys():
        print(f"datasets/{name}.yaml: no mean and std; ImageNet's are taken, which suit photographs by daylight only")
        given = {**given, "mean": list(IMAGENET.mean), "std": list(IMAGENET.std)}
    return {**given, "name": name, "num_classes": table.num_classes, "label_digest": table.digest}


@stage
def main() -> None:
    """Writes recipe.yaml."""
    write_yaml(RECIPE, HEAD, resolve(params()))


if __name__ == "__main__":
    main()
