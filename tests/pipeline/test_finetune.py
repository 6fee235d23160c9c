"""`override.finetune`: from a file or a run to work/weights/finetune.pt, known by its content all the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pipeline.resolve as resolving
from pipeline import weights
from pipeline.finetune import bring, identify
from pipeline.resolve import resolve
from pipeline.settings import RECIPE, Override, Params, read_yaml, write_yaml
from pipeline.train import make_job
from segcore.checkpoint import ModelFile, load_model_file, save_model_file
from segcore.data.labels import TABLES
from segcore.distributed import Process
from segcore.errors import CheckpointError, RecipeError
from segcore.files import sha256
from segcore.models import build_model
from segcore.prepare import start

STATISTICS = {"mean": [0.4] * 3, "std": [0.2] * 3}


def run_stage(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Runs the stage `weights`: exit code, and what it says."""
    with pytest.raises(SystemExit) as ended:
        weights.main()
    said = capsys.readouterr()
    return ended.value.code or 0, said.out + said.err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a model of minicity's classes, and a recipe that goes on from it on CamVid."""
    for name in ("SEGCORE_DATA", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resolving, "code_digest", lambda *_: "0" * 16)
    torch.manual_seed(7)
    labels = TABLES["cityscapes"]
    state = build_model("bisenetv2", labels.num_classes).state_dict()
    save_model_file(Path("models/minicity.pt"), ModelFile("bisenetv2", labels.num_classes, state, STATISTICS, labels))
    resolve_for("models/minicity.pt")
    return tmp_path


def resolve_for(source: str | None) -> None:
    wanted = Params("bisenetv2", "camvid", override=Override(finetune=source))
    Path("params.yaml").write_text(f"model: bisenetv2\ndataset: camvid\noverride: {{finetune: {source or ''}}}\n")
    write_yaml(RECIPE, "", resolve(wanted))


def test_the_stage_brings_the_file_and_says_what_it_is(project, capsys):
    stale = Path("work/weights/backbone.pth")
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier run")
    code, said = run_stage(capsys)
    assert code == 0 and said == "pretrained: minicity.pt (whole network)\n"
    found = sha256(Path("models/minicity.pt"))
    assert sha256(Path("work/weights/finetune.pt")) == found
    receipt = json.loads(Path("work/weights/receipt.json").read_text())
    assert receipt == {"pretrained": "minicity.pt (whole network)", "sha256": found}, "and no folder of this machine"
    assert not stale.exists()
    assert read_yaml(RECIPE)["weights"]["finetune"] == {"source": "models/minicity.pt", "sha256": found}


def test_training_on_camvid_starts_from_the_model_of_minicity(project, capsys):
    assert run_stage(capsys)[0] == 0
    lists = Path("work/annotations")
    lists.mkdir(parents=True)
    (lists / "train.csv").write_text("a.png,a_label.png\n")
    (lists / "root").write_text("camvid")
    TABLES["camvid"].write_csv(lists / "labels.csv")
    Path("work/fetch").mkdir()
    Path("work/fetch/files.csv").write_text("path,size,crc32\n")
    job = make_job()
    assert job.pretrained is None
    net = start(job, Process(0, 1, torch.device("cpu"))).net.state_dict()
    before = load_model_file(Path("models/minicity.pt")).state_dict
    classifier = [name for name in net if name.startswith("head.conv_out.")]
    assert net["head.conv_out.1.weight"].shape[0] == 11 and before["head.conv_out.1.weight"].shape[0] == 19
    for name, value in net.items():
        assert name in classifier or torch.equal(value, before[name]), name


def test_without_it_a_run_from_scratch_says_so(project, capsys):
    resolve_for(None)
    assert run_stage(capsys) == (0, "pretrained: none (the network starts from random weights)\n")
    assert json.loads(Path("work/weights/receipt.json").read_text()) == {"pretrained": "none"}
    assert not Path("work/weights/finetune.pt").exists()


def test_a_network_takes_the_backbones_place(project):
    wanted = Params("bisenetv2", "cityscapes", override=Override(finetune="models/minicity.pt"))
    assert resolve(wanted)["weights"]["name"] == "none", "so that no backbone is downloaded"


def test_other_content_than_when_the_recipe_was_resolved_is_noticed(project, capsys):
    with open("models/minicity.pt", "ab") as file:
        file.write(b"x")
    code, said = run_stage(capsys)
    assert code == 1 and said.count("\n") == 1
    assert "models/minicity.pt has changed since the recipe was resolved" in said and "dvc repro -f -s resolve" in said
    assert not list(Path("work/weights").glob("*"))


def test_in_a_temporary_workspace_the_file_is_found_in_the_main_one(project, monkeypatch, tmp_path_factory):
    digest = identify("models/minicity.pt").sha256
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(tmp_path_factory.mktemp("temporary"))
    assert identify("models/minicity.pt").sha256 == digest


def test_a_name_where_there_is_no_repository(project):
    with pytest.raises(RecipeError, match="'nix.pt' is no file, and no experiment"):
        resolve_for("nix.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of DVC whose experiment `tiny` left a model in the cache."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "params.yaml").write_text("seed: 1\n")
    (folder / ".gitignore").write_text("/work\n")
    (folder / "train.py").write_text(
        "import pathlib, shutil\n"
        "pathlib.Path('work/train').mkdir(parents=True)\n"
        "shutil.copy('params.yaml', 'work/train/model.pt')\n"
    )
    (folder / "dvc.yaml").write_text(
        f"stages:\n  train:\n    cmd: {sys.executable} train.py\n    params: [seed]\n    outs: [work/train]\n"
    )
    author = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    hidden = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    for command in (
        ["git", "init", "-q", "-b", "main"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "start"],
        [sys.executable, "-m", "dvc", "exp", "run", "-q", "-n", "tiny", "-S", "seed=2"],
    ):
        done = subprocess.run(command, cwd=folder, env={**hidden, **author}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(trained)
    return trained


def test_an_experiments_model_is_taken_by_its_name(here, tmp_path):
    found = identify("tiny")
    receipt = bring(found, tmp_path)
    assert (tmp_path / "finetune.pt").read_text() == "seed: 2\n"
    assert receipt == {"pretrained": "tiny (whole network)", "sha256": sha256(tmp_path / "finetune.pt")}
    assert found.sha256 == receipt["sha256"]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("tinny", RecipeError, "'tinny' is no file, and no experiment.* did you mean 'tiny'"),
        ("main", CheckpointError, "main has no work/train: it is no finished run"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(here, source, kind, message):
    with pytest.raises(kind, match=message) as caught:
        identify(source)
    assert "\n" not in str(caught.value)


def test_a_run_whose_model_is_nowhere_says_who_can_help(here, tmp_path):
    shutil.move(here / ".dvc/cache", tmp_path / "cache")
    try:
        with pytest.raises(CheckpointError, match="of tiny is neither in DVC's cache here nor in a remote.*exp push"):
            identify("tiny")
    finally:
        shutil.move(tmp_path / "cache", here / ".dvc/cache")
