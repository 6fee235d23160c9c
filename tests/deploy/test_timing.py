"""Warm-up, samples, statistics, the lock and the watch over other programs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from segcore.deploy import timing
from segcore.deploy.timing import LoadMeter, Timing, describe_device, machine_lock, slug, time_runs
from segcore.errors import BenchmarkError

HOLD = """
import sys
from pathlib import Path
from segcore.deploy.timing import machine_lock
with machine_lock(path=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Work:
    """Runs that last as long as told, on a clock that only they move."""

    def __init__(self, *durations: float) -> None:
        self.durations, self.now, self.runs = durations, 0.0, 0

    def __call__(self) -> None:
        self.now += self.durations[min(self.runs, len(self.durations) - 1)]
        self.runs += 1

    def clock(self) -> float:
        return self.now


def test_warm_up_lasts_its_time_and_is_not_counted() -> None:
    work = Work(5.0, 0.25)  # a slow first run, as where a runtime compiles
    result = time_runs(work, warmup=6.0, seconds=10.0, clock=work.clock)
    assert result.warmup == 6.0
    assert list(result.samples) == [0.25] * 40
    assert work.runs == 5 + 40


def test_at_least_one_warm_up_run_and_twenty_samples() -> None:
    work = Work(2.0)
    result = time_runs(work, warmup=0.0, seconds=1.0, clock=work.clock)
    assert (result.warmup, len(result.samples), work.runs) == (2.0, 20, 21)


def test_statistics() -> None:
    result = Timing([k / 1000 for k in range(100, 0, -1)], warmup=0.0)
    expected = {"median": 50.5, "p90": 90.1, "p99": 99.01, "min": 1.0, "mean": 50.5, "std": 28.8661}
    assert result.latency_ms() == expected
    assert result.median == pytest.approx(0.0505)


def test_lock_excludes_another_process_until_it_dies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refusal = pytest.raises(BenchmarkError, match="another benchmark has held this lock for 0.3 s")
        with refusal, machine_lock(timeout=0.3, path=path):
            pytest.fail("two hold the lock")
        assert capsys.readouterr().err.count("waiting") == 1
        other.kill()
        with machine_lock(timeout=10, path=path):
            pass


def test_lock_file_of_another_user_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(mode=0o444)
    with machine_lock(timeout=0, path=path):
        pass
    with machine_lock(timeout=0, path=path):
        pass


def test_another_program_is_noticed() -> None:
    meter = LoadMeter()
    spin = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]):
        time.sleep(1.0)
        assert meter.loaded()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_own_work_is_not_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    before = timing._foreign_cpu_seconds()
    spent = time.process_time()
    monkeypatch.setattr(time, "process_time", lambda: spent + 1000)
    assert timing._foreign_cpu_seconds() == pytest.approx(before - 1000, abs=5)


@pytest.mark.parametrize(("elapsed", "foreign", "loaded"), [(4.0, 0.9, False), (4.0, 1.1, True), (0.4, 0.4, False)])
def test_loaded_means_a_quarter_of_a_core(
    monkeypatch: pytest.MonkeyPatch, elapsed: float, foreign: float, loaded: bool
) -> None:
    cpu, clock = iter([10.0, 10.0 + foreign]), iter([0.0, elapsed])
    monkeypatch.setattr(timing, "_foreign_cpu_seconds", lambda: next(cpu))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert LoadMeter().loaded() is loaded


def test_device_description_names_processor_threads_and_versions() -> None:
    about = describe_device(torch.device("cpu"), 3)
    assert about["slug"] == slug(about["cpu"]) + "-3-threads"
    assert about["torch"] == torch.__version__
    assert about["gpu"] is None


def test_slug() -> None:
    assert slug("Intel(R) Xeon(R) Gold 6240 CPU @ 2.60GHz") == "intel-xeon-gold-6240"
    assert slug("NVIDIA A100-SXM4-80GB") == "nvidia-a100-sxm4-80gb"
