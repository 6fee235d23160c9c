"""Everything the report is about, read from what the other stages left."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.settings import (
    BENCHMARK,
    EVALUATE,
    LISTS,
    RECIPE,
    TRAIN,
    WEIGHTS,
    About,
    DatasetInfo,
    Params,
    image_root,
    params,
    read_yaml,
    section,
)
from segcore.checkpoint import load_model_file
from segcore.data.datasets import Samples, read_list
from segcore.data.labels import LabelTable
from segcore.errors import DataError
from segcore.files import sha256

BASELINE = "majority"


@dataclass(frozen=True)
class Run:
    """One run: `scores` by mode in the recipe's order, `counts` per image and mode, `speed` as benchmarked."""

    params: dict[str, Any]
    about: About
    data: DatasetInfo
    recipe: dict[str, Any]
    training: dict[str, Any]
    curve: dict[str, np.ndarray]
    receipt: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    baseline: dict[str, Any] | None
    counts: Mapping[str, np.ndarray]
    speed: dict[str, Any]
    origin: dict[str, Any]

    @property
    def mode(self) -> str | None:
        """The mode whose numbers stand first: the first one of the recipe that was scored."""
        return next(iter(self.scores), None)

    @cached_property
    def labels(self) -> LabelTable:
        """The label table the run was trained and scored with."""
        return LabelTable.read_csv(LISTS / "labels.csv")

    @cached_property
    def validation(self) -> Samples:
        """The scored images; the files themselves may not be on this machine."""
        return Samples.read(LISTS / "val.csv", image_root(self.data.name))

    @cached_property
    def training_images(self) -> int:
        """How many images were trained on."""
        return len(read_list(LISTS / f"{self.recipe['train'].get('trained_on', 'train')}.csv"))

    @cached_property
    def confusion(self) -> np.ndarray:
        """The first mode's confusion matrix, int64 C×C (rows label, columns prediction)."""
        return np.array(self.scores[self.mode]["confusion"], np.int64)

    @cached_property
    def checkpoint(self) -> str:
        """sha256 of the scored model file."""
        return sha256(TRAIN / "model.pt")

    def prediction_path(self, name: str) -> Path:
        """The first mode's prediction for an image of the validation list."""
        return EVALUATE / "predictions" / self.mode / f"{name}.png"


def read_run() -> Run:
    """Reads the outs of all stages under the current folder.

    Raises:
        DataError: one of them is missing or is no JSON; the message names the stage that makes it.
    """
    recipe = read_yaml(RECIPE)
    return Run(
        params=_decisive(params()),
        about=section("about", About),
        data=section("dataset", DatasetInfo),
        recipe=recipe,
        training=_json(TRAIN / "run.json", "train"),
        curve=_curve(TRAIN / "curve.csv"),
        receipt=_json(WEIGHTS / "receipt.json", "weights"),
        scores=_scores(recipe["evaluate"]["modes"]),
        baseline=_optional_json(EVALUATE / f"{BASELINE}.json"),
        counts=_counts(EVALUATE / "images.npz"),
        speed=_json(BENCHMARK, "benchmark"),
        origin=load_model_file(TRAIN / "model.pt").provenance,
    )


def _decisive(chosen: Params) -> dict[str, Any]:
    """What the result depends on, with only those overrides that are given."""
    given = {key: value for key, value in asdict(chosen.override).items() if value is not None}
    return {"model": chosen.model, "dataset": chosen.dataset, "seed": chosen.seed, "override": given}


def _json(path: Path, stage: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"{path} is not there; `dvc repro {stage}` makes it") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is damaged ({error}); `dvc repro -f {stage}` makes it anew") from None


def _optional_json(path: Path) -> dict[str, Any] | None:
    return _json(path, "evaluate") if path.exists() else None


def _scores(modes: list[str]) -> dict[str, dict[str, Any]]:
    return {mode: score for mode in modes if (score := _optional_json(EVALUATE / f"{mode}.json"))}


def _counts(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _curve(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        raise DataError(f"{path} is not there; `dvc repro train` makes it") from None
    if not rows:
        raise DataError(f"{path} has no row; `dvc repro -f train` trains again")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
