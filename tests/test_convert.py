"""`segcore convert` and `segcore models` as typed, on files in the form of released ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from segcore import build_model, load_model
from segcore.__main__ import main
from segcore.checkpoint import load_model_file
from segcore.data.labels import TABLES
from segcore.data.statistics import DATASETS, IMAGENET
from segcore.evaluate import EvaluateRecipe
from segcore.models.catalogue import protocol
from segcore.models.checkpoints import scene

PAIR = "mobilenetv2dilated_c1_deepsup"


def released(name: str, classes: int, path: Path) -> Path:
    """A file as CoinCheung/BiSeNet saves one."""
    torch.save(build_model(name, classes, auxiliary=True).state_dict(), path)
    return path


def released_pair(folder: Path) -> list[Path]:
    net = build_model(PAIR, 150, auxiliary=True)
    paths = [folder / "encoder_epoch_20.pth", folder / "decoder_epoch_20.pth"]
    torch.save(net.encoder.state_dict(), paths[0])
    torch.save(net.decoder.state_dict(), paths[1])
    return paths


def refused(capsys, *words: object) -> str:
    """The one line of a refusal."""
    assert main([str(word) for word in words]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("name", "classes", "table", "statistics"),
    [
        ("bisenetv1", 19, "cityscapes", DATASETS["cityscapes"]),
        ("bisenetv1_2020", 19, "cityscapes", DATASETS["cityscapes"]),
        ("bisenetv2", 171, "cocostuff", DATASETS["cocostuff"]),
        ("bisenetv1_old", 19, "cityscapes", IMAGENET),
        ("stdc1", 19, "cityscapes", IMAGENET),
    ],
)
def test_a_released_file_becomes_a_model_that_predicts(name, classes, table, statistics, tmp_path, capsys):
    source, out = released(name, classes, tmp_path / "released.pth"), tmp_path / "model.pt"
    assert main(["convert", str(source), "--model", name, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == table and told["num_classes"] == classes and told["dropped"] == []
    predictor = load_model(out)
    assert predictor.labels == TABLES[table] and (predictor.mean, predictor.std) == statistics
    assert EvaluateRecipe(**load_model_file(out).evaluate).build(name)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert predictor.predict(image).shape == (64, 96)
    kept = torch.load(out, weights_only=True)["state_dict"]
    for key, value in torch.load(source, weights_only=True).items():
        assert torch.equal(kept[key], value), key


@pytest.mark.parametrize(
    ("name", "dataset", "settings"),
    [
        ("bisenetv1", "cityscapes", {"modes": ["ss", "ssc", "msf", "mscf"], "crop": [1024, 1024]}),
        ("bisenetv2", "ade20k", {"modes": ["ss", "ssc", "msf", "mscf"], "crop": [640, 640], "start_shortside": 640}),
        ("bisenetv1_diss", "cityscapes", {"modes": ["mscf_old"], "crop": [1024, 1024]}),
        ("stdc2", "cityscapes", {"modes": ["seg50", "seg75"]}),
        (PAIR, "ade20k", {"modes": ["ade_ss"]}),
        ("bisenetv2", "mine", {"modes": ["ss"]}),
    ],
)
def test_a_model_carries_the_protocol_of_its_published_numbers(name, dataset, settings):
    assert protocol(name, dataset) == settings


def test_equal_files_give_equal_bytes(tmp_path):
    source = released("bisenetv2", 19, tmp_path / "released.pth")
    for out in ("a.pt", "b.pt"):
        main(["convert", str(source), "--model", "bisenetv2", "--out", str(tmp_path / out)])
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_scene_parsing_needs_its_input_and_bgr_is_rewritten(tmp_path, capsys):
    pair = released_pair(tmp_path)
    command = ["convert", *pair, "--model", PAIR, "--out", tmp_path / "model.pt"]
    assert "--input rgb" in refused(capsys, *command) and not (tmp_path / "model.pt").exists()
    assert main([*map(str, command), "--input", "bgr255"]) == 0
    predictor = load_model(tmp_path / "model.pt")
    assert predictor.labels == TABLES["ade20k"]
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    before = build_model(PAIR, 150, auxiliary=True)
    before.encoder.load_state_dict(torch.load(pair[0], weights_only=True))
    before.decoder.load_state_dict(torch.load(pair[1], weights_only=True))
    bgr = image[..., ::-1].astype(np.float32) - np.array(scene.BGR255_MEAN, np.float32)
    with torch.no_grad():
        expected = before.eval()(torch.from_numpy(bgr.transpose(2, 0, 1)[None].copy())).argmax(1)[0].numpy()
    assert (predictor.predict(image) == expected).mean() > 0.999


def test_what_a_file_does_not_tell_must_be_said(tmp_path, capsys):
    out = tmp_path / "model.pt"
    ambiguous = released("bisenetv1_old_bn", 19, tmp_path / "a.pth")
    assert "--statistics imagenet" in refused(capsys, "convert", ambiguous, "--model", "bisenetv1_old_bn", "--out", out)
    words = ["convert", str(ambiguous), "--model", "bisenetv1_old_bn", "--out", str(out), "--statistics", "dataset"]
    assert main(words) == 0 and (load_model(out).mean, load_model(out).std) == DATASETS["cityscapes"]
    unknown = released("bisenetv2", 7, tmp_path / "b.pth")
    assert "unknown network 'foo'" in refused(capsys, "convert", unknown, "--model", "foo", "--out", tmp_path / "c.pt")
    line = refused(capsys, "convert", unknown, "--model", "bisenetv2", "--out", tmp_path / "c.pt")
    assert "has 7 classes; say which with --dataset or --labels" in line
    line = refused(
        capsys, "convert", unknown, "--model", "bisenetv2", "--dataset", "camvid", "--out", tmp_path / "c.pt"
    )
    assert "has 7 classes, the label table 'camvid' has 11" in line


def _damaged(folder: Path) -> dict[str, tuple[bytes | dict, str]]:
    whole = released("bisenetv2", 19, folder / "whole.pth")
    state = torch.load(whole, weights_only=True)
    key = "bga.left1.0.weight"
    return {
        "truncated": (whole.read_bytes()[:5000], "damaged"),
        "empty": (b"", "damaged"),
        "text": (b"<html>404 not found</html>", "damaged"),
        "zip": (_some_zip(folder), "damaged"),
        "bomb": (b"cos\nsystem\n(S'touch sprung'\ntR.", "damaged, or holds more than tensors"),
        "half": (dict(list(state.items())[:190]), "missing"),
        "transposed": (
            {**state, "head.conv.conv.weight": state["head.conv.conv.weight"].transpose(0, 1)},
            "(128, 1024",
        ),
        "nan": ({**state, key: torch.full_like(state[key], float("nan"))}, f"{key} holds values that are not finite"),
        "another": (build_model("stdc1", 19).state_dict(), "holds weights of stdc1, not of bisenetv2"),
    }


def _some_zip(folder: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(folder / "some.zip", "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    return (folder / "some.zip").read_bytes()


def test_bad_files_get_their_one_line_and_leave_what_was_there(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "model.pt"
    out.write_bytes(b"before")
    for kind, (content, message) in _damaged(tmp_path).items():
        path = tmp_path / f"{kind}.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        line = refused(capsys, "convert", path, "--model", "bisenetv2", "--out", out)
        assert f"{kind}.pth" in line and message in line, line
    assert out.read_bytes() == b"before" and not (tmp_path / "sprung").exists()
    assert "already" in refused(capsys, "convert", _model_file(tmp_path), "--model", "bisenetv2", "--out", out)


def _model_file(folder: Path) -> Path:
    out = folder / "ours.pt"
    assert main(["convert", str(folder / "whole.pth"), "--model", "bisenetv2", "--out", str(out)]) == 0
    return out


def test_the_table_of_networks(capsys):
    assert main(["models", "stdc1", "bisenetv2", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["name"] == "stdc1" and first["gmac"] == pytest.approx(16.863, abs=1e-3)
    assert second["parameters"] == 3358627 and second["gmac"] == pytest.approx(98.413, abs=1e-3)
    assert main(["models", "resnet50_ppm", "--markdown"]) == 0
    assert "| no published number |" in capsys.readouterr().out
    assert main(["models", "stdc1"]) == 0 and "16.9" in capsys.readouterr().out
    assert "did you mean" in refused(capsys, "models", "bisenet2")


def test_wrong_usage_is_two_and_the_installed_command_is_the_module():
    for words in ([], ["nothing"], ["convert", "x"]):
        assert subprocess.run([sys.executable, "-m", "segcore", *words], capture_output=True).returncode == 2
