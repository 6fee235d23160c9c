"""One trains, another has it: push, clone, pull, without the images and without training."""

from __future__ import annotations

import pytest

from pipeline.settings import read_yaml
from tests.pipeline.conftest import COMPUTED, Clone, Ran, stages_run


@pytest.fixture(scope="module")
def colleague(clone: Clone, other_model: Ran, tmp_path_factory) -> Clone:
    """A clone by git of a project whose author pushed two models; it has nobody's images and an empty cache."""
    hub = tmp_path_factory.mktemp("hub") / "segcore.git"
    clone.git("clone", "-q", "--bare", ".", str(hub))
    clone.git("remote", "add", "origin", str(hub))
    clone.dvc("push", "--run-cache")
    clone.dvc("exp", "push", "--run-cache", "origin", other_model.name)
    folder = tmp_path_factory.mktemp("colleague") / "segcore"
    clone.git("clone", "-q", str(hub), str(folder))
    return Clone(folder, clone.home)


def test_a_colleague_without_images_computes_nothing(clone, colleague, other_model):
    colleague.dvc("pull")
    assert stages_run(colleague.dvc("repro")) == []
    assert (colleague.folder / "work/train/model.pt").read_bytes() == (
        clone.folder / "work/train/model.pt"
    ).read_bytes()
    other = colleague.dvc("exp", "run", "--pull", *other_model.settings)
    assert not COMPUTED & set(stages_run(other)), other.stdout
    assert colleague.metrics() == other_model.metrics
    assert not (colleague.folder / "data/minicity").exists()
    colleague.git("checkout", "HEAD", "--", ".")


def test_a_colleague_takes_a_run_by_its_name(colleague, other_model):
    colleague.dvc("exp", "pull", "origin", other_model.name)
    colleague.dvc("exp", "apply", other_model.name)
    assert not COMPUTED & set(stages_run(colleague.dvc("repro")))
    assert colleague.metrics() == other_model.metrics


@pytest.mark.slow
def test_a_colleague_goes_on_from_a_run_with_another_seed(team):
    author, name = team.author, team.other.name
    author.dvc("push", "--run-cache")
    author.dvc("exp", "push", "--run-cache", "origin", name)
    colleague = team.member("colleague")
    colleague.dvc("exp", "pull", "origin", name)
    colleague.dvc("exp", "apply", name)
    before = (colleague.folder / "params.yaml").read_text()
    colleague.dvc("repro", "--force", "--single-item", "fetch")  # a training needs the images, results do not
    trained = colleague.dvc("exp", "run", "-n", "another-seed", "-S", "seed=2")
    assert stages_run(trained) == ["train", "evaluate", "benchmark", "report"]
    assert (colleague.folder / "params.yaml").read_text() == before.replace("seed: 1", "seed: 2")
    assert colleague.metrics().keys() == team.other.metrics.keys()


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
