"""`segcore benchmark`: one file, two files, published protocols, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from segcore.__main__ import main
from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.labels import TABLES
from segcore.deploy import benchmark as module
from segcore.deploy import protocols
from segcore.deploy.deliver import export
from segcore.deploy.metadata import GraphShape
from segcore.models import build_model

SMALL = ["--size", "32x64", "--seconds", "0.01", "--device", "cpu", "--json"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file, and lists of pictures of 48×96."""
    lock, rng, labels = module.machine_lock, np.random.default_rng(0), TABLES["camvid"]
    monkeypatch.setattr(module, "machine_lock", lambda: lock(path=tmp_path / "lock"))
    monkeypatch.setattr(module, "_others_are_busy", lambda: False)
    torch.manual_seed(0)
    statistics = {"mean": [0.4] * 3, "std": [0.2] * 3}
    weights = build_model("bisenetv2", 11, auxiliary=True).state_dict()
    save_model_file(tmp_path / "model.pt", ModelFile("bisenetv2", 11, weights, statistics, labels))
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, (48, 96, 3), dtype=np.uint8))
        cv2.imwrite(str(tmp_path / f"{name}_label.png"), rng.integers(0, 11, (48, 96), dtype=np.uint8))
    for part, names in (("val", "a"), ("train", "bc")):
        (tmp_path / f"{part}.csv").write_text("".join(f"{name}.png,{name}_label.png\n" for name in names))
    labels.write_csv(tmp_path / "labels.csv")
    (tmp_path / "root").write_text(".")
    return tmp_path


def sheet(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert main(["benchmark", *map(str, words), *SMALL]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["benchmark", *map(str, words)]) == 1
    return capsys.readouterr().err


def test_every_time_holds_the_one_before_it_and_the_score_stands_beside(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--weights", folder / "model.pt", "--backend", "torch", "--list", folder / "val.csv")
    (row,) = sheet(capsys, *words, "--root", folder)["results"]
    assert row["status"] == "measured" and row["argmax_agreement"] > 0.999
    assert list(row["times_ms"]) == ["network", "classes", "copies", "encoded"]
    assert row["miou_images"] == 1 and 0 <= row["miou"] < 0.2
    assert abs(row["miou_lost"]) < 0.001


def test_two_files_are_timed_in_turns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sheet(capsys, "--weights", folder / "model.pt", folder / "model.pt", "--backend", "torch")
    (line,) = found["versus"]
    low, high = line["speedup_range"]
    assert low <= line["speedup"] <= high and line["rounds"] == 8
    assert len(line["median_ms"]) == 2


def test_published_protocol_counts_its_own_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "COINCHEUNG_RUNS", 3)
    words = ("--weights", folder / "model.pt", "--backend", "torch", "--protocol", "coincheung")
    (row,) = sheet(capsys, *words)["results"]
    assert row["samples"] == 3 and list(row["latency_ms"]) == ["mean"]
    assert row["fps"] == pytest.approx(1000 / row["latency_ms"]["mean"], rel=0.01)


def test_fasterseg_doubles_its_count_until_a_second_is_over() -> None:
    clock = SimpleNamespace(now=0.0, runs=0)

    def run() -> None:
        clock.now, clock.runs = clock.now + 1 / 256, clock.runs + 1

    count, seconds = protocols.fasterseg(run, lambda: clock.now, in_torch=False)
    # 10 to warm up; loops of 100, 200 and 400, of which the last takes 1.5625 s; then 3 × 800 / 1.5625 s.
    assert (count, clock.runs) == (1536, 10 + 700 + 1536)
    assert seconds == pytest.approx(6.0)


def test_wrong_use_has_its_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ("--weights", folder / "model.pt")
    assert "int8 is calibrated on training images: give their list with --calibration" in refusal(
        capsys, *model, "--precision", "int8"
    )
    assert "is of batch 1; leave out --batch" in refusal(capsys, *model, "--protocol", "fasterseg", "--batch", 4)
    assert "one file, or two to compare; got 3" in refusal(capsys, *model, "x.onnx", "y.onnx")
    val = ("--precision", "int8", "--calibration", folder / "val.csv", "--root", folder)
    assert "is named as a list to score on" in refusal(capsys, *model, *val)
    assert "no such file" in refusal(capsys, "--weights", folder / "nowhere.onnx")
    (folder / "broken.onnx").write_bytes(b"no graph")
    assert "damaged" in refusal(capsys, "--weights", folder / "broken.onnx")


@pytest.mark.slow
def test_an_exported_file_is_timed_as_it_is_and_by_those_who_read_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "net.onnx"
    export(folder / "model.pt", path, GraphShape("argmax", size=(32, 64)))
    capsys.readouterr()
    words = ("--weights", path, "--backend", "torch", "onnxruntime", "--list", folder / "val.csv", "--root", folder)
    torch_row, row = sheet(capsys, *words)["results"]
    assert torch_row["reason"] == "torch does not read net.onnx; onnxruntime and openvino can"
    assert row["status"] == "measured" and row["argmax_agreement"] is None
    assert list(row["times_ms"]) == ["classes", "copies", "encoded"]
    assert row["miou_images"] == 1 and row["file_mb"] == pytest.approx(path.stat().st_size / 1e6, abs=0.001)
    assert main(["benchmark", "--weights", str(path), "--size", "32x64", "--precision", "int8", "--json"]) == 0
    assert {row["reason"] for row in json.loads(capsys.readouterr().out)["results"]} == {"net.onnx is fp32, not int8"}
