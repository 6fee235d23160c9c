"""The chain as a user runs it: a clone of the project, tiny values, DVC's own commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.settings import read_yaml, write_yaml
from tests.conftest import make_camvid

PROJECT = Path(__file__).parents[2]
SMALL = {
    "data": {"generate": {"train": 4, "val": 2, "height": 64, "width": 128}},
    "evaluate": {"crop": [64, 64], "scales": [0.5, 1.0]},
    "benchmark": {"sizes": [[64, 128]], "seconds": 0.05, "warmup": 0.05, "backends": ["torch", "tensorrt"]},
}
TRAIN = {"iterations": 2, "warmup": 1, "batch_size": 2, "crop": [32, 64], "checkpoint_every": 1, "log_every": 1}


class Clone:
    """A clone of the working tree with tiny recipes, and what a user types in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
        self._shrink()
        for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "start"]):
            self.git(*command)

    def _shrink(self) -> None:
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
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return self._run(["git", *identity, *command]).stdout

    def dvc(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        return self._run([sys.executable, "-m", "dvc", *command], check, **environment)

    def _run(self, command: list[str], check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        outer = {k: v for k, v in os.environ.items() if k not in ("SEGCORE_DATA", "DVC_ROOT", "PYTHONPATH")}
        done = subprocess.run(
            command,
            cwd=self.folder,
            text=True,
            capture_output=True,
            timeout=500,
            env={**outer, "PATH": path, **environment},
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def stages_run(self, output: str) -> list[str]:
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def metrics(self) -> dict:
        return json.loads((self.folder / "metrics/evaluate.json").read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Clone:
    made = Clone(tmp_path_factory.mktemp("user") / "segcore")
    done = made.dvc("repro")
    assert made.stages_run(done.stdout) == [
        "resolve",
        "fetch",
        "annotations",
        "weights",
        "train",
        "evaluate",
        "benchmark",
        "report",
    ]
    made.git("add", "-A")
    made.git("commit", "-qm", "first run")
    return made


def test_what_comes_out(clone):
    metrics = clone.metrics()
    assert set(metrics["miou"]) == {"ss", "ssc", "msf", "mscf"} and 0 <= metrics["miou"]["ss"] <= 1
    speed = json.loads((clone.folder / "metrics/benchmark.json").read_text())["fps"]
    assert [key for device in speed.values() for key in device] == ["torch_fp32_64x128_b1"]
    page = (clone.folder / "work/report/report.html").read_text()
    assert "tensorrt is not installed" in page and "http" not in page.replace("http-equiv", "")
    assert "minicity" in (clone.folder / "work/report/report.md").read_text()


def test_second_repro_runs_nothing(clone):
    done = clone.dvc("repro")
    assert clone.stages_run(done.stdout) == [] and "up to date" in done.stdout


def test_reworded_comments_train_nothing_and_other_arithmetic_does(clone):
    path = clone.folder / "segcore/optim.py"
    before = path.read_text()
    try:
        path.write_text(before.replace('"""', '"""Reworded. ', 1) + "\n# a remark\n")
        done = clone.dvc("repro")
        assert clone.stages_run(done.stdout) == ["resolve"], done.stdout
        path.write_text(before.replace("math.pi *", "3.0 *"))
        clone.dvc("repro", "resolve")
        assert "train" in clone.dvc("status", "dvc.yaml").stdout
    finally:
        path.write_text(before)
        clone.dvc("repro")


def test_another_seed_is_another_training_and_going_back_computes_nothing(clone):
    first = clone.metrics()
    changed = clone.dvc("exp", "run", "-n", "bisenetv2-minicity-s2", "-S", "seed=2")
    assert clone.stages_run(changed.stdout) == ["train", "evaluate", "benchmark", "report"]
    lines = clone.git("diff", "-U0", "params.yaml").splitlines()
    assert [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")] == ["-seed: 1", "+seed: 2"]
    diff = clone.dvc("metrics", "diff", "main", "bisenetv2-minicity-s2").stdout
    assert "miou.ss" in diff and "fps." in diff
    back = clone.dvc("exp", "run", "-S", "seed=1")
    assert "train" not in clone.stages_run(back.stdout) and clone.metrics() == first
    clone.git("checkout", "HEAD", "--", ".")
    clone.dvc("checkout")


def test_a_learning_rate_in_scientific_notation_arrives_as_a_number(clone):
    clone.dvc("exp", "run", "-n", "small-lr", "-S", "override.lr=5e-5")
    assert read_yaml(clone.folder / "recipe.yaml")["train"]["lr"] == 5e-5
    assert "train.lr" in clone.dvc("params", "diff", "main").stdout
    shown = clone.dvc("exp", "show", "--csv").stdout
    assert "small-lr" in shown and "miou.ss" in shown
    clone.git("checkout", "HEAD", "--", ".")
    clone.dvc("checkout")


def test_workers_and_devices_invalidate_nothing(clone):
    done = clone.dvc("exp", "run", "-S", "runtime.workers=1", "-S", "runtime.devices=cpu")
    assert clone.stages_run(done.stdout) == []
    clone.git("checkout", "HEAD", "--", ".")


def test_plots_are_drawn(clone):
    clone.dvc("plots", "show", "-o", "dvc_plots")
    page = (clone.folder / "dvc_plots/index.html").read_text()
    assert "Training loss" in page and "Confusion" in page


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model=bisenet2", "unknown model 'bisenet2'; did you mean 'bisenetv2'?"),
        ("dataset=cityscape", "unknown dataset 'cityscape'; did you mean 'cityscapes'?"),
        ("override.lr=-1", "params.yaml.override.lr"),
        ("override.modes=ss+mscx", "mscf"),
    ],
)
def test_a_bad_setting_stops_in_one_line(clone, setting, message):
    done = clone.dvc("exp", "run", "-S", setting, check=False)
    clone.git("checkout", "HEAD", "--", ".")
    ours = [line for line in done.stderr.splitlines() if line.startswith("resolve: ")]
    assert done.returncode == 255 or done.returncode == 1
    assert len(ours) == 1 and message in ours[0] and "Traceback" not in done.stderr
    clone.dvc("checkout")


def test_cityscapes_without_archives_says_which_where_and_whither(clone):
    done = clone.dvc("exp", "run", "-S", "dataset=cityscapes", check=False)
    clone.git("checkout", "HEAD", "--", ".")
    clone.dvc("checkout", "--force")
    line = next(line for line in done.stderr.splitlines() if line.startswith("fetch: "))
    for part in (
        "leftImg8bit_trainvaltest.zip",
        "gtFine_trainvaltest.zip",
        "cityscapes-dataset.com",
        "data/cityscapes",
    ):
        assert part in line


def test_photographs_in_camvids_layout_through_the_data_store(clone, tmp_path):
    make_camvid(tmp_path / "camvid", size=(72, 96))
    changes = ["-S", "dataset=camvid", "-S", "override.modes=ss+ssc"]
    done = clone.dvc("exp", "run", "-n", "bisenetv2-camvid-s1", *changes, SEGCORE_DATA=str(tmp_path))
    assert clone.stages_run(done.stdout)[-1] == "report"
    assert set(clone.metrics()["miou"]) == {"ss", "ssc"}
    lists = (clone.folder / "work/annotations/val.csv").read_text()
    assert lists.startswith("val/val_000.png,valannot/val_000.png\n")
    page = (clone.folder / "work/report/report.html").read_text()
    assert "photograph not included" in page and "data:image/jpeg" not in page
    assert "data:image/jpeg" in (clone.folder / "work/report-with-photographs.html").read_text()
    clone.git("checkout", "HEAD", "--", ".")
    clone.dvc("checkout")


def test_lock_file_holds_no_path_of_this_machine(clone):
    assert str(clone.folder) not in (clone.folder / "dvc.lock").read_text()


def _wait_for(condition, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_dvc_killed_while_training_refuses_a_second_start_and_then_goes_on(clone):
    clone.dvc("exp", "run", "-S", "seed=1")  # whatever ran before
    states = clone.folder / "work/resume/train"
    before = set(states.glob("*"))
    changes = ["-S", "seed=9", "-S", "override.iterations=150"]
    command = [sys.executable, "-m", "dvc", "exp", "run", *changes]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (clone.folder.parent / "killed.log").open("w") as log:
        first = subprocess.Popen(
            command, cwd=clone.folder, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "PATH": path}
        )
    state = _wait_for(lambda: [p for p in states.glob("*/resume.pt") if p.parent not in before])[0]
    first.kill()
    first.wait()
    # The training goes on as an orphan; a second start must not touch its state.
    second = clone.dvc("repro", check=False)
    assert second.returncode and "this very training is already running" in second.stderr, second.stderr
    os.killpg(first.pid, signal.SIGKILL)
    assert list(state.parent.glob("resume*.pt")), "a kill between two saves leaves the one before"
    assert not (clone.folder / "work/train/model.pt").exists(), "killed before its end"
    clone.dvc("repro")
    facts = json.loads((clone.folder / "work/train/run.json").read_text())
    assert 0 < facts["resumed_from"] < facts["iterations"] == 150
    clone.git("checkout", "HEAD", "--", ".")
    clone.dvc("checkout", "--force")
