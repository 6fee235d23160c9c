"""The report is a function of the other stages' outs, so tiny invented outs are enough to hold it to its word."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline import report
from pipeline.reporting import page
from pipeline.reporting.content import build_page
from pipeline.reporting.inputs import read_run
from pipeline.reporting.metrics import write_metrics
from pipeline.reporting.pareto import pareto_figure, pareto_front
from pipeline.reporting.scores import image_miou
from segcore.errors import DataError
from segcore.files import sha256
from segcore.visualize import figure_png
from tests.pipeline.invented_run import LABELS, edit, edit_recipe, metrics, run_report, table

INSIGHT = [f"insight-{name}.png" for name in ("confusions", "sizes", "distances", "images")]


def test_the_stage_writes_these_files_and_no_others(reported: Path) -> None:
    assert {path.name for path in (reported / "metrics").iterdir()} == {
        "evaluate.json", "benchmark.json", "train.json", "provenance.json", "iou.csv", "confusion.csv",
    }  # fmt: skip
    assert {path.name for path in (reported / "work/report").iterdir()} == {"report.html", "report.md", "pictures"}
    pictures = {path.name for path in (reported / "work/report/pictures").iterdir()}
    assert pictures == {"confusion.png", "curve.png", "examples.png", "worst.png", *INSIGHT}


def test_what_a_training_could_not_read_or_was_not_given_is_said(project: Path) -> None:
    edit("work/train/run.json", unreadable=["a.png: cannot be decoded"], images=2160, device_hours=0.25, resumed_from=7)
    html, markdown = run_report()
    for text in ("1 training images could not be read", "a.png: cannot be decoded"):
        assert text in html and text in markdown
    assert "2,160 images seen, 0.250 device-hours, last resumed after iteration 7" in markdown


def test_evaluate_metrics_are_fractions_with_six_decimals(project: Path) -> None:
    write_metrics(read_run(), Path("metrics"))
    results = {mode: json.loads(Path(f"work/evaluate/{mode}.json").read_text()) for mode in ("ss", "msf")}
    assert metrics("evaluate") == {
        "miou": {mode: round(score["miou"], 6) for mode, score in results.items()},
        "pixel_accuracy": {mode: round(score["pixel_accuracy"], 6) for mode, score in results.items()},
        "classes_averaged": 10,
    }


def test_a_mode_not_scored_is_absent_and_not_null(project: Path) -> None:
    Path("work/evaluate/msf.json").unlink()
    html, markdown = run_report()
    assert set(metrics("evaluate")["miou"]) == {"ss"}
    assert "null" not in Path("metrics/evaluate.json").read_text()
    assert "msf" not in re.sub(r"Complete training recipe.*", "", markdown, flags=re.DOTALL)


def test_the_first_mode_is_the_first_of_the_recipe(project: Path) -> None:
    edit_recipe("evaluate", modes=["msf", "ss"])
    html, _ = run_report()
    assert list(metrics("evaluate")["miou"]) == ["msf", "ss"]
    assert "mIoU, mode msf" in html


def test_speed_has_three_digits_under_its_device_and_measured_rows_only(project: Path) -> None:
    write_metrics(read_run(), Path("metrics"))
    speeds = {"torch_fp32_32x64_b1": 12.3, "openvino_bf16_32x64_b1": 1230.0}
    assert metrics("benchmark") == {"fps": {"xeon-2-threads": speeds}}


def test_an_engine_stands_beside_its_own_score(project: Path) -> None:
    torch_row, openvino_row, tensorrt_row = read_run().speed["results"]
    times = {"network": 70.25, "classes": 81.0, "copies": 83.5, "encoded": 99.75}
    torch_row |= {"times_ms": times, "miou": 0.5, "miou_lost": 0.0, "sensors": {"clock_mhz": 2600.0}}
    openvino_row |= {"miou": 0.4921, "miou_lost": 0.0079, "file_mb": 3.456, "computes": "30 convolutions bf16"}
    made = {"list": "train.csv", "seed": 1, "images": ["a", "b", "c", "d"]}
    edit("work/benchmark.json", results=[torch_row, openvino_row, tensorrt_row], calibration=made)
    _, markdown = run_report()
    section = markdown[markdown.index("## Speed") : markdown.index("## Provenance")]
    assert "| torch | fp32 | 32×64 | 1 | 12.3 | 70.2 | 81.0 | 83.5 | 99.8 | 50.00 | 0.00 | – |" in section
    assert "| openvino | bf16 | 32×64 | 1 | 1230 | – | 0.810 | – | – | 49.21 | 0.79 | 3.46 |" in section
    assert "| tensorrt | fp16 | 32×64 | 1 | not measured: tensorrt is not installed |" in section
    assert "30 convolutions bf16" in section and "2600 MHz" in section
    assert "calibrated on 4 training images of `train.csv`, seed 1: `a`, `b`, `c`, …" in section
    assert Path("work/report/pictures/speed.png").exists()


def test_pareto_front_leaves_out_what_another_engine_beats() -> None:
    points = [(30.0, 0.5), (50.0, 0.5), (20.0, 0.6), (60.0, 0.4), (10.0, 0.55)]
    assert [points[place] for place in pareto_front(points)] == [(20.0, 0.6), (50.0, 0.5), (60.0, 0.4)]
    assert figure_png(pareto_figure("abcde", points, "fps", "mIoU %")).startswith(b"\x89PNG")


def test_iou_rows_leave_out_absent_classes(project: Path) -> None:
    write_metrics(read_run(), Path("metrics"))
    score = json.loads(Path("work/evaluate/msf.json").read_text())
    rows = {row["class"]: float(row["iou"]) for row in table("iou") if row["mode"] == "msf"}
    assert "bicyclist" not in rows
    assert rows == {name: round(value, 6) for name, value in score["iou"].items() if value is not None}


def test_confusion_shares_add_up_for_every_class_with_pixels(project: Path) -> None:
    write_metrics(read_run(), Path("metrics"))
    totals: dict[str, float] = {}
    for row in table("confusion"):
        totals[row["actual"]] = totals.get(row["actual"], 0) + float(row["share"])
    assert set(totals) == set(LABELS.names) - {"bicyclist"}
    assert totals == pytest.approx(dict.fromkeys(totals, 1), abs=1e-4)


def test_nothing_volatile_enters_the_metrics(project: Path) -> None:
    write_metrics(read_run(), Path("before"))
    edit("work/train/run.json", seconds=99.0, images_per_second=1.0, host="other", date="2032-01-01", resumed_from=7)
    edit("work/benchmark.json", device={**read_run().speed["device"], "load_before": 3.0, "date": "2032-01-01"})
    write_metrics(read_run(), Path("metrics"))
    for path in Path("metrics").iterdir():
        assert path.read_bytes() == (Path("before") / path.name).read_bytes(), path.name
    assert "secret-host" not in (Path("before") / "provenance.json").read_text()


def test_provenance_names_digests_and_commands(project: Path) -> None:
    Path("params.yaml").write_text("model: bisenetv2\ndataset: tiny\nseed: 3\noverride: {lr: 0.01, iterations: }\n")
    write_metrics(read_run(), Path("metrics"))
    found = metrics("provenance")
    assert found["params"] == {"model": "bisenetv2", "dataset": "tiny", "seed": 3, "override": {"lr": 0.01}}
    assert found["digests"]["checkpoint"] == sha256(Path("work/train/model.pt"))
    assert found["digests"]["data"] == sha256(Path("work/fetch/files.csv"))
    assert found["digests"]["code"] == {"train": "c0de", "evaluate": "e1"}
    command = (
        "dvc exp run -n bisenetv2-tiny-s3-lr-0.01 -S model=bisenetv2 -S dataset=tiny -S seed=3 -S override.lr=0.01"
    )
    assert found["commands"]["experiment"] == command


def test_both_pages_hold_the_same_numbers(pages: tuple[str, str]) -> None:
    html, markdown = pages
    run = read_run()
    for score in [*run.scores.values(), run.baseline]:
        numbers = [f"{100 * score[name]:.2f}" for name in ("miou", "pixel_accuracy", "mean_accuracy")]
        assert all(number in html and number in markdown for number in numbers)
    for value in filter(None, run.scores["ss"]["iou"].values()):
        assert f"{100 * value:.2f}" in html and f"{100 * value:.2f}" in markdown
    margin = f"{100 * (run.scores['ss']['miou'] - run.baseline['miou']):+.2f}"
    assert margin in html and margin in markdown
    assert "not measured: tensorrt is not installed" in html and "not measured: tensorrt is not installed" in markdown
    assert "Xeon 8481C, 2 threads, no GPU" in html and "Xeon 8481C, 2 threads, no GPU" in markdown


def test_the_page_needs_no_network_and_its_script_is_inside(pages: tuple[str, str]) -> None:
    html, _ = pages
    assert "http" not in html and "url(" not in html.replace("url(#", "")
    assert re.findall(r"<script.*?>", html) == ["<script>"] and 'class="live"' not in html
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', html))
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html


def test_markdown_tables_are_regular_and_its_pictures_are_there(pages: tuple[str, str]) -> None:
    _, markdown = pages
    for block in re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    names = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(names) == 4 + len(INSIGHT)
    assert all(cv2.imread(f"work/report/{name}") is not None for name in names)


def test_loud_notices(project: Path) -> None:
    Path("params.yaml").write_text("model: bisenetv2\ndataset: tiny\nseed: 1\noverride: {iterations: 9}\n")
    edit("work/benchmark.json", graph={"checkpoint_sha256": "other"})
    edit("work/benchmark.json", device={**read_run().speed["device"], "loaded": True})
    html, _ = run_report()
    notices = " ".join(re.findall(r'class="notice"[^>]*>(.*?)</p>', html))
    assert "Pretrained: none" in notices
    assert "iterations = 9" in notices
    assert "in no mean: bicyclist" in notices
    assert "another checkpoint" in notices
    assert "busy" in notices


def test_no_notice_without_its_reason(project: Path) -> None:
    edit("work/weights/receipt.json", pretrained="stdc1", sha256="ab" * 32)
    html, _ = run_report()
    assert re.findall(r'class="notice"[^>]*>(.*?)</p>', html) == [
        "Not among the validation labels nor predicted, so in no mean: bicyclist."
    ]
    assert "stdc1, sha256 <code>abababababababab</code>" in html


def test_what_the_machine_made_of_the_recipe_is_said(project: Path) -> None:
    edit_recipe("train", precision="fp16")
    edit("work/train/run.json", precision="float32", resumed_from=120)
    html, _ = run_report()
    assert "float32; the recipe&#x27;s fp16 is not for this machine" in html
    assert "2 min 52 s" in html and "last resumed after iteration 120" in html


def test_photographs_of_a_redistributable_set_are_embedded(pages: tuple[str, str]) -> None:
    html, _ = pages
    assert html.count("data:image/jpeg") == 3 * 6  # photograph, and truth and prediction over it
    assert "photograph not" not in html
    assert not report.PRIVATE.exists()


def test_photographs_under_licence_stay_out_of_the_outs(project: Path) -> None:
    edit_recipe("about", redistributable=False)
    html, markdown = run_report()
    assert "data:image/jpeg" not in html
    assert html.count("photograph not included: Tiny City&#x27;s licence") == 6
    assert "Photographs are left out" in markdown
    private = report.PRIVATE.read_text(encoding="utf-8")
    assert private.count("data:image/jpeg") == 3 * 6 and "keep this page to yourself" in private


def test_no_photograph_reaches_the_contact_sheet_of_a_licensed_set(project: Path) -> None:
    edit_recipe("about", redistributable=False)
    run_report()
    column = cv2.imread("work/report/pictures/examples.png")[60:, 8:328]
    assert np.ptp(column, axis=2).max() < 40  # greyish text on white, nothing coloured
    assert (column == 255).all(-1).mean() > 0.9


def test_a_machine_without_the_store_says_so_and_drops_the_old_private_page(project: Path) -> None:
    shutil.rmtree("data")
    html, _ = run_report()
    assert html.count("photograph not on this machine") == 6 and "label not on this machine" in html
    edit_recipe("about", redistributable=False)
    report.PRIVATE.write_text("of an earlier run")
    html, _ = run_report()
    assert "photograph not included" in html
    assert not report.PRIVATE.exists()


def test_best_and_worst_image_are_among_the_examples(pages: tuple[str, str]) -> None:
    run = read_run()
    values, names = image_miou(run), run.counts["names"]
    html, _ = pages
    captions = re.findall(r"(best|worst) of 6: mIoU ([\d.]+) %, <code>([^<]+)", html)
    expected = [(word, f"{100 * values[i]:.2f}", str(names[i])) for word, i in
                (("best", values.argmax()), ("worst", values.argmin()))]  # fmt: skip
    assert captions == expected
    ranks = re.findall(r'class="caption">(\w+(?: \d)?) of 6: mIoU', html)
    assert ranks == ["best", "rank 2", "rank 3", "worst", "rank 5", "rank 4"]  # across the set, then the worst first


def test_a_run_without_scores_still_has_a_report(project: Path) -> None:
    shutil.rmtree("work/evaluate")
    html, _ = run_report()
    assert "No mode was scored" in html
    assert metrics("evaluate") == {"miou": {}, "pixel_accuracy": {}}
    assert table("confusion") == []


@pytest.mark.parametrize(
    ("path", "stage"),
    [("work/benchmark.json", "benchmark"), ("work/train/curve.csv", "train"), ("work/weights/receipt.json", "weights")],
)
def test_a_missing_input_names_the_stage_that_makes_it(project: Path, path: str, stage: str) -> None:
    Path(path).unlink()
    with pytest.raises(DataError, match=f"{path}.*dvc repro {stage}"):
        read_run()


def test_a_damaged_input_is_named(project: Path) -> None:
    Path("work/benchmark.json").write_text('{"device": ')
    with pytest.raises(DataError, match="work/benchmark.json is damaged"):
        read_run()


def test_equal_inputs_give_equal_files(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reported)
    again = build_page(read_run(), photographs=True)
    assert page.to_html(again) == Path("work/report/report.html").read_text(encoding="utf-8")
    assert all(Path("work/report", name).read_bytes() == content for name, content in again.files.items())
