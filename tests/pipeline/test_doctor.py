"""`make doctor` finds what would fail an hour later."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline import doctor

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A work tree with what the doctor reads, and a git of its own."""
    for name in ("params.yaml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    doctor._output("git", "init", "-q", ".")
    monkeypatch.setattr(doctor, "_remote", lambda: doctor.Finding("DVC remote", "ok", "a folder"))
    return tmp_path


def named(topic: str) -> doctor.Finding:
    return next(finding for finding in doctor.findings() if finding.topic == topic)


def test_a_git_without_a_name_is_wrong_and_says_how_to_set_it(project, capsys):
    assert "dvc exp run" in named("git").remedy and named("git").state == "wrong"
    with pytest.raises(SystemExit) as end:
        doctor.main()
    assert end.value.code == 1 and "user.email" in capsys.readouterr().out
    (project / "gitconfig").write_text("[user]\nname = A\nemail = a@b.c\n")
    with pytest.raises(SystemExit) as end:
        doctor.main()
    assert end.value.code == 0 and named("git").text.startswith("A, git version")


def test_a_params_file_that_cannot_run_is_wrong(project):
    Path("params.yaml").write_text("model: bisenetv2\ndataset: minicity\nsede: 3\n")
    assert named("params.yaml").state == "wrong" and "sede" in named("params.yaml").text


def test_little_room_and_other_versions_are_doubts(project, monkeypatch):
    monkeypatch.setattr(doctor, "free_disk", lambda path: 1 << 20)
    monkeypatch.setattr(doctor, "free_memory", lambda device: 1 << 20)
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "numpy" else None)
    assert named("disk of the project").state == named("CPU").state == named("packages").state == "doubt"
    assert "numpy 0.0.1 (tested:" in named("packages").text
    assert named("GPU").state == ("ok" if torch.cuda.is_available() else "doubt")


def test_a_remote_that_is_not_there_is_a_doubt(project, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert doctor._remote().state == "doubt"
