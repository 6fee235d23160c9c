"""The chain as a user runs it: a clone of the project, tiny values, DVC's own commands."""

from __future__ import annotations

import json

import pytest

from tests.conftest import make_camvid
from tests.pipeline.conftest import COMPUTED, stages_run


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
        clone.git("checkout", "HEAD", "--", ".")


def test_another_model_brings_its_recipe_and_a_rate_in_scientific_notation_arrives_as_a_number(clone, other_model):
    assert other_model.stages == ["resolve", "train", "evaluate", "benchmark", "report"]
    assert list(other_model.metrics["miou"]) == ["ss", "seg50", "seg75"]
    assert other_model.recipe["train"]["detail_weight"] == 0.4 and other_model.recipe["train"]["lr"] == 5e-5
    shown = json.loads(clone.dvc("metrics", "diff", "--json", "main", other_model.name).stdout)
    scores = {name for values in shown.values() for name in values}
    assert {"miou.ss", "miou.seg75"} < scores
    # On images this small the number of classes that occur in label or prediction may differ too.
    assert {name.split(".")[0] for name in scores} - {"classes_averaged"} == {"miou", "pixel_accuracy", "fps"}
    assert "train.arch" in clone.dvc("params", "diff", "main", other_model.name).stdout
    drawn = clone.dvc("plots", "diff", "main", other_model.name, "-o", "dvc_plots")
    assert "failed" not in drawn.stdout + drawn.stderr
    page = (clone.folder / "dvc_plots/index.html").read_text()
    assert page.count(other_model.name) > 1 and "Training loss" in page and "Confusion" in page
    shown = clone.dvc("exp", "show", "--csv").stdout
    assert other_model.name in shown and "miou.ss" in shown


@pytest.mark.slow  # tests of sharing restore the same runs from a remote
def test_each_of_two_models_trains_once(clone, other_model):
    first = clone.metrics()
    again = clone.dvc("exp", "run", *other_model.settings)
    assert not COMPUTED & set(stages_run(again)) and clone.metrics() == other_model.metrics
    back = clone.dvc("exp", "run", "-S", "model=bisenetv2", "-S", "override.lr=")
    assert not COMPUTED & set(stages_run(back)) and clone.metrics() == first
    clone.back()
    assert stages_run(clone.dvc("repro")) == []


@pytest.mark.slow  # test_dvc_yaml.py reads it off the stages
def test_workers_and_devices_invalidate_nothing(clone):
    done = clone.dvc("exp", "run", "-S", "runtime.workers=1", "-S", "runtime.devices=cpu")
    assert stages_run(done) == []
    clone.git("checkout", "HEAD", "--", ".")


def test_a_bad_setting_stops_in_one_line(clone):
    done = clone.dvc("exp", "run", "-S", "model=bisenet2", check=False)
    clone.git("checkout", "HEAD", "--", ".")
    ours = [line for line in done.stderr.splitlines() if line.startswith("resolve: ")]
    assert done.returncode == 255 or done.returncode == 1
    assert len(ours) == 1 and "unknown model 'bisenet2'; did you mean 'bisenetv2'?" in ours[0]
    assert "Traceback" not in done.stderr


@pytest.mark.slow  # tests/data ask the same of every data set
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


@pytest.mark.slow  # test_annotations.py and test_report.py look at each stage with photographs
def test_photographs_stay_in_the_data_store(clone, tmp_path):
    images = make_camvid(tmp_path / "camvid", size=(72, 96))
    changes = ["-S", "dataset=camvid", "-S", "override.modes=ss+ssc"]
    done = clone.dvc("exp", "run", "-n", "bisenetv2-camvid-s1", *changes, SEGCORE_DATA=str(tmp_path))
    assert stages_run(done)[-1] == "report"
    assert set(clone.metrics()["miou"]) == {"ss", "ssc"}
    # What is in the cache can be pushed.
    cached = {path.read_bytes() for path in (clone.folder / ".dvc/cache/files/md5").glob("*/*")}
    assert (clone.folder / "work/train/model.pt").read_bytes() in cached
    assert not cached & {path.read_bytes() for path in images.rglob("*.png")}
    lists = (clone.folder / "work/annotations/val.csv").read_text()
    assert lists.startswith("val/val_000.png,valannot/val_000.png\n")
    page = (clone.folder / "work/report/report.html").read_text()
    assert "photograph not included" in page and "data:image/jpeg" not in page
    assert "data:image/jpeg" in (clone.folder / "work/report-with-photographs.html").read_text()
    clone.back()


def test_lock_file_holds_no_path_of_this_machine(clone):
    assert str(clone.folder) not in (clone.folder / "dvc.lock").read_text()
