"""Models × seeds: names, order, slots, what is skipped, what fails, what is stopped; and the same under Slurm.

An invented `dvc` stands for the real one, except in the slow tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import pipeline.resolve as resolving
from pipeline import sweep
from pipeline.settings import Override, Params
from pipeline.slurm import write_script
from pipeline.sweep import DONE, FAILED, SKIPPED, STOPPED, Job, jobs_of
from segcore.errors import RecipeError
from tests.pipeline.conftest import PROJECT, Clone

BASE = Params("bisenetv2", "minicity")
# Takes a moment, tells what it was asked for and where it ran, and fails for seed 13. Seed 99 runs until it is stopped.
DVC = """\
#!{python}
import json, os, sys, time
words = sys.argv[1:]
began = time.monotonic()
print("Running stage 'train'") if "seed=1" in words else print("Stage 'weights' didn't change, skipping", flush=True)
if words[:2] == ["exp", "list"]:
    print("there-already")
elif "seed=99" in words:
    open("running", "w").close()
    time.sleep(60)
elif words[:2] == ["exp", "run"]:
    time.sleep(0.3)
told = {{"words": words, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began, "ended": time.monotonic()}}
with open("told", "a") as file:
    file.write(json.dumps(told) + "\\n")
if "seed=13" in words:
    sys.exit("ERROR: unlucky")
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with parameters, whose `dvc` is the invented one; no experiment is there yet."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin/dvc"
    stub.write_text(DVC.format(python=sys.executable))
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("model: bisenetv2\ndataset: minicity\n")
    monkeypatch.setattr(sweep, "experiment_commits", lambda: [])
    monkeypatch.setattr(sweep, "uncommitted", lambda: [])
    monkeypatch.setattr(resolving, "code_digest", lambda *_: "0")
    return tmp_path


def run(capsys, *words: str) -> tuple[int, str]:
    """Exit code and everything printed."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["sweep", *words])
        sweep.main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out + err


def told() -> list[dict]:
    """What the invented `dvc` was asked for, in the order of its ends."""
    return [json.loads(line) for line in Path("told").read_text().splitlines()]


def name_of(call: dict) -> str:
    return call["words"][call["words"].index("-n") + 1]


def outcomes(printed: str) -> dict[str, str]:
    """State by experiment, from the table at the end."""
    table = printed[printed.index("Sweep") :]
    found = re.findall(r"│ (\S+)\s+│ ([a-z ]+?)\s+│", table)
    return dict(found)


class TestJobs:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        monkeypatch.setattr(resolving, "code_digest", lambda *_: "0")

    def test_every_combination_seed_by_seed(self):
        jobs = jobs_of(BASE, ["bisenetv2", "stdc1"], ["minicity"], [1, 2], [])
        names = ["bisenetv2-minicity-s1", "stdc1-minicity-s1", "bisenetv2-minicity-s2", "stdc1-minicity-s2"]
        assert [job.name for job in jobs] == names
        start = ["dvc", "exp", "run", "--temp", "-n", "stdc1-minicity-s2"]
        assert jobs[3].command == [*start, "-S", "model=stdc1", "-S", "dataset=minicity", "-S", "seed=2"]

    def test_changes_are_part_of_the_name_and_of_the_command(self):
        job = jobs_of(BASE, ["stdc1"], ["camvid"], [3], ["iterations=20", "lr=5e-5"])[0]
        assert job.name == "stdc1-camvid-s3-iterations-20-lr-5e-05"
        assert job.command[-4:] == ["-S", "override.iterations=20", "-S", "override.lr=5e-05"]

    def test_what_params_overrides_already_is_part_of_the_name(self):
        base = Params("bisenetv2", "minicity", override=Override(modes="ss"))
        assert jobs_of(base, ["stdc1"], ["minicity"], [1], [])[0].name == "stdc1-minicity-s1-modes-ss"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((["bisenetv9"], ["minicity"], [1], []), "did you mean 'bisenetv2'"),
            ((["stdc1"], ["minicitty"], [1], []), "did you mean 'minicity'"),
            ((["stdc1"], ["minicity"], [1], ["iteration=3"]), "did you mean 'iterations'"),
            ((["stdc1"], ["minicity"], [1], ["iterations"]), "must be key=value"),
            ((["stdc1"], ["minicity"], [-1], []), "seed"),
        ],
    )
    def test_a_mistake_is_said_before_anything_runs(self, words, message):
        with pytest.raises(RecipeError, match=message):
            jobs_of(BASE, *words)


class TestRunning:
    def test_one_after_the_other_each_with_a_log(self, project, capsys):
        code, printed = run(capsys, "--models", "bisenetv2", "stdc1", "--seeds", "1", "2")
        assert code == 0 and set(outcomes(printed).values()) == {DONE} and "make table" in printed
        calls = told()
        assert [name_of(call) for call in calls] == [
            "bisenetv2-minicity-s1", "stdc1-minicity-s1", "bisenetv2-minicity-s2", "stdc1-minicity-s2",
        ]  # fmt: skip
        assert all(after["began"] > before["ended"] for before, after in zip(calls, calls[1:], strict=False))
        assert "train" in Path("work/sweep/stdc1-minicity-s1.log").read_text()

    def test_what_is_there_is_skipped(self, project, capsys, monkeypatch):
        monkeypatch.setattr(sweep, "experiment_commits", lambda: [("stdc1-minicity-s1", "c0ffee")])
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "1", "2")
        assert code == 0 and outcomes(printed) == {"stdc1-minicity-s1": SKIPPED, "stdc1-minicity-s2": DONE}
        assert [name_of(call) for call in told()] == ["stdc1-minicity-s2"]

    def test_a_failure_does_not_stop_the_others_and_says_why(self, project, capsys):
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "13", "2")
        assert code == 1 and outcomes(printed) == {"stdc1-minicity-s13": FAILED, "stdc1-minicity-s2": DONE}
        assert "ERROR: unlucky" in printed and "does what is left" in printed

    def test_one_on_each_gpu_at_a_time(self, project, capsys, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "2", "3", "4", "5", "--per-gpu")
        calls = told()
        assert code == 0 and len(calls) == 4 and {call["gpu"] for call in calls} == {"2", "5"}
        for gpu in ("2", "5"):
            own = sorted((call["began"], call["ended"]) for call in calls if call["gpu"] == gpu)
            assert all(after[0] >= before[1] for before, after in zip(own, own[1:], strict=False))

    def test_the_first_of_a_data_set_goes_ahead_until_its_images_are_there(self, project, capsys, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        # Seed 1 never says that the data is there, so the second waits for its end.
        run(capsys, "--models", "stdc1", "--seeds", "1", "2", "--per-gpu")
        first, second = told()
        assert name_of(first) == "stdc1-minicity-s1" and second["began"] >= first["ended"]

    def test_no_gpu(self, project, capsys, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "1", "--per-gpu")
        assert code == 1 and "no GPU here" in printed and not Path("told").exists()

    def test_a_second_sweep_is_refused(self, project, capsys):
        holder = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import time\n"
        holder += "from segcore.files import exclusive\n"
        holder += "with exclusive(Path('work/sweep/lock'), 'x'): print('held', flush=True); time.sleep(60)"
        root = str(Path(sweep.__file__).parents[1])
        with subprocess.Popen([sys.executable, "-c", holder, root], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "held\n"
            code, printed = run(capsys, "--models", "stdc1", "--seeds", "1")
            process.kill()
        assert code == 1 and "another sweep is running" in printed and str(process.pid) in printed

    def test_a_signal_stops_what_runs_and_starts_nothing_else(self, project, capsys):
        def interrupt() -> None:
            while not Path("running").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=interrupt)
        thread.start()
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "99", "2")
        thread.join()
        assert code == 130 and set(outcomes(printed).values()) == {STOPPED} and not Path("told").exists()
        assert "KeyboardInterrupt" in Path("work/sweep/stdc1-minicity-s99.log").read_text()


class TestSlurm:
    @pytest.fixture
    def script(self, project) -> Path:
        job = jobs_of(BASE, ["bisenetv2", "stdc1"], ["minicity"], [1], ["iterations=2"])
        there = Job("there-already", {"model": "a b", "dataset": "x", "seed": 1})
        write_script(Path("sweep.sh"), [(one.name, one.command) for one in [*job, there]])
        return project / "sweep.sh"

    def dry(self, script: Path, index: int, **environment: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(index), **environment}
        return subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60)

    def test_each_job_runs_one_experiment_and_pushes_it(self, script):
        for index, model in enumerate(("bisenetv2", "stdc1")):
            Path("told").unlink(missing_ok=True)
            done = self.dry(script, index)
            assert done.returncode == 0, done.stderr
            name = f"{model}-minicity-s1-iterations-2"
            settings = ["-S", f"model={model}", "-S", "dataset=minicity", "-S", "seed=1", "-S", "override.iterations=2"]
            assert [call["words"] for call in told()] == [
                ["exp", "list", "--name-only"],
                ["exp", "run", "--temp", "-n", name, *settings],
                ["exp", "push", "origin", name],
            ]

    def test_what_is_there_is_only_pushed(self, script):
        assert self.dry(script, 2).returncode == 0
        assert [call["words"][1] for call in told()] == ["list", "push"]

    def test_the_array_has_as_many_jobs_and_no_other(self, script):
        text = script.read_text()
        assert "#SBATCH --array=0-2\n" in text and Path("work/sweep").is_dir()
        done = self.dry(script, 3)
        assert done.returncode == 2 and "they are 0 to 2" in done.stderr

    def test_a_failed_experiment_is_not_pushed(self, project):
        job = Job("x", {"model": "m", "dataset": "d", "seed": 13})
        write_script(Path("sweep.sh"), [(job.name, job.command)])
        assert self.dry(project / "sweep.sh", 0).returncode == 1
        assert [call["words"][1] for call in told()] == ["list", "run"]

    def test_a_warning_before_the_time_limit_interrupts_the_training(self, project):
        job = Job("x", {"model": "m", "dataset": "d", "seed": 99})
        write_script(Path("sweep.sh"), [(job.name, job.command)])
        with subprocess.Popen(
            [project / "sweep.sh"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, stderr=subprocess.PIPE, text=True
        ) as process:
            while not Path("running").exists():
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert process.returncode and "KeyboardInterrupt" in err
        assert [call["words"][1] for call in told()] == ["list"]

    def test_the_command_writes_it_and_runs_nothing(self, project, capsys):
        code, printed = run(capsys, "--models", "stdc1", "--seeds", "1", "2", "--slurm", "jobs.sh")
        assert code == 0 and "2 jobs" in printed and not Path("told").exists()
        assert subprocess.run(["bash", "-n", "jobs.sh"]).returncode == 0


@pytest.mark.slow
class TestForReal:
    """Two models × two seeds in a clone of the project, then what a user does with them."""

    @pytest.fixture(scope="class")
    def swept(self, clone, tmp_path_factory) -> Clone:
        hub = tmp_path_factory.mktemp("hub") / "segcore.git"
        clone.git("clone", "-q", "--bare", ".", str(hub))
        clone.git("remote", "add", "sweep-hub", str(hub))
        done = clone.python("-m", "pipeline.sweep", "--models", "bisenetv2", "stdc1", "--seeds", "1", "2")
        assert done.stdout.count(f"│ {DONE}") == 4, done.stdout
        return clone

    def test_the_workspace_is_as_it_was(self, swept):
        assert swept.git("status", "--porcelain") == ""

    def test_again_nothing_runs(self, swept):
        done = swept.python("-m", "pipeline.sweep", "--models", "bisenetv2", "stdc1", "--seeds", "1", "2")
        assert done.stdout.count(SKIPPED) == 4 and "started" not in done.stdout

    def test_two_seeds_differ_in_accuracy_and_speed_alone(self, swept):
        shown = json.loads(swept.dvc("metrics", "diff", "--json", "stdc1-minicity-s1", "stdc1-minicity-s2").stdout)
        names = {name.split(".")[0] for values in shown.values() for name in values}
        # On images this small the number of classes that occur in label or prediction may differ too.
        assert "miou" in names and names - {"classes_averaged"} <= {"miou", "pixel_accuracy", "fps"}

    def test_the_table_has_means_over_both_seeds(self, swept):
        (swept.folder / "docs").mkdir(exist_ok=True)
        shutil.copy(PROJECT / "docs/networks.md", swept.folder / "docs")  # a page with tables, which clones here lack
        swept.python("-m", "pipeline.table")
        rows = pd.read_csv(swept.folder / "docs/results/table.csv").query("metric == 'miou' and key == 'ss'")
        rows = rows[rows.setting.isna() & (rows.dataset == "minicity")]  # other tests leave experiments there
        assert dict(zip(rows.model, rows.n, strict=True)) == {"bisenetv2": 2, "stdc1": 2}
        assert {path.name for path in (swept.folder / "docs/results").glob("*-s2")} == {
            "bisenetv2-minicity-s2", "stdc1-minicity-s2",
        }  # fmt: skip
        swept.git("checkout", "-q", ".")
        swept.git("clean", "-fdq", "docs")

    def test_a_job_of_the_array_fills_the_same_table(self, swept, tmp_path):
        swept.python("-m", "pipeline.sweep", "--models", "stdc1", "--seeds", "2", "3", "--slurm", "work/jobs.sh")
        script = (swept.folder / "work/jobs.sh").read_text().replace("push origin", "push sweep-hub")
        (swept.folder / "work/jobs.sh").write_text(script)
        for index in (0, 1):
            assert swept.start("bash", "work/jobs.sh", str(index), log=tmp_path / "log").wait(timeout=300) == 0
        listed = swept.dvc("exp", "list", "--name-only", "sweep-hub").stdout.split()
        assert {"stdc1-minicity-s2", "stdc1-minicity-s3"} <= set(listed)

    def test_an_interrupted_one_goes_on_where_it_stopped(self, swept, tmp_path):
        words = ["-m", "pipeline.sweep", "--models", "bisenetv2", "--seeds", "7", "--set", "iterations=150"]
        states = swept.folder / "work/resume/train"
        before = set(states.glob("*/resume.pt"))
        process = swept.start(sys.executable, *words, log=tmp_path / "log")
        while not set(states.glob("*/resume.pt")) - before:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        name = "bisenetv2-minicity-s7-iterations-150"
        log = swept.folder / f"work/sweep/{name}.log"
        saved = int(re.search(r"stopped after (\d+) of 150 iterations, which are saved", log.read_text())[1])
        swept.python(*words)
        swept.dvc("exp", "apply", name)
        facts = json.loads((swept.folder / "work/train/run.json").read_text())
        swept.back()
        assert facts["resumed_from"] == saved > 0 and facts["iterations"] == 150
