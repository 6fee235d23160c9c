"""One trains, another has it: push, clone, pull, without the images and without training."""

from __future__ import annotations

import pytest

from pipeline.settings import read_yaml
from tests.pipeline.conftest import Clone, stages_run

COMPUTED = {"fetch", "annotations", "weights", "train", "evaluate", "benchmark"}


@pytest.fixture(scope="module")
def colleague(clone, tmp_path_factory) -> Clone:
    """A clone by git of a project whose author pushed two models; it has nobody's images and an empty cache."""
    hub = tmp_path_factory.mktemp("hub") / "segcore.git"
    clone.git("clone", "-q", "--bare", ".", str(hub))
    clone.git("remote", "add", "origin", str(hub))
    clone.dvc("exp", "run", "-n", "stdc1-shared", "-S", "model=stdc1")
    clone.back()
    clone.dvc("push", "--run-cache")
    clone.dvc("exp", "push", "--run-cache", "origin", "stdc1-shared")
    folder = tmp_path_factory.mktemp("colleague") / "segcore"
    clone.git("clone", "-q", str(hub), str(folder))
    return Clone(folder, clone.home)


def test_a_colleague_without_images_computes_nothing(clone, colleague):
    colleague.dvc("pull")
    assert stages_run(colleague.dvc("repro")) == []
    assert (colleague.folder / "work/train/model.pt").read_bytes() == (
        clone.folder / "work/train/model.pt"
    ).read_bytes()
    other = colleague.dvc("exp", "run", "--pull", "-S", "model=stdc1")
    assert not COMPUTED & set(stages_run(other)), other.stdout
    assert list(colleague.metrics()["miou"]) == ["ss", "seg50", "seg75"]
    assert not (colleague.folder / "data/minicity").exists()
    colleague.back()


def test_a_colleague_takes_a_run_by_its_name(colleague):
    colleague.dvc("exp", "pull", "origin", "stdc1-shared")
    colleague.dvc("exp", "apply", "stdc1-shared")
    assert not COMPUTED & set(stages_run(colleague.dvc("repro")))
    assert list(colleague.metrics()["miou"]) == ["ss", "seg50", "seg75"]
    colleague.back()


def test_a_truncated_checkpoint_in_the_remote_is_refused(clone, colleague, tmp_path):
    checkpoint = (clone.folder / "work/train/model.pt").read_bytes()
    store = clone.home / "dvc-storage/segcore/files/md5"
    stored = next(path for path in store.glob("*/*") if path.read_bytes() == checkpoint)
    stored.chmod(0o644)
    stored.write_bytes(checkpoint[: len(checkpoint) // 2])
    hub = colleague.git("remote", "get-url", "origin").strip()
    clone.git("clone", "-q", hub, str(tmp_path / "segcore"))
    late = Clone(tmp_path / "segcore", clone.home)
    done = late.dvc("pull", check=False)
    assert done.returncode and "work/train" in done.stderr, done.stderr
    assert not (late.folder / "work/train/model.pt").exists()

    # The way out: delete the object and its folder's list (DVC takes a listed file for present), and push again.
    stored.unlink(missing_ok=True)
    outs = read_yaml(clone.folder / "dvc.lock")["stages"]["train"]["outs"]
    folder = outs[0]["md5"]
    (store / folder[:2] / folder[2:]).unlink()
    clone.dvc("push")
    late.dvc("pull")
    assert (late.folder / "work/train/model.pt").read_bytes() == checkpoint
