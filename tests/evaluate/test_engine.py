"""The engine against the reference evaluators, and what must not change its answer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.data.transforms import normalise
from segcore.errors import DataError
from segcore.evaluate.confusion import confusion_matrix, iou, miou, reference_f1, reference_miou
from segcore.evaluate.modes import Mode, modes_for
from tests.evaluate.tiny import golden, predict, refweights, scores

MEAN, STD = (0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)


def bisenet_mode(setting: str) -> Mode:
    """A golden's setting, e.g. `msf_longside120`, as a mode."""
    name, _, variant = setting.removeprefix("old_").partition("_")
    crop = (64, 128) if variant == "crop64x128" else (64, 64)
    start = {kind: int(variant.removeprefix(kind)) for kind in ("shortside", "longside") if variant.startswith(kind)}
    name = "mscf_old" if setting.startswith("old_") else name
    return replace(modes_for([name], crop=crop, **start)[0], **({"flip": False} if variant == "noflip" else {}))


@cache
def bisenet_images() -> tuple[dict, dict[str, np.ndarray], list[torch.Tensor]]:
    description, arrays = golden("bisenet_eval")
    return description, arrays, [torch.from_numpy(normalise(image, MEAN, STD)) for image in arrays["images"]]


@pytest.mark.parametrize("setting", sorted(golden("bisenet_eval")[0]["results"]))
def test_equals_the_reference_evaluators(setting: str, tiny: torch.nn.Module) -> None:
    description, arrays, images = bisenet_images()
    matrix = np.zeros((7, 7), np.int64)
    for image, label in zip(images, arrays["labels"], strict=True):
        matrix += confusion_matrix(label, predict(tiny, image, label.shape, bisenet_mode(setting), 7).numpy(), 7)
    expected = description["results"][setting]
    # The golden says how many pixels have two nearly equal scores; a moved pixel shows in two cells.
    near_ties = expected.get("pixels_with_top2_gap_below_1e-5", 0)
    assert np.abs(matrix - arrays[f"confusion_{setting}"]).sum() <= 2 * near_ties
    value = miou(matrix)[0] if setting.startswith("old_") else reference_miou(matrix)
    assert value == pytest.approx(expected["miou"], abs=1e-5)
    if "macro_f1" in expected:  # the old evaluator has none
        assert reference_f1(matrix) == pytest.approx((expected["macro_f1"], expected["micro_f1"]), abs=1e-5)


def stdc_net(images: torch.Tensor) -> torch.Tensor:
    weight, bias = refweights.tensor("eval.weight", (19, 3, 5, 5)), refweights.tensor("eval.bias", (19,))
    logits = F.conv2d(images, torch.from_numpy(weight), torch.from_numpy(bias), stride=4, padding=2)
    return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize("scale", ["0.5", "0.75", "1.0"])
def test_equals_the_stdc_evaluator(scale: str) -> None:
    description, arrays = golden("stdc_eval")
    key = f"{float(scale) * 100:.0f}"
    mode = modes_for([f"seg{key}"])[0]
    matrix = np.zeros((19, 19), np.int64)
    for i, label in enumerate(arrays["labels"]):
        small = refweights.image(390 + i, (3, 10, 17))
        image = torch.from_numpy(small.repeat(8, 1).repeat(8, 2)[:, :70, :134].copy())
        prediction = predict(stdc_net, image, label.shape, mode, 19).numpy()
        assert np.array_equal(prediction, arrays[f"pred_{key}"][i])
        matrix += confusion_matrix(label, prediction, 19)
    assert np.array_equal(matrix, arrays[f"hist_{key}"])
    assert iou(matrix) == pytest.approx(description["scales"][scale]["iou"], abs=1e-6)


@pytest.mark.parametrize("name", ["ssc", "mscf", "mscf_old", "msf"])
def test_batch_size_changes_rounding_only(name: str, tiny: torch.nn.Module) -> None:
    image = torch.from_numpy(refweights.image(1, (3, 71, 93)))
    mode = modes_for([name], crop=(32, 48))[0]
    one, many = (scores(tiny, image, (71, 93), mode, 7, batch) for batch in (1, 5))
    assert torch.allclose(one, many, rtol=1e-5, atol=1e-5)
    assert one.dtype == torch.float32 and one.shape == (7, 71, 93)


def test_windows_share_a_forward_pass(tiny: torch.nn.Module) -> None:
    mode = modes_for(["ssc"], crop=(32, 32))[0]
    predict(tiny, torch.zeros(3, 64, 96), (64, 96), mode, 7, batch=4)
    assert (tiny.passes, tiny.images) == (3, 12)  # 3 × 4 windows, stride 22


@pytest.mark.parametrize("name", ["ss", "ssc", "msf", "mscf", "mscf_old", "seg50", "seg75"])
@pytest.mark.parametrize("size", [(33, 67), (20, 90), (1, 1)])
def test_any_size_and_a_label_of_another_size(name: str, size: tuple[int, int], tiny: torch.nn.Module) -> None:
    mode = modes_for([name], crop=(32, 32))[0]
    prediction = predict(tiny, torch.zeros(3, *size), (41, 50), mode, 7)
    assert prediction.shape == (41, 50) and prediction.dtype == torch.uint8


def test_flip_makes_the_answer_symmetric(tiny: torch.nn.Module) -> None:
    image = torch.from_numpy(refweights.image(2, (3, 64, 64)))
    for name in ("msf", "mscf"):
        mode = modes_for([name], crop=(64, 64), scales=(1.0,))[0]
        straight, mirrored = (scores(tiny, picture, (64, 64), mode, 7) for picture in (image, image.flip(-1)))
        assert torch.allclose(straight, mirrored.flip(-1), atol=1e-5)


def test_net_with_another_class_count_is_refused(tiny: torch.nn.Module) -> None:
    with pytest.raises(DataError, match="gives 7 classes, the label table has 19"):
        predict(tiny, torch.zeros(3, 32, 32), (32, 32), modes_for(["ss"], crop=(32, 32))[0], 19)
