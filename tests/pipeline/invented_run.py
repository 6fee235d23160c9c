"""Outs of all stages before `report`, invented and tiny, for the tests of what comes after them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline import report
from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.labels import TABLES
from segcore.evaluate.confusion import confusion_matrix, iou, mean_accuracy, miou, pixel_accuracy
from segcore.evaluate.insight import Insight, Scene, write_insight
from segcore.evaluate.uncertainty import Counts
from segcore.files import sha256, write_csv, write_json

LABELS = TABLES["camvid"]
ABSENT = LABELS.names.index("bicyclist")
SPEED = [
    {"backend": "torch", "precision": "fp32", "size": [32, 64], "batch": 1, "status": "measured", "fps": 12.3456,
     "latency_ms": {"median": 81.0, "p90": 85.5, "p99": 91.2}, "samples": 40, "argmax_agreement": 1.0},
    {"backend": "openvino", "precision": "bf16", "size": [32, 64], "batch": 1, "status": "measured", "fps": 1234.5,
     "latency_ms": {"median": 0.81, "p90": 0.9, "p99": 1.4}, "samples": 400, "argmax_agreement": 0.9987},
    {"backend": "tensorrt", "precision": "fp16", "size": [32, 64], "batch": 1, "status": "not measured",
     "reason": "tensorrt is not installed"},
]  # fmt: skip


def scenes(count: int = 6, size: tuple[int, int] = (32, 64)) -> list[tuple[np.ndarray, np.ndarray]]:
    """Photographs and labels without the last class, some pixels ignored."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, ABSENT, (count, 4, 8), np.uint8)
    labels = [np.kron(grid, np.ones((size[0] // 4, size[1] // 8), np.uint8)) for grid in coarse]
    for label in labels:
        label[0, :5] = 255
    return [(rng.integers(0, 256, (*size, 3), np.uint8), label) for label in labels]


def spoiled(label: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A prediction that takes `share` of the label's area for something else; never the absent class."""
    wrong = cv2.resize(rng.random((6, 12), np.float32), label.shape[::-1]) < share
    filled = np.where(label == 255, 0, label)
    return np.where(wrong, (filled + 1) % ABSENT, filled).astype(np.uint8)


def score(mode: str, matrices: list[np.ndarray], protocol: dict) -> dict:
    total = sum(matrices)
    value, classes = miou(total)
    per_class = [None if np.isnan(x) else float(x) for x in iou(total)]
    return {
        "mode": mode, "protocol": protocol, "miou": value, "classes_averaged": classes,
        "pixel_accuracy": pixel_accuracy(total), "mean_accuracy": mean_accuracy(total),
        "iou": dict(zip(LABELS.names, per_class, strict=True)), "confusion": total.tolist(), "images": len(matrices),
    }  # fmt: skip


def make_run(
    root: Path, pictures: list | None = None, *, redistributable: bool = True, modes: tuple[str, ...] = ("ss", "msf")
) -> None:
    """Writes what the stages before `report` leave, under `root`."""
    pictures = pictures or scenes()
    names = [f"val/{index:06}" for index in range(len(pictures))]
    write_inputs(root, pictures, names, redistributable, modes)
    counts, rng = {"names": np.array(names)}, np.random.default_rng(1)
    insights = {mode: Insight(11) for mode in modes}
    for mode in modes:
        predictions = [spoiled(label, 0.12 + 0.05 * k, rng) for k, (_, label) in enumerate(pictures)]
        matrices = [confusion_matrix(label, p, 11) for p, (_, label) in zip(predictions, pictures, strict=True)]
        protocol = {"name": mode, "scales": [1.0] if mode == "ss" else [0.5, 1.0], "flip": mode != "ss", "crop": None,
                    "stride": None, "round_to": 32}  # fmt: skip
        write_json(root / f"work/evaluate/{mode}.json", score(mode, matrices, protocol))
        for name, prediction in zip(names, predictions, strict=True):
            write_png(root / f"work/evaluate/predictions/{mode}/{name}.png", prediction)
        for prediction, (_, label) in zip(predictions, pictures, strict=True):
            insights[mode].add(Scene.of(label), prediction)
        stack = np.stack(matrices)
        tp = np.einsum("nii->ni", stack)
        counts |= {f"{mode}_tp": tp, f"{mode}_fp": stack.sum(1) - tp, f"{mode}_fn": stack.sum(2) - tp}
    np.savez(root / "work/evaluate/images.npz", **counts)
    images = {mode: Counts(*(counts[f"{mode}_{kind}"] for kind in ("tp", "fp", "fn"))) for mode in modes}
    write_insight(root / "work/evaluate/insight", insights, images, names, LABELS.names)
    constant = [confusion_matrix(label, np.full_like(label, 3), 11) for _, label in pictures]
    write_json(root / "work/evaluate/majority.json", score("majority", constant, {}))


def write_inputs(root: Path, pictures: list, names: list[str], redistributable: bool, modes: tuple) -> None:
    for name, (image, label) in zip(names, pictures, strict=True):
        write_png(root / f"data/tiny/{name}.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_png(root / f"data/tiny/{name}_label.png", np.where(label == 255, 11, label).astype(np.uint8))
    lists = root / "work/annotations"
    lists.mkdir(parents=True)
    LABELS.write_csv(lists / "labels.csv")
    (lists / "root").write_text("tiny")
    for split in ("train", "val"):
        (lists / f"{split}.csv").write_text("".join(f"{name}.png,{name}_label.png\n" for name in names))
    write_csv(root / "work/fetch/files.csv", ("path", "size", "crc32"), [("a.png", 3, "00ff00ff")])
    write_json(root / "work/weights/receipt.json", {"pretrained": "none"})
    steps = range(10, 310, 10)
    curve = [(i, 1e-3 * (1 - i / 310), 3 * np.exp(-i / 120) + 0.4, 2 * np.exp(-i / 120) + 0.3, 0.2, 0.0) for i in steps]
    write_csv(root / "work/train/curve.csv", ("iteration", "lr", "loss", "main", "auxiliary", "detail"), curve)
    write_json(root / "work/train/run.json", {
        "seconds": 172.4, "images_per_second": 13.9, "host": "secret-host", "device": "Xeon, 2 threads",
        "date": "2031-05-06", "python": "3.11.7", "torch": "2.12.1", "resumed_from": 0, "iterations": 300,
        "parameters": 3341234,
    })  # fmt: skip
    origin = {"params": "aa11", "data": "bb22", "code": "cc33", "seed": 1, "torch": "2.12.1"}
    state, statistics = {"weight": torch.zeros(2)}, {"mean": [0.5] * 3, "std": [0.25] * 3}
    save_model_file(root / "work/train/model.pt", ModelFile("bisenetv2", 11, state, statistics, LABELS, {}, origin))
    device = {
        "slug": "xeon-2-threads", "cpu": "Xeon 8481C", "gpu": None, "threads": 2, "os": "Linux 6.1",
        "torch": "2.12.1", "load_before": 0.1, "loaded": False, "date": "2031-05-06",
    }  # fmt: skip
    graph = {"output": "argmax", "checkpoint_sha256": sha256(root / "work/train/model.pt")}
    write_json(root / "work/benchmark.json", {"device": device, "graph": graph, "results": SPEED})
    recipe = {
        "dataset": {
            "name": "tiny", "labels": "camvid", "num_classes": 11, "label_digest": LABELS.digest, **statistics,
        },
        "about": {"title": "Tiny City", "redistributable": redistributable},
        "train": {
            "arch": "bisenetv2", "lr": 1e-3, "crop": [24, 32], "batch_size": 8, "iterations": 300, "code": "c0de",
        },
        "evaluate": {"modes": list(modes), "code": "e1"},
    }  # fmt: skip
    params = {"model": "bisenetv2", "dataset": "tiny", "seed": 1, "override": {"lr": None, "modes": None}}
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    (root / "params.yaml").write_text(json.dumps(params))


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


def run_report() -> tuple[str, str]:
    """Runs the stage; the HTML and the Markdown page."""
    with pytest.raises(SystemExit) as exit:
        report.main()
    assert not exit.value.code
    return tuple(Path(f"work/report/report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md"))


def edit(path: str, **changes: object) -> None:
    """Changes keys of a JSON file."""
    write_json(Path(path), {**json.loads(Path(path).read_text()), **changes})


def edit_recipe(section: str, **changes: object) -> None:
    """Changes keys of a section of recipe.yaml."""
    recipe = json.loads(Path("recipe.yaml").read_text())
    recipe[section] |= changes
    Path("recipe.yaml").write_text(json.dumps(recipe))


def metrics(name: str) -> dict:
    """A JSON file of metrics/."""
    return json.loads(Path(f"metrics/{name}.json").read_text())


def table(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of metrics/."""
    with open(f"metrics/{name}.csv", newline="") as file:
        return list(csv.DictReader(file))
