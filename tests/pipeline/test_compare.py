"""The comparison at the end of `make repro`, in small git repositories."""

from __future__ import annotations

import copy
import subprocess
from pathlib import Path

import pytest

from pipeline import compare
from segcore.files import write_json

EVALUATE = {"miou": {"ss": 0.351234, "msf": 0.372}, "pixel_accuracy": {"ss": 0.8, "msf": 0.81}, "classes_averaged": 19}
BENCHMARK = {"fps": {"xeon": {"torch_fp32_256x512_b1": 12.3}}}
PROVENANCE = {
    "params": {"model": "bisenetv2", "dataset": "minicity", "seed": 1, "override": {}},
    "digests": {"checkpoint": "a" * 64, "data": "b" * 64, "code": {"train": "c" * 64}},
    "versions": {"torch": "2.12.1"},
}
RECIPE = "about: {title: Mini, miou_tolerance: 0.01}\n"


def write(evaluate: dict = EVALUATE, benchmark: dict = BENCHMARK, provenance: dict = PROVENANCE) -> None:
    for name, value in (("evaluate", evaluate), ("benchmark", benchmark), ("provenance", provenance)):
        write_json(Path(f"metrics/{name}.json"), value)


def git(*words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], check=True, capture_output=True)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository without a commit, with metrics in the workspace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set when the tests run from a hook
        monkeypatch.delenv(name, raising=False)
    git("init", "-q")
    Path("recipe.yaml").write_text(RECIPE)
    write()


@pytest.fixture
def repository(empty: None) -> None:
    """The same with its metrics committed."""
    git("add", "-A")
    git("commit", "-q", "-m", "metrics")


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout without line breaks, stderr."""
    with pytest.raises(SystemExit) as exit:
        compare.main()
    out, err = capsys.readouterr()
    return exit.value.code or 0, " ".join(out.split()), err


def changed(base: dict, *path: str, value: object) -> dict:
    copied = copy.deepcopy(base)
    target = copied
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return copied


def test_equal_metrics_come_out_again_to_the_last_digit(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "comes out again, to the last digit" in out
    assert "0.351234" in out and out.rstrip().endswith("Report: work/report/report.html")


def test_within_the_tolerance_is_fine_and_explained(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(changed(EVALUATE, "miou", "ss", value=0.345))
    code, out, _ = run(capsys)
    assert code == 0
    assert "within" in out and "-0.006234" in out and "same machine type" in out
    assert "to the last digit" not in out


def test_outside_the_tolerance_fails_and_names_what_differs(
    repository: None, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(changed(PROVENANCE, "versions", "torch", value="2.11.0"), "digests", "checkpoint", value="d" * 64)
    write(changed(EVALUATE, "miou", "msf", value=0.36), provenance=other)
    code, out, err = run(capsys)
    assert code == 1
    assert "OUTSIDE" in out and "Report:" in out
    assert len(err.splitlines()) == 1
    assert "mIoU msf" in err and "mIoU ss" not in err
    assert "versions.torch 2.12.1 → 2.11.0" in err and "checkpoint" not in err


def test_better_than_the_tolerance_is_outside_too(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(changed(EVALUATE, "miou", "ss", value=0.5))
    assert run(capsys)[0] == 1


def test_the_tolerance_is_the_data_sets(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(changed(EVALUATE, "miou", "ss", value=0.335))
    assert run(capsys)[0] == 1
    Path("recipe.yaml").write_text(RECIPE.replace(", miou_tolerance: 0.01", ""))
    assert run(capsys)[0] == 0  # 0.02 where the data set states none


def test_a_committed_mode_that_was_not_scored_fails(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(changed(EVALUATE, "miou", value={"ss": 0.351234}))
    code, out, err = run(capsys)
    assert code == 1
    assert "missing here" in out and "mIoU msf" in err


def test_a_new_mode_and_other_accuracies_are_only_shown(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    more = changed(changed(EVALUATE, "miou", "mscf", value=0.4), "pixel_accuracy", "ss", value=0.1)
    write(more)
    code, out, _ = run(capsys)
    assert code == 0
    assert "new" in out and "differs" in out


def test_speed_on_the_same_device_is_shown_and_never_fails(
    repository: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write(benchmark={"fps": {"xeon": {"torch_fp32_256x512_b1": 1.5, "openvino_bf16_256x512_b1": 40.0}}})
    code, out, _ = run(capsys)
    assert code == 0
    assert "12.3" in out and "1.5" in out and "openvino_bf16_256x512_b1" in out


def test_speed_of_another_device_is_not_compared(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(benchmark={"fps": {"epyc": {"torch_fp32_256x512_b1": 1.5}}})
    code, out, _ = run(capsys)
    assert code == 0
    assert "measured on another machine" in out and "torch_fp32" not in out


@pytest.mark.parametrize(("name", "value"), [("model", "stdc1"), ("seed", 2), ("override", {"lr": 0.1})])
def test_another_run_is_said_and_not_compared(
    repository: None, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    write(changed(EVALUATE, "miou", "ss", value=0.9), provenance=changed(PROVENANCE, "params", name, value=value))
    code, out, _ = run(capsys)
    assert code == 0
    assert "belong to another run" in out and repr(value) in out and "0.9" not in out


def test_nothing_committed_yet(empty: None, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "No metrics are committed yet" in out and "Report:" in out


def test_outside_a_repository(empty: None, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["rm", "-rf", ".git"], check=True)
    assert run(capsys)[0] == 0


def test_a_project_in_a_subfolder_of_its_repository(
    repository: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("inner").mkdir()
    for name in ("metrics", "recipe.yaml"):
        git("mv", name, "inner")
    git("commit", "-q", "-m", "move")
    monkeypatch.chdir("inner")
    assert "to the last digit" in run(capsys)[1]


def test_missing_metrics_name_the_stage(repository: None, capsys: pytest.CaptureFixture[str]) -> None:
    Path("metrics/evaluate.json").unlink()
    code, _, err = run(capsys)
    assert code == 1
    assert "metrics/evaluate.json is not there; `dvc repro report` makes it" in err
