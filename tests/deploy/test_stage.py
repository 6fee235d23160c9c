"""The benchmark stage: a trained model and a recipe in, work/benchmark.json out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline import benchmark as benchmark_stage
from pipeline.settings import write_yaml
from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.labels import TABLES
from segcore.data.store import Checksums, write_files
from segcore.deploy import benchmark as module
from segcore.files import sha256
from segcore.models import build_model

DATASET = {"name": "tiny", "labels": "camvid", "num_classes": 11, "label_digest": "0"}
STATISTICS = {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
BENCHMARK = {"sizes": [[32, 64]], "backends": ["torch", "tensorrt"], "seconds": 0.05, "warmup": 0.01, "code": "0"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with everything the stage depends on, as working folder."""
    for name in ("SEGCORE_DATA", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    lock = module.machine_lock
    monkeypatch.setattr(module, "machine_lock", lambda: lock(path=tmp_path / "lock"))

    store, lists, rng = tmp_path / "data/tiny", tmp_path / "work/annotations", np.random.default_rng(0)
    for folder in (store / "labels", lists):
        folder.mkdir(parents=True)
    names = [f"{k}.png" for k in range(6)]
    for name in names:
        cv2.imwrite(str(store / name), rng.integers(0, 256, (48, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(store / "labels" / name), rng.integers(0, 11, (48, 96), dtype=np.uint8))
    checksums = Checksums(store, tmp_path / "memory.csv")
    write_files(tmp_path / "work/fetch/files.csv", map(checksums.of, [*names, *(f"labels/{n}" for n in names)]))
    for part, chosen in (("val", names[:2]), ("train", names[2:])):
        (lists / f"{part}.csv").write_text("".join(f"{name},labels/{name}\n" for name in chosen))
    TABLES["camvid"].write_csv(lists / "labels.csv")

    torch.manual_seed(0)
    weights = build_model("bisenetv2", 11, auxiliary=True).state_dict()
    save_model_file(tmp_path / "work/train/model.pt", ModelFile("bisenetv2", 11, weights, STATISTICS, TABLES["camvid"]))
    write_yaml(tmp_path / "params.yaml", "", {"model": "bisenetv2", "dataset": "tiny", "runtime": {"devices": "cpu"}})
    write_yaml(tmp_path / "recipe.yaml", "", {"dataset": DATASET | STATISTICS, "benchmark": BENCHMARK})
    return tmp_path


def run() -> int:
    with pytest.raises(SystemExit) as ended:
        benchmark_stage.main()
    return ended.value.code or 0


def test_sheet_has_the_promised_form(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    result = json.loads((project / "work/benchmark.json").read_text())
    assert list(result) == ["device", "graph", "results"]
    assert set(result["device"]) == {
        *("slug", "cpu", "gpu", "threads", "os", "python", "torch", "onnxruntime", "openvino"),
        *("load_before", "loaded", "date"),
    }
    assert result["graph"] == {
        "model": "bisenetv2",
        "output": "argmax",
        "checkpoint_sha256": sha256(project / "work/train/model.pt"),
        "input": "float32 N×3×H×W in memory",
    }
    measured, missing = result["results"]
    assert (measured["backend"], measured["status"], measured["size"]) == ("torch", "measured", [32, 64])
    assert list(measured["latency_ms"]) == ["median", "p90", "p99", "min", "mean", "std"]
    assert (missing["backend"], missing["status"]) == ("tensorrt", "not measured")
    assert f"{measured['fps']:.1f} fps" in capsys.readouterr().out


def test_changed_images_are_refused_before_anything_is_timed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/tiny/3.png").write_bytes(b"something else")
    assert run() == 1
    assert "3.png" in capsys.readouterr().err
    assert not (project / "work/benchmark.json").exists()
