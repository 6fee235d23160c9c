"""All kept runs as tables of pandas: one row a measurement, and one row a network with the mean over its seeds.

Seeds are averaged, never chosen from. Whatever else differs from the recipe makes a `setting` whose runs stand alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.tables.runs import Run

COLUMNS = (
    "dataset", "model", "setting", "seed", "run", "metric", "key", "device", "value", "busy", "basis",
)  # fmt: skip
GROUP = ["dataset", "model", "setting"]
NUMBER = [*GROUP, "metric", "key", "device"]
ENGINE = "engine_miou"  # mIoU of an exported engine, by the name and device of its speed
# Overrides that change what is scored, not what is trained.
NO_SETTING = ("modes",)


def setting(override: Mapping[str, Any]) -> str:
    """In what a training differs from its recipe, in words; empty where it does not."""
    given = {key: value for key, value in override.items() if key not in NO_SETTING}
    return ", ".join(key if value is True else f"{key} {value}" for key, value in given.items())


def measurements(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a number: accuracies in per cent by mode (`key`), fps and mIoU of engines by backend (`key`) and device.

    A training that was scored twice, in other modes, counts once for each of them.
    """
    rows = [row for run in sorted(runs, key=lambda run: (len(run.name), run.name)) for row in _rows(run)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.drop_duplicates([*NUMBER, "seed"]).sort_values([*GROUP, "seed"], kind="stable", ignore_index=True)


def _rows(run: Run) -> Iterator[tuple[Any, ...]]:
    params = run.params
    start = (params["dataset"], params["model"], setting(params["override"]), params["seed"], run.name)
    for metric, values in accuracies(run.scores).items():
        yield from ((*start, metric, mode, "", value, False, run.basis) for mode, value in values.items())
    for device, scores in run.engines.items():
        yield from ((*start, ENGINE, key, device, 100 * value, False, run.basis) for key, value in scores.items())
    for device, speeds in run.fps.items():
        yield from ((*start, "fps", key, device, value, run.busy, run.basis) for key, value in speeds.items())


def accuracies(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """`miou`, `pixel_accuracy` and their mean, the `overall` score of ADE20K's benchmark, in per cent by mode."""
    found = {
        metric: {mode: 100 * value for mode, value in scores[metric].items()} for metric in ("miou", "pixel_accuracy")
    }
    overall = {mode: (found["miou"][mode] + value) / 2 for mode, value in found["pixel_accuracy"].items()}
    return {**found, "overall": overall}


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a number of a network: `mean` over the `n` seeds, sample `std` (none for one), and all `values`.

    `mixed` says that the runs do not share images, labels or code, so that their mean is of different things.
    """
    if frame.empty:
        return pd.DataFrame(columns=[*NUMBER, "mean", "std", "n", "values", "seeds", "busy", "mixed"])
    groups = frame.groupby(NUMBER, sort=False)
    return groups.agg(
        mean=("value", "mean"),
        std=("value", "std"),
        n=("value", "size"),
        values=("value", tuple),
        seeds=("seed", tuple),
        busy=("busy", "any"),
        mixed=("basis", lambda values: values.nunique() > 1),
    ).reset_index()
