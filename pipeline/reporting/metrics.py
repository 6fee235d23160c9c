"""The small numbers that git keeps under metrics/.

Equal runs write equal files: nothing here holds a time or a date, except that frames per second are what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.reporting.inputs import Run
from pipeline.settings import FILES, WEIGHTS
from segcore.files import digest, sha256, write_csv, write_json
from segcore.visualize import row_shares

STAGES = ("resolve", "fetch", "annotations", "weights", "train", "evaluate", "benchmark", "report")


def write_metrics(run: Run, folder: Path) -> None:
    """Writes evaluate.json, benchmark.json, train.json, iou.csv, confusion.csv and provenance.json."""
    write_json(folder / "evaluate.json", evaluate_metrics(run))
    write_json(folder / "benchmark.json", benchmark_metrics(run))
    write_json(folder / "train.json", train_metrics(run))
    write_json(folder / "provenance.json", provenance(run))
    write_csv(folder / "iou.csv", ("class", "iou", "mode"), iou_rows(run))
    write_csv(folder / "confusion.csv", ("actual", "predicted", "share"), confusion_rows(run))


def evaluate_metrics(run: Run) -> dict[str, Any]:
    """Fractions with 6 decimals by mode; a mode that was not scored is absent."""
    metrics: dict[str, Any] = {
        name: {mode: round(score[name], 6) for mode, score in run.scores.items()} for name in ("miou", "pixel_accuracy")
    }
    if run.mode:
        metrics["classes_averaged"] = run.scores[run.mode]["classes_averaged"]
    return metrics


def benchmark_metrics(run: Run) -> dict[str, Any]:
    """Frames per second with 3 significant digits under the device they were measured on, and the engines' own mIoU.

    Measured rows only; `miou` is absent where no engine was scored.
    """
    slug = run.speed["device"]["slug"]
    rows = {speed_key(row): float(f"{row['fps']:.3g}") for row in measured(run)}
    scores = {speed_key(row): round(row["miou"], 6) for row in measured(run) if "miou" in row}
    return {"fps": {slug: rows}} | ({"miou": {slug: scores}} if scores else {})


def measured(run: Run) -> list[dict[str, Any]]:
    """The rows of the benchmark that carry a number."""
    return [row for row in run.speed["results"] if row["status"] == "measured"]


def speed_key(row: dict[str, Any]) -> str:
    """`<backend>_<precision>_<H>x<W>_b<batch>`."""
    height, width = row["size"]
    return f"{row['backend']}_{row['precision']}_{height}x{width}_b{row['batch']}"


def train_metrics(run: Run) -> dict[str, Any]:
    """Size of the training, its last loss (the mean since the row before), and the score to beat."""
    return {
        "iterations": run.training["iterations"],
        "batch_size": run.recipe["train"]["batch_size"],
        "images": run.training_images,
        "pretrained": run.receipt["pretrained"],
        "parameters": run.training["parameters"],
        "final_loss": round(float(run.curve["loss"][-1]), 6),
        "final_lr": float(f"{run.curve['lr'][-1]:.6g}"),
        # mIoU of the per-pixel majority map of the training labels: what can be had without looking at the image.
        "majority_miou": round(run.baseline["miou"], 6) if run.baseline else None,
    }


def iou_rows(run: Run) -> Iterator[tuple[str, float, str]]:
    """(class, IoU, mode); a class absent from labels and predictions has no row."""
    for mode, score in run.scores.items():
        yield from ((name, round(iou, 6), mode) for name, iou in score["iou"].items() if iou is not None)


def confusion_rows(run: Run) -> Iterator[tuple[str, str, float]]:
    """(class of the label, predicted class, share of the label's pixels) of the first mode."""
    if not run.mode:
        return
    shares, names = row_shares(run.confusion), run.labels.names
    for row, column in np.ndindex(shares.shape):
        if not np.isnan(shares[row, column]):
            yield names[row], names[column], round(float(shares[row, column]), 6)


def provenance(run: Run) -> dict[str, Any]:
    """What the numbers came from: parameters, digests, commands, versions, devices."""
    device = run.speed["device"]
    return {
        "params": run.params,
        "digests": digests(run),
        "model_file": run.origin,
        "weights": {key: run.receipt[key] for key in ("pretrained", "url", "sha256") if key in run.receipt},
        "commands": commands(run),
        "versions": versions(run),
        "training_device": run.training.get("device"),
        "benchmark_device": {key: device.get(key) for key in ("slug", "cpu", "gpu", "threads")},
    }


def versions(run: Run) -> dict[str, str]:
    """Versions of what the training ran on."""
    return {name: run.training[name] for name in ("python", "torch") if name in run.training}


def digests(run: Run) -> dict[str, Any]:
    """sha256 of model file, files.csv and weights receipt; digests of parameters, label table and stages' code."""
    code = {name: part["code"] for name, part in run.recipe.items() if isinstance(part, dict) and "code" in part}
    return {
        "checkpoint": run.checkpoint,
        "params": digest(run.params),
        "data": sha256(FILES),
        "weights": sha256(WEIGHTS / "receipt.json"),
        "labels": run.labels.digest,
        "code": code,
    }


def experiment_name(chosen: Mapping[str, Any]) -> str:
    """`<model>-<dataset>-s<seed>`, and every override, so that two runs never share a name."""
    overrides = [f"{key}-{value}" for key, value in chosen["override"].items()]
    return "-".join([chosen["model"], chosen["dataset"], f"s{chosen['seed']}", *overrides])


def commands(run: Run) -> dict[str, Any]:
    """What to type to have it all again, as an experiment, or stage by stage."""
    model, dataset, seed, override = (run.params[key] for key in ("model", "dataset", "seed", "override"))
    settings = {"model": model, "dataset": dataset, "seed": seed, **{f"override.{k}": v for k, v in override.items()}}
    chosen = " ".join(f"-S {key}={value}" for key, value in settings.items())
    return {
        "again": "dvc repro",
        "experiment": f"dvc exp run -n {experiment_name(run.params)} {chosen}",
        "stages": [f"python -m pipeline.{stage}" for stage in STAGES],
    }
