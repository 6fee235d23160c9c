"""Runs that are kept in docs/results/, and the experiments of this repository that are not kept there yet.

A kept run is a folder named after what was run, with the small files of `metrics/` and the tables of its report. Git
carries it to everybody, so that the same tables come out wherever they are made.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.reporting.metrics import experiment_name
from pipeline.reporting.speed import BUSY
from pipeline.settings import METRICS, REPORT
from segcore.errors import DataError
from segcore.files import atomic_write

RESULTS = Path("docs/results")
KEPT = ("evaluate.json", "benchmark.json", "train.json", "provenance.json", "iou.csv")
PAGE = "report.md"
Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training with its scores and speed, read from `folder`."""

    folder: Path

    @property
    def name(self) -> str:
        """`<model>-<dataset>-s<seed>`, and every override."""
        return self.folder.name

    @cached_property
    def provenance(self) -> Json:
        """Parameters, digests, versions and devices."""
        return self._json("provenance")

    @property
    def params(self) -> Json:
        """`model`, `dataset`, `seed` and `override`."""
        return self.provenance["params"]

    @cached_property
    def scores(self) -> Json:
        """`miou` and `pixel_accuracy` by mode, as fractions."""
        return self._json("evaluate")

    @cached_property
    def train(self) -> Json:
        """Iterations, batch, start, and the score of the image-blind map."""
        return self._json("train")

    @cached_property
    def fps(self) -> dict[str, dict[str, float]]:
        """Frames per second by device and by backend, precision, size and batch."""
        return self._json("benchmark")["fps"]

    @cached_property
    def engines(self) -> dict[str, dict[str, float]]:
        """mIoU of the very engines that were timed, as fractions, by the same names; empty if none was scored."""
        return self._json("benchmark").get("miou", {})

    @cached_property
    def classes(self) -> dict[str, dict[str, float]]:
        """IoU by mode and class, as fractions."""
        found: dict[str, dict[str, float]] = {}
        for row in csv.DictReader(self._text("iou.csv").splitlines()):
            found.setdefault(row["mode"], {})[row["class"]] = float(row["iou"])
        return found

    @cached_property
    def busy(self) -> bool:
        """Whether other programs ran while speed was measured, or nobody knows: then it is a lower bound."""
        return not self.has_page or BUSY in self._text(PAGE)

    @property
    def has_page(self) -> bool:
        """Whether the tables of its report are kept too."""
        return (self.folder / PAGE).is_file()

    @property
    def basis(self) -> tuple[str, ...]:
        """Digests of images, label table and code: scores of one network can be averaged where they are equal."""
        digests = self.provenance["digests"]
        return digests["data"], digests["labels"], digests["code"]["train"], digests["code"]["evaluate"]

    def _json(self, name: str) -> Json:
        text = self._text(f"{name}.json")
        try:
            return json.loads(text)
        except ValueError as error:
            raise DataError(f"{self.folder / name}.json is damaged ({error}); restore it with git") from None

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self.folder / name} cannot be read ({error.strerror}); restore it with git") from None


def kept_name(params: Mapping[str, Any]) -> str:
    """The experiment's name as a folder or a git reference may have it: an override can be a path."""
    return re.sub(r"[^\w.+-]+", "_", experiment_name(params))


def kept_runs(results: Path = RESULTS) -> list[Run]:
    """All kept runs, by name."""
    return [Run(path.parent) for path in sorted(results.glob("*/evaluate.json"))]


@dataclass(frozen=True)
class Found:
    """A run in the workspace (no `revision`) or in an experiment: where, and its small files by name."""

    where: str
    files: Mapping[str, str]
    revision: str | None = None

    @property
    def provenance(self) -> Json:
        """What `provenance.json` says."""
        return json.loads(self.files["provenance.json"])

    @property
    def name(self) -> str:
        """What it is kept as: named after what was run, whatever the experiment is called."""
        return kept_name(self.provenance["params"])

    def is_kept_as(self, run: Run) -> bool:
        """Whether a kept run has the same weights and scores."""
        same_weights = self.provenance["digests"]["checkpoint"] == run.provenance["digests"]["checkpoint"]
        return same_weights and json.loads(self.files["evaluate.json"]) == run.scores

    def keep(self, results: Path = RESULTS) -> Path:
        """Writes its folder, with the report's tables where they are at hand. Pictures stay behind, in work/report/."""
        folder = results / self.name
        texts, page = dict(self.files), _page(self.revision)
        if page is None:
            (folder / PAGE).unlink(missing_ok=True)
        else:
            texts[PAGE] = "".join(line for line in page.splitlines(keepends=True) if not line.startswith("!["))
        for name, text in texts.items():
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return folder


def workspace() -> Found | None:
    """The run in the workspace; None if there is none."""
    paths = {name: METRICS / name for name in KEPT}
    if not all(path.is_file() for path in paths.values()):
        return None
    return Found("the workspace", {name: path.read_text(encoding="utf-8") for name, path in paths.items()})


def experiments() -> Iterator[Found | str]:
    """Every experiment here, the current commit's first; in place of one without results, a line that says so."""
    current = experiment_commits()
    for name, revision in dict.fromkeys([*current, *experiment_commits(all_commits=True)]):
        files = {file: _show(revision, METRICS / file) for file in KEPT}
        if missing := [file for file, text in files.items() if text is None]:
            yield f"experiment {name}: has no {METRICS / missing[0]}, so it is left out"
        else:
            yield Found(f"experiment {name}", files, revision)


def experiment_commits(all_commits: bool = False) -> list[tuple[str, str]]:
    """The experiments of the current commit, or of all, each by name with the commit that holds it.

    Raises:
        DataError: DVC cannot say, for instance because this is no repository of it.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            found = repo.experiments.ls(all_commits=all_commits)
    except DvcException as error:
        raise DataError(f"DVC cannot list the experiments: {error}") from None
    return [(name, revision) for runs in found.values() for name, revision in runs]


def _show(revision: str, path: Path) -> str | None:
    """A file that git knows, as it stands in a commit."""
    command = ["git", "show", f"{revision}:./{path.as_posix()}"]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return shown.stdout if shown.returncode == 0 else None


def _page(revision: str | None) -> str | None:
    """The report of the workspace or of an experiment; None if it is neither here nor in the cache or the remote."""
    path = REPORT / PAGE
    if revision is None:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        return DVCFileSystem(rev=revision).read_text(path.as_posix(), encoding="utf-8")
    except (OSError, DvcException):
        return None
