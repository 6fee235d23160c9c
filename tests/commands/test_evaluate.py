"""`segcore evaluate` on four little street scenes: what it writes, its defaults, and everything it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import segcore
from segcore.__main__ import main
from segcore.checkpoint import ModelFile, save_model_file
from segcore.commands import evaluate as command
from segcore.data.datasets import read_label_ids, write_list
from segcore.data.labels import TABLES
from segcore.evaluate import Mode, predictions
from segcore.files import sha256, write_json
from segcore.models import build_model

CITYSCAPES = TABLES["cityscapes"]
STATISTICS = {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
FRAMES = [f"town_{k:06}_000019" for k in range(4)]


@pytest.fixture(scope="module")
def model() -> ModelFile:
    torch.manual_seed(0)
    return ModelFile("bisenetv2", 19, build_model("bisenetv2", 19).state_dict(), STATISTICS, CITYSCAPES)


@pytest.fixture
def folder(model: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`model.pt`, `lists/val.csv` with what lies beside it, and the images; the working folder."""
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for frame in FRAMES:
        cv2.imwrite(f"images/{frame}_leftImg8bit.png", rng.integers(0, 256, (32, 64, 3), np.uint8))
        cv2.imwrite(f"images/{frame}_labelIds.png", rng.integers(0, 34, (32, 64), np.uint8))
    write(Path("lists/val.csv"), FRAMES[1:])
    CITYSCAPES.write_csv(Path("lists/labels.csv"))
    Path("lists/root").write_text(str(tmp_path / "images"))
    save_model_file(Path("model.pt"), model)
    return tmp_path


def write(path: Path, frames: list[str]) -> None:
    write_list(path, [(f"{frame}_leftImg8bit.png", f"{frame}_labelIds.png") for frame in frames])


def words(*more: str) -> list[str]:
    return ["evaluate", "--weights", "model.pt", "--list", "lists/val.csv", "--devices", "cpu", *more]


def refusal(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The one line that is printed in place of a result; nothing is left behind."""
    capsys.readouterr()
    assert main(words(*more)) == 1
    printed = capsys.readouterr()
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("segcore evaluate: ") and printed.out == ""
    assert not Path("evaluation").exists() and not list(Path().glob("*.progress"))
    return line


def test_one_whole_image_by_default(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words()) == 0
    report = json.loads(Path("evaluation/ss.json").read_text())
    assert report["images"] == 3 and report["protocol"]["round_to"] == 32
    assert f"{100 * report['miou']:.2f}" in capsys.readouterr().out
    assert sorted(path.name for path in Path("evaluation").iterdir()) == [
        "images.npz",
        "insight",
        "predictions",
        "ss.json",
    ]
    assert not list(folder.glob("*.progress"))


def test_json_is_all_that_stands_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("--modes", "seg50", "ssc", "--crop", "32x48", "--stride", "16x20", "--out", "new", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {mode: json.loads(Path(f"new/{mode}.json").read_text()) for mode in ("seg50", "ssc")}
    protocol = found["ssc"]["protocol"]
    assert (protocol["crop"], protocol["stride"]) == ([32, 48], [16, 20])
    assert found["seg50"]["protocol"]["stride"] is None


def test_defaults_come_from_the_model_file_and_words_go_before_them(folder: Path, model: ModelFile) -> None:
    block = {"modes": ["msf", "mscf"], "scales": [0.5, 1.0], "crop": [32, 32], "batch": 2, "code": "x"}
    save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "evaluate": block}))
    assert main(words()) == 0
    assert json.loads(Path("evaluation/mscf.json").read_text())["protocol"]["crop"] == [32, 32]
    assert main(words("--modes", "mscf", "--scales", "1", "--crop", "16x32", "--out", "other")) == 0
    assert not Path("other/msf.json").exists()
    protocol = json.loads(Path("other/mscf.json").read_text())["protocol"]
    assert (protocol["scales"], protocol["crop"], protocol["stride"]) == ([1.0], [16, 32], [11, 22])


def test_a_file_without_modes_gets_those_of_its_network_and_says_so(
    folder: Path, model: ModelFile, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "provenance": {"dataset": "minicity"}}))
    assert main(words()) == 0
    assert "names no modes; scoring ss, usual for bisenetv2 on minicity" in capsys.readouterr().err


def test_an_unknown_setting_in_the_model_file_is_not_skipped(
    folder: Path, model: ModelFile, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "evaluate": {"modes": ["ss"], "rotate": 3}}))
    assert "model.pt: its evaluate block has 'rotate'" in refusal(capsys)


def test_submission_is_what_the_official_tool_finds(folder: Path) -> None:
    from types import SimpleNamespace

    from cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling import getPrediction

    for name in ("one.zip", "two.zip"):
        assert main(words("--submission", name, "--out", name[:3])) == 0
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()
    zipfile.ZipFile("one.zip").extractall("unpacked")
    options = SimpleNamespace(predictionPath="unpacked", predictionWalk=None)
    for frame in FRAMES[1:]:
        found = read_label_ids(Path(getPrediction(options, f"{frame}_gtFine_labelIds.png")))
        ours = read_label_ids(Path(f"one/predictions/ss/{frame}_leftImg8bit.png"))
        assert np.array_equal(CITYSCAPES.to_train_ids(found, "x"), ours)
    assert len(list(Path("unpacked").iterdir())) == 3


def test_a_test_set_without_labels_gets_predictions_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for frame in FRAMES:
        cv2.imwrite(f"images/{frame}_labelIds.png", np.full((32, 64), 3, np.uint8))
    assert "ignored pixels only; --unscored" in refusal(capsys, "--submission", "test.zip")
    assert main(words("--unscored", "--submission", "test.zip", "--modes", "seg50")) == 0
    assert len(zipfile.ZipFile("test.zip").namelist()) == 3
    assert [path.name for path in Path("evaluation").iterdir()] == ["predictions"]


def test_pictures_show_image_truth_and_prediction(folder: Path) -> None:
    assert main(words("--visualize", "seen")) == 0
    assert len(list(Path("seen/ss").iterdir())) == 3
    name = f"{FRAMES[2]}_leftImg8bit"
    seen = cv2.imread(f"seen/ss/{name}.png")[..., ::-1]
    assert seen.shape == (32, 3 * 64 + 2 * 4, 3)
    assert np.array_equal(seen[:, :64], cv2.imread(f"images/{name}.png")[..., ::-1])
    truth = CITYSCAPES.to_train_ids(read_label_ids(Path(f"images/{FRAMES[2]}_labelIds.png")), "x")
    colors = np.vstack([CITYSCAPES.palette, np.zeros((237, 3), np.uint8)])
    assert np.array_equal(seen[:, 68:132], colors[truth])
    assert np.array_equal(seen[:, 136:], colors[read_label_ids(Path(f"evaluation/predictions/ss/{name}.png"))])


def test_table_and_root_may_be_named_or_be_the_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("--out", "beside")) == 0
    shutil.move("lists/labels.csv", "table.csv")
    Path("lists/root").unlink()
    assert "no labels.csv beside it" in refusal(capsys)
    assert main(words("--root", "images", "--out", "models")) == 0
    assert main(words("--root", "images", "--labels", "table.csv", "--out", "named")) == 0
    assert len({Path(out, "ss.json").read_bytes() for out in ("beside", "models", "named")}) == 1


def test_a_killed_run_goes_on_with_the_same_weights_only(
    folder: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def predict(*arguments: object, last: int = 2) -> Iterator[tuple[Mode, torch.Tensor]]:
        if len(calls) == last:
            raise KeyboardInterrupt
        calls.append(arguments)
        yield arguments[3][0], torch.zeros(arguments[2], dtype=torch.uint8)

    monkeypatch.setattr(predictions, "predict_together", predict)
    assert main(words()) == 130
    assert not Path("evaluation").exists() and Path("evaluation.progress").exists()
    monkeypatch.setattr(predictions, "predict_together", lambda *arguments: predict(*arguments, last=9))
    assert main(words()) == 0
    assert len(calls) == 3 and not Path("evaluation.progress").exists()
    progress = []
    monkeypatch.setattr(command, "evaluate", lambda *a, progress_dir, **more: progress.append(progress_dir))
    main(words("--out", "x"))
    save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "provenance": {"seed": 2}}))
    main(words("--out", "x"))
    cv2.imwrite(f"images/{FRAMES[1]}_leftImg8bit.png", np.zeros((32, 64, 3), np.uint8))
    main(words("--out", "x"))
    main(words("--out", "x", "--modes", "seg50"))
    assert len(set(progress)) == 4


@pytest.mark.slow
def test_two_processes_write_the_same(folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(segcore.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    for devices in ("cpu", "cpu:2"):
        line = [sys.executable, "-m", "segcore", *words("--devices", devices, "--out", devices.replace(":", "-"))]
        assert subprocess.run(line, env=environment, capture_output=True).returncode == 0
    alone, both = (
        {path.relative_to(out): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
        for out in ("cpu", "cpu-2")
    )
    assert alone == both and len(alone) == 3 + 2 + 4


# Refusals


def test_crop_modes_without_a_crop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'mscf' scores windows; give their size: --crop HxW" in refusal(capsys, "--modes", "ss", "mscf")


def test_unknown_mode(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'sss'; did you mean 'ss'" in refusal(capsys, "--modes", "sss")


def test_empty_list_and_missing_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"images/{FRAMES[3]}_leftImg8bit.png").unlink()
    assert f"{FRAMES[3]}_leftImg8bit.png: no such file" in refusal(capsys)
    Path(f"images/{FRAMES[2]}_labelIds.png").unlink()
    assert f"{FRAMES[2]}_labelIds.png: no such file" in refusal(capsys)
    Path("lists/val.csv").write_text("\n")
    assert "val.csv: the list is empty" in refusal(capsys)
    Path("lists/val.csv").unlink()
    assert "val.csv: cannot be read" in refusal(capsys)
    Path("model.pt").unlink()
    assert "model.pt: no such file" in refusal(capsys)


def test_an_image_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(f"images/{FRAMES[3]}_leftImg8bit.png").write_bytes(b"none")
    assert f"{FRAMES[3]}_leftImg8bit.png: cannot be opened as a picture" in refusal(capsys)


def test_label_values_outside_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(f"images/{FRAMES[3]}_labelIds.png", np.full((32, 64), 99, np.uint8))
    assert "label value 99 is not in the table 'labels'" in refusal(capsys)


def test_sizes_that_differ(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(f"images/{FRAMES[3]}_labelIds.png", np.full((16, 64), 7, np.uint8))
    assert "the image is 32×64 but its label" in refusal(capsys)


@pytest.mark.parametrize("table", ["camvid", "ade20k"])
def test_a_table_of_other_classes(table: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TABLES[table].write_csv(Path("lists/labels.csv"))
    assert f"class 0 is {TABLES[table].names[0]!r} there and 'road' in the model" in refusal(capsys)


def test_a_start_from_random_weights_is_said_and_kept(
    folder: Path, model: ModelFile, capsys: pytest.CaptureFixture[str]
) -> None:
    for receipt, said in (({"pretrained": "none"}, 1), ({"pretrained": "b.pth", "sha256": "0"}, 0)):
        write_json(Path("receipt.json"), receipt)  # as the stage `weights` does
        provenance = {"weights": sha256(Path("receipt.json"))}
        save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "provenance": provenance}))
        assert main(words("--out", f"out{said}")) == 0
        assert capsys.readouterr().err.count("pretrained: none;") == said
        network = json.loads(Path(f"out{said}/ss.json").read_text())["network"]
        assert network.get("pretrained") == ("none" if said else None)


def test_images_that_were_trained_on(folder: Path, model: ModelFile, capsys: pytest.CaptureFixture[str]) -> None:
    def trained_on(frames: list[str]) -> None:
        write(Path("lists/train.csv"), frames)
        provenance = {"list": sha256(Path("lists/train.csv"))}
        save_model_file(Path("model.pt"), ModelFile(**{**vars(model), "provenance": provenance}))

    trained_on(FRAMES[:2])
    assert f"{FRAMES[1]}_leftImg8bit.png: stands in both" in refusal(capsys)
    trained_on(FRAMES[:1])
    assert main(words()) == 0
    shutil.rmtree("evaluation")
    shutil.copy("lists/train.csv", "lists/val.csv")  # the training list itself
    assert f"{FRAMES[0]}_leftImg8bit.png: stands in both" in refusal(capsys)


def test_a_folder_in_use_and_a_submission_of_two_modes_or_other_names(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("used").mkdir()
    Path("used/notes").write_text("mine")
    assert "used: is there already" in refusal(capsys, "--out", "used")
    assert "takes one mode, not ss and seg50" in refusal(capsys, "--submission", "x.zip", "--modes", "ss", "seg50")
    for kind in ("leftImg8bit", "labelIds"):
        shutil.move(f"images/{FRAMES[2]}_{kind}.png", f"images/street_{kind}.png")
    write(Path("lists/val.csv"), ["street"])
    assert "street_leftImg8bit: a submission needs Cityscapes' names" in refusal(capsys, "--submission", "x.zip")


@pytest.mark.parametrize("wrong", [["--crop", "64"], ["--scales", "0"], ["--batch", "-1"], ["--crop", "0x4"]])
def test_wrong_usage_ends_with_2(wrong: list[str], folder: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words(*wrong))
    assert ended.value.code == 2
