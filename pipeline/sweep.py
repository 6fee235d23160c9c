"""Models × data sets × seeds: every combination as an experiment, one after the other or one on each GPU.

    python -m pipeline.sweep --models bisenetv2 stdc1 --seeds 1 2 3
    python -m pipeline.sweep --models stdc1 --seeds 1 2 --datasets camvid --set iterations=200 modes=ss --per-gpu
    python -m pipeline.sweep --models bisenetv2 --seeds 1 2 3 --datasets cityscapes --slurm sweep.sh

Each is `dvc exp run --temp`, which leaves the workspace alone; its output goes to work/sweep/<name>.log. An experiment
that the current commit has is skipped; one that was killed goes on where its training stopped, for that state lies in
work/resume/. So the same command again does what is left. One that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from pipeline.reporting.words import duration
from pipeline.resolve import resolve
from pipeline.settings import WORK, Params, params, stage, validate
from pipeline.slurm import write_script
from pipeline.tables.runs import experiment_commits, kept_name
from pipeline.tables.texts import terminal
from segcore.checkpoint import plain
from segcore.errors import RecipeError
from segcore.files import exclusive

FOLDER = WORK / "sweep"
DONE, SKIPPED, FAILED, STOPPED = "done", "was there", "failed", "not finished"
# Printed by DVC once the images and lists are there, whether it ran, skipped or restored them.
DATA_IS_THERE = "tage 'weights'"


@dataclass(frozen=True)
class Job:
    """One experiment: its name, and what it sets in params.yaml."""

    name: str
    settings: Mapping[str, object]

    @property
    def command(self) -> list[str]:
        """What DVC is asked for."""
        chosen = [part for key, value in self.settings.items() for part in ("-S", f"{key}={value}")]
        return ["dvc", "exp", "run", "--temp", "-n", self.name, *chosen]

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return FOLDER / f"{self.name}.log"


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    word: str
    seconds: float = 0.0


@dataclass
class Runner:
    """Runs jobs on as many slots at once as there are; a slot is what it adds to the environment."""

    slots: Sequence[Mapping[str, str]]
    console: Console
    running: set[subprocess.Popen] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All of them, in order of their start. After `stop` those that run end, and no other starts."""
        for job in jobs:
            job.log.unlink(missing_ok=True)
        free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for slot in self.slots:
            free.put(slot)
        outcomes = [Outcome(job, STOPPED) for job in jobs]
        with _on_signals(self.stop), ThreadPoolExecutor(len(self.slots)) as pool:
            # Two that find a data set missing would both unpack it: the first of each goes ahead until it is there.
            leaders = {outcome.job.settings["dataset"]: outcome for outcome in reversed(outcomes)}
            for outcome in outcomes:
                leader = leaders[outcome.job.settings["dataset"]]
                pool.submit(self._run_on_a_slot, outcome, free, leader if leader is not outcome else None)
        return outcomes

    def stop(self) -> None:
        """Interrupts what runs, whose trainings then save their state; asked again, kills it."""
        kind = signal.SIGKILL if self.stopping.is_set() else signal.SIGINT
        self.stopping.set()
        for process in list(self.running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, kind)

    def _run_on_a_slot(self, outcome: Outcome, free: queue.SimpleQueue, leader: Outcome | None) -> None:
        slot = free.get()
        try:
            while leader and leader.word == STOPPED and not self.stopping.is_set() and not _has_data(leader.job):
                time.sleep(0.5)
            if not self.stopping.is_set():
                self._run(outcome, slot)
        finally:
            free.put(slot)

    def _run(self, outcome: Outcome, slot: Mapping[str, str]) -> None:
        job, began = outcome.job, time.monotonic()
        where = "".join(f" on {key}={value}" for key, value in slot.items())
        self.console.print(f"{job.name}: started{where}, {job.log}")
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "w", encoding="utf-8") as log:
            # A process group of its own, so that the whole tree under DVC can be ended.
            process = subprocess.Popen(
                job.command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **slot}
            )
            self.running.add(process)
            code = process.wait()
            self.running.discard(process)
        outcome.seconds = time.monotonic() - began
        outcome.word = STOPPED if self.stopping.is_set() and code else FAILED if code else DONE
        self.console.print(f"{job.name}: {outcome.word} after {duration(outcome.seconds)}{_last_words(outcome)}")


@stage
def main() -> int:
    """Runs, or writes a Slurm script; exits with 1 if a job failed."""
    arguments = _arguments()
    jobs = jobs_of(params(), arguments.models, arguments.datasets, arguments.seeds, arguments.set)
    if arguments.slurm:
        write_script(arguments.slurm, [(job.name, job.command) for job in jobs])
        print(f"{arguments.slurm}: {len(jobs)} jobs; its head says how to submit and collect them")
        return 0
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    with exclusive(WORK / "sweep" / "lock", "another sweep is running in this project; wait for it"):
        there = {name for name, _ in experiment_commits()}
        left = [job for job in jobs if job.name not in there]
        skipped = [Outcome(job, SKIPPED) for job in jobs if job.name in there]
        for note in uncommitted():
            console.print(f"Note: {note}.")
        outcomes = Runner(slots(arguments.per_gpu), console).run(left)
    rows = [
        [outcome.job.name, outcome.word, duration(outcome.seconds) if outcome.seconds else "", str(outcome.job.log)]
        for outcome in [*skipped, *outcomes]
    ]
    console.print(terminal("Sweep", ["experiment", "", "time", "log"], rows, "llrl"))
    words = {outcome.word for outcome in outcomes}
    if words & {FAILED, STOPPED}:
        console.print("The same command again does what is left. Why one failed stands at the end of its log.")
    else:
        console.print("`make table` puts them into docs/results/.")
    return 130 if STOPPED in words else int(FAILED in words)


def jobs_of(
    base: Params, models: Sequence[str], datasets: Sequence[str], seeds: Sequence[int], changes: Sequence[str]
) -> list[Job]:
    """One job a combination, seed by seed, so that every network has its first result early.

    `changes` are `key=value` of `override` in params.yaml; what `base` overrides already counts too.

    Raises:
        RecipeError: a name or a value that the first stage would not take.
    """
    changed = dict(map(_change, changes))
    override = {**plain(base.override), **changed}
    further = {f"override.{key}": value for key, value in changed.items()}
    jobs = []
    for seed, dataset, model in itertools.product(seeds, datasets, models):
        settings = {"model": model, "dataset": dataset, "seed": seed}
        wanted = validate(Params, {**settings, "override": override}, "sweep")
        if seed == seeds[0]:
            resolve(wanted)  # whatever is wrong is said before anything runs
        given = {key: value for key, value in plain(wanted.override).items() if value is not None}
        jobs.append(Job(kept_name({**settings, "override": given}), {**settings, **further}))
    return jobs


def slots(per_gpu: bool) -> list[dict[str, str]]:
    """What each of the jobs that run at once adds to the environment; one that adds nothing unless `per_gpu`.

    Raises:
        RecipeError: one a GPU is asked for where there is none.
    """
    if not per_gpu:
        return [{}]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        visible = ",".join(map(str, range(torch.cuda.device_count())))
    if not visible.strip(","):
        raise RecipeError("--per-gpu: no GPU here; leave it out to run one job after the other")
    return [{"CUDA_VISIBLE_DEVICES": device} for device in visible.split(",")]


def uncommitted() -> list[str]:
    """What of the project's code and recipes is not as committed, one note each."""
    command = ["git", "status", "--porcelain", "--", "params.yaml", "pipeline", "segcore"]
    lines = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    unknown = [line[3:] for line in lines if line.startswith("??")]
    notes = [f"git does not know {', '.join(unknown)}, so no experiment will see it: `git add` it"] if unknown else []
    if len(lines) > len(unknown):
        notes.append(
            "there are uncommitted changes; whether an experiment was done is told by its name and commit alone"
        )
    return notes


def _change(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: must be key=value, such as iterations=200")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return key, kind(value)
    return key, {"true": True, "false": False}.get(value, value)


def _last_words(outcome: Outcome) -> str:
    """Why a job failed, by the end of its log."""
    if outcome.word != FAILED:
        return ""
    lines = outcome.job.log.read_text(encoding="utf-8", errors="replace").split("\n")
    return f": {next((line for line in reversed(lines) if line.strip()), 'it said nothing')}"


def _has_data(job: Job) -> bool:
    return job.log.is_file() and DATA_IS_THERE in job.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    names = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(name, lambda *_: stop()) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, metavar="NAME", help="recipes, see pipeline/recipes/")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, metavar="N")
    parser.add_argument("--datasets", nargs="+", default=["minicity"], metavar="NAME", help="see pipeline/datasets/")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of `override` in params.yaml")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--per-gpu", action="store_true", help="one job at a time on each GPU ($CUDA_VISIBLE_DEVICES)")
    shape.add_argument("--slurm", type=Path, metavar="FILE", help="run nothing, write a Slurm job array")
    return parser.parse_args()


if __name__ == "__main__":
    main()
