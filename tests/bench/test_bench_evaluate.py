"""The baseline of `bench-eval` gives our answer, or its ratios would mean nothing; the report says what was found."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bench import evaluate as bench
from bench import plain
from segcore.checkpoint import ModelFile, load_model_file, save_model_file
from segcore.data.datasets import Samples, write_list
from segcore.data.labels import TABLES
from segcore.data.transforms import normalise
from segcore.deploy.calibration import Calibration
from segcore.deploy.metadata import GraphShape
from segcore.evaluate.modes import modes_for
from segcore.evaluate.network import scoring_form
from segcore.models import build_model
from tests.evaluate.tiny import TinyNet, predict

STATISTICS = {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A list of two images."""
    rng = np.random.default_rng(0)
    for name in "ab":
        cv2.imwrite(f"{tmp_path}/{name}.png", rng.integers(0, 256, (50, 70, 3), np.uint8))
        cv2.imwrite(f"{tmp_path}/{name}_label.png", rng.integers(0, 7, (50, 70), np.uint8))
    write_list(tmp_path / "val.csv", [(f"{name}.png", f"{name}_label.png") for name in "ab"])
    TABLES["camvid"].write_csv(tmp_path / "labels.csv")
    (tmp_path / "root").write_text(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["ss", "ssc", "msf", "mscf"])
def test_the_baseline_gives_our_answer(name: str, folder: Path) -> None:
    samples, mode = Samples.read(folder / "val.csv"), modes_for([name], crop=(32, 48))[0]

    class Eleven(TinyNet):
        """The toy net, whose other four classes never win."""

        def forward(self, images: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
            return torch.nn.functional.pad(super().forward(images, size), (0, 0, 0, 0, 0, 4), value=-50.0)

    net = Eleven().eval()
    theirs = plain.predict(net, samples, 0, mode, STATISTICS, 4, lambda part: nullcontext())
    image = torch.from_numpy(normalise(samples.image(0), **STATISTICS))
    ours = predict(net, image, (50, 70), mode, 11)
    assert (theirs != ours).sum() <= 1 and len(theirs.unique()) > 2


def test_the_report_says_what_was_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    net = build_model("bisenetv2", 11)
    block = {"modes": ["ss", "msf"], "scales": [0.5, 1.0]}
    save_model_file(
        folder / "model.pt", ModelFile("bisenetv2", 11, net.state_dict(), STATISTICS, TABLES["camvid"], block)
    )
    monkeypatch.setattr(bench, "_peak", lambda contender: 1)
    opened = []

    def open_engine(*asked: object) -> torch.nn.Module:
        """In place of an export, which takes seconds and has tests of its own."""
        opened.append(asked[1:])
        return scoring_form(asked[0].network())

    def export(weights: Path, path: Path, shape: GraphShape, calibration: Calibration) -> None:
        shutil.copy(weights, path)
        exported.append((shape.precision, calibration.path.name))

    exported = []
    monkeypatch.setattr(bench, "open_engine", open_engine)
    monkeypatch.setattr(bench, "export", export)
    monkeypatch.setattr(bench, "read_engine", load_model_file)
    shutil.copy(folder / "val.csv", folder / "train.csv")
    words = ["--weights", "model.pt", "--list", "val.csv", "--calibrate", "train.csv", "--out", "out.json"]
    monkeypatch.setattr("sys.argv", ["bench", *words, "--images", "2", "--threads", "1"])
    monkeypatch.chdir(folder)
    bench.main()
    report = json.loads((folder / "out.json").read_text())
    assert report == json.loads(capsys.readouterr().out)
    assert report["protocol"]["modes"] == ["ss", "msf"] and report["images"]["number"] == 2
    plainly = report["results"]["plain"]["miou"]
    for name, result in report["results"].items():
        assert 0 < result["parts"]["forward"] < result["seconds_per_image"]
        assert set(result["miou"]) == {"ss", "msf"}
        assert (result["pixels_changed"] == 0) if name == "plain" else (min(result[r] for r in bench.RATIOS) > 0)
        expected = {mode: 100 * (value - plainly[mode]) for mode, value in result["miou"].items()}
        assert result["miou_points_off"] == pytest.approx(expected, abs=1e-3)
    assert report["results"]["fp32"]["pixels_changed"] < 1e-3
    monkeypatch.setattr("sys.argv", ["bench"])
    trained = ModelFile("bisenetv2", 11, {}, STATISTICS, TABLES["camvid"])  # names no modes
    recipe = bench.make_recipe(bench.parse(), trained, Samples.read(folder / "val.csv"))
    assert recipe.modes == ("ss", "ssc", "msf", "mscf") and recipe.crop == (50, 50)
    assert opened == [("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "bf16")]
    assert exported == [("int8", "train.csv")]
    assert report["results"]["openvino-bf16"]["backend"] == "openvino"
