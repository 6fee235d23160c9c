"""`make doctor` finds what would fail an hour later."""

import shutil
import time
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
    monkeypatch.setattr(doctor, "_storage", lambda: iter(()))
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


class TestStorage:
    @pytest.fixture
    def found(self, tmp_path, monkeypatch):
        """What the doctor says of a DVC project with these remotes, by topic."""
        from dvc.repo import Repo

        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        Repo.init(no_scm=True).close()

        def look(config: str) -> dict[str, doctor.Finding]:
            (tmp_path / ".dvc/config").write_text(f"[core]\n    no_scm = true\n{config}")
            return {finding.topic: finding for finding in doctor._storage()}

        return look

    def test_the_cache_is_named_with_how_files_come_out_of_it(self, found, tmp_path):
        cache = found('[cache]\n    type = "hardlink,copy"\n')["DVC cache"]
        assert (cache.state, cache.text) == ("ok", f"{tmp_path}/.dvc/cache, hardlink")
        assert found('[cache]\n    type = "copy"\n')["DVC cache"].state == "doubt"

    def test_every_remote_is_looked_at(self, found, tmp_path):
        (tmp_path / "store").mkdir()
        here, gone = f"['remote \"a\"']\n    url = {tmp_path}/store\n", f"['remote \"b\"']\n    url = {tmp_path}/no\n"
        said = found(here + gone)
        assert said["DVC remote a"].state == "ok" and str(tmp_path) in said["DVC remote a"].text
        assert said["DVC remote b"].state == "doubt" and "not there yet" in said["DVC remote b"].text
        assert "none is the default" in said["DVC remote"].text

    def test_a_remote_that_fails_or_keeps_silent_is_a_doubt(self, monkeypatch):
        def refuse() -> None:
            raise RuntimeError("Unable to locate credentials\nand more")

        refused = doctor._remote("x", refuse)
        assert refused.state == "doubt" and refused.text == "Unable to locate credentials"
        monkeypatch.setattr(doctor, "PATIENCE", 0.05)
        assert "no answer" in doctor._remote("x", lambda: time.sleep(0.3)).text

    def test_no_project_of_dvc_at_all(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        assert [finding.state for finding in doctor._storage()] == ["wrong"]


def test_credentials_for_cityscapes(project, monkeypatch):
    monkeypatch.delenv("CITYSCAPES_USERNAME", raising=False)
    monkeypatch.setenv("CITYSCAPES_PASSWORD", "x")
    assert named("Cityscapes").state == "doubt" and "CITYSCAPES_USERNAME set" in named("Cityscapes").text
    monkeypatch.setenv("CITYSCAPES_USERNAME", "ann")
    assert named("Cityscapes").state == "ok" and "credentials are set" in named("Cityscapes").text
