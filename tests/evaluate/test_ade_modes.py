"""The short-side modes against the reference's own preprocessing, scores and numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.data.datasets import Samples, read_label_ids
from segcore.data.labels import Label, LabelTable
from segcore.evaluate import evaluate
from segcore.evaluate.confusion import absent_as_zero_miou, confusion_matrix, hits, iou, miou, pixel_accuracy
from segcore.evaluate.engine import short_side_scores
from segcore.evaluate.modes import EvaluateRecipe, Mode, modes_for
from tests.evaluate.tiny import golden, refweights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DESCRIPTION, ARRAYS = golden("ade_eval")
SIZES = DESCRIPTION["target_sizes"]


class SmallNet(torch.nn.Module):
    """The golden's encoder and decoder; keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {"encoder.conv1": (8, 3, 3, 3), "encoder.conv2": (16, 8, 3, 3), "decoder.conv_last": (10, 16, 1, 1)}
        self.weights = [
            [torch.from_numpy(refweights.tensor(f"{name}.{k}", s)) for k, s in (("weight", shape), ("bias", shape[:1]))]
            for name, shape in shapes.items()
        ]
        self.inputs: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        self.inputs.append(images)
        first, second, last = self.weights
        x = F.conv2d(images, *first, stride=2, padding=1).relu()
        x = F.conv2d(x, *second, stride=4, padding=1).relu()
        return F.interpolate(F.conv2d(x, *last), size, mode="bilinear")


def golden_mode() -> Mode:
    settings = DESCRIPTION["multi_scale"]
    mode = modes_for(["ade_ms"], padding_constant=settings["padding_constant"])[0]
    return replace(mode, short_sides=tuple(settings["imgSizes"]), longest=settings["imgMaxSize"])


@pytest.mark.parametrize("row", SIZES["rows"], ids=lambda row: "x".join(map(str, row["original_hw"])))
@pytest.mark.parametrize("padding", [8, 32])
def test_network_sizes_are_the_references(row: dict, padding: int) -> None:
    mode = modes_for(["ade_ms"], padding_constant=padding)[0]
    sizes = [list(mode.short_side_size(tuple(row["original_hw"]), side)) for side in mode.short_sides]
    assert sizes == row[f"padding_{padding}"]
    assert list(mode.short_sides) == SIZES["imgSizes"] and mode.longest == SIZES["imgMaxSize"]


@pytest.mark.parametrize(
    "model, expected",
    [
        ("resnet50dilated8_ppm_deepsup", 8),
        ("mobilenetv2dilated_c1_deepsup", 8),
        ("resnet50dilated16_ppm", 16),
        ("resnet101_upernet", 32),
        ("hrnetv2_c1", 32),
        ("bisenetv2", 32),
    ],
)
def test_padding_follows_from_the_network(model: str, expected: int) -> None:
    assert EvaluateRecipe(modes=("ade_ms",)).build(model)[0].round_to == expected


def test_single_scale_is_the_short_side_of_the_published_tables() -> None:
    assert modes_for(["ade_ss"])[0].short_sides == (450,)


def test_inputs_scores_and_prediction_equal_the_reference() -> None:
    net, label = SmallNet(), ARRAYS["ms_label_png"]
    total = short_side_scores(net, ARRAYS["ms_image"], label.shape, golden_mode(), 10, MEAN, STD)
    for k, fed in enumerate(net.inputs):
        assert np.abs(fed[0, :, ::2, ::2].numpy() - ARRAYS[f"ms_input{k}"]).max() < 1e-6
    assert np.abs(total.numpy() / len(net.inputs) - ARRAYS["ms_scores"]).max() < 1e-5
    assert np.array_equal(total.argmax(0), ARRAYS["ms_pred"])


def test_the_mode_runs_through_the_files(tmp_path: Path) -> None:
    table = LabelTable("ten", tuple(Label(i, (i - 1) % 256, f"class {i}", (i, i, i)) for i in range(11)))
    cv2.imwrite(str(tmp_path / "image.png"), ARRAYS["ms_image"][..., ::-1])
    cv2.imwrite(str(tmp_path / "label.png"), ARRAYS["ms_label_png"])
    samples = Samples([("image.png", "label.png")], tmp_path, table)
    out = tmp_path / "out"
    report = evaluate(SmallNet(), samples, [golden_mode()], MEAN, STD, out, tmp_path / "progress")["ade_ms"]
    expected = DESCRIPTION["multi_scale"]
    assert np.array_equal(read_label_ids(out / "predictions/ade_ms/image.png"), ARRAYS["ms_pred"])
    assert report["pixel_accuracy"] == pytest.approx(expected["accuracy"], abs=1e-9)
    assert report["miou"] == pytest.approx(expected["mean_iou_10_classes"], abs=1e-9)  # all ten occur
    assert report["protocol"]["short_sides"] == [40, 61, 72, 96] and report["protocol"]["scales"] == []


def test_metrics_equal_the_references() -> None:
    expected = DESCRIPTION["metrics"]
    total = np.zeros((150, 150), np.int64)
    for k in range(4):
        matrix = confusion_matrix(ARRAYS[f"label{k}"], ARRAYS[f"pred{k}"], 150, ignore_index=-1)
        assert np.array_equal(np.diagonal(matrix), ARRAYS[f"intersection{k}"])
        assert np.array_equal(sum(hits(matrix)), ARRAYS[f"union{k}"])
        assert pixel_accuracy(matrix) == pytest.approx(expected["per_image"][k]["accuracy"], abs=1e-9)
        total += matrix
    assert np.nan_to_num(iou(total)) == pytest.approx(ARRAYS["iou"], abs=1e-9)
    absent = "absent_classes (union 0, counted as IoU 0)"
    present = "mean_iou_over_present_classes (not the reference's)"
    assert miou(total) == (pytest.approx(expected[present], abs=1e-9), 150 - expected[absent])
    accuracy = pixel_accuracy(total)
    assert accuracy == pytest.approx(expected["accuracy"], abs=1e-9)
    reference = absent_as_zero_miou(total)
    assert reference == pytest.approx(expected["mean_iou"], abs=1e-9)
    assert 50 * (reference + accuracy) == pytest.approx(expected["overall_score_percent"], abs=1e-6)
