"""The report's sections on what the score is worth and where it was lost."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.reporting import insight
from pipeline.reporting.inputs import Run, read_run
from pipeline.reporting.scores import image_miou, interval
from tests.pipeline.invented_run import run_report


def rows_of(name: str, mode: str = "ss") -> list[dict[str, str]]:
    with open(f"work/evaluate/insight/{name}.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["mode"] == mode]


def test_what_the_evaluation_found_is_shown(pages: tuple[str, str]) -> None:
    html, markdown = pages
    assert "<h2>Where it goes wrong</h2>" in html
    first, worst = rows_of("confusions")[0], rows_of("worst_images")[0]
    share, gain = (f"{100 * float(first[key]):.2f}" for key in ("share", "miou_gain"))
    lines = [f"| {first['label']} | {first['predicted']} | {share} | {gain} |", f"| 1 | `{worst['image']}` |"]
    sizes = [row for row in rows_of("object_size") if row["class"] == insight.MEAN]
    lines += [f"| {row['size']} | {row['objects']} |" for row in sizes]
    bands = rows_of("boundary_distance")
    lines += [f"| {100 * float(row['accuracy']):.2f} | {100 * float(row['miou']):.2f} |" for row in bands]
    assert sizes and len(bands) >= 3
    assert all(line in markdown for line in lines)


def test_an_evaluation_without_insight_leaves_the_section_out(project: Path) -> None:
    shutil.rmtree("work/evaluate/insight")
    html, markdown = run_report()
    assert "Where it goes wrong" not in html and "insight-" not in markdown


def counted(tp: list, fp: list, fn: list) -> Run:
    run = dataclasses.replace(read_run(), scores={"ss": {}})
    return dataclasses.replace(run, counts={"ss_tp": np.array(tp), "ss_fp": np.array(fp), "ss_fn": np.array(fn)})


def test_image_miou_averages_the_classes_of_that_image_alone(project: Path) -> None:
    values = image_miou(counted([[2, 0, 0], [0, 0, 0]], [[2, 0, 0], [0, 0, 0]], [[0, 0, 4], [0, 0, 0]]))
    assert values[0] == pytest.approx((2 / 4 + 0 / 4) / 2)
    assert np.isnan(values[1])


def test_the_interval_is_a_point_for_equal_images_and_holds_the_score_otherwise(project: Path) -> None:
    assert interval(counted([[3, 1]] * 5, [[1, 0]] * 5, [[0, 1]] * 5), "ss") == pytest.approx((0.625, 0.625))
    run = read_run()
    low, high = interval(run, "ss")
    assert low < run.scores["ss"]["miou"] < high
