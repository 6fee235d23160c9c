"""The chain as a user runs it: a clone of the project, tiny values, DVC's own commands."""

from __future__ import annotations

import json

import pytest

from pipeline.settings import read_yaml
from tests.conftest import make_camvid
from tests.pipeline.conftest import stages_run


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
    assert stages_run(done) == [] and "up to date" in done.stdout


def test_reworded_comments_train_nothing_and_other_arithmetic_does(clone):
    path = clone.folder / "segcore/optim.py"
    before = path.read_text()
    try:
        path.write_text(before.replace('"""', '"""Reworded. ', 1) + "\n# a remark\n")
        done = clone.dvc("repro")
        assert stages_run(done) == ["resolve"], done.stdout
        path.write_text(before.replace("math.pi *", "3.0 *"))
        clone.dvc("repro", "resolve")
        assert "train" in clone.dvc("status", "dvc.yaml").stdout
    finally:
        path.write_text(before)
        clone.dvc("repro")


def test_another_seed_is_another_training_and_going_back_computes_nothing(clone):
    first = clone.metrics()
    changed = clone.dvc("exp", "run", "-n", "bisenetv2-minicity-s2", "-S", "seed=2")
    assert stages_run(changed) == ["train", "evaluate", "benchmark", "report"]
    lines = clone.git("diff", "-U0", "params.yaml").splitlines()
    assert [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")] == ["-seed: 1", "+seed: 2"]
    diff = clone.dvc("metrics", "diff", "main", "bisenetv2-minicity-s2").stdout
    assert "miou.ss" in diff and "fps." in diff
    back = clone.dvc("exp", "run", "-S", "seed=1")
    assert "train" not in stages_run(back) and clone.metrics() == first
    clone.back()


def test_another_model_brings_its_recipe_and_each_of_the_two_trains_once(clone):
    first = clone.metrics()
    there = clone.dvc("exp", "run", "-n", "stdc1-minicity-s1", "-S", "model=stdc1")
    assert stages_run(there) == ["resolve", "train", "evaluate", "benchmark", "report"]
    assert list(clone.metrics()["miou"]) == ["ss", "seg50", "seg75"]
    assert read_yaml(clone.folder / "recipe.yaml")["train"]["detail_weight"] == 0.4
    scores = clone.dvc("metrics", "diff", "main", "stdc1-minicity-s1").stdout
    assert "miou.ss" in scores and "miou.seg75" in scores and "fps." in scores
    assert "train.arch" in clone.dvc("params", "diff", "main", "stdc1-minicity-s1").stdout
    drawn = clone.dvc("plots", "diff", "main", "stdc1-minicity-s1", "-o", "dvc_plots")
    assert "failed" not in drawn.stdout + drawn.stderr
    page = (clone.folder / "dvc_plots/index.html").read_text()
    assert page.count("stdc1-minicity-s1") > 1 and "Training loss" in page

    back = clone.dvc("exp", "run", "-S", "model=bisenetv2")
    assert not {"train", "evaluate", "benchmark"} & set(stages_run(back)) and clone.metrics() == first
    again = clone.dvc("exp", "run", "-S", "model=stdc1")
    assert not {"train", "evaluate", "benchmark"} & set(stages_run(again))
    clone.back()
    assert stages_run(clone.dvc("repro")) == []


def test_a_learning_rate_in_scientific_notation_arrives_as_a_number(clone):
    clone.dvc("exp", "run", "-n", "small-lr", "-S", "override.lr=5e-5")
    assert read_yaml(clone.folder / "recipe.yaml")["train"]["lr"] == 5e-5
    assert "train.lr" in clone.dvc("params", "diff", "main").stdout
    shown = clone.dvc("exp", "show", "--csv").stdout
    assert "small-lr" in shown and "miou.ss" in shown
    clone.back()


def test_workers_and_devices_invalidate_nothing(clone):
    done = clone.dvc("exp", "run", "-S", "runtime.workers=1", "-S", "runtime.devices=cpu")
    assert stages_run(done) == []
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
    clone.back()
    ours = [line for line in done.stderr.splitlines() if line.startswith("resolve: ")]
    assert done.returncode == 255 or done.returncode == 1
    assert len(ours) == 1 and message in ours[0] and "Traceback" not in done.stderr


def test_cityscapes_without_archives_says_which_where_and_whither(clone):
    done = clone.dvc("exp", "run", "-S", "dataset=cityscapes", check=False)
    clone.back()
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
    assert stages_run(done)[-1] == "report"
    assert set(clone.metrics()["miou"]) == {"ss", "ssc"}
    lists = (clone.folder / "work/annotations/val.csv").read_text()
    assert lists.startswith("val/val_000.png,valannot/val_000.png\n")
    page = (clone.folder / "work/report/report.html").read_text()
    assert "photograph not included" in page and "data:image/jpeg" not in page
    assert "data:image/jpeg" in (clone.folder / "work/report-with-photographs.html").read_text()
    clone.back()


def test_lock_file_holds_no_path_of_this_machine(clone):
    assert str(clone.folder) not in (clone.folder / "dvc.lock").read_text()
