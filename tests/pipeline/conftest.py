"""A clone of the project that finishes in seconds, driven by DVC's own commands; and an invented run for the report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import report
from pipeline.reporting import content, insight, scores, speed
from pipeline.settings import read_yaml, write_yaml
from tests.pipeline.invented_run import make_run

PROJECT = Path(__file__).parents[2]
SMALL = {
    "data": {"generate": {"train": 4, "val": 2, "height": 64, "width": 128}},
    "evaluate": {"crop": [64, 64], "scales": [0.5, 1.0]},
    "benchmark": {
        **{"sizes": [[64, 128]], "seconds": 0.05, "warmup": 0.05, "backends": ["torch", "tensorrt"]},
        "precisions": ["fp32"],
    },
}
# What nobody should have to do twice.
COMPUTED = {"fetch", "annotations", "weights", "train", "evaluate", "benchmark"}
TRAIN = {"iterations": 2, "warmup": 1, "batch_size": 2, "crop": [32, 64], "checkpoint_every": 1, "log_every": 1}


class Clone:
    """A clone with tiny recipes, and what a user types in it. `home` holds git's settings and the default remote."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home

    @classmethod
    def of_the_working_tree(cls, folder: Path, home: Path) -> Clone:
        """Copies what git knows of this project, results excepted, shrinks its recipes, and commits."""
        made = cls(folder, home)
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in listed:
            if not name.startswith(("tests/", "docs/", "dvc.lock", "recipe.yaml", "metrics/")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        made._shrink()
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "start"]):
            made.git(*command)
        return made

    def _shrink(self) -> None:
        # Loader processes take longer to start than these trainings take.
        path = self.folder / "params.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("workers: 2", "workers: 0"), encoding="utf-8")
        path = self.folder / "pipeline/datasets/minicity.yaml"
        content = read_yaml(path)
        for name, values in SMALL.items():
            content[name] = {**content.get(name, {}), **values}
        write_yaml(path, "", content)
        for path in (self.folder / "pipeline/recipes").glob("*.yaml"):
            if path.stem != "defaults":
                content = read_yaml(path)
                for part in (content.get("datasets") or {}).values():
                    part["train"] = {**part.get("train", {}), **TRAIN}
                write_yaml(path, "", content)

    def git(self, *command: str) -> str:
        """Runs git; returns what it prints."""
        return self._run(["git", *command]).stdout

    def dvc(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Runs DVC to its end; `check`: it must succeed."""
        return self._run([sys.executable, "-m", "dvc", *command], check, **environment)

    def python(self, *command: str) -> subprocess.CompletedProcess:
        """Runs Python to its successful end."""
        return self._run([sys.executable, *command])

    def start_dvc(self, *command: str, log: Path) -> subprocess.Popen:
        """Starts DVC in a process group of its own."""
        return self.start(sys.executable, "-m", "dvc", *command, log=log)

    def start(self, *command: str, log: Path) -> subprocess.Popen:
        """Starts any command in a process group of its own."""
        with log.open("w") as file:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
                env=self._environment(),
            )

    def back(self) -> None:
        """To the committed run, as README says."""
        self.git("checkout", "HEAD", "--", ".")
        self.dvc("checkout", "--force")

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        outer = {k: v for k, v in os.environ.items() if k not in ("SEGCORE_DATA", "DVC_ROOT", "PYTHONPATH")}
        return {**outer, "PATH": path, "HOME": str(self.home), "SEGCORE_OFFLINE": "1"}

    def _run(self, command: list[str], check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command,
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=500,
            env={**self._environment(), **environment},
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def metrics(self) -> dict:
        """The scores of the run in the workspace."""
        return json.loads((self.folder / "metrics/evaluate.json").read_text())


def stages_run(done: subprocess.CompletedProcess) -> list[str]:
    """The stages that a command of DVC computed; those from the cache are not among them."""
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Clone:
    """A clone whose first run is done and committed; a test leaves it as it found it."""
    place = tmp_path_factory.mktemp("user")
    (place / "home").mkdir()
    (place / "home/.gitconfig").write_text("[user]\n\tname = a\n\temail = a@example.org\n")
    made = Clone.of_the_working_tree(place / "segcore", place / "home")
    chain = ["resolve", "fetch", "annotations", "weights", "train", "evaluate", "benchmark", "report"]
    assert stages_run(made.dvc("repro")) == chain
    made.git("add", "-A")
    made.git("commit", "-qm", "first run")
    return made


@dataclass(frozen=True)
class Ran:
    """An experiment: what it was asked for, the stages that it ran, its scores and its recipe."""

    name: str
    settings: tuple[str, ...]
    stages: list[str]
    metrics: dict
    recipe: dict


@pytest.fixture(scope="session")
def other_model(clone: Clone) -> Ran:
    """A second model's experiment in `clone`, whose workspace is at its first run again."""
    name, settings = "stdc1-lr-5e-05", ("-S", "model=stdc1", "-S", "override.lr=5e-5")
    done = clone.dvc("exp", "run", "-n", name, *settings)
    found = Ran(name, settings, stages_run(done), clone.metrics(), read_yaml(clone.folder / "recipe.yaml"))
    clone.back()
    return found


@dataclass(frozen=True)
class Team:
    """People around one repository, with a remote of their own in the author's home, nothing in it yet.

    Attributes:
        author: has the first run in the workspace, and the experiment `other`, both in the cache.
        hub: the repository that all of them clone.
    """

    author: Clone
    other: Ran
    hub: Path

    @property
    def store(self) -> Path:
        """The folder that is the default remote."""
        return self.author.home / "dvc-storage/segcore"

    def member(self, name: str, *, home: Path | None = None, shares_cache: bool = False) -> Clone:
        """One more clone; `home`: of somebody who does not see the default remote."""
        made = Clone(self.hub.parent / name, home or self.author.home)
        made.home.mkdir(exist_ok=True)
        if home:
            shutil.copy2(self.author.home / ".gitconfig", home)
        self.author.git("clone", "-q", str(self.hub), str(made.folder))
        if shares_cache:
            shutil.copy2(self.author.folder / ".dvc/config.local", made.folder / ".dvc/config.local")
            made.dvc("checkout")
        return made

    def digest_of(self, stage: str) -> str:
        """md5 of a stage's folder: the object that lists its files."""
        return read_yaml(self.author.folder / "dvc.lock")["stages"][stage]["outs"][0]["md5"]


@pytest.fixture
def team(clone: Clone, other_model: Ran, tmp_path: Path) -> Team:
    """A team whose author has the runs of `clone`."""
    hub, author = tmp_path / "hub.git", Clone(tmp_path / "author", tmp_path / "home")
    author.home.mkdir()
    shutil.copy2(clone.home / ".gitconfig", author.home)
    clone.git("clone", "-q", "--bare", ".", str(hub))
    clone.git("clone", "-q", str(hub), str(author.folder))
    author.git("fetch", "-q", str(clone.folder), "refs/exps/*:refs/exps/*")
    author.dvc("config", "--local", "cache.dir", str(clone.folder / ".dvc/cache"))
    author.dvc("checkout")
    return Team(author, other_model, hub)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run") / "project"
    make_run(root)
    return root


@pytest.fixture(scope="session")
def reported(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stage `report` has run as DVC runs it; for tests that change nothing."""
    root = Path(shutil.copytree(template, tmp_path_factory.mktemp("reported") / "project"))
    hidden = ("SEGCORE_DATA", "DVC_ROOT")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = str(Path(report.__file__).parents[1])
    command = [sys.executable, "-m", "pipeline.report"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def pages(reported: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The HTML and the Markdown page of `reported`, which is the current folder."""
    monkeypatch.chdir(reported)
    return tuple(Path(f"work/report/report.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "md"))


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose earlier stages have run; the current folder. Figures are blank, for they take long to draw."""
    for module in (content, insight, scores, speed):
        monkeypatch.setattr(module, "figure_svg", lambda figure: "<svg></svg>")
        monkeypatch.setattr(module, "figure_png", lambda figure: b"")
    root = Path(shutil.copytree(template, tmp_path / "project"))
    monkeypatch.chdir(root)
    monkeypatch.delenv("SEGCORE_DATA", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return root
