"""docs/share-results.md with real servers: S3, SSH and WebDAV to write to, plain HTTP to read from."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.conftest import COMPUTED, Clone, Team, stages_run
from tests.pipeline.servers import Remote, http_read_only, s3, ssh, webdav

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).parents[2] / "docs/share-results.md").read_text(encoding="utf-8")
CHECKPOINT = "work/train/model.pt"


def lines_of(title: str) -> list[list[str]]:
    """The page's lines for one kind of remote, `pip install` left out."""
    section = PAGE.split(f"\n### {title}\n")[1].split("\n#")[0]
    return [shlex.split(line) for line in re.findall(r"^dvc (remote .*)$", section, re.MULTILINE)]


def type_lines(who: Clone, title: str, remote: Remote, *, private: bool) -> None:
    """Types them with this server's address: the private ones, or those for all."""
    for words in lines_of(title):
        if ("--local" in words) == private:
            for example, here in remote.here.items():
                words = [word.replace(example, here) for word in words]
            who.dvc(*words)


def set_up(author: Clone, title: str, remote: Remote) -> None:
    """What one member does for all, and its own lines."""
    type_lines(author, title, remote, private=False)
    author.git("commit", "-qam", "Remote of the team")
    author.git("push", "-q", "origin", "main")
    type_lines(author, title, remote, private=True)


@pytest.mark.parametrize(("title", "server"), [("S3", s3), ("SSH", ssh), ("WebDAV", webdav)])
def test_a_team_shares_runs_over(title, server, team: Team, tmp_path):
    author = team.author
    with server(tmp_path / "server") as remote:
        set_up(author, title, remote)
        author.dvc("push", "--run-cache")
        author.dvc("exp", "save", "-n", "published")
        author.dvc("exp", "push", "--run-cache", "origin", "published")
        right = (author.folder / CHECKPOINT).read_bytes()

        colleague = team.member("colleague")
        type_lines(colleague, title, remote, private=True)
        colleague.dvc("pull")
        assert stages_run(colleague.dvc("repro")) == [] and (colleague.folder / CHECKPOINT).read_bytes() == right
        colleague.dvc("exp", "pull", "origin", "published")
        colleague.dvc("exp", "apply", "published")
        assert not COMPUTED & set(stages_run(colleague.dvc("repro")))

        checkpoint = hashlib.md5(right).hexdigest()
        remote.cut(checkpoint)
        late = team.member("late")
        type_lines(late, title, remote, private=True)
        done = late.dvc("pull", check=False)
        assert done.returncode and "work/train" in done.stderr, done.stderr
        assert not (late.folder / CHECKPOINT).exists()
        for md5 in (checkpoint, team.digest_of("train")):
            remote.delete(md5)
        author.dvc("push")
        late.dvc("pull")
        assert (late.folder / CHECKPOINT).read_bytes() == right


@pytest.fixture
def public(team: Team) -> Iterator[Remote]:
    """A file server over the folder that the team pushed to."""
    team.author.dvc("push", "--run-cache")
    team.author.dvc("exp", "push", "origin", team.other.name)
    with http_read_only(team.store) as remote:
        yield remote


def test_everybody_reads_over_http_and_nobody_writes(public: Remote, team: Team):
    reader = team.member("reader", home=team.author.home.parent / "elsewhere")
    type_lines(reader, "HTTP, to read", public, private=True)
    reader.dvc("pull")
    assert stages_run(reader.dvc("repro")) == []
    reader.dvc("exp", "pull", "origin", team.other.name)
    reader.dvc("exp", "apply", team.other.name)
    assert reader.metrics() == team.other.metrics

    before = {path: path.read_bytes() for path in team.store.rglob("*") if path.is_file()}
    (reader.folder / "work/train/curve.csv").unlink()
    (reader.folder / "work/train/curve.csv").write_text("another\n")
    reader.dvc("commit", "--force", "train")
    done = reader.dvc("push", check=False)
    assert done.returncode and "failed to" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert {path: path.read_bytes() for path in team.store.rglob("*") if path.is_file()} == before


def test_a_webdav_share_without_permission_to_write_says_so(team: Team, tmp_path):
    with webdav(tmp_path / "server", read_only=True) as remote:
        set_up(team.author, "WebDAV", remote)
        done = team.author.dvc("push", check=False)
        assert done.returncode and "403 (Forbidden)" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not [path for path in (tmp_path / "server").rglob("*") if path.is_file()]
