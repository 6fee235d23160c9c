"""Shared by tests of data: a server with one file, a way to it that does not wait, zips, a project with a store."""

import shutil
from pathlib import Path

import pytest

import pipeline.resolve as resolve_module
from segcore.data.web import Web
from tests.data.webserver import CONTENT, Site, serving
from tests.data.zips import make_zip


@pytest.fixture(autouse=True)
def straight_to_the_server(monkeypatch):
    """Whatever the environment says of networks."""
    monkeypatch.delenv("SEGCORE_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site():
    with serving(Site()) as server:
        server.files["/a.zip"] = CONTENT
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "store" / "a.zip"


@pytest.fixture
def pauses():
    """Seconds that were to be waited."""
    return []


@pytest.fixture
def web(pauses):
    return Web(timeout=2, sleep=pauses.append)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def pack(tmp_path):
    """Writes a zip of (entry, content) pairs."""

    def run(*entries, name="a.zip", **options):
        return make_zip(tmp_path / name, *entries, **options)

    return run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data store; the current folder is an empty project with this one's recipes."""
    project = tmp_path / "project"
    for kind in ("recipes", "datasets"):
        shutil.copytree(resolve_module.FOLDER / kind, project / "pipeline" / kind)
    monkeypatch.setattr(resolve_module, "FOLDER", project / "pipeline")
    monkeypatch.setattr(resolve_module, "code_digest", lambda modules, root: "0" * 16)
    monkeypatch.setenv("SEGCORE_DATA", str(tmp_path / "store"))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text("model: bisenetv2\ndataset: minicity\n")
    return tmp_path / "store"
