"""From a model file to the file that is deployed: formats, precisions, what a file says of itself, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import segcore
import segcore.commands.export as commands_export
from segcore.__main__ import main
from segcore.checkpoint import ModelFile, save_model_file
from segcore.data.datasets import Samples, read_list
from segcore.data.labels import TABLES, Label, LabelTable
from segcore.data.lists import write_list
from segcore.data.transforms import normalise
from segcore.deploy import deliver, parity
from segcore.deploy.calibration import Calibration
from segcore.deploy.deliver import export
from segcore.deploy.engine import read_engine
from segcore.deploy.metadata import GraphShape
from segcore.deploy.stamps import read_stamp
from segcore.errors import CheckpointError, DataError, ExportError
from segcore.evaluate.predictions import read_prediction
from segcore.files import sha256
from segcore.models import build_model
from tests.deploy import fake_tensorrt

SIZE = (32, 64)
STEPS = 20
STATISTICS = {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.25, 0.3]}
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}


@pytest.fixture
def weights(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file whose network is the tiny one."""

    class TinyFile(ModelFile):
        def network(self, device: str = "cpu") -> nn.Module:
            return net

    labels = LabelTable("five", tuple(Label(k, k, f"class {k}", (50 * k, 0, 0)) for k in range(5)))
    file = TinyFile("bisenetv2", 5, {"a": torch.zeros(1)}, STATISTICS, labels, {"modes": ["ss"]}, {"seed": 3})
    save_model_file(tmp_path / "model.pt", file)
    monkeypatch.setattr(deliver, "load_model_file", lambda path: file)
    monkeypatch.setattr("segcore.commands.export.load_model_file", lambda path: file)
    return tmp_path / "model.pt"


@pytest.fixture
def lists(photographs: list[np.ndarray], tmp_path: Path) -> Path:
    """A folder with `train.csv` (three images), `val.csv` (one of its own) and `mixed.csv` (one of val's)."""
    folder, pairs = tmp_path / "lists", []
    folder.mkdir()
    for k, photograph in enumerate([*photographs, photographs[0]]):
        cv2.imwrite(str(folder / f"{k}.png"), photograph)
        pairs.append((f"{k}.png", f"{k}_label.png"))
    (folder / "root").write_text(str(folder))
    for name, chosen in {"train": pairs[:3], "val": pairs[3:], "mixed": pairs[2:]}.items():
        write_list(folder / f"{name}.csv", chosen)
    return folder


def calibration(path: Path, count: int = 2) -> Calibration:
    return Calibration(path, Samples(read_list(path), path.parent, TABLES["camvid"]), count=count)


QUICK = [("onnx", "fp32"), ("onnx", "bf16"), ("openvino", "int8"), ("torch", "fp16"), ("torch", "int8")]


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        pytest.param(form, precision, marks=[] if (form, precision) in QUICK else pytest.mark.slow)
        for form in SUFFIXES
        for precision in parity.LEAST_AGREEMENT
    ],
)
def test_every_format_in_every_precision_has_its_models_classes(
    net, weights, lists, photographs, tmp_path, form, precision
):
    path = tmp_path / f"net{SUFFIXES[form]}"
    shape = GraphShape(size=SIZE, precision=precision)
    if (form, precision) == ("torch", "int8"):
        with pytest.raises(ExportError, match="torch.export has no int8 here"):
            export(weights, path, shape, calibration=calibration(lists / "train.csv"))
        return
    chosen = calibration(lists / "train.csv") if precision == "int8" else None
    report = export(weights, path, shape, photographs=photographs, calibration=chosen)

    assert report["parity"]["argmax_agreement"] >= parity.LEAST_AGREEMENT[precision]
    loosest = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-2, "int8": 0.5}[precision]
    assert report["parity"]["mean_difference"] <= report["parity"]["max_difference"] < loosest
    assert report["sha256"] == sha256(path) and report["parity"]["images"] == 3
    predictor = segcore.load_model(path)
    assert predictor.labels.names[2] == "class 2" and predictor.mean == tuple(STATISTICS["mean"])
    images = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        same = predictor.net(images).argmax(1) == net(images).argmax(1)
    assert same.float().mean() >= parity.LEAST_AGREEMENT[precision] - 0.02
    said = json.loads(read_stamp(path))
    assert said["parity"] == report["parity"] and said["graph"]["precision"] == precision
    assert said["provenance"]["seed"] == 3 and said["palette"][1] == [50, 0, 0]


def test_a_graph_of_the_cameras_pictures_gives_classes_at_the_cameras_size(net, weights, photographs, tmp_path):
    shape = GraphShape("argmax_resized", size=SIZE, takes="uint8", camera=(40, 70))
    report = export(weights, tmp_path / "net.onnx", shape, photographs=photographs)
    assert report["parity"]["max_difference"] is None
    proto = onnx.load(tmp_path / "net.onnx")
    given, found = (
        [each.dim_value or each.dim_param for each in value.type.tensor_type.shape.dim]
        for value in (proto.graph.input[0], proto.graph.output[0])
    )
    assert given == ["batch", *SIZE, 3] and found == ["batch", 40, 70]
    predictor, photograph = segcore.load_model(tmp_path / "net.onnx"), photographs[0]
    small = torch.nn.functional.interpolate
    with torch.no_grad():
        image = torch.from_numpy(normalise(photograph, *STATISTICS.values()))[None]
        expected = net(small(image, SIZE, mode="bilinear", antialias=True), (40, 70)).argmax(1)[0]
    assert (predictor.predict(photograph) == expected.numpy()).mean() > 0.98  # the file sees eight bits a channel


def test_it_is_scored_in_the_mode_that_it_was_made_for(net, weights, photographs, tmp_path, capsys):
    shape = GraphShape("argmax_resized", size=SIZE, batch=1, camera=(64, 128))
    export(weights, tmp_path / "net.onnx", shape, photographs=photographs)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "image.png"), rng.integers(0, 256, (64, 128, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "label.png"), rng.integers(0, 5, (64, 128), np.uint8))
    write_list(tmp_path / "val.csv", [("image.png", "label.png")])
    words = ["evaluate", "--weights", tmp_path / "net.onnx", "--list", tmp_path / "val.csv", "--root", tmp_path]
    assert main([*map(str, words), "--modes", "seg50", "--out", str(tmp_path / "out")]) == 0
    image = cv2.imread(str(tmp_path / "image.png"))[..., ::-1]
    with torch.no_grad():
        given = torch.from_numpy(normalise(image, *STATISTICS.values()))[None]
        half = torch.nn.functional.interpolate(given, SIZE, mode="bilinear", align_corners=True)
        expected = net(half, (64, 128)).argmax(1)[0].numpy()
    found = read_prediction(next((tmp_path / "out/predictions").rglob("*.png")))
    assert (found == expected).mean() > 0.999
    assert main([*map(str, words), "--modes", "ss", "--out", str(tmp_path / "other")]) == 1
    assert "mode 'ss' shows the net 64×128, and the file takes 32×64 only" in capsys.readouterr().err


def test_int8_says_what_it_was_calibrated_on(weights, lists, photographs, tmp_path):
    report = export(
        weights,
        tmp_path / "net.onnx",
        GraphShape(size=SIZE, precision="int8", takes="uint8"),
        photographs=photographs,
        calibration=calibration(lists / "train.csv"),
    )
    assert report["calibration"]["images"] == ["0", "1"] or len(report["calibration"]["images"]) == 2
    assert report["calibration"] | {"images": 0} == {
        **{"list": "train.csv", "list_sha256": sha256(lists / "train.csv")},
        **{"seed": 1, "images": 0},
    }
    kinds = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("Conv") == 2


def test_lists_to_score_on_are_no_calibration(weights, lists, tmp_path):
    shape = GraphShape(size=SIZE, precision="int8")
    for name, said in {"val": "is named as a list to score on", "mixed": "shares 1 images with val.csv"}.items():
        with pytest.raises(DataError, match=said):
            export(weights, tmp_path / "net.onnx", shape, calibration=calibration(lists / f"{name}.csv"))
    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize(("version", "precision"), zip(fake_tensorrt.NAMES, ["fp32", "int8"], strict=True))
def test_an_engine_is_built_checked_and_used(
    net, weights, lists, photographs, tmp_path, monkeypatch, version, precision
):
    fake = fake_tensorrt.install(monkeypatch, version)
    path, chosen = tmp_path / "net.engine", calibration(lists / "train.csv") if precision == "int8" else None
    shape = GraphShape(size=SIZE, largest_batch=2, precision=precision)
    report = export(weights, path, shape, photographs=photographs, calibration=chosen)
    assert report["parity"]["backend"] == "tensorrt"
    assert ("add_optimization_profile", *((n, 3, *SIZE) for n in (1, 2, 2))) in fake.calls
    images = torch.randn(3, 3, *SIZE)  # more than it takes at once
    with torch.no_grad():
        same = segcore.load_model(path).net(images).argmax(1) == net(images).argmax(1)
    assert same.float().mean() > 0.9
    assert read_engine(path).num_classes == 5 and {each.name for each in tmp_path.glob("net.*")} == {
        *("net.engine", "net.engine.json")
    }


def test_a_mismatch_is_no_success_and_leaves_what_was_there(weights, photographs, tmp_path, monkeypatch, capsys):
    (tmp_path / "net.onnx").write_text("old")
    monkeypatch.setitem(parity.LEAST_AGREEMENT, "fp32", 1.01)
    words = ["export", "--weights", weights, "--format", "onnx", "--size", "32x64", "--out", tmp_path / "net.onnx"]
    monkeypatch.setattr(deliver, "drawn_scenes", lambda: photographs)
    assert main([*map(str, words)]) == 1
    message = capsys.readouterr().err
    assert "net.onnx: not written: its class map agrees with the model's in" in message and message.count("\n") == 1
    assert (tmp_path / "net.onnx").read_text() == "old" and not list(tmp_path.glob(".export-*"))


def test_the_command_writes_the_file_and_says_how_near_it_is(weights, lists, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["export", "--weights", str(weights), "--format", "onnx", "--list", str(lists / "train.csv")]
    assert main([*words, "--precision", "int8", "--images", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["file"], report["graph"]["size"], report["graph"]["batch"]) == ("bisenetv2_int8.onnx", None, None)
    assert report["parity"]["source"] == "given" and len(report["calibration"]["images"]) == 2
    said = commands_export.words(report)
    assert "bisenetv2_int8.onnx: int8" in said and "takes float32, any number of images of any multiples of 32" in said
    assert "on 3 images of the list" in said and "calibrated on 2 images of train.csv, seed 1" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "onnx", "--precision", "int8"], "int8 is calibrated on training images: give their list with"),
        (["--format", "tensorrt"], "a TensorRT engine is built for one size: give it with --size HxW"),
        (["--format", "tensorrt", "--size", "32x64"], "tensorrt is not installed"),
        (["--format", "onnx", "--camera", "40x70"], "--graph argmax_resized and --camera HxW"),
        (["--format", "onnx", "--graph", "argmax_resized", "--camera", "40x70"], "wants the size of its input"),
        (["--format", "openvino", "--out", "net.onnx"], "--format openvino writes files that end in .xml"),
        (["--format", "onnx", "--list", "absent.csv"], "absent.csv: cannot be read"),
    ],
)
def test_wrong_use_has_its_line(weights, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    assert main(["export", "--weights", str(weights), *words]) == 1
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt"}


def test_a_pyramid_is_exported_for_one_size_only(tmp_path):
    name = "resnet18dilated8_ppm_deepsup"
    file = ModelFile(name, 11, build_model(name, 11).state_dict(), STATISTICS, TABLES["camvid"])
    save_model_file(tmp_path / "model.pt", file)
    with pytest.raises(ExportError, match=f"{name}: its pyramid's windows .* --size HxW"):
        export(tmp_path / "model.pt", tmp_path / "net.onnx")


def test_damaged_files_and_another_size_have_their_line(weights, photographs, tmp_path):
    export(weights, tmp_path / "net.pt2", GraphShape(size=SIZE), photographs=photographs)
    with pytest.raises(DataError, match="takes and gives 32×64"):
        segcore.load_model(tmp_path / "net.pt2").net(torch.zeros(1, 3, 64, 64))
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "net.pt2").read_bytes()[:900])
    with pytest.raises(CheckpointError, match="cut.pt2: damaged, or not a torch.export file"):
        segcore.load_model(tmp_path / "cut.pt2")
    shutil.copy(tmp_path / "model.pt", tmp_path / "foreign.pt2")
    with pytest.raises(CheckpointError, match="says nothing of classes and statistics"):
        segcore.load_model(tmp_path / "foreign.pt2")


def fitted_to_halves(net: nn.Module, photographs: list[np.ndarray]) -> nn.Module:
    """Trained for seconds: where classes hang in the balance, as in a fresh network, eight bits decide at random."""
    torch.manual_seed(0)
    images = np.stack(
        [normalise(cv2.resize(each, (96, 64)), STATISTICS["mean"], STATISTICS["std"]) for each in photographs]
    )
    optimizer = torch.optim.AdamW(net.train().parameters(), 1e-3)
    for _ in range(STEPS):
        logits = net(torch.from_numpy(images))
        labels = torch.zeros(len(images), *logits.shape[-2:], dtype=torch.int64)
        labels[..., logits.shape[-1] // 2 :] = 3
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    return net


CORE = ("bisenetv1", "bisenetv2", "stdc1", "stdc2", "mobilenetv2dilated_c1_deepsup")
PAIRS = [(name, form, precision) for name in CORE for form in ("onnx", "openvino") for precision in ("fp32", "int8")]
FAST = [("stdc1", "onnx", "fp32"), ("bisenetv2", "openvino", "int8")]


@pytest.mark.parametrize(
    ("name", "form", "precision"),
    [pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow) for pair in PAIRS],
)
def test_core_networks_have_their_classes_in_every_file(lists, photographs, tmp_path, name, form, precision):
    net = fitted_to_halves(build_model(name, 11), photographs)
    save_model_file(tmp_path / "model.pt", ModelFile(name, 11, net.state_dict(), STATISTICS, TABLES["camvid"]))
    path, chosen = tmp_path / f"net{SUFFIXES[form]}", calibration(lists / "train.csv") if precision == "int8" else None
    report = export(
        tmp_path / "model.pt",
        path,
        GraphShape(size=(64, 96), precision=precision),
        photographs=photographs,
        calibration=chosen,
    )
    assert report["parity"]["argmax_agreement"] >= parity.LEAST_AGREEMENT[precision]
    assert segcore.load_model(path).predict(photographs[0]).shape == (40, 70)
