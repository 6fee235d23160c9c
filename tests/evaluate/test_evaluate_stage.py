"""The evaluation stage: a trained model and lists in, work/evaluate/ out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline import evaluate as stage
from pipeline.settings import write_yaml
from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.labels import TABLES
from segcore.data.store import Checksums, write_files
from segcore.evaluate import Mode
from segcore.models import build_model

STATISTICS = {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
DATASET = {"name": "tiny", "labels": "camvid", "num_classes": 11, "label_digest": "0"}
EVALUATE = {"modes": ["ss", "ssc"], "crop": [32, 32], "code": "0"}
NAMES = [f"{k}.png" for k in range(4)]


def write_lists(project: Path, train: list[str], val: list[str]) -> None:
    for name, images in (("train", train), ("val", val)):
        lines = "".join(f"{image},labels/{image}\n" for image in images)
        (project / f"work/annotations/{name}.csv").write_text(lines)


def write_model(project: Path, trained_on: str) -> None:
    torch.manual_seed(0)
    weights = build_model("bisenetv2", 11).state_dict()
    provenance = {"trained_on": trained_on}
    model = ModelFile("bisenetv2", 11, weights, STATISTICS, TABLES["camvid"], provenance=provenance)
    save_model_file(project / "work/train/model.pt", model)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with everything the stage depends on, as working folder."""
    for name in ("SEGCORE_DATA", "DVC_ROOT", "LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    store, lists, rng = tmp_path / "data/tiny", tmp_path / "work/annotations", np.random.default_rng(0)
    for folder in (store / "labels", lists):
        folder.mkdir(parents=True)
    for name in NAMES:
        cv2.imwrite(str(store / name), rng.integers(0, 256, (32, 64, 3), dtype=np.uint8))
        cv2.imwrite(str(store / "labels" / name), rng.integers(0, 12, (32, 64), dtype=np.uint8))
    cv2.imwrite(str(lists / "majority.png"), np.full((16, 32), 3, np.uint8))
    TABLES["camvid"].write_csv(lists / "labels.csv")
    checksums = Checksums(store, tmp_path / "memory.csv")
    write_files(tmp_path / "work/fetch/files.csv", map(checksums.of, [*NAMES, *(f"labels/{n}" for n in NAMES)]))
    write_lists(tmp_path, NAMES[:1], NAMES[1:])
    write_model(tmp_path, "train")
    write_yaml(tmp_path / "params.yaml", "", {"model": "m", "dataset": "tiny", "runtime": {"devices": "cpu"}})
    write_yaml(tmp_path / "recipe.yaml", "", {"dataset": DATASET | STATISTICS, "evaluate": EVALUATE})
    return tmp_path


def run() -> int:
    with pytest.raises(SystemExit) as ended:
        stage.main()
    return ended.value.code or 0


def test_scores_every_mode_and_the_baseline(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    out = project / "work/evaluate"
    assert sorted(path.name for path in out.iterdir()) == [
        "images.npz",
        "insight",
        "majority.json",
        "predictions",
        "ss.json",
        "ssc.json",
    ]
    report = json.loads((out / "ssc.json").read_text())
    assert report["images"] == 3 and report["protocol"]["crop"] == [32, 32]
    assert f"ssc: {100 * report['miou']:.2f} % mIoU" in capsys.readouterr().out
    assert json.loads((out / "majority.json").read_text())["iou"]["sky"] == 0
    assert not [path for path in (project / "work/resume/evaluate").iterdir() if path.is_dir()]


def test_goes_on_after_a_kill(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segcore.evaluate import predictions

    calls = []

    def predict(*arguments, die: bool) -> Iterator[tuple[Mode, torch.Tensor]]:
        for mode in arguments[3]:
            if die and len(calls) == 3:
                raise KeyboardInterrupt
            calls.append(arguments)
            yield mode, torch.zeros(arguments[2], dtype=torch.uint8)

    monkeypatch.setattr(predictions, "predict_together", lambda *arguments: predict(*arguments, die=True))
    assert run() == 130
    assert not (project / "work/evaluate").exists()
    monkeypatch.setattr(predictions, "predict_together", lambda *arguments: predict(*arguments, die=False))
    assert run() == 0
    # 3 images × 2 modes; the first is not done again, the one it was killed in is, in both modes.
    assert len(calls) == 3 + 4


def test_other_weights_do_not_go_on_with_old_predictions(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    monkeypatch.setattr(stage, "run", lambda recipe, file, samples, progress: folders.append(progress))
    run()
    write_yaml(project / "recipe.yaml", "", {"dataset": DATASET | STATISTICS, "evaluate": EVALUATE | {"code": "1"}})
    run()
    model = build_model("bisenetv2", 11)
    save_model_file(
        project / "work/train/model.pt", ModelFile("bisenetv2", 11, model.state_dict(), STATISTICS, TABLES["camvid"])
    )
    run()
    assert len(set(folders)) == 3


def test_changed_image_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/tiny/2.png").write_bytes(b"something else")
    assert run() == 1
    assert "2.png" in capsys.readouterr().err


def test_validation_image_in_the_training_list_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(project, NAMES[:2], NAMES[1:])
    assert run() == 1
    assert "1.png: stands in both" in capsys.readouterr().err


def test_model_trained_on_the_validation_images_gets_no_score(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(project, "trainval")
    assert run() == 0
    assert "no mode is scored" in capsys.readouterr().err
    assert list((project / "work/evaluate").iterdir()) == []


def test_two_processes_write_the_same_files(project: Path) -> None:
    """Started once per device; each takes its share of an uneven list."""
    root = Path(stage.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    out = project / "work/evaluate"
    assert run() == 0
    alone = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shutil.rmtree(out)
    write_yaml(project / "params.yaml", "", {"model": "m", "dataset": "tiny", "runtime": {"devices": "cpu:2"}})
    ended = subprocess.run([sys.executable, "-m", "pipeline.evaluate"], env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == alone
    assert len(alone) == 4 + 4 + 6  # scores, insight, predictions
    assert not [path for path in (project / "work/resume/evaluate").iterdir() if path.is_dir()]
