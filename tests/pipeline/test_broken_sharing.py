"""What goes wrong between people: nothing wrong is ever used, and the step in docs/share-results.md mends it."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.pipeline.conftest import Clone, Team, stages_run

pytestmark = pytest.mark.slow
CHECKPOINT = "work/train/model.pt"
# Ends DVC as a power cut would, with some objects in the remote, and one under a temporary name.
POWER_CUT = """\
import os, signal
move, moved = os.replace, []
def replace(source, target, **options):
    if "dvc-storage" in str(target):
        moved.append(target)
        if len(moved) > 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return move(source, target, **options)
os.replace = replace
"""


def checkpoint(clone: Clone) -> bytes:
    return (clone.folder / CHECKPOINT).read_bytes()


def objects(store: Path) -> set[str]:
    """Names of what is complete in a remote."""
    return {path.name for path in (store / "files/md5").glob("??/*") if not path.name.endswith(".tmp")}


def stored(team: Team) -> Path:
    """The author's checkpoint in the remote."""
    wanted = checkpoint(team.author)
    return next(path for path in (team.store / "files/md5").glob("??/*") if path.read_bytes() == wanted)


def test_a_push_that_was_killed_is_completed_by_the_next(team, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(POWER_CUT)
    killed = team.author.dvc("push", check=False, PYTHONPATH=str(tmp_path))
    assert killed.returncode == -signal.SIGKILL and len(objects(team.store)) == 3
    colleague = team.member("colleague")
    assert colleague.dvc("pull", check=False).returncode
    assert not (colleague.folder / CHECKPOINT).exists() or checkpoint(colleague) == checkpoint(team.author)

    team.author.dvc("push")
    colleague.dvc("pull")
    assert checkpoint(colleague) == checkpoint(team.author) and stages_run(colleague.dvc("repro")) == []


def test_an_object_that_was_altered_is_refused_and_pushed_again(team):
    team.author.dvc("push")
    altered = stored(team)
    content = altered.read_bytes()
    altered.chmod(0o644)
    altered.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    colleague = team.member("colleague")
    done = colleague.dvc("pull", check=False)
    assert done.returncode and "work/train" in done.stderr
    assert not (colleague.folder / CHECKPOINT).exists()

    altered.unlink(missing_ok=True)
    folder = team.digest_of("train")
    (team.store / "files/md5" / folder[:2] / folder[2:]).unlink(missing_ok=True)
    team.author.dvc("push")
    colleague.dvc("pull")
    assert checkpoint(colleague) == checkpoint(team.author)


def test_a_remote_that_is_gone_is_said_and_back_again_used(team, tmp_path):
    team.author.dvc("push")
    shutil.move(team.store, tmp_path / "unmounted")
    colleague = team.member("colleague")
    done = colleague.dvc("pull", check=False)
    assert done.returncode and "work/train" in done.stderr and "Traceback" not in done.stderr
    assert not (colleague.folder / "work/train").exists()
    shutil.rmtree(team.store, ignore_errors=True)
    shutil.move(tmp_path / "unmounted", team.store)
    colleague.dvc("pull")
    assert checkpoint(colleague) == checkpoint(team.author) and stages_run(colleague.dvc("repro")) == []


def test_two_people_push_at_once(team, tmp_path):
    both = [team.author, team.member("second", shares_cache=True)]
    names = ["from-author", "from-second"]
    for who, name in zip(both, names, strict=True):
        who.dvc("exp", "save", "-n", name)
    pushes = [
        who.start_dvc("exp", "push", "--run-cache", "origin", name, log=tmp_path / name)
        for who, name in zip(both, names, strict=True)
    ]
    for push, name in zip(pushes, names, strict=True):
        assert push.wait(timeout=300) == 0, (tmp_path / name).read_text()
    third = team.member("third")
    assert set(names) <= set(third.dvc("exp", "list", "--name-only", "origin").stdout.split())
    for name in names:
        third.dvc("exp", "pull", "origin", name)
        third.dvc("exp", "apply", name)
        assert checkpoint(third) == checkpoint(team.author)


def test_one_models_checkpoint_alone(team):
    author, name = team.author, team.other.name
    author.dvc("exp", "push", "origin", name)
    colleague = team.member("colleague")
    colleague.dvc("exp", "pull", "--no-cache", "origin", name)
    colleague.dvc("exp", "apply", name, check=False)
    colleague.dvc("pull", CHECKPOINT)
    cached = [path for path in (colleague.folder / ".dvc/cache/files/md5").glob("??/*") if path.suffix != ".dir"]
    assert [path.read_bytes() for path in cached] == [checkpoint(colleague)]

    # Without a clone: from a branch.
    author.dvc("exp", "branch", name, "zoo")
    author.git("push", "-q", "origin", "zoo")
    hub, got = author.git("remote", "get-url", "origin").strip(), author.home / "got.pt"
    author.dvc("get", hub, CHECKPOINT, "--rev", "zoo", "-o", str(got))
    assert got.read_bytes() == checkpoint(colleague) != checkpoint(author)
