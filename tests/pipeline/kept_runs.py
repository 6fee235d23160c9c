"""Invented folders of docs/results/."""

from __future__ import annotations

from pathlib import Path

from pipeline.reporting.speed import BUSY
from pipeline.tables.runs import kept_name
from segcore.files import write_csv, write_json


def keep_run(
    results: Path,
    model: str = "bisenetv2",
    dataset: str = "cityscapes",
    seed: int = 1,
    *,
    miou: dict[str, float] | None = None,
    fps: dict[str, dict[str, float]] | None = None,
    override: dict | None = None,
    code: str = "c0de",
    engines: dict[str, dict[str, float]] | None = None,
    busy: bool = False,
) -> Path:
    """A kept run with scores in per cent by mode, and frames per second and scores of engines by device and key."""
    miou = {"ss": 74.0} if miou is None else miou
    params = {"model": model, "dataset": dataset, "seed": seed, "override": override or {}}
    folder = results / kept_name(params)
    scores = {mode: value / 100 for mode, value in miou.items()}
    accuracy = {mode: value / 100 + 0.2 for mode, value in miou.items()}
    write_json(folder / "evaluate.json", {"miou": scores, "pixel_accuracy": accuracy, "classes_averaged": 2})
    write_json(folder / "benchmark.json", {"fps": fps or {}} | ({"miou": engines} if engines else {}))
    write_json(folder / "train.json", {
        "iterations": 100, "batch_size": 4, "pretrained": "none", "majority_miou": 0.1, "parameters": 1,
    })  # fmt: skip
    digests = {
        "checkpoint": f"{seed:064}", "data": "da7a" * 16, "labels": "1abe1", "code": {"train": code, "evaluate": "e"},
    }  # fmt: skip
    commands = {"experiment": f"dvc exp run -n {folder.name}"}
    write_json(folder / "provenance.json", {
        "params": params, "digests": digests, "commands": commands, "training_device": "a CPU",
    })  # fmt: skip
    rows = [
        (name, value + shift, mode) for mode, value in scores.items() for name, shift in (("road", 0.1), ("sky", 0))
    ]
    write_csv(folder / "iou.csv", ("class", "iou", "mode"), rows)
    (folder / "report.md").write_text(BUSY if busy else "# A report\n")
    return folder
