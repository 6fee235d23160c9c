"""`segcore evaluate` and `load_model` on exported files: the scores of their model, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import segcore
from segcore.__main__ import main
from segcore.checkpoint import ModelFile, load_model_file, save_model_file
from segcore.commands import evaluate as command
from segcore.data.datasets import read_label_ids
from segcore.data.labels import TABLES
from segcore.data.lists import write_list
from segcore.deploy.deliver import export
from segcore.deploy.engine import open_engine, read_engine
from segcore.deploy.metadata import GraphShape
from segcore.errors import CheckpointError, DataError, ExportError
from segcore.files import sha256
from segcore.models import build_model
from tests.commands.test_evaluate import STATISTICS
from tests.conftest import make_camvid

SIZE = (64, 96)
PICTURE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`model.pt`, four exported files of it, and a list of three photographs."""
    folder = tmp_path_factory.mktemp("engines")
    torch.manual_seed(0)
    net = build_model("bisenetv2", 11)
    table = TABLES["camvid"]
    save_model_file(folder / "model.pt", ModelFile("bisenetv2", 11, net.state_dict(), STATISTICS, table))
    one = GraphShape(size=SIZE, batch=1)
    files = {"any.onnx": None, "any.xml": None, "fixed.onnx": one, "classes.onnx": replace(one, output="argmax")}
    for name, shape in files.items():
        export(folder / "model.pt", folder / name, shape, photographs=[PICTURE])
    make_camvid(folder / "images", size=SIZE)
    (folder / "lists").mkdir()
    write_list(folder / "lists/val.csv", [(f"val/val_{k:03}.png", f"valannot/val_{k:03}.png") for k in range(3)])
    table.write_csv(folder / "lists/labels.csv")
    (folder / "lists/root").write_text(str(folder / "images"))
    return folder


@pytest.fixture
def evaluate(place, tmp_path):
    """Scores a file; returns the exit code and the folder of the results."""
    number = iter(range(9))

    def run(name: str, *words: str) -> tuple[int, Path]:
        out = tmp_path / f"out-{next(number)}"
        given = ["--weights", place / name, "--list", place / "lists/val.csv", "--out", out, *words]
        return main(["evaluate", *map(str, given)]), out

    return run


def results(out: Path, mode: str) -> dict:
    return json.loads((out / f"{mode}.json").read_text())


@pytest.mark.parametrize(
    ("name", "words", "modes"),
    [
        ("any.onnx", [], ["ss", "seg50", "msf"]),
        ("any.onnx", ["--backend", "openvino"], ["ss", "msf"]),
        ("any.xml", [], ["ss", "ssc"]),
        ("fixed.onnx", [], ["ss"]),
        ("classes.onnx", [], ["ss"]),
        ("model.pt", ["--backend", "onnxruntime"], ["ss"]),
    ],
)
def test_an_exported_file_scores_as_its_model_does(evaluate, place, name, words, modes):
    asked = ["--modes", *modes, "--scales", "0.5", "1.0", "--crop", "64x64"]
    (code, out), (_, own) = evaluate(name, *words, *asked), evaluate("model.pt", *asked)
    assert code == 0
    for mode in modes:
        matrices = [np.array(results(folder, mode)["confusion"]) for folder in (out, own)]
        assert matrices[0].sum() == matrices[1].sum() and np.abs(matrices[0] - matrices[1]).sum() <= 20
        assert results(out, mode)["network"]["sha256"] == sha256(place / name)
        assert results(out, mode)["network"]["backend"] != "torch"


def test_a_file_of_one_size_is_scored_where_it_fits_and_other_modes_are_refused_by_name(evaluate, capsys):
    assert evaluate("fixed.onnx", "--modes", "ss", "seg50")[0] == 1
    assert "mode 'seg50' shows the net 32×48, and the file takes 64×96 only" in capsys.readouterr().err
    assert evaluate("classes.onnx", "--modes", "msf", "--scales", "1.0")[0] == 1
    assert "the file gives finished class maps; export it with logits" in capsys.readouterr().err
    assert evaluate("any.onnx", "--modes", "ade_ss")[0] == 1
    assert "mode 'ade_ss' wants logits at the label's size" in capsys.readouterr().err


def test_modes_of_its_own_block_that_a_file_does_not_fit_are_left_out_aloud(evaluate, place, capsys):
    proto = onnx.load(place / "fixed.onnx")
    about = json.loads(proto.metadata_props[0].value)
    for modes, code in ((["ss", "seg50"], 0), (["seg50"], 1)):
        proto.metadata_props[0].value = json.dumps(about | {"evaluate": {"modes": modes}})
        onnx.save(proto, place / "own.onnx")
        assert evaluate("own.onnx")[0] == code
        assert ("left out: mode 'seg50' shows the net 32×48" in capsys.readouterr().err) == (code == 0)


@pytest.mark.parametrize(
    ("own", "words", "said"),
    [("int8", [], "int8"), ("fp32", ["--precision", "bf16"], "bf16"), ("int8", ["--precision", "bf16"], "int8+bf16")],
)
def test_the_precision_of_the_file_stands_beside_the_scores(evaluate, place, monkeypatch, own, words, said):
    proto = onnx.load(place / "fixed.onnx")
    about = json.loads(proto.metadata_props[0].value)
    about["graph"]["precision"] = own
    proto.metadata_props[0].value = json.dumps(about)
    onnx.save(proto, place / "named.onnx")
    monkeypatch.setattr(command, "open_engine", lambda file, *asked: open_engine(file))  # bf16 is not everywhere
    code, out = evaluate("named.onnx", "--modes", "ss", *words)
    assert code == 0 and results(out, "ss")["network"]["precision"] == said


@pytest.mark.parametrize("name", ["any.onnx", "any.xml", "fixed.onnx"])
def test_logits_and_predictions_are_the_networks(place, name):
    net = load_model_file(place / "model.pt").network()
    images = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(open_engine(read_engine(place / name))(images), net(images), rtol=1e-3, atol=1e-3)
    photograph = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    one, two = (segcore.load_model(place / each).predict(photograph) for each in (name, "model.pt"))
    assert (one == two).mean() > 0.999 and one.dtype == np.uint8
    other = np.zeros((70, 50, 3), np.uint8)
    assert segcore.load_model(place / name).predict(other).shape == (70, 50)


def test_predict_takes_exported_files_as_it_takes_the_model(place, tmp_path):
    found = []
    for name in ("model.pt", "any.xml", "fixed.onnx", "classes.onnx"):
        words = ["predict", place / "images/val", "--weights", place / name, "--out", tmp_path / name]
        assert main([*map(str, words)]) == 0
        found.append(np.stack([read_label_ids(path) for path in sorted((tmp_path / name / "ids").iterdir())]))
    assert found[0].shape == (3, *SIZE) and all((other == found[0]).mean() > 0.99 for other in found[1:])


def test_the_same_model_gives_the_same_file(place, tmp_path):
    export(place / "model.pt", tmp_path / "again.onnx", GraphShape(size=SIZE, batch=1), photographs=[PICTURE])
    assert sha256(tmp_path / "again.onnx") == sha256(place / "fixed.onnx")


def test_what_is_no_exported_file_of_ours_is_refused_in_a_line(place, tmp_path):
    (tmp_path / "cut.onnx").write_bytes((place / "any.onnx").read_bytes()[:5000])
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    (tmp_path / "alone.xml").write_text((place / "any.xml").read_text())
    for name, said in {
        "absent.onnx": "no such file",
        "cut.onnx": "damaged, or not an ONNX file",
        "foreign.onnx": "says nothing of classes and statistics",
        "alone.xml": "it holds the weights of alone.xml and belongs beside it",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            segcore.load_model(tmp_path / name)
    (tmp_path / "alone.bin").write_bytes(bytes(100))
    with pytest.raises(CheckpointError, match=r"alone\.(bin|xml): (not the weights|damaged)"):
        segcore.load_model(tmp_path / "alone.xml")
    (tmp_path / "a.engine").write_bytes(b"engine")
    with pytest.raises(CheckpointError, match=r"a.engine.json: cannot be read .*; it describes a.engine"):
        segcore.load_model(tmp_path / "a.engine")


def test_wrong_use_has_its_line(place):
    with pytest.raises(ExportError, match="exported file runs on the CPU here"):
        segcore.load_model(place / "any.onnx", device="cuda")
    with pytest.raises(ExportError, match="onnxruntime does not read it; openvino can"):
        open_engine(read_engine(place / "any.xml"), "onnxruntime")
    with pytest.raises(DataError, match="takes and gives 64×96"):
        open_engine(read_engine(place / "fixed.onnx"))(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ExportError, match=r"must end in .onnx or .xml or .engine or .pt2"):
        export(place / "model.pt", place / "net.bin")
